"""Taylor coefficients g^(k)(x) / k! of elementary functions, enclosed over points or intervals, any order.

The fact that Taylor models and jets ask of a card. Recurrences as in Griewank, Walther, Evaluating Derivatives, 2nd ed., section 13;
tanh and tan through the polynomials that their derivatives are in their own values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from holdfast.graph import Node
from holdfast.operators.operator import UnaryOperator
from holdfast.operators.registry import OPERATORS
from holdfast.rigor import FLOAT64, gamma
from holdfast.rigor.functions import widen

Array = Any
Interval = tuple[Array, Array]


def series(node: Node, low: Array, high: Array, order: int) -> list[Interval] | None:
    """Enclosures of g^(k) / k! on [low, high], k = 0 ... order, of the function of a node; None where no series is known."""
    rule = _RULES.get(node.op)
    if rule is None:
        return None
    with np.errstate(all="ignore"):
        return rule(node, low, high, order)


def smooth(op: str) -> bool:
    """Whether `series` knows the operator."""
    return op in _RULES


def _value(op: str, node: Node, low: Array, high: Array) -> Interval:
    card = OPERATORS[op]
    assert isinstance(card, UnaryOperator)
    return card.interval(np, node, low, high, FLOAT64)


def _times(x: Interval, factor: float, units: float = 8.0) -> Interval:
    """factor x, for a factor that is itself off by a few roundings."""
    low, high = (x[0] * factor, x[1] * factor) if factor >= 0 else (x[1] * factor, x[0] * factor)
    return widen(np, low, high, units, FLOAT64)


def _power(x: Interval, n: int) -> Interval:
    """x^n, n >= 0."""
    low, high = x
    if n == 0:
        one = np.ones_like(low)
        return one, one
    if n % 2 == 0:
        low, high = np.maximum(np.maximum(low, -high), 0.0), np.maximum(-low, high)
    return widen(np, low**n, high**n, 8.0 + 4.0 * n, FLOAT64)


def _product(x: Interval, y: Interval) -> Interval:
    corners = np.stack([x[0] * y[0], x[0] * y[1], x[1] * y[0], x[1] * y[1]])
    return widen(np, corners.min(0), corners.max(0), 4.0, FLOAT64)


def _sum(x: Interval, y: Interval) -> Interval:
    return widen(np, x[0] + y[0], x[1] + y[1], 4.0, FLOAT64)


def _exp(node: Node, low: Array, high: Array, order: int) -> list[Interval]:
    value = _value("exp", node, low, high)
    return [_times(value, 1.0 / math.factorial(k)) for k in range(order + 1)]


def _wave(first: int) -> Callable[[Node, Array, Array, int], list[Interval]]:
    def rule(node: Node, low: Array, high: Array, order: int) -> list[Interval]:
        values = _value("sin", node, low, high), _value("cos", node, low, high)
        signs = (1.0, 1.0, -1.0, -1.0)  # sin, cos, -sin, -cos
        return [_times(values[(k + first) % 2], signs[(k + first) % 4] / math.factorial(k)) for k in range(order + 1)]

    return rule


@lru_cache(maxsize=8)
def _own_derivatives(sign: int, order: int) -> tuple[tuple[float, ...], ...]:
    """Polynomials p_k with y^(k) / k! = p_k(y) for y' = 1 + sign y^2, as float64 coefficients (off by a rounding each)."""
    from fractions import Fraction

    p = [Fraction(0), Fraction(1)]
    found = [tuple(map(float, p))]
    for k in range(order):
        slope = [i * c for i, c in enumerate(p)][1:]
        p = [Fraction(0)] * (len(slope) + 2)
        for i, c in enumerate(slope):
            p[i] += c / (k + 1)
            p[i + 2] += sign * c / (k + 1)
        found.append(tuple(map(float, p)))
    return tuple(found)


def _through_own_value(op: str, sign: int) -> Callable[[Node, Array, Array, int], list[Interval]]:
    def rule(node: Node, low: Array, high: Array, order: int) -> list[Interval]:
        t = _value(op, node, low, high)
        matrix = np.array([[*c, *([0.0] * (order + 2 - len(c)))] for c in _own_derivatives(sign, order)])
        n = np.arange(order + 2).reshape(-1, *([1] * np.ndim(low)))
        even = n % 2 == 0  # of those the powers are least at the end next to zero
        ends = (
            np.where(even, np.maximum(np.maximum(t[0], -t[1]), 0.0), t[0]),
            np.where(even, np.maximum(-t[0], t[1]), t[1]),
        )
        below, above = widen(np, ends[0] ** n, ends[1] ** n, 16.0 + 4.0 * order, FLOAT64)
        up, down = np.maximum(matrix, 0.0), np.minimum(matrix, 0.0)
        lows = np.tensordot(up, below, 1) + np.tensordot(down, above, 1)
        highs = np.tensordot(up, above, 1) + np.tensordot(down, below, 1)
        size = np.tensordot(abs(matrix), np.maximum(abs(below), abs(above)), 1)
        slack = gamma(2 * order + 8, FLOAT64) * size + (4 * order + 16) * FLOAT64.tiny
        return [t, *zip(lows[1:] - slack[1:], highs[1:] + slack[1:], strict=True)]

    return rule


def _sigmoid(node: Node, low: Array, high: Array, order: int) -> list[Interval]:
    """sigmoid z = (1 + tanh(z / 2)) / 2."""
    inner = _through_own_value("tanh", -1)(node, 0.5 * low, 0.5 * high, order)
    found = [_value("sigmoid", node, low, high)]
    return found + [_times(c, 0.5 ** (k + 1)) for k, c in enumerate(inner) if k]


def _softplus(node: Node, low: Array, high: Array, order: int) -> list[Interval]:
    inner = _sigmoid(node, low, high, order)
    return [_value("softplus", node, low, high)] + [_times(inner[k - 1], 1.0 / k) for k in range(1, order + 1)]


def _atan(node: Node, low: Array, high: Array, order: int) -> list[Interval]:
    """atan^(k) / k! = r_(k-1) / k with (1 + x^2) r(x) = 1; and |atan^(k)| <= (k - 1)!."""
    x = (low, high)
    squares = _sum((np.ones_like(low), np.ones_like(low)), _power(x, 2))
    first = widen(np, 1.0 / squares[1], 1.0 / squares[0], 4.0, FLOAT64)
    r = [first]
    for k in range(1, order):
        total = _product(_times(x, 2.0), r[k - 1])
        if k > 1:
            total = _sum(total, r[k - 2])
        r.append(_times(_product(total, first), -1.0))
    found = [_value("atan", node, low, high)]
    for k in range(1, order + 1):
        down, up = _times(r[k - 1], 1.0 / k)
        most = (1.0 + 1e-12) / k
        found.append((np.maximum(down, -most), np.minimum(up, most)))
    return found


def _inverse_power(x: Interval, n: int) -> Interval:
    """x^-n where x keeps its sign; infinite elsewhere."""
    down, up = _power(x, n)
    away = ((x[0] > 0) & (down > 0)) | ((x[1] < 0) & ((down > 0) | (up < 0)))  # not so where the power underflows
    low, high = widen(np, 1.0 / up, 1.0 / down, 4.0, FLOAT64)
    return np.where(away, low, -np.inf), np.where(away, high, np.inf)


def _reciprocal(node: Node, low: Array, high: Array, order: int) -> list[Interval]:
    x = (low, high)
    return [_times(_inverse_power(x, k + 1), (-1.0) ** k) for k in range(order + 1)]


def _log(node: Node, low: Array, high: Array, order: int) -> list[Interval]:
    x = (np.where(low > 0, low, np.nan), high)
    found = [_value("log", node, *x)]
    return found + [_times(_inverse_power(x, k), (-1.0) ** (k + 1) / k) for k in range(1, order + 1)]


def _sqrt(node: Node, low: Array, high: Array, order: int) -> list[Interval]:
    x = (np.where(low > 0, low, np.nan), high)
    root = _value("sqrt", node, np.where(low >= 0, low, np.nan), high)
    found, factor = [root], 1.0
    for k in range(1, order + 1):
        factor *= (1.5 - k) / k
        found.append(_times(_product(root, _inverse_power(x, k)), factor, 16.0 + 8.0 * k))
    return found


def _integer_power(node: Node, low: Array, high: Array, order: int) -> list[Interval]:
    n = 2 if node.op == "square" else node["exponent"]
    zero = np.zeros_like(low), np.zeros_like(low)
    return [_times(_power((low, high), n - k), float(math.comb(n, k))) if k <= n else zero for k in range(order + 1)]


_RULES: dict[str, Callable[[Node, Array, Array, int], list[Interval]]] = {
    "exp": _exp, "sin": _wave(0), "cos": _wave(1), "tanh": _through_own_value("tanh", -1), "tan": _through_own_value("tan", 1),
    "sigmoid": _sigmoid, "softplus": _softplus, "atan": _atan, "reciprocal": _reciprocal, "log": _log, "sqrt": _sqrt,
    "power": _integer_power, "square": _integer_power,
}  # fmt: skip
