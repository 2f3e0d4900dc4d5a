"""Validated steps in time of x' = f(x, rest), and models through networks (section 4 of the format of tubes).

x(s) = sum_(k < q) x_k s^k + s^q r: the x_k are models, r is bounded on a box that no solution leaves during the step, which is proved here: as
long as a solution is in the box it stays in its interior (Corliss, Rihm, Validating an a priori enclosure, 1996).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import comb
from typing import Any

import numpy as np

from holdfast_check.arithmetic import TINY
from holdfast_check.network import Node
from holdfast_check.property import enclosing
from holdfast_check.tube_function import applied
from holdfast_check.tube_model import UP, Array, Model, basis, box, charged, interval, side_by_side, symbolic, weighted
from holdfast_check.tube_series import Series

GUESSES = 8
FLOOR = 1e-12  # errors of neurons below this share of the largest value need no symbol
SQUARES = ("square", "abs", "relu", "exp", "sqrt", "sigmoid", "softplus", "one over one plus")
Graph = tuple[tuple[Node, ...], int]  # nodes, output
Away = Callable[[Array, Array, Any, Fraction], Array]


def never_negative(nodes: Sequence[Node]) -> set[int]:
    """By their form: squares, and sums of such with no negative factor."""
    found: set[int] = set()
    for i, node in enumerate(nodes):
        even = node.kind == "power" and node.parameters[0] % 2 == 0
        what = node.linear
        if what is not None and found.issuperset(node.inputs):
            weights, doubt = what.weights, what.doubt
            low = 0.0 if weights is None else np.min(weights - (0.0 if doubt is None else doubt.weights))
            shift = (
                0.0
                if what.bias is None
                else np.min(what.bias - (0.0 if doubt is None or doubt.bias is None else doubt.bias))
            )
            even = bool(low >= 0 and shift >= 0)
        if (
            even
            or node.kind in SQUARES
            or (node.kind == "product" and (node.inputs[0] == node.inputs[1] or found.issuperset(node.inputs)))
        ):
            found.add(i)
    return found


class Symbolic(Series):
    """Errors of functions become symbols before they are mixed, so that they stay correlated."""

    def made(self, i: int, k: int) -> Model | None:
        node = self.nodes[i]
        if node.linear is not None and node.linear.terms > 1:
            for j in node.inputs:
                value = self.at(j, 0)
                if self.nodes[j].kind != "input" and value is not None:
                    self.known[j, 0] = symbolic(value, self.used, FLOOR)
                    self.used = max(self.used, len(self.known[j, 0].symbols))  # type: ignore[union-attr]
        return super().made(i, k)

    used = 0


def through(graph: Graph, x: Model, symbols: bool = False) -> Model:
    """The output of a graph whose only input is x."""
    nodes, output = graph
    if output == 0:
        return x
    made = (Symbolic if symbols else Series)(nodes, lambda k: x, values(nodes))
    if isinstance(made, Symbolic):
        made.used = len(x.symbols)
    result = made.at(output, 0)
    assert result is not None
    return result


def values(nodes: Sequence[Node]) -> partial[Model]:
    return partial(floored, never_negative(nodes))


def floored(known: set[int], node: Node, z: Model) -> Model:
    return applied(node, z, 0.0 if node.inputs and node.inputs[0] in known else -np.inf)


def coefficients(graph: Graph, x: Model, rest: Model | None, count: int) -> list[Model]:
    """x_0, ..., x_count of the solution from x, while the rest stays as it is."""
    nodes, output = graph
    found = [x]
    still = None if rest is None else Model(rest.basis, np.zeros_like(rest.terms), np.zeros_like(rest.error))

    def source(k: int) -> Model:
        with_rest = rest if k == 0 else still
        return found[k] if with_rest is None else side_by_side([found[k], with_rest])

    made = Series(nodes, source, values(nodes))
    for k in range(count):
        rate = made.at(output, k)
        found.append(weighted([x if rate is None else rate], [Fraction(rate is not None, k + 1)]))
    return found


@dataclass(frozen=True, eq=False)
class Step:
    """`series`: x_0 ... x_(q-1); `low`, `high`: bounds of r; `away`: what disturbances add, at any time of the step."""

    series: list[Model]
    length: Fraction
    low: Array
    high: Array
    away: Array | None
    sound: Array

    def states(self, first: Fraction, last: Fraction) -> Model:
        """All states at times first <= s <= last, about the middle of these; the time within is a symbol as far as it acts linearly."""
        middle, half, q = (first + last) / 2, (last - first) / 2, len(self.series)
        value = derivative(self.series, middle, 0)
        if half:
            reach = np.zeros(value.error.shape)
            for k in range(1, q):
                part = derivative(self.series, middle, k)
                w = above(half**k)
                if k == 1:
                    value = Model(value.basis, np.concatenate([value.terms, part.terms[:1] * w]), value.error)
                reach = reach + (part.size() if k > 1 else part.spread() + 1e-12 * part.size()) * w
            value = charged(value.basis, value.terms, value.error + reach)
        corners = np.array([end * w for end in (self.low, self.high) for t in (first, last) for w in both(t**q)])
        low, high = corners.min(axis=0), corners.max(axis=0)
        if self.away is not None:
            low, high = low - self.away, high + self.away
        return weighted(
            [value, interval(value.basis, low - TINY - 1e-15 * np.abs(low), high + TINY + 1e-15 * np.abs(high))],
            [1.0, 1.0],
        )


def derivative(series: Sequence[Model], s: Fraction, k: int) -> Model:
    """The k-th derivative over k! at s."""
    return weighted(series[k:], [comb(j, k) * s ** (j - k) for j in range(k, len(series))])


def both(t: Fraction) -> tuple[float, float]:
    (low,), (high,) = (enclosing([t], upper) for upper in (False, True))
    return float(low), float(high)


def above(t: Fraction) -> float:
    return both(t)[1] * UP + TINY


@np.errstate(all="ignore")
def advance(graph: Graph, x: Model, rest: Model | None, h: Fraction, q: int, away: Away | None = None) -> Step:
    """All solutions over [0, h] from x. Where no box is proved the member is not `sound`."""
    series = coefficients(graph, x, rest, q - 1)
    n = x.error.shape[1]
    zero = np.zeros(x.error.shape)
    flow = Step(series, h, zero, zero, None, np.zeros(len(zero), bool)).states(Fraction(0), h).range()
    ends = None if rest is None else rest.range()
    unit = basis(n, 1)
    still = None if ends is None else interval(unit, *ends)
    done = np.zeros(len(zero), bool)
    low, high, moved = np.full(zero.shape, np.nan), np.full(zero.shape, np.nan), np.zeros(zero.shape)
    need = flow
    for guess in range(GUESSES):
        slack = (0.02 + 0.1 * guess) * (need[1] - need[0]) + 1e-10 * (np.abs(need[0]) + np.abs(need[1])) + 1e-14
        a, b = need[0] - slack, need[1] + slack
        last = coefficients(graph, box(unit, a, b, range(n)), still, q)[q].range()
        extra = away(a, b, ends, h) if away is not None else zero
        w = above(h**q)
        down = flow[0] + np.minimum(last[0], 0.0) * w - extra
        up = flow[1] + np.maximum(last[1], 0.0) * w + extra
        doubt = 1e-15 * (np.abs(flow[0]) + np.abs(flow[1]) + np.abs(down) + np.abs(up)) + TINY
        down, up = down - doubt, up + doubt
        fine = ((a < down) & (up < b)).all(axis=1) & ~done
        low[fine], high[fine], moved[fine] = last[0][fine], last[1][fine], extra[fine]
        done |= fine
        if not (np.isfinite(down + up).all(axis=1) & ~done).any():
            break
        need = np.minimum(need[0], down), np.maximum(need[1], up)
    return Step(series, h, low, high, moved if away is not None else None, done)
