"""Sine, cosine and tangent. For the waves a slope is chosen among a few candidates; the shift is rigorous for any slope.

f(z) - s z is largest at an end or on a part where f is concave, of half a period each: there a tangent bounds it.
Intervals of a period or more, or very far from zero, have the bounds -1 and 1. A branch of the tangent is an S-shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from holdfast.graph import Node
from holdfast.operators.lines import Curve, Line, chord_slope, enclose, ends_shift, middle, tangent_shift
from holdfast.operators.operator import Array, Relaxation, UnaryOperator
from holdfast.operators.sigmoidal import atan_touch, s_shaped_lines
from holdfast.rigor import Arithmetic
from holdfast.rigor.functions import (
    COS,
    SIN,
    Bounds,
    Elementary,
    clean,
    pin,
    tangent_bounds,
    tangent_slope_bounds,
    trigonometric_limit,
)

_PERIOD = 2.0 * math.pi


def _margin(z: Array, arithmetic: Arithmetic) -> Array:
    """How far the computed distance of ``z`` from a multiple of pi / 2 may be off."""
    return 32 * arithmetic.unit * (abs(z) + 16.0)


def _reaches(xp: Any, crest: float, lower: Array, upper: Array, arithmetic: Arithmetic) -> Array:
    """Whether some crest + k period may lie in [lower, upper] (never false where one does)."""
    first = xp.ceil((lower - crest - _margin(lower, arithmetic)) / _PERIOD - 16 * arithmetic.unit)
    last = xp.floor((upper - crest + _margin(upper, arithmetic)) / _PERIOD + 16 * arithmetic.unit)
    return first <= last


def _range(
    xp: Any, value: Callable[[Array], Bounds], crest: float, lower: Array, upper: Array, arithmetic: Arithmetic
) -> Bounds:
    """Range of a sine wave with maxima at crest + k period."""
    at_lower, at_upper = value(lower), value(upper)
    up = xp.where(_reaches(xp, crest, lower, upper, arithmetic), 1.0, xp.maximum(at_lower[1], at_upper[1]))
    trough = _reaches(xp, crest + math.pi, lower, upper, arithmetic)
    return xp.where(trough, -1.0, xp.minimum(at_lower[0], at_upper[0])), up


def _above(
    xp: Any,
    curve: Curve,
    crest: float,
    steepness: Bounds,
    lower: Array,
    upper: Array,
    arithmetic: Arithmetic,
    position: Array | None,
) -> Line:
    """The line above a sine wave (f'' = -f) with maxima at crest + k period, on less than a period.

    ``position`` chooses the slope between the extremes of f'; None takes the candidate of least area.
    """
    quarter = math.pi / 2
    pad = _margin(xp.maximum(abs(lower), abs(upper)), arithmetic)
    first = crest + _PERIOD * xp.ceil((lower - quarter - crest - pad) / _PERIOD - 16 * arithmetic.unit)
    humps = (first, first + _PERIOD)  # no third one meets an interval shorter than a period
    meets = [(c - quarter <= upper + pad) & (c + quarter >= lower - pad) for c in humps]
    almost_one = 1.0 - 4.0 * float(np.finfo(np.dtype(lower.dtype)).eps)

    def shift(slope: Array) -> Array:
        result = ends_shift(xp, curve, slope, lower, upper, arithmetic)
        for c, active in zip(humps, meets, strict=True):
            stationary = c - xp.arcsin(xp.clip(slope, -almost_one, almost_one))
            point = xp.clip(stationary, lower, upper)
            start, end = xp.maximum(lower, c - quarter - pad), xp.minimum(upper, c + quarter + pad)
            # the point may lie up to ``pad`` outside the concave part, where |f''| <= pad
            bound = tangent_shift(xp, curve, slope, point, start, end, arithmetic) + 16 * pad * pad
            result = xp.where(active, xp.maximum(result, bound), result)
        return result

    if position is not None:
        low, high = steepness
        slope = clean(xp, low + xp.clip(position, 0.0, 1.0) * (high - low), arithmetic)
        return Line(slope, shift(slope))

    # candidates in one array with a new axis in front: one evaluation (and one compilation) for all of them
    centre = 0.5 * lower + 0.5 * upper
    ends = xp.stack([lower, upper])
    hump = xp.stack([xp.where(meets[1], humps[1], humps[0]), humps[0]])  # the far one, seen from either end
    from_ends = _touching_slopes(xp, curve, ends, hump, lower, upper)
    candidates = xp.stack([middle(curve.slope(centre)), chord_slope(xp, curve, lower, upper), xp.zeros_like(lower)])
    candidates = xp.clip(xp.concatenate([candidates, from_ends]), -1.0, 1.0)
    best = xp.argmin(shift(candidates) + candidates * centre, axis=0)
    slope = clean(xp, xp.take_along_axis(candidates, best[None], axis=0)[0], arithmetic)
    return Line(slope, shift(slope))


def _touching_slopes(xp: Any, curve: Curve, ends: Array, hump: Array, lower: Array, upper: Array) -> Array:
    """Slope of the tangent to a hump through an end: Newton on f(t) - f(e) - f'(t)(t - e), in plain arithmetic."""
    quarter = math.pi / 2
    start, stop = xp.maximum(lower, hump - quarter), xp.minimum(upper, hump + quarter)
    t = xp.clip(hump, lower, upper)
    base = middle(curve.value(ends))
    for _ in range(4):
        value, steep = middle(curve.value(t)), middle(curve.slope(t))
        turn = xp.maximum(value, 0.01) * (t - ends)
        turn = xp.where(abs(turn) > 1e-6, turn, 1.0)
        t = xp.clip(t - (value - base - steep * (t - ends)) / turn, start, stop)
    return middle(curve.slope(t))


class _Wave(UnaryOperator):
    slopes = 2
    value: Elementary
    crest: float  # where a maximum of f is; f' has one a quarter period earlier

    def _slope(self, xp: Any, z: Array, arithmetic: Arithmetic) -> Bounds:
        raise NotImplementedError

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return self.value.compute(xp, x)

    def _box(self, xp: Any, lower: Array, upper: Array, arithmetic: Arithmetic) -> tuple[Array, Array, Array]:
        limit = trigonometric_limit(arithmetic)
        outside = (lower < -limit) | (upper > limit) | (upper - lower > 6.28)
        return xp.where(outside, 0.0, lower), xp.where(outside, 0.0, upper), outside

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Bounds:
        lower, upper, outside = self._box(xp, lower, upper, arithmetic)
        low, high = _range(xp, lambda z: self.value.bounds(xp, z, arithmetic), self.crest, lower, upper, arithmetic)
        return xp.where(outside, -1.0, low), xp.where(outside, 1.0, high)

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """Slopes: those of the lower and of the upper line, from the least to the largest f' on the interval."""
        values = self.interval(xp, node, lower, upper, arithmetic)
        lower, upper, outside = self._box(xp, lower, upper, arithmetic)
        curve = Curve(lambda z: self.value.bounds(xp, z, arithmetic), lambda z: self._slope(xp, z, arithmetic))
        steepness = _range(xp, curve.slope, self.crest - math.pi / 2, lower, upper, arithmetic)
        low, high = (None, None) if slopes is None else (1.0 - slopes[0], slopes[1])
        above = _above(xp, curve, self.crest, steepness, lower, upper, arithmetic, high)
        steepness = -steepness[1], -steepness[0]
        below = _above(xp, curve.negated(), self.crest + math.pi, steepness, lower, upper, arithmetic, low)
        return enclose(xp, above, below, values, lower, upper, outside)


class Sin(_Wave):
    """Sine."""

    name = "sin"
    onnx = ("Sin",)
    value, crest = SIN, math.pi / 2

    def _slope(self, xp: Any, z: Array, arithmetic: Arithmetic) -> Bounds:
        return COS.bounds(xp, z, arithmetic)

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return xp.cos(x)


class Cos(_Wave):
    """Cosine."""

    name = "cos"
    onnx = ("Cos",)
    value, crest = COS, 0.0

    def _slope(self, xp: Any, z: Array, arithmetic: Arithmetic) -> Bounds:
        down, up = SIN.bounds(xp, z, arithmetic)
        return -up, -down

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return -xp.sin(x)


class Tan(UnaryOperator):
    """Tangent on one branch; an interval that holds a pole, or comes too close to one, has infinite bounds."""

    name = "tan"
    onnx = ("Tan",)
    slopes = 2

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return xp.tan(x)

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return 1.0 + xp.tan(x) ** 2

    def _branch(self, xp: Any, lower: Array, upper: Array, arithmetic: Arithmetic) -> tuple[Array, Array, Array, Array]:
        """A float k pi near the interval, the interval less the real k pi (widened), and whether a pole is too close."""
        limit = trigonometric_limit(arithmetic)
        edge = math.pi / 2 - (2.0**-15 if arithmetic.dtype == "float32" else 2.0**-30)
        far = (lower < -limit) | (upper > limit)
        lower, upper = xp.where(far, 0.0, lower), xp.where(far, 0.0, upper)
        base = pin(xp, math.pi * xp.round((0.5 * lower + 0.5 * upper) / math.pi))
        margin = xp.where(base == 0, 0.0, _margin(xp.maximum(abs(lower), abs(upper)), arithmetic))
        lower, upper = pin(xp, lower - base - margin), pin(xp, upper - base + margin)
        pole = far | (lower < -edge) | (upper > edge)
        return base, xp.where(pole, 0.0, lower), xp.where(pole, 0.0, upper), pole

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Bounds:
        _, lower, upper, pole = self._branch(xp, lower, upper, arithmetic)
        low, high = tangent_bounds(xp, lower, arithmetic)[0], tangent_bounds(xp, upper, arithmetic)[1]
        return xp.where(pole, -np.inf, low), xp.where(pole, np.inf, high)

    def undefined(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Array:
        return self._branch(xp, lower, upper, arithmetic)[3]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """Slopes: positions of the tangent points of the lower and of the upper line, from the middle of the branch outwards."""
        values = self.interval(xp, node, lower, upper, arithmetic)
        base, low, high, pole = self._branch(xp, lower, upper, arithmetic)
        # -tan is convex left of zero and concave right of it; tangent points as for its inverse, the arc tangent
        curve = Curve(lambda z: tangent_bounds(xp, z, arithmetic), lambda z: tangent_slope_bounds(xp, z, arithmetic))
        positions = None if slopes is None else (slopes[0], slopes[1])

        def touch(a: Array) -> Array:
            return xp.arctan(atan_touch(xp, xp.tan(a)))

        below, above = s_shaped_lines(xp, curve.negated(), low, high, touch, None, arithmetic, positions)
        above, below = (self._moved(line, base, arithmetic) for line in (above, below))
        return enclose(xp, above, below, values, lower, upper, pole)

    def _moved(self, line: Line, base: Array, arithmetic: Arithmetic) -> Line:
        """slope (z - k pi) + shift as a line of z; ``base`` is k pi up to a few roundings."""
        product = line.slope * base
        rounding = 8 * arithmetic.unit * (abs(line.shift) + 2 * abs(product)) + 4 * arithmetic.tiny
        return Line(line.slope, line.shift - product + (base != 0) * rounding)

    def split_points(self, node: Node) -> tuple[float, ...]:
        return (0.0,)
