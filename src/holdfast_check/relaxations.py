"""What is true of a nonlinear function on an interval: its range, and a line (plane) below or above it.

Any slope whatever is sound, because its constant is computed here: the line s z + c is below f on [l, u] if
c <= min (f(z) - s z), above it if c >= max (f(z) - s z). Slopes are therefore plain numbers, well chosen and not proved; ranges
are the same extremum with s = 0. Where it lies:

- smooth functions: at an end of the interval or where f'(z) = s. Those places have closed forms, evaluated in balls (Arb, by
  python-flint), and count unless they are certainly outside. So nothing need be known about convexity.
- pieces of lines (relu, abs, clip, ...): at an end of the interval or at a break between two pieces.
- product x y - a x - b y: linear in x and in y, so that the extremum over a box is at one of its four corners.

`sign` says which side is asked for: 1 what is below f, -1 what is above.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nextafter
from typing import Any

import numpy as np
from flint import arb

from holdfast_check.arithmetic import TINY, UNIT, gamma, size
from holdfast_check.network import Node

Arrays = Sequence[np.ndarray]
Pair = tuple[np.ndarray, np.ndarray]
# slopes and constant, (B, m): sum_i slopes_i x_i + constant, x_i the arguments
Line = tuple[list[np.ndarray], np.ndarray]
UNIT_EVIDENCE = ("relu", "leaky_relu", "abs", "product")  # section 4; all others take slopes


@dataclass(frozen=True)
class Function:
    """Of one variable: f(m, z) with m = np for floats z, which choose lines, and m = arb for balls z, which prove them; f' in floats."""

    value: Callable[[Any, Any], Any]
    slope: Callable[[Any], Any]
    places: Callable[[arb], list[arb]] | None = None  # smooth: all z with f'(z) = s, and perhaps others
    breaks: tuple[float, ...] = ()  # pieces of lines: where they meet
    domain: Callable[[float, float], bool] = np.less_equal  # intervals on which f is smooth and `places` complete


def both(z: arb) -> list[arb]:
    return [z, -z]


def turns(z: arb, other: arb) -> list[arb]:
    return [x + 2 * k * arb.pi() for x in (z, other) for k in range(-17, 18)]  # all in [-100, 100] where |x| < 5


def function(node: Node) -> Function:
    p, zero = node.parameters, (0.0,)
    n = int(p[0]) if node.kind == "power" else 2
    # fmt: off
    table = {
        "relu": Function(lambda m, z: m.maximum(z, 0.0), lambda z: np.where(z > 0, 1.0, 0.0), breaks=zero),
        "leaky_relu": Function(lambda m, z: m.where(z > 0, z, p[0] * z), lambda z: np.where(z > 0, 1.0, p[0]), breaks=zero),
        "abs": Function(lambda m, z: m.abs(z), lambda z: np.where(z > 0, 1.0, -1.0), breaks=zero),
        "clip": Function(lambda m, z: m.clip(z, *p), lambda z: np.where((z > p[0]) & (z < p[1]), 1.0, 0.0), breaks=p),
        "exp": Function(lambda m, z: m.exp(z), np.exp, lambda s: [s.log()] if s > 0 else []),
        "log": Function(lambda m, z: m.log(z), lambda z: 1 / z, lambda s: [1 / s] if s > 0 else []),
        "sqrt": Function(lambda m, z: m.sqrt(z), lambda z: 0.5 / np.sqrt(z), lambda s: [1 / (4 * s * s)] if s > 0 else []),
        "square": Function(lambda m, z: z * z, lambda z: 2 * z, lambda s: [s / 2]),
        "power": Function(lambda m, z: z**n, lambda z: n * z ** (n - 1), lambda s: both((abs(s) / n).root(n - 1) if s != 0 else s)),
        "reciprocal": Function(lambda m, z: 1 / z, lambda z: -1 / (z * z), lambda s: both(1 / (-s).sqrt()) if s < 0 else [], domain=lambda a, b: a > 0 or b < 0),
        "softplus": Function(lambda m, z: m.log1p(m.exp(z)), lambda z: 1 / (1 + np.exp(-z)),
                             lambda s: [(s / (1 - s)).log()] if 0 < s < 1 else []),
        # y (1 - y) = s, so that y = (1 +- d) / 2 with d^2 = 1 - 4 s, and z = log(y / (1 - y)) = +-log((1 + d)^2 / 4 s)
        "sigmoid": Function(lambda m, z: 1 / (1 + m.exp(-z)), lambda z: 1 / (1 + np.exp(-z)) / (1 + np.exp(z)),
                            lambda s: both(((1 + (1 - 4 * s).sqrt()) ** 2 / (4 * s)).log()) if 0 < s <= 0.25 else []),
        # 1 - y^2 = s, so that 2 z = log((1 + y) / (1 - y)) = +-log((1 + d)^2 / s) with d^2 = 1 - s
        "tanh": Function(lambda m, z: m.tanh(z), lambda z: 1 - np.tanh(z) ** 2,
                         lambda s: both(((1 + (1 - s).sqrt()) ** 2 / s).log() / 2) if 0 < s <= 1 else []),
        "sin": Function(lambda m, z: m.sin(z), np.cos, lambda s: turns(s.acos(), -s.acos()) if -1 <= s <= 1 else [],
                        domain=lambda a, b: a >= -100 and b <= 100),
        "cos": Function(lambda m, z: m.cos(z), lambda z: -np.sin(z), lambda s: turns(-s.asin(), s.asin() + arb.pi()) if -1 <= s <= 1 else [],
                        domain=lambda a, b: a >= -100 and b <= 100),
    }
    # fmt: on
    return table[node.kind]


def least_gap(f: Function, sign: float, low: float, high: float, slope: float) -> float:
    """At most sign (f(z) - slope z) for all z in [low, high], f smooth: the least value at the ends and wherever f' = slope."""
    left, right, s = arb(low), arb(high), arb(slope)
    places = [left, right, *(z for z in (f.places(s) if f.places else []) if not (z < left or z > right))]
    values = [float((sign * (f.value(arb, z) - (s * z if slope else 0))).lower()) for z in places]
    known = f.domain(low, high) and all(v == v for v in values)
    return nextafter(min(values), -inf) if known else -inf


def extremum(node: Node, sign: np.ndarray, lows: Arrays, highs: Arrays, slopes: Arrays) -> np.ndarray:
    """At most the minimum of f(x) - slopes . x where sign = 1, at least its maximum where sign = -1; slopes are finite."""
    sign, low, high, slope = np.broadcast_arrays(sign, lows[0], highs[0], slopes[0])
    if node.kind == "product":
        x, y = np.array([low, low, high, high]), np.array([lows[1], highs[1], lows[1], highs[1]])
        values, terms, more = x * y, slope * x, slopes[1] * y
    else:
        f = function(node)
        if f.places:
            each = zip(*(x.ravel().tolist() for x in (sign, low, high, slope)), strict=True)
            return sign * np.array([least_gap(f, *one) for one in each], dtype=float).reshape(low.shape)
        places = np.array([low, high, *(np.clip(b, low, high) for b in f.breaks)])
        values = f.value(np, places)
        terms, more = np.where(slope == 0, 0.0, slope * places), np.zeros(1)
    errors = gamma(5) * (np.abs(values) + np.abs(terms) + np.abs(more)) + TINY  # three products and two sums
    if node.kind not in ("product", "leaky_relu"):
        errors = np.where(slope == 0, 0.0, errors)  # no operation rounds
    least = np.min(sign * (values - terms - more) - errors, axis=0)
    return sign * np.where(np.isnan(least), -inf, least)


def image(node: Node, lows: Arrays, highs: Arrays) -> Pair:
    """The range of a function on the ranges of its arguments."""
    flat, one = [np.zeros(low.shape) for low in lows], np.ones(lows[0].shape)
    return extremum(node, one, lows, highs, flat), extremum(node, -one, lows, highs, flat)


def bent(node: Node, lows: Arrays, highs: Arrays) -> np.ndarray:
    """Where a function is not linear on the ranges of its arguments."""
    if node.kind == "product":
        return (lows[0] < highs[0]) & (lows[1] < highs[1])
    breaks = function(node).breaks
    return np.logical_or.reduce([(lows[0] < b) & (highs[0] > b) for b in breaks]) if breaks else lows[0] < highs[0]


def chosen(node: Node, sign: np.ndarray, low: np.ndarray, high: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    """A good slope (sections 6 and 7): the one given; chord or tangent, as the function bends. Nothing rests on it."""
    if given is not None and node.kind not in UNIT_EVIDENCE:
        return given.astype(float)
    f = function(node)
    value, slope = (lambda z: f.value(np, z)), f.slope
    s_shaped = node.kind in ("sigmoid", "tanh")
    if s_shaped:  # symmetric about a point: below on [l, u] is above on [-u, -l]
        low, high = np.where(sign > 0, -high, low), np.where(sign > 0, -low, high)
    middle = 0.5 * low + 0.5 * high
    if f.breaks:
        middle = middle - 2.0**-30 * (high - low)  # ties go left
    chord, tangent = (value(high) - value(low)) / (high - low), slope(middle)
    if s_shaped:
        t, end = np.zeros(low.shape), np.maximum(high, 0.0)
        for _ in range(30):  # bisection: left of the place where it touches the tangent passes below the left end
            centre = 0.5 * (t + end)
            early = slope(centre) * (centre - low) > value(centre) - value(low)
            t, end = np.where(early, centre, t), np.where(early, end, centre)
        beyond = slope(high) * (high - low) >= value(high) - value(low)
        return np.where(beyond, chord, slope(np.maximum(t, middle)))
    if given is not None:
        left, right = slope(np.float64(-1)), slope(np.float64(1))
        tangent = np.where((low < 0) & (high > 0), left + (right - left) * (given / 255.0), tangent)
    convex = value(middle) <= 0.5 * value(low) + 0.5 * value(high)
    return np.where((sign > 0) == convex, tangent, chord)


def line(node: Node, sign: np.ndarray, lows: Arrays, highs: Arrays, known: Pair, noise: Any, given: Any) -> Line:
    """One below f where sign = 1, above it where sign = -1, for all values f(z) + e in `known`, |e| <= noise; `given`: unit values or
    slopes. Its constant has paid for what carrying coefficients through it costs (`bounds`)."""
    if node.kind == "product":
        w = np.full(node.size, 0.5) if given is None else given / 255.0
        v = np.where(sign > 0, w, 1 - w)  # the weight of the upper end of y; w that of x
        slopes = [(1 - v) * lows[1] + v * highs[1], (1 - w) * lows[0] + w * highs[0]]
    else:
        side, low, high = np.broadcast_arrays(sign, lows[0], highs[0])
        slopes = [chosen(node, side, low, high, given)]
    slopes = [np.where(np.isfinite(s), s, 0.0) for s in slopes]
    constant = extremum(node, sign, lows, highs, slopes) - sign * noise * (1 + 2.0**-20)
    level = np.where(sign > 0, *known)
    ends = list(zip(slopes, lows, highs, strict=True))
    best = sum((np.maximum(sign * s * low, sign * s * high) for s, low, high in ends), sign * constant)
    flat = ~(best > sign * level)  # where the line is nowhere better than a constant, the constant is taken
    constant = np.where(flat, level, constant)
    cost = sum((4 * UNIT * np.abs(s) * size(low, high) for s, low, high in ends), 0.0)  # u |s| X for each factor
    cost = np.where(flat, 0.0, cost) + gamma(node.size + 4) * np.abs(constant)  # the sum of all a . c
    return [np.where(flat, 0.0, s) for s in slopes], constant - sign * cost
