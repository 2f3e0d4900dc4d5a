"""Piecewise linear activations: relu, leaky_relu, abs, clip. Their relaxations are exact up to one rounding.

A convex piecewise linear function lies below its chord and above every line through its kink with a slope between
those of its pieces; Zhang et al., Efficient Neural Network Robustness Certification with General Activation
Functions, NeurIPS 2018, section 3.
"""

from __future__ import annotations

from typing import Any

from holdfast.graph import Node
from holdfast.operators.operator import Array, Relaxation, UnaryOperator
from holdfast.rigor import Arithmetic, round_down, round_up


def _kinked(xp: Any, lower: Array, upper: Array, left: float, right: float, arithmetic: Arithmetic, slopes: Array | None) -> Relaxation:
    """f(z) = left * z for z <= 0, right * z for z >= 0, with left <= right (convex, f(0) = 0).

    Upper: the chord, its shift recomputed for the rounded slope, so that both ends lie below it (f is convex).
    Lower: any slope in [left, right] through the origin; by default the piece on which more of the interval lies.
    """
    width = upper - lower
    safe = xp.where(width > 0, width, 1.0)
    crossing = (lower < 0) & (upper > 0)
    weight = xp.clip(upper / safe, 0.0, 1.0)  # share of the interval on the right
    chord = xp.clip(left + (right - left) * weight, left, right)
    # f(l) - chord l = (chord - left)(-l), f(u) - chord u = (right - chord) u: both >= 0, no cancellation of large terms
    shift = round_up(xp.maximum((chord - left) * -lower, (right - chord) * upper), arithmetic, 3)
    piece = xp.where(lower >= 0, right, left)
    if slopes is None:
        free = xp.where(upper > -lower, right, left)
    else:
        free = xp.clip(left + (right - left) * slopes[0], left, right)
    slope = xp.where(crossing, free, piece)
    zero = xp.zeros_like(lower)
    return Relaxation(slope, zero, xp.where(crossing, chord, piece), xp.where(crossing, shift, zero))


class Relu(UnaryOperator):
    """max(0, z)."""

    name = "relu"
    onnx = ("Relu", "MaxPool", "Max", "Min")
    piecewise_linear = True
    slopes = 1

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return xp.maximum(x, 0.0)

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return (x > 0).astype(x.dtype)

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> tuple[Array, Array]:
        return xp.maximum(lower, 0.0), xp.maximum(upper, 0.0)

    def relax(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None) -> Relaxation:
        return _kinked(xp, lower, upper, 0.0, 1.0, arithmetic, slopes)

    def split_points(self, node: Node) -> tuple[float, ...]:
        return (0.0,)


class LeakyRelu(UnaryOperator):
    """z for z >= 0, alpha z for z < 0. Attribute: alpha (any finite number; above 1 the function is concave)."""

    name = "leaky_relu"
    onnx = ("LeakyRelu", "PRelu")
    piecewise_linear = True
    slopes = 1

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return xp.where(x >= 0, x, node["alpha"] * x)

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return xp.where(x > 0, 1.0, node["alpha"]).astype(x.dtype)

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> tuple[Array, Array]:
        at_lower, at_upper = self.function(xp, node, lower), self.function(xp, node, upper)
        low, high = xp.minimum(at_lower, at_upper), xp.maximum(at_lower, at_upper)
        if node["alpha"] < 0:  # the kink is a minimum
            low = xp.where((lower < 0) & (upper > 0), xp.minimum(low, 0.0), low)
        return round_down(low, arithmetic), round_up(high, arithmetic)

    def relax(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None) -> Relaxation:
        alpha = node["alpha"]
        if alpha <= 1.0:
            return _kinked(xp, lower, upper, alpha, 1.0, arithmetic, slopes)
        # concave: -f(z) has pieces -alpha (left) and -1 (right), and is convex
        low, low_shift, high, high_shift = _kinked(xp, lower, upper, -alpha, -1.0, arithmetic, slopes)
        return Relaxation(-high, -high_shift, -low, -low_shift)

    def split_points(self, node: Node) -> tuple[float, ...]:
        return (0.0,)


class Abs(UnaryOperator):
    """|z|."""

    name = "abs"
    onnx = ("Abs",)
    piecewise_linear = True
    slopes = 1

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return abs(x)

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return xp.sign(x)

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> tuple[Array, Array]:
        return xp.maximum(xp.maximum(lower, -upper), 0.0), xp.maximum(-lower, upper)

    def relax(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None) -> Relaxation:
        return _kinked(xp, lower, upper, -1.0, 1.0, arithmetic, slopes)

    def split_points(self, node: Node) -> tuple[float, ...]:
        return (0.0,)


class Clip(UnaryOperator):
    """min(max(z, low), high) with finite low <= high. Attributes: low, high.

    Slopes: two, of the lower and of the upper line; each line rises from 0 (flat) to 1 (the middle piece)
    or touches both kinks' chord, whichever is the sound choice at that slope.
    """

    name = "clip"
    onnx = ("Clip",)
    piecewise_linear = True
    slopes = 2

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return xp.clip(x, node["low"], node["high"])

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return ((x > node["low"]) & (x < node["high"])).astype(x.dtype)

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> tuple[Array, Array]:
        return self.function(xp, node, lower), self.function(xp, node, upper)

    def relax(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None) -> Relaxation:
        """For a fixed slope s in [0, 1], f(z) - s z is extreme at an end of the interval or at a kink inside it."""
        low, high = node["low"], node["high"]
        at_lower, at_upper = self.function(xp, node, lower), self.function(xp, node, upper)
        width = xp.where(upper > lower, upper - lower, 1.0)
        middle = (lower >= low) & (upper <= high)  # one piece only: the identity
        flat = (upper <= low) | (lower >= high)
        # lower line: 1 + the kink at `high` bends down, so the chord from (lower, f) to (upper, f) is below where
        # lower >= low; else the slope trades the area left of `low` against the rest
        chord = xp.clip((at_upper - at_lower) / width, 0.0, 1.0)
        to_high = xp.clip((at_upper - low) / xp.where(upper > low, upper - low, 1.0), 0.0, 1.0)
        from_low = xp.clip((high - at_lower) / xp.where(high > lower, high - lower, 1.0), 0.0, 1.0)
        lower_most = xp.where(lower >= low, chord, to_high)
        upper_most = xp.where(upper <= high, chord, from_low)
        if slopes is None:
            lower_slope = xp.where((upper - low > low - lower), lower_most, 0.0)
            upper_slope = xp.where((high - lower > upper - high), upper_most, 0.0)
        else:
            lower_slope, upper_slope = slopes[0] * lower_most, slopes[1] * upper_most
        lower_slope = xp.where(middle, 1.0, xp.where(flat, 0.0, xp.clip(lower_slope, 0.0, 1.0)))
        upper_slope = xp.where(middle, 1.0, xp.where(flat, 0.0, xp.clip(upper_slope, 0.0, 1.0)))

        def gaps(slope: Array) -> list[Array]:
            points = [(at_lower, lower), (at_upper, upper)]
            points += [(xp.clip(k, at_lower, at_upper), xp.clip(k, lower, upper)) for k in (low, high)]
            return [(value, slope * z) for value, z in points]

        def extreme(slope: Array, pick: Any, outward: Any, sign: float) -> Array:
            values = [outward(v - sz, arithmetic, 1) + sign * (4 * arithmetic.unit * abs(sz) + arithmetic.tiny) for v, sz in gaps(slope)]
            result = values[0]
            for value in values[1:]:
                result = pick(result, value)
            return xp.where(middle, 0.0, result)

        return Relaxation(
            lower_slope,
            extreme(lower_slope, xp.minimum, round_down, -1.0),
            upper_slope,
            extreme(upper_slope, xp.maximum, round_up, 1.0),
        )

    def split_points(self, node: Node) -> tuple[float, ...]:
        return (node["low"], node["high"])
