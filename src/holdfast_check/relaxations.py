"""What is true of a nonlinear function on an interval: its range, and lines (planes) below and above it.

Any slope whatever is sound, because its constant is computed here: the line s z + c is below f on [l, u] if
c <= min (f(z) - s z), above it if c >= max (f(z) - s z). Slopes are therefore plain numbers, well chosen and not proved; ranges
are the same extremum with s = 0. Where the extremum lies:

- smooth functions: at an end of the interval or where f'(z) = s. Those places have closed forms, evaluated in balls (Arb, by
  python-flint), and count unless they are certainly outside. So nothing need be known about convexity.
- clip, step: pieces of lines between an end, breaks, and an end, so that the extremum is at one of these.
- relu, leaky_relu, abs: f(z) = p z for z < 0 and q z for z > 0. Convex if p <= q, and then m z is below for any p <= m <= q.
- product x y - a x - b y: linear in x and in y, so that the extremum over a box is at one of its four corners.

`step` is the sign: -1, 0 or 1. Outside of a domain (log, sqrt, 1/z) nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nextafter, pi

import numpy as np
from flint import arb

from holdfast_check.arithmetic import TINY, UNIT, down, gamma, settle, up
from holdfast_check.network import Node

Arrays = Sequence[np.ndarray]
Pair = tuple[np.ndarray, np.ndarray]
KINKED = ("relu", "leaky_relu", "abs")


@dataclass(frozen=True, eq=False)
class Line:
    """sum_i slopes_i x_i + constant, x_i the arguments of the function; arrays (B, m)."""

    slopes: tuple[np.ndarray, ...]
    constant: np.ndarray


@dataclass(frozen=True)
class Smooth:
    """A differentiable function: its values and the places of a given slope (balls); image; domain; plain values, to choose slopes."""

    value: Callable[[arb, int], arb]
    places: Callable[[arb, int], list[arb]]
    plain: Callable[[np.ndarray, int], np.ndarray]
    image: tuple[float, float] = (-inf, inf)
    domain: Callable[[float, float], bool] = lambda low, high: True


def _power(s: arb, n: int) -> list[arb]:
    """The real z with n z^(n-1) = s."""
    root = (abs(s / n).log() / (n - 1)).exp() if s != 0 and n > 1 else arb(0)
    return [root if s > 0 else -root] if n % 2 == 0 else [root, -root] if s >= 0 else []


def _both(z: arb) -> list[arb]:
    return [z, -z]


def _near(low: float, high: float) -> bool:
    return max(-low, high) < 1e6 and high - low < 100  # few periods, which floats can count


SMOOTH = {
    "exp": Smooth(lambda z, n: z.exp(), lambda s, n: [s.log()] if s > 0 else [], lambda z, n: np.exp(z), (0.0, inf)),
    "log": Smooth(
        lambda z, n: z.log(), lambda s, n: [1 / s] if s > 0 else [], lambda z, n: np.log(z), domain=lambda low, high: low > 0
    ),
    "sqrt": Smooth(
        lambda z, n: z.sqrt(), lambda s, n: [1 / (4 * s * s)] if s > 0 else [], lambda z, n: np.sqrt(z), domain=lambda low, high: low >= 0
    ),
    "power": Smooth(lambda z, n: z**n, _power, lambda z, n: z**n),
    "reciprocal": Smooth(  # 1/z has the slope s at z = +-1/sqrt(-s)
        lambda z, n: 1 / z, lambda s, n: _both(1 / (-s).sqrt()) if s < 0 else [], lambda z, n: 1 / z,
        domain=lambda low, high: low > 0 or high < 0,
    ),
    "softplus": Smooth(  # log(1 + e^z), of slope s = 1 / (1 + e^-z)
        lambda z, n: z.exp().log1p(), lambda s, n: [(s / (1 - s)).log()] if 0 < s < 1 else [],
        lambda z, n: np.logaddexp(0.0, z), (0.0, inf),
    ),
    "sigmoid": Smooth(  # y (1 - y) = s, so that y = (1 +- d) / 2 with d^2 = 1 - 4 s, and z = log(y / (1 - y)) = +-log((1 + d)^2 / 4 s)
        lambda z, n: 1 / (1 + (-z).exp()), lambda s, n: _both(((1 + (1 - 4 * s).sqrt()) ** 2 / (4 * s)).log()) if 0 < s <= 0.25 else [],
        lambda z, n: 1 / (1 + np.exp(-z)), (0.0, 1.0),
    ),
    "tanh": Smooth(  # 1 - y^2 = s, so that 2 z = log((1 + y) / (1 - y)) = +-log((1 + d)^2 / s) with d^2 = 1 - s
        lambda z, n: z.tanh(), lambda s, n: _both(((1 + (1 - s).sqrt()) ** 2 / s).log() / 2) if 0 < s <= 1 else [],
        lambda z, n: np.tanh(z), (-1.0, 1.0),
    ),
    "sin": Smooth(
        lambda z, n: z.sin(), lambda s, n: _both(s.acos()) if -1 <= s <= 1 else [], lambda z, n: np.sin(z), (-1.0, 1.0), _near
    ),
    "cos": Smooth(
        lambda z, n: z.cos(), lambda s, n: [-s.asin(), s.asin() + arb.pi()] if -1 <= s <= 1 else [], lambda z, n: np.cos(z), (-1.0, 1.0), _near
    ),
}  # fmt: skip


def _below(x: arb) -> float:
    """A float that is at most every number of the ball."""
    least = x.lower()
    close = float(least)
    return close if arb(close) <= least else nextafter(close, -inf)


def _least(f: Smooth, n: int, sign: int, low: float, high: float, slope: float) -> float:
    """At most sign (f(z) - slope z) for all z in [low, high]: the least of its values at the ends and wherever f' = slope."""
    if not (low <= high and f.domain(low, high)):
        return -inf
    left, right, s = arb(low), arb(high), arb(slope)
    places = f.places(s, n)
    if f.domain is _near:  # every place z + 2 pi k; two more k on either side than floats count
        turns = range(int(low // (2 * pi)) - 2, int(high // (2 * pi)) + 3)
        places = [z + 2 * k * arb.pi() for z in places for k in turns]
    places = [left, right, *(z for z in places if not (z < left or z > right))]
    values = [_below(sign * (f.value(z, n) - (s * z if slope else 0))) for z in places]
    return -inf if any(v != v for v in values) else min(values)


def extremum(node: Node, sign: int, low: np.ndarray, high: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """sign = 1: at most the minimum of f(z) - slope z on [low, high]; sign = -1: at least its maximum. The slope is finite."""
    if node.kind in ("clip", "step"):  # at an end or a break; the limit of the sign at 0 is its value at an end
        places = [low, high, *(np.clip(b, low, high) for b in node.parameters or (0.0,))]
        values = np.array([np.sign(z) for z in (low, high, low if sign > 0 else high)])
        if node.kind == "clip":
            values = np.clip(places, node.parameters[0], node.parameters[1])
        terms = np.where(slope == 0, 0.0, slope * np.array(places))
        errors = np.where(slope == 0, 0.0, gamma(2) * (np.abs(values) + np.abs(terms)) + TINY)  # one product, one sum
        least = np.min(sign * (values - terms) - errors, axis=0)
        return sign * np.where(np.isnan(least), -inf, least)
    n = 2 if node.kind == "square" else int(node.parameters[0]) if node.kind == "power" else 0
    if node.kind == "power" and not (n == node.parameters[0] and 1 <= n <= 64):
        return np.full(low.shape, -sign * inf)  # other exponents: nothing is known
    f = SMOOTH["power" if node.kind == "square" else node.kind]
    each = zip(low.ravel().tolist(), high.ravel().tolist(), slope.ravel().tolist(), strict=True)
    return sign * np.array([_least(f, n, sign, *one) for one in each], dtype=float).reshape(low.shape)


def _corners(lows: Arrays, highs: Arrays, a: np.ndarray, b: np.ndarray) -> Pair:
    """The range of x y - a x - b y: three products and two sums at each corner, their error at most gamma_5 of the absolute sum."""
    corners = [(x, y) for x in (lows[0], highs[0]) for y in (lows[1], highs[1])]
    values = np.array([x * y - a * x - b * y for x, y in corners])
    errors = gamma(5) * np.array([np.abs(x * y) + np.abs(a * x) + np.abs(b * y) for x, y in corners]) + TINY
    return settle(np.min(values - errors, axis=0), np.max(values + errors, axis=0))


def image(node: Node, lows: Arrays, highs: Arrays) -> Pair:
    """The range of a function on the ranges of its arguments."""
    low, high = lows[0], highs[0]
    if node.kind == "product":
        return _corners(lows, highs, np.zeros(1), np.zeros(1))
    if node.kind not in KINKED:
        least, most = (extremum(node, sign, low, high, np.zeros(low.shape)) for sign in (1, -1))
        bottom, top = SMOOTH[node.kind].image if node.kind in SMOOTH else (-inf, inf)
        return np.maximum(least, bottom), np.minimum(most, top)
    left, right = _kink(node)
    ends = [np.where(z > 0, right * z, left * z) for z in (low, high)]  # monotone on both sides of zero
    ends = [np.where(np.isnan(e), 0.0, e) for e in ends]  # slope zero times infinity
    ends += [np.where((low < 0) & (high > 0), 0.0, ends[0])]
    least, most = np.minimum.reduce(ends), np.maximum.reduce(ends)
    return (least, most) if node.kind != "leaky_relu" else (down(least), up(most))  # 0 z, z, -z are exact


def bent(node: Node, lows: Arrays, highs: Arrays) -> np.ndarray:
    """Where a function is not linear on the ranges of its arguments."""
    low, high = lows[0], highs[0]
    if node.kind in KINKED:
        return (low < 0) & (high > 0)
    if node.kind == "clip":
        return np.logical_or.reduce([(low < b) & (high > b) for b in node.parameters])
    if node.kind == "product":
        return (low < high) & (lows[1] < highs[1])
    return np.sign(low) < np.sign(high) if node.kind == "step" else low < high


def _kink(node: Node) -> tuple[float, float]:
    """The slopes of a kinked function left and right of zero."""
    return (node.parameters[0] if node.kind == "leaky_relu" else -1.0 if node.kind == "abs" else 0.0), 1.0


def _kinked(node: Node, low: np.ndarray, high: np.ndarray, given: np.ndarray | None) -> tuple[Line, Line]:
    """On the side of the kink a line through zero, on the other the chord; on one side of zero the function itself."""
    left, right = _kink(node)
    some, more = min(left, right), max(left, right)
    bend = np.where(high > -low, right, left) if given is None else left + (right - left) * (given / 255.0)
    chord = (right * high - left * low) / (high - low)  # any slope between the two will do
    chord = np.where(np.isnan(chord), right, np.clip(chord, some, more))
    gaps = [np.where(np.isnan(e), 0.0, e) for e in ((left - chord) * low, (right - chord) * high)]
    # f - chord is convex (concave): its extremum is at an end; a difference and a product: 2u, and underflow
    gap = np.maximum(*gaps) if left <= right else np.minimum(*gaps)
    gap = gap + np.copysign(8 * UNIT * np.abs(gap) + TINY, right - left)
    inside, side = (low < 0) & (high > 0), np.where(high > 0, right, left)
    zero = np.zeros(np.broadcast_shapes(low.shape, bend.shape))
    curve = Line((np.where(inside, np.clip(bend, some, more), side),), zero)
    line = Line((np.where(inside, chord, side),), np.where(inside, gap, 0.0))
    return (curve, line) if left <= right else (line, curve)


def _slopes(node: Node, low: np.ndarray, high: np.ndarray) -> Pair:
    """Slopes below and above where none is given: chord and tangent, as the function bends; plain numbers."""
    if node.kind == "step":
        return np.zeros(low.shape), np.zeros(low.shape)
    if node.kind in ("sigmoid", "tanh"):
        return _s_shaped(node.kind, -high, -low), _s_shaped(node.kind, low, high)  # point symmetric, but for a constant
    n = 2 if node.kind == "square" else int(node.parameters[0]) if node.kind == "power" else 0
    name = "power" if node.kind == "square" else node.kind
    plain = (
        (lambda z: np.clip(z, node.parameters[0], node.parameters[1]))
        if name == "clip"
        else lambda z: SMOOTH[name].plain(z, n)
    )
    middle, part = 0.5 * low + 0.5 * high, 1e-3 * (high - low)
    chord = (plain(high) - plain(low)) / (high - low)
    tangent = (plain(middle + part) - plain(middle - part)) / (2 * part)
    convex = plain(middle) <= 0.5 * plain(low) + 0.5 * plain(high)
    return np.where(convex, tangent, chord), np.where(convex, chord, tangent)


def _s_shaped(kind: str, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The slope above: of the tangent through the left end, touching at t >= 0, or further right; of the chord if t >= high."""
    plain = SMOOTH[kind].plain
    slope = (lambda z: 1 - np.tanh(z) ** 2) if kind == "tanh" else lambda z: plain(z, 0) * plain(-z, 0)
    start, t, end = plain(low, 0), np.zeros(low.shape), np.maximum(high, 0.0)
    for _ in range(30):  # bisection: left of the touching point the tangent passes below the left end
        middle = 0.5 * (t + end)
        early = slope(middle) * (middle - low) > plain(middle, 0) - start
        t, end = np.where(early, middle, t), np.where(early, end, middle)
    chord = (plain(high, 0) - start) / (high - low)
    touching = slope(np.where(low >= 0, 0.5 * low + 0.5 * high, np.maximum(t, 0.5 * low + 0.5 * high)))
    return np.where((low < 0) & (slope(high) * (high - low) >= plain(high, 0) - start) | (high <= 0), chord, touching)


def lines(
    node: Node, lows: Arrays, highs: Arrays, known: Pair, given: np.ndarray | None, rows: np.ndarray | None
) -> tuple[Line, Line]:
    """Lines below and above f. `known`: a range of f; `given`: unit values or slopes; `rows`: (B, m) coefficients, where
    the line below is wanted only for positive and the line above only for negative ones (None: both are)."""
    if node.kind in KINKED:
        return _kinked(node, lows[0], highs[0], given)
    sides = []
    for sign, level in zip((1, -1), known, strict=True):
        if node.kind == "product":
            w = 0.5 if given is None else given / 255.0
            weights = (w, w) if sign > 0 else (1 - w, w)  # of the upper ends of y and of x
            a, b = ((1 - v) * lows[k] + v * highs[k] for v, k in zip(weights, (1, 0), strict=True))
            slopes, constant = [a, b], _corners(lows, highs, a, b)[sign < 0]
        else:
            slope = _slopes(node, lows[0], highs[0])[sign < 0] if given is None else given.astype(float)
            low, high, slope = np.broadcast_arrays(lows[0], highs[0], np.where(np.isfinite(slope), slope, 0.0))
            wanted = np.ones(low.shape, bool) if rows is None else sign * rows > 0
            slopes, constant = [slope], np.zeros(low.shape)
            constant[wanted] = extremum(node, sign, low[wanted], high[wanted], slope[wanted])
        best = sign * constant  # where the line is nowhere better than a constant, the constant is taken
        for s, low, high in zip(slopes, lows, highs, strict=True):
            best = best + np.maximum(sign * s * low, sign * s * high)
        flat = ~(best > sign * level)
        sides.append(Line(tuple(np.where(flat, 0.0, s) for s in slopes), np.where(flat, level, constant)))
    return sides[0], sides[1]
