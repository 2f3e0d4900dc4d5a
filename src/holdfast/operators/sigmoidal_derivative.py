"""Derivatives of S-shaped functions, as they occur in Jacobians: bells, concave between two inflections, convex outside.

A line above is a tangent to the middle part that passes above both ends, else the chord; one below is a tangent to an
outer part that passes below the other end, else the chord. The shift is rigorous for any slope. Tangent and chord by
curvature: Zhang et al., NeurIPS 2018, section 3.2; here for two inflections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.graph import Node
from holdfast.operators.lines import Curve, Line, between, chord_slope, enclose, ends_shift, middle, tangent_shift
from holdfast.operators.operator import Array, Relaxation, SmoothOperator
from holdfast.rigor import Arithmetic
from holdfast.rigor.functions import (
    ATAN_CURVATURE,
    ATAN_SLOPE,
    SIGMOID_CURVATURE,
    SIGMOID_SLOPE,
    TANH_CURVATURE,
    TANH_SLOPE,
    Bounds,
    clean,
    largest,
    pin,
)

_TANH_INFLECTION = 0.6584789484624084  # tanh z = 1 / sqrt 3


def _nearest(xp: Any, z: float, lower: Array, upper: Array) -> Array:
    """The point of [lower, upper] next to ``z``, in the type of the bounds."""
    return xp.minimum(xp.maximum(lower, z), upper)


@dataclass(frozen=True)
class _Bell:
    """An even curve with inflections between ``inner`` and ``outer`` and between their negatives, on [lower, upper]."""

    xp: Any
    curve: Curve
    inner: float
    outer: float
    lower: Array
    upper: Array
    arithmetic: Arithmetic

    def chord_slope(self) -> Array:
        """That of the chord, between the extremes of f': rounding may say anything on an interval of a few ulps."""
        xp, lower, upper = self.xp, self.lower, self.upper
        points = [lower, upper, *(_nearest(xp, z, lower, upper) for z in (-self.outer, self.outer))]
        steep = middle(self.curve.slope(xp.stack(points)))
        return xp.clip(chord_slope(xp, self.curve, lower, upper), steep.min(0), steep.max(0))

    def above(self, slope: Array, point: Array) -> Line:
        """The line above: f(z) - slope z is largest at an end, or on the middle part, where a tangent bounds it.

        It may touch an ulp outside [lower, upper], so as to touch where f is surely concave.
        """
        slope = clean(self.xp, slope, self.arithmetic)
        point = pin(self.xp, self.xp.clip(point, -self.inner, self.inner))
        shift = ends_shift(self.xp, self.curve, slope, self.lower, self.upper, self.arithmetic)
        zone = self.xp.maximum(self.lower, -self.outer), self.xp.minimum(self.upper, self.outer)
        touching = tangent_shift(self.xp, self.curve, slope, point, *zone, self.arithmetic)
        return Line(slope, self.xp.where(zone[0] <= zone[1], self.xp.maximum(shift, touching), shift))

    def below_negated(self, slope: Array, left: Array, right: Array) -> Line:
        """The line above -f, touching the outer parts at ``left`` and ``right`` at most; ends bound it in the middle."""
        xp, lower, upper, curve = self.xp, self.lower, self.upper, self.curve.negated()
        slope = clean(xp, slope, self.arithmetic)
        shift = ends_shift(xp, curve, slope, lower, upper, self.arithmetic)
        # both outer parts as one array, with a new axis in front
        points = pin(xp, xp.stack([xp.minimum(left, -self.outer), xp.maximum(right, self.outer)]))
        starts = xp.stack([lower, xp.maximum(lower, self.inner)])
        stops = xp.stack([xp.minimum(upper, -self.inner), upper])
        touching = tangent_shift(xp, curve, slope, points, starts, stops, self.arithmetic)
        touching = xp.where(starts <= stops, touching, shift)
        return Line(slope, xp.maximum(shift, xp.maximum(touching[0], touching[1])))


class _BellShaped(SmoothOperator):
    slopes = 2
    reference = "Zhang et al., NeurIPS 2018, section 3.2"
    inflection: float

    def near_touch(self, xp: Any, far: Array) -> Array:
        """Where in [0, inflection] the tangent passes through (far, f(far)), far >= inflection; plain arithmetic."""
        raise NotImplementedError

    def far_touch(self, xp: Any, near: Array) -> Array:
        """Where beyond the inflection the tangent passes through (near, f(near)), near <= inflection."""
        raise NotImplementedError

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Bounds:
        far, near = xp.maximum(abs(lower), abs(upper)), _nearest(xp, 0.0, lower, upper)
        return self.value.bounds(xp, far, arithmetic)[0], self.value.bounds(xp, near, arithmetic)[1]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")
    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """Slopes: positions of the tangent points of the lower and of the upper line, from left to right."""
        curve = Curve(
            lambda z: self.value.bounds(xp, z, arithmetic), lambda z: self.steepness.bounds(xp, z, arithmetic)
        )
        c, margin, most = self.inflection, 8 * arithmetic.unit, 2.0**-8 * largest(lower)
        bell = _Bell(xp, curve, c * (1.0 - margin), c * (1.0 + margin), lower, upper, arithmetic)
        low, high = (None, None) if slopes is None else (slopes[0], slopes[1])
        centre, chord = 0.5 * lower + 0.5 * upper, bell.chord_slope()

        # above: tangents at the points of [first, last] pass above both ends
        ends = xp.stack([-lower, upper])
        touch = xp.where(ends < most, xp.clip(self.near_touch(xp, xp.clip(ends, c, most)), 0.0, c), 0.0)
        first, last = xp.where(lower < -c, -touch[0], lower), xp.where(upper > c, touch[1], upper)
        by_chord = first > last
        point = xp.clip(centre, first, last) if high is None else between(xp, first, last, high)
        point = xp.where(by_chord, _nearest(xp, 0.0, lower, upper), point)
        above = bell.above(xp.where(by_chord, chord, middle(curve.slope(point))), point)

        # below: on the right tangents from ``first`` on, on the left up to ``last``; never both
        ends = xp.stack([-upper, lower])
        touch = xp.maximum(self.far_touch(xp, xp.clip(ends, -most, c)), c)
        first, last = xp.where(lower >= c, lower, touch[1]), xp.where(upper <= -c, upper, -touch[0])
        on_right, on_left = first <= upper, lower <= last
        ends = xp.where(on_right, first, lower), xp.where(on_left & ~on_right, last, upper)
        point = xp.clip(centre, *ends) if low is None else between(xp, *ends, low)
        left, right = xp.where(on_left & ~on_right, point, lower), xp.where(on_right, point, upper)
        slope = xp.where(on_left | on_right, middle(curve.slope(point)), chord)
        below = bell.below_negated(-slope, left, right)
        return enclose(xp, above, below, self.interval(xp, node, lower, upper, arithmetic), lower, upper)

    def split_points(self, node: Node) -> tuple[float, ...]:
        return (-self.inflection, 0.0, self.inflection)


def _sech_square(xp: Any, t: Array) -> tuple[Array, Array]:
    """1 - tanh^2 and tanh of t >= 0, in plain arithmetic."""
    e = xp.exp(-2.0 * t)
    return 4.0 * e / ((1.0 + e) * (1.0 + e)), (1.0 - e) / (1.0 + e)


def _sech_near_touch(xp: Any, far: Array) -> Array:
    """Newton on h(t) = f(t) + f'(t)(far - t) - f(far), h'(t) = f''(t)(far - t); far from zero t is about 1 / (2 far)."""
    c = _TANH_INFLECTION
    start = 1.0 / (far + far * xp.sqrt(1.0 + (1.0 / (c * c) - 2.0) / far / far))
    a = xp.minimum(far, 1e8)  # beyond, the start is exact to rounding
    base, t = _sech_square(xp, a)[0], xp.minimum(start, c)
    for _ in range(3):
        f, h = _sech_square(xp, t)
        value = f - 2.0 * f * h * (a - t) - base
        turn = xp.minimum(f * (6.0 * h * h - 2.0), -1e-4) * xp.maximum(a - t, 1e-4)
        t = xp.clip(t - value / turn, 0.0, c)
    return xp.where(far < 1e8, t, start)


def _sech_far_touch(xp: Any, near: Array) -> Array:
    """Newton on the logarithm of f(t)(1 + r(t)(t - near)) = f(near), where r = -f'/f = 2 tanh."""
    c = _TANH_INFLECTION
    b = xp.maximum(near, -1e6)  # beyond, f is zero in floating point
    size = abs(b)
    goal = -2.0 * (size + xp.log1p(xp.exp(-2.0 * size)))
    t = xp.where(b > 0, 1.09 - 0.6554 * b, size + 0.5 * xp.log(8.9 + 4.0 * size))
    for _ in range(3):
        f, h = _sech_square(xp, t)
        arm = 1.0 + 2.0 * h * (t - b)
        value = xp.log(arm) - 2.0 * (t + xp.log1p(xp.exp(-2.0 * t))) - goal
        turn = xp.minimum(-2.0 * h + 2.0 * (h + f * (t - b)) / arm, -1e-4)
        t = xp.maximum(t - value / turn, c)
    return t


class TanhDerivative(_BellShaped):
    """1 - tanh^2 z."""

    name = "tanh_derivative"
    value, steepness, inflection = TANH_SLOPE, TANH_CURVATURE, _TANH_INFLECTION

    def near_touch(self, xp: Any, far: Array) -> Array:
        return _sech_near_touch(xp, far)

    def far_touch(self, xp: Any, near: Array) -> Array:
        return _sech_far_touch(xp, near)


class SigmoidDerivative(_BellShaped):
    """s(z) (1 - s(z)) with the sigmoid s: a quarter of 1 - tanh^2 (z / 2)."""

    name = "sigmoid_derivative"
    value, steepness, inflection = SIGMOID_SLOPE, SIGMOID_CURVATURE, 2.0 * _TANH_INFLECTION

    def near_touch(self, xp: Any, far: Array) -> Array:
        return 2.0 * _sech_near_touch(xp, 0.5 * far)

    def far_touch(self, xp: Any, near: Array) -> Array:
        return 2.0 * _sech_far_touch(xp, 0.5 * near)


class AtanDerivative(_BellShaped):
    """1 / (1 + z^2). The tangent at t meets the curve again at a with t^2 + 2 a t = 1."""

    name = "atan_derivative"
    value, steepness, inflection = ATAN_SLOPE, ATAN_CURVATURE, 0.5773502691896258

    def near_touch(self, xp: Any, far: Array) -> Array:
        return 1.0 / (far + far * xp.sqrt(1.0 + 1.0 / far / far))

    def far_touch(self, xp: Any, near: Array) -> Array:
        size = xp.minimum(abs(near), 1e15)  # beyond, the root is 2 |near| to rounding, and f too small for its tangents
        root = size + xp.sqrt(size * size + 1.0)
        return xp.where(near > 0, 1.0 / root, xp.maximum(root, 2.0 * abs(near)))
