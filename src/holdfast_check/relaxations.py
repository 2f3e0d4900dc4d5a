"""What is true of a nonlinear function on an interval: its range, and a line (plane) below or above it.

Any slope whatever is sound, because its constant is computed here: the line s z + c is below f on [l, u] if
c <= min (f(z) - s z), above it if c >= max (f(z) - s z). Slopes are therefore plain numbers, well chosen and not proved; ranges
are the same extremum with s = 0. Where it lies:

- smooth functions: the interval is cut where f bends (`elementary`). On a piece where f is concave the least value is at an end; where it
  is convex f is above its tangent at any place whatever, so that a place where f'(z) = s need only be known roughly.
- pieces of lines (relu, abs, clip, ...): at an end of the interval or at a break between two pieces.
- product x y - a x - b y: linear in x and in y, so that the extremum over a box is at one of its four corners.

`sign` says which side is asked for: 1 what is below f, -1 what is above.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np

from holdfast_check.arithmetic import TINY, UNIT, gamma, size
from holdfast_check.elementary import SMOOTH, Smooth, power
from holdfast_check.network import Node

Arrays = Sequence[np.ndarray]
Pair = tuple[np.ndarray, np.ndarray]
# slopes and constant, (B, m): sum_i slopes_i x_i + constant, x_i the arguments
Line = tuple[list[np.ndarray], np.ndarray]
SIDES = np.array([1.0, -1.0])[:, None, None]  # below and above at once: results (2, B, m)
UNIT_EVIDENCE = ("relu", "leaky_relu", "abs", "product")  # section 4; all others take slopes


@dataclass(frozen=True)
class Pieces:
    """Pieces of lines: f(z), f'(z) in floats, where they meet, and the value at a jump that is least (sign 1) or greatest (sign -1)."""

    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    breaks: tuple[float, ...] = (0.0,)


def function(node: Node, sign: Any = 1.0) -> Pieces | Smooth:
    """A function of one variable; `window`, the derivative of a clip, is 1 between its breaks, 0 beyond, and both at them."""
    p = node.parameters
    # fmt: off
    match node.kind:
        case "relu":
            return Pieces(lambda z: np.maximum(z, 0.0), lambda z: np.where(z > 0, 1.0, 0.0))
        case "leaky_relu":
            return Pieces(lambda z: np.where(z > 0, z, p[0] * z), lambda z: np.where(z > 0, 1.0, p[0]))
        case "abs":
            return Pieces(np.abs, lambda z: np.where(z > 0, 1.0, -1.0))
        case "clip":
            return Pieces(lambda z: np.clip(z, p[0], p[1]), lambda z: np.where((z > p[0]) & (z < p[1]), 1.0, 0.0), p)
        case "window":
            return Pieces(lambda z: np.where(np.where(sign > 0, (z > p[0]) & (z < p[1]), (z >= p[0]) & (z <= p[1])), 1.0, 0.0), np.zeros_like, p)
        case "power":
            return power(int(p[0]))
    # fmt: on
    return SMOOTH[node.kind]


def pieces(f: Smooth, low: np.ndarray, high: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, Any, Any]]:
    """The parts of intervals between bends: left and right ends (left > right: none), number, and 1 where f is convex, -1 where concave."""
    if f.phase is None:
        for k, (a, b) in enumerate(pairwise((-inf, *f.bends, inf))):
            yield np.maximum(low, a), np.minimum(high, b), k, f.first * (-1.0) ** k
        return
    known = f.domain(low, high)
    start, stop = (
        np.where(known, k((z - f.phase) / math.pi), 0).astype(int) for k, z in ((np.floor, low), (np.ceil, high))
    )
    for j in range(-1, int(np.max(stop - start, initial=0)) + 1):  # from one more, for these numbers are rounded
        number = start + j
        ends = f.phase + number * math.pi, f.phase + (number + 1) * math.pi
        yield np.maximum(low, ends[0]), np.minimum(high, ends[1]), number, np.where(number % 2, -f.first, f.first)


def least_gap(f: Smooth, sign: np.ndarray, low: np.ndarray, high: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """At most sign (f(z) - slope z) =: g(z) for all z in [low, high]; arrays of one axis. Where g is concave the least value is at an end;
    where it is convex g is above its tangent at any z whatever: one where the tangent is about level."""
    best, linear = np.full(low.shape, inf), np.any(slope)
    unit = (8 if linear else 6) * UNIT  # at most five sums and a product

    def gap(z: np.ndarray, which: np.ndarray) -> np.ndarray:
        value, error = f.value(z)
        more = slope[which] * z if linear else 0.0
        return sign[which] * (value - more) - error - unit * (np.abs(value) + np.abs(more))

    if not linear and f.rises:
        best = gap(np.where(sign * f.rises > 0, low, high), np.full(low.shape, True))
    else:
        for left, right, number, convex in pieces(f, low, high):
            there = left <= right
            bowl = there & (sign * convex > 0)
            if (rim := there & ~bowl).any():
                best[rim] = np.minimum(best[rim], np.minimum(gap(left[rim], rim), gap(right[rim], rim)))
            if not bowl.any():
                continue
            a, b, k = (np.broadcast_to(x, low.shape)[bowl] for x in (left, right, number))
            z = np.clip(f.touch(slope[bowl], k), a, b)
            rate, error = f.slope(z)
            incline, doubt = sign[bowl] * (rate - slope[bowl]), error + 4 * UNIT * (np.abs(rate) + np.abs(slope[bowl]))
            falls = [np.where(d > 0, (s * incline + doubt) * d, 0.0) for s, d in ((1, z - a), (-1, b - z))]
            fall = np.maximum(np.maximum(*falls), 0.0) * (1 + 2.0**-50)
            best[bowl] = np.minimum(best[bowl], np.where(np.isnan(z), -inf, gap(z, bowl) - fall))
        best = best - (f.slack * (1 + high - low) if f.slack else 0.0)
    best = np.where(np.isnan(best) | ~f.domain(low, high), -inf, best)
    floor = np.where(sign > 0, f.codomain[0], -f.codomain[1])  # whatever z is
    if linear:
        most = np.maximum(sign * slope * low, sign * slope * high)
        most = np.where(slope == 0, 0.0, most)
        floor = floor - most - unit * (np.abs(floor) + np.abs(most)) - TINY
    partial = f.domain is not np.less_equal and f.phase is None  # undefined somewhere: then nothing is known
    return np.fmax(best, np.where(f.domain(low, high), floor, -inf) if partial else floor)


def extremum(node: Node, sign: np.ndarray, lows: Arrays, highs: Arrays, slopes: Arrays) -> np.ndarray:
    """At most the minimum of f(x) - slopes . x where sign = 1, at least its maximum where sign = -1; slopes are finite."""
    sign, slope, *ends = np.broadcast_arrays(sign, slopes[0], *lows, *highs)
    low, high = ends[0], ends[len(lows)]
    if node.kind == "product":
        x, y = np.array([low, low, high, high]), np.array([ends[1], ends[3], ends[1], ends[3]])
        values, terms, more = x * y, slope * x, slopes[1] * y
    else:
        f = function(node, sign)
        if isinstance(f, Smooth):
            return sign * least_gap(f, *(x.ravel() for x in (sign, low, high, slope))).reshape(low.shape)
        places = np.array([low, high, *(np.clip(b, low, high) for b in f.breaks)])
        values = f.value(places)
        terms, more = np.where(slope == 0, 0.0, slope * places), np.zeros(1)
    errors = gamma(5) * (np.abs(values) + np.abs(terms) + np.abs(more)) + TINY  # three products and two sums
    if node.kind not in ("product", "leaky_relu"):
        errors = np.where(slope == 0, 0.0, errors)  # no operation rounds
    least = np.min(sign * (values - terms - more) - errors, axis=0)
    return sign * np.where(np.isnan(least), -inf, least)


def image(node: Node, lows: Arrays, highs: Arrays) -> Pair:
    """The range of a function on the ranges of its arguments."""
    return tuple(extremum(node, SIDES, lows, highs, [np.zeros(1)] * len(lows)))


def bent(node: Node, lows: Arrays, highs: Arrays) -> np.ndarray:
    """Where a function is not linear on the ranges of its arguments."""
    if node.kind == "product":
        return (lows[0] < highs[0]) & (lows[1] < highs[1])
    f = function(node)
    if isinstance(f, Smooth):
        return lows[0] < highs[0]
    return np.logical_or.reduce([(lows[0] < b) & (highs[0] > b) for b in f.breaks])


def chosen(node: Node, sign: np.ndarray, low: np.ndarray, high: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    """A good slope (sections 6 and 7): the one given; chord or tangent, as the function bends. Nothing rests on it."""
    if given is not None and node.kind not in UNIT_EVIDENCE:
        return given.astype(float)
    f: Any = function(node, sign)
    smooth = isinstance(f, Smooth)
    value, slope = f.rough or (lambda z: f.value(z)[0], lambda z: f.slope(z)[0]) if smooth else (f.value, f.slope)
    s_shaped = node.kind in ("sigmoid", "tanh")
    if s_shaped:  # symmetric about a point: below on [l, u] is above on [-u, -l]
        low, high = np.where(sign > 0, -high, low), np.where(sign > 0, -low, high)
    elif smooth and node.kind != "reciprocal" and (f.bends or f.phase is not None):
        return supporting(value, slope, sign, low, high)
    middle = 0.5 * low + 0.5 * high
    if not smooth:
        middle = middle - 2.0**-30 * (high - low)  # ties go left
    chord, tangent = (value(high) - value(low)) / (high - low), slope(middle)
    if s_shaped:
        beyond, touch = slope(high) * (high - low) >= value(high) - value(low), np.zeros(low.shape)
        asked = (low < 0) & ~beyond
        start, level, t, end = low[asked], value(low[asked]), touch[asked], np.maximum(high, 0.0)[asked]
        for _ in range(30):  # bisection: left of the place where it touches the tangent passes below the left end
            centre = 0.5 * (t + end)
            early = slope(centre) * (centre - start) > value(centre) - level
            t, end = np.where(early, centre, t), np.where(early, end, centre)
        touch[asked] = t
        return np.where(beyond, chord, slope(np.maximum(touch, middle)))
    if given is not None:
        left, right = slope(np.float64(-1)), slope(np.float64(1))
        tangent = np.where((low < 0) & (high > 0), left + (right - left) * (given / 255.0), tangent)
    if node.kind == "window":
        return np.where(
            (low < f.breaks[0]) & (high > f.breaks[0]), stepped(sign, low - f.breaks[0], high - f.breaks[0]), 0.0
        )
    convex = value(middle) <= 0.5 * value(low) + 0.5 * value(high)
    return np.where((sign > 0) == convex, tangent, chord)


def stepped(sign: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Of a step at 0 in (low, high): a line through the nearer corner, or a level one."""
    steep = np.where(sign > 0, high > -low, -low > high)
    return np.where(steep, 1 / np.where(sign > 0, high, -low), 0.0)


def supporting(value: Any, slope: Any, sign: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The slope of the best line at the middle, as nine samples see it: the chord over the middle that leaves least, or the tangent."""
    places = [low + t * (high - low) for t in np.linspace(0, 1, 9)]
    values = [sign * value(z) for z in places]
    best, found = values[4], slope(places[4])
    for i in range(4):
        for j in range(5, 9):
            level = (values[i] * (j - 4) + values[j] * (4 - i)) / (j - i)
            chord = sign * (values[j] - values[i]) / (places[j] - places[i])
            best, found = np.minimum(best, level), np.where(level < best, chord, found)
    return found


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
