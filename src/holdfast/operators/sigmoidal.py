"""S-shaped functions: sigmoid, tanh, arc tangent. Convex left of zero, concave right of it.

The line above: the chord while the tangent from the left end would touch beyond the right end, else a tangent to the
concave part that passes above the left end. Zhang et al., NeurIPS 2018, table 3; the line below by symmetry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from holdfast.graph import Node
from holdfast.operators.lines import Curve, Line, between, chord_slope, enclose, gap, middle, tangent_shift
from holdfast.operators.operator import Array, Relaxation, SmoothOperator
from holdfast.rigor import Arithmetic
from holdfast.rigor.functions import (
    ATAN,
    ATAN_SLOPE,
    SIGMOID,
    SIGMOID_SLOPE,
    TANH,
    TANH_SLOPE,
    Bounds,
    clean,
    largest,
)

Touch = Callable[[Array], Array]


def s_shaped_above(
    xp: Any,
    curve: Curve,
    lower: Array,
    upper: Array,
    touch: Touch,
    reach: Touch | None,
    arithmetic: Arithmetic,
    position: Array | None,
) -> Line:
    """The line above a curve that is convex for z <= 0 and concave for z >= 0.

    ``touch(a)``: where the tangent from (-a, f(-a)), a >= 0, touches the concave part (in plain arithmetic).
    ``reach(width)``: how far beyond it a tangent is still distinguishable from a flat line; None for no limit.
    ``position``: 0 touches as far left as possible, 1 as far right; None minimises the area under the line.
    """
    concave_from = xp.minimum(xp.maximum(lower, 0.0), upper)
    first = xp.where(lower < 0, xp.clip(touch(xp.maximum(-lower, 0.0)), concave_from, upper), lower)
    width = upper - lower
    last = upper if reach is None else xp.minimum(upper, first + reach(width))
    centre = 0.5 * lower + 0.5 * upper
    point = xp.clip(centre, first, upper) if position is None else between(xp, first, last, position)
    # beyond reach, the flat line through the right end
    flat = (point >= last) & (last < upper)
    by_chord = (first >= upper) & (lower < 0)
    point = xp.where(flat | by_chord, upper, point)
    ends = [middle(curve.slope(z)) for z in (lower, upper, concave_from)]
    least = xp.minimum(xp.minimum(ends[0], ends[1]), ends[2])
    most = xp.maximum(xp.maximum(ends[0], ends[1]), ends[2])
    slope = xp.where(by_chord, xp.clip(chord_slope(xp, curve, lower, upper), least, most), middle(curve.slope(point)))
    slope = clean(xp, xp.where(flat, 0.0, slope), arithmetic)
    at_lower = gap(xp, curve.value(lower)[1], slope, lower, arithmetic)
    at_upper = gap(xp, curve.value(upper)[1], slope, upper, arithmetic)
    on_concave = tangent_shift(xp, curve, slope, point, concave_from, upper, arithmetic)
    # on the convex part f(z) - slope z is largest at its ends: the left one, and the start of the concave part
    return Line(slope, xp.maximum(at_lower, xp.where(upper <= 0, at_upper, on_concave)))


def s_shaped_lines(
    xp: Any,
    curve: Curve,
    lower: Array,
    upper: Array,
    touch: Touch,
    reach: Touch | None,
    arithmetic: Arithmetic,
    positions: tuple[Array, Array] | None,
) -> tuple[Line, Line]:
    """The line above the curve and the line above its negative, where f(z) + f(-z) is constant.

    ``positions``: of the tangent points of the two, from the zero outwards.
    """
    # -f(-z) is S-shaped too, and its line above is f's line below: both sides as one array, with a new axis in front
    upright = xp.asarray([True, False]).reshape(2, *(1,) * lower.ndim)

    def value(z: Array) -> Bounds:
        down, up = curve.value(xp.where(upright, z, -z))
        return xp.where(upright, down, -up), xp.where(upright, up, -down)

    both = Curve(value, curve.slope)  # f' is even
    position = None if positions is None else xp.stack(positions)
    sides = xp.stack([lower, -upper]), xp.stack([upper, -lower])
    slope, shift = s_shaped_above(xp, both, *sides, touch, reach, arithmetic, position)
    # -f(-z) <= s z + c for -z in [lower, upper]: f(z) >= s z - c, so -f(z) <= -s z + c
    return Line(slope[0], shift[0]), Line(-slope[1], shift[1])


def _tanh_touch(xp: Any, a: Array) -> Array:
    """Where the tangent from (-a, -tanh a) touches tanh on the right; plain arithmetic, Newton on a monotone equation."""
    far = xp.maximum(a, 0.125)
    far = xp.minimum(far, 1e30)
    base = xp.tanh(far)
    t = 0.5 * xp.log1p(far + far * (far / (1.0 + far)))
    for _ in range(5):
        e = xp.exp(-2.0 * t)
        value, steep = (1.0 - e) / (1.0 + e), 4.0 * e / ((1.0 + e) * (1.0 + e))
        # h(t) = f(t) - f(-a) - f'(t)(t + a), h'(t) = -f''(t)(t + a) = 2 f(t) f'(t)(t + a)
        t = t - ((value + base) / (t + far) - steep) / xp.maximum(2.0 * value * steep, 1e-37)
        t = xp.maximum(t, 0.0)
    small = xp.minimum(a, 0.125)
    near = small * (0.5 - 0.05 * small * small)
    return xp.where(a < 0.125, near, t)


def atan_touch(xp: Any, a: Array) -> Array:
    """Where the tangent from (-a, -atan a) touches the arc tangent on the right: Newton, in plain arithmetic."""
    start = a / (1.0 + xp.sqrt(1.0 + np.pi * a))
    most = 1e12 if a.dtype == np.float32 else 1e60  # beyond it the start is exact to rounding
    far = xp.clip(a, 1e-3, most)
    base, t = xp.arctan(far), xp.clip(start, 4e-4, 2.0 * xp.sqrt(far))
    for _ in range(5):
        flat = 1.0 + t * t
        t = xp.maximum(t - (xp.arctan(t) + base - (t + far) / flat) * flat / (2.0 * t * ((t + far) / flat)), 4e-4)
    return xp.where(a < 1e-3, 0.5 * a, xp.where(a < most, t, start))


class _SShaped(SmoothOperator):
    slopes = 2

    def touch(self, xp: Any, a: Array) -> Array:
        """Where the tangent from (-a, f(-a)), a >= 0, touches the concave part, in plain arithmetic."""
        raise NotImplementedError

    def reach(self, xp: Any, width: Array) -> Array:
        """How far beyond that point tangents of an interval of this width are worth having."""
        raise NotImplementedError

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Bounds:
        return self.value.bounds(xp, lower, arithmetic)[0], self.value.bounds(xp, upper, arithmetic)[1]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """Slopes: positions of the tangent points of the lower and of the upper line, from the zero outwards."""
        curve = Curve(
            lambda z: self.value.bounds(xp, z, arithmetic), lambda z: self.steepness.bounds(xp, z, arithmetic)
        )
        positions = None if slopes is None else (slopes[1], slopes[0])
        above, below = s_shaped_lines(
            xp, curve, lower, upper, lambda a: self.touch(xp, a), lambda w: self.reach(xp, w), arithmetic, positions
        )
        return enclose(xp, above, below, self.interval(xp, node, lower, upper, arithmetic), lower, upper)

    def split_points(self, node: Node) -> tuple[float, ...]:
        return (0.0,)


class _Tanh(_SShaped):
    scale: float  # f(z) is tanh(scale z), up to an affine map

    def touch(self, xp: Any, a: Array) -> Array:
        return _tanh_touch(xp, self.scale * a) / self.scale

    def reach(self, xp: Any, width: Array) -> Array:
        return (16.0 + xp.log1p(width)) / (2.0 * self.scale)


class Sigmoid(_Tanh):
    """1 / (1 + exp(-z))."""

    name = "sigmoid"
    onnx = ("Sigmoid", "Swish")
    value, steepness, scale = SIGMOID, SIGMOID_SLOPE, 0.5


class Tanh(_Tanh):
    """tanh z."""

    name = "tanh"
    onnx = ("Tanh",)
    value, steepness, scale = TANH, TANH_SLOPE, 1.0


class Atan(_SShaped):
    """Arc tangent."""

    name = "atan"
    onnx = ("Atan",)
    value, steepness = ATAN, ATAN_SLOPE

    def touch(self, xp: Any, a: Array) -> Array:
        return atan_touch(xp, a)

    def reach(self, xp: Any, width: Array) -> Array:
        return xp.full_like(width, 0.25 * largest(width))
