"""Lines above and below a curve: first a slope (any float), then a shift that is rigorous for exactly that slope.

The cards of nonlinear functions share these steps. Everything is written for the line above; the line below f is the
line above -f. A tangent of a concave curve lies above it, a chord of a convex curve too: Zhang et al., Efficient
Neural Network Robustness Certification with General Activation Functions, NeurIPS 2018, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from holdfast.operators.operator import Array, Relaxation
from holdfast.rigor import Arithmetic
from holdfast.rigor.functions import Bounds, clean, largest, smallest


class Line(NamedTuple):
    """slope z + shift, above the curve."""

    slope: Array
    shift: Array


@dataclass(frozen=True)
class Curve:
    """Bounds of f and of f' at given points, in a fixed arithmetic."""

    value: Callable[[Array], Bounds]
    slope: Callable[[Array], Bounds]

    def negated(self) -> Curve:
        """-f(z)."""
        return Curve(lambda z: _negate(self.value(z)), lambda z: _negate(self.slope(z)))


def _negate(bounds: Bounds) -> Bounds:
    return -bounds[1], -bounds[0]


def middle(bounds: Bounds) -> Array:
    """A value between two bounds, without overflow."""
    return 0.5 * bounds[0] + 0.5 * bounds[1]


def between(xp: Any, lower: Array, upper: Array, position: Array | float) -> Array:
    """The point at ``position`` in [0, 1] on the way from ``lower`` to ``upper``."""
    position = xp.clip(xp.asarray(position, dtype=lower.dtype), 0.0, 1.0)
    return xp.clip((1.0 - position) * lower + position * upper, lower, upper)


def quotient(xp: Any, a: Array, b: Array) -> Array:
    """a / b where b is a positive normal number, else 0."""
    positive = b >= smallest(b)
    return xp.where(positive, a / xp.where(positive, b, 1.0), 0.0)


def gap(xp: Any, high: Array, slope: Array, z: Array, arithmetic: Arithmetic) -> Array:
    """An upper bound of f(z) - slope z, for ``high`` >= f(z)."""
    product = slope * z
    rounding = 8 * arithmetic.unit * (abs(high) + abs(product))
    return high - product + (rounding + 8 * arithmetic.tiny * (1.0 + abs(slope)))


def excess(xp: Any, steepest: Array, slope: Array, distance: Array, arithmetic: Arithmetic) -> Array:
    """How far f can rise above a line over ``distance``, where f' exceeds its slope by at most the difference."""
    rise = xp.maximum(steepest - slope, 0.0) * (xp.maximum(distance, 0.0) + 4 * arithmetic.tiny)
    return rise * (1.0 + 8 * arithmetic.unit) + 2 * arithmetic.tiny


def tangent_shift(
    xp: Any, curve: Curve, slope: Array, point: Array, lower: Array, upper: Array, arithmetic: Arithmetic
) -> Array:
    """An upper bound of f(z) - slope z on [lower, upper], where f is concave; ``point`` in [lower, upper].

    f(z) <= f(t) + f'(t)(z - t), so f(z) - slope z <= f(t) - slope t + (f'(t) - slope)(z - t).
    """
    (_, high), (steep_low, steep_high) = curve.value(point), curve.slope(point)
    right = excess(xp, steep_high, slope, upper - point, arithmetic)
    left = excess(xp, -steep_low, -slope, point - lower, arithmetic)
    beyond = gap(xp, high, slope, point, arithmetic) + xp.maximum(left, right)
    return beyond + 4 * arithmetic.unit * abs(beyond)


def chord_slope(xp: Any, curve: Curve, lower: Array, upper: Array) -> Array:
    """(f(upper) - f(lower)) / (upper - lower), in plain arithmetic."""
    return quotient(xp, middle(curve.value(upper)) - middle(curve.value(lower)), upper - lower)


def ends_shift(xp: Any, curve: Curve, slope: Array, lower: Array, upper: Array, arithmetic: Arithmetic) -> Array:
    """An upper bound of f(z) - slope z at both ends, hence between them where f is convex."""
    at_lower = gap(xp, curve.value(lower)[1], slope, lower, arithmetic)
    return xp.maximum(at_lower, gap(xp, curve.value(upper)[1], slope, upper, arithmetic))


def tangent(xp: Any, curve: Curve, point: Array, lower: Array, upper: Array, arithmetic: Arithmetic) -> Line:
    """The line above a concave curve that touches it at ``point``."""
    slope = clean(xp, middle(curve.slope(point)), arithmetic)
    return Line(slope, tangent_shift(xp, curve, slope, point, lower, upper, arithmetic))


def chord(xp: Any, curve: Curve, lower: Array, upper: Array, arithmetic: Arithmetic) -> Line:
    """The line above a convex curve through its ends. Its slope lies between those of the curve."""
    slope = xp.clip(chord_slope(xp, curve, lower, upper), middle(curve.slope(lower)), middle(curve.slope(upper)))
    slope = clean(xp, slope, arithmetic)
    return Line(slope, ends_shift(xp, curve, slope, lower, upper, arithmetic))


def or_constant(xp: Any, line: Line, constant: Array, lower: Array, upper: Array) -> Line:
    """The constant where the line is nowhere better (saturated, a few ulps wide) or is not finite."""
    slope, shift = line
    most = largest(lower)
    finite = (abs(slope) <= most) & (abs(shift) <= most)
    slope, shift = xp.where(finite, slope, 0.0), xp.where(finite, shift, constant)
    least = xp.minimum(slope * lower, slope * upper) + shift
    keep = least < constant
    return Line(xp.where(keep, slope, 0.0), xp.where(keep, shift, constant))


def enclose(
    xp: Any, above: Line, below_negated: Line, values: Bounds, lower: Array, upper: Array, outside: Array | None = None
) -> Relaxation:
    """Both lines, ``below_negated`` being one above -f, with the range ``values`` as a fallback.

    ``outside``: where the lines were not made for [lower, upper] (it leaves what floating point can handle).
    """
    high = or_constant(xp, above, values[1], lower, upper)
    low = or_constant(xp, below_negated, -values[0], lower, upper)
    if outside is not None:
        high = Line(xp.where(outside, 0.0, high.slope), xp.where(outside, values[1], high.shift))
        low = Line(xp.where(outside, 0.0, low.slope), xp.where(outside, -values[0], low.shift))
    return Relaxation(-low.slope, -low.shift, high.slope, high.shift)


def relax_convex(
    xp: Any,
    curve: Curve,
    point: Array,
    box: Bounds,
    values: Bounds,
    arithmetic: Arithmetic,
    outside: Array | None = None,
) -> Relaxation:
    """Chord above, tangent at ``point`` below, on ``box`` (any box where ``outside`` holds)."""
    above = chord(xp, curve, *box, arithmetic)
    below = tangent(xp, curve.negated(), point, *box, arithmetic)
    return enclose(xp, above, below, values, *box, outside)


def in_single(xp: Any, lines: Relaxation, lower: Array, upper: Array, arithmetic: Arithmetic) -> Relaxation:
    """The lines with the nearest float32 slopes, moved by what that costs at the worse end."""
    parts: list[Array] = []
    for slope, shift, side in ((lines[0], lines[1], -1.0), (lines[2], lines[3], 1.0)):
        near = xp.asarray(xp.asarray(slope, dtype="float32"), dtype=slope.dtype)
        near = xp.where(abs(near) <= largest(slope), near, 0.0)
        turned = side * (slope - near)  # side (f - near z) <= side shift + turned z
        ends = turned * lower, turned * upper
        rounding = 8 * arithmetic.unit * (abs(shift) + abs(ends[0]) + abs(ends[1]))
        rounding = rounding + 8 * arithmetic.tiny * (1.0 + abs(lower) + abs(upper))
        moved = shift + side * (xp.maximum(*ends) + rounding)
        parts += [near, xp.where(turned == 0, shift, moved)]
    return Relaxation(*parts)


def negate(relaxation: Relaxation) -> Relaxation:
    """The lines of -f from those of f."""
    low, low_shift, high, high_shift = relaxation
    return Relaxation(-high, -high_shift, -low, -low_shift)
