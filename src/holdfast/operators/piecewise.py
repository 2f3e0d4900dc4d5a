"""Piecewise linear activations: relu, leaky_relu, abs, clip. Their relaxations are exact up to one rounding.

A convex piecewise linear function lies below its chord and above every line through its kink with a slope between
those of its pieces; Zhang et al., Efficient Neural Network Robustness Certification with General Activation
Functions, NeurIPS 2018, section 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from holdfast.graph import Node
from holdfast.operators.lines import quotient
from holdfast.operators.operator import Array, Relaxation, UnaryOperator
from holdfast.rigor import Arithmetic, round_down, round_up
from holdfast.rigor.functions import clean, pin

_TIE = 2.0**-29


def _unflushed(xp: Any, upper: Array, arithmetic: Arithmetic) -> Array:
    """An upper bound that stays one where the value itself is flushed to zero."""
    return xp.where(abs(upper) < arithmetic.tiny, 2 * arithmetic.tiny, upper)


def _held(x: float, arithmetic: Arithmetic) -> tuple[float, float]:
    """A constant of the model as the arithmetic holds it, and (at least) how far that is from the constant."""
    near = float(np.dtype(arithmetic.dtype).type(x))
    return near, 1.25 * abs(near - x) if arithmetic.rigorous else 0.0


def _kinked(
    xp: Any,
    lower: Array,
    upper: Array,
    left: float,
    right: float,
    arithmetic: Arithmetic,
    slopes: Array | None,
    doubt: float = 0.0,
) -> Relaxation:
    """f(z) = left * z for z <= 0, right * z for z >= 0, with left <= right (convex, f(0) = 0).

    Upper: the chord, its shift recomputed for the rounded slope, so that both ends lie below it (f is convex).
    Lower: any slope in [left, right] through the origin; by default the piece on which more of the interval lies.
    ``doubt``: how much the slope of the left piece may differ from ``left``.
    """
    crossing = (lower < 0) & (upper > 0)
    weight = xp.clip(quotient(xp, upper, upper - lower), 0.0, 1.0)  # share of the interval on the right
    # pinned: the shift below must be that of the very slope that is returned
    chord = pin(xp, xp.clip(left + (right - left) * weight, left, right))
    # f(l) - chord l = (chord - left)(-l), f(u) - chord u = (right - chord) u: both >= 0, no cancellation of large terms
    shift = round_up(xp.maximum((chord - left) * -lower, (right - chord) * upper), arithmetic, 3)
    # an end that is not zero but may be read as zero: the other piece is missed by at most this
    flushed = (abs(lower) < arithmetic.tiny) | (abs(upper) < arithmetic.tiny)
    missed = xp.where(flushed, xp.full_like(lower, 2.0 * (1.0 + right - left) * arithmetic.tiny), 0.0)
    at_left, at_right = xp.full_like(lower, left), xp.full_like(lower, right)
    piece = xp.where(lower >= 0, at_right, at_left)
    if slopes is None:
        # ties (frequent on symmetric boxes) must not be decided by rounding: what follows from them differs
        free = xp.where(upper + lower > _TIE * (upper - lower), at_right, at_left)
    else:
        free = xp.clip(left + (right - left) * slopes[0], left, right)
    slope = xp.where(crossing, free, piece)
    error = xp.zeros_like(lower)
    if doubt:
        error = xp.maximum(-lower, 0.0) * (doubt * (1.0 + 8 * arithmetic.unit)) + 2 * arithmetic.tiny
    above = xp.where(crossing, shift, missed)
    if doubt:
        above = round_up(above + error, arithmetic, 1)
    return Relaxation(slope, -error, xp.where(crossing, chord, piece), above)


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
        return xp.maximum(lower, 0.0), xp.maximum(_unflushed(xp, upper, arithmetic), 0.0)

    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
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
        doubt = _held(node["alpha"], arithmetic)[1] * xp.maximum(-lower, 0.0)
        return round_down(low - doubt, arithmetic, 3), round_up(high + doubt, arithmetic, 3)

    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        alpha, doubt = _held(node["alpha"], arithmetic)
        if alpha <= 1.0:
            return _kinked(xp, lower, upper, alpha, 1.0, arithmetic, slopes, doubt)
        # concave: -f(z) has pieces -alpha (left) and -1 (right), and is convex
        low, low_shift, high, high_shift = _kinked(xp, lower, upper, -alpha, -1.0, arithmetic, slopes, doubt)
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
        return xp.maximum(xp.maximum(lower, -upper), 0.0), _unflushed(xp, xp.maximum(-lower, upper), arithmetic)

    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
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
        low, high, doubt = self._ends(node, arithmetic)
        down, up = xp.clip(lower, low, high), xp.clip(upper, low, high)
        down = -_unflushed(xp, -down, arithmetic)
        up = _unflushed(xp, up, arithmetic)
        return (round_down(down - doubt, arithmetic), round_up(up + doubt, arithmetic)) if doubt else (down, up)

    def _ends(self, node: Node, arithmetic: Arithmetic) -> tuple[float, float, float]:
        """Both kinks as the arithmetic holds them, and how far the function moves by that."""
        (low, low_doubt), (high, high_doubt) = _held(node["low"], arithmetic), _held(node["high"], arithmetic)
        return low, high, max(low_doubt, high_doubt)

    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """For a fixed slope s in [0, 1], f(z) - s z is extreme at an end of the interval or at a kink inside it."""
        low, high, doubt = self._ends(node, arithmetic)
        at_lower, at_upper = xp.clip(lower, low, high), xp.clip(upper, low, high)
        middle = (lower >= low) & (upper <= high)  # one piece only: the identity
        flat = (upper <= low) | (lower >= high)

        def share(a: Array, b: Array, c: Array, d: Array) -> Array:
            """(a - b) / (c - d) in [0, 1], halved so that nothing overflows; 0 where c <= d."""
            return xp.clip(quotient(xp, 0.5 * a - 0.5 * b, 0.5 * c - 0.5 * d), 0.0, 1.0)

        # the line below goes through the kink at `low`, with a slope from 0 to that of the chord from there to the
        # right end; without that kink the function is concave and the chord is the best line. Above: mirrored.
        no_low, no_high = lower >= low, upper <= high
        lower_most = xp.where(no_low, share(at_upper, at_lower, upper, lower), share(at_upper, low, upper, low))
        upper_most = xp.where(no_high, share(at_upper, at_lower, upper, lower), share(high, at_lower, high, lower))
        if slopes is None:  # the least area
            below = xp.where(0.5 * upper + 0.5 * lower > low, lower_most, 0.0)
            above = xp.where(0.5 * upper + 0.5 * lower < high, upper_most, 0.0)
        else:
            below = xp.where(no_low, lower_most, xp.clip(slopes[0], 0.0, 1.0) * lower_most)
            above = xp.where(no_high, upper_most, xp.clip(slopes[1], 0.0, 1.0) * upper_most)
        below = clean(xp, xp.where(middle, 1.0, xp.where(flat, 0.0, below)), arithmetic)
        above = clean(xp, xp.where(middle, 1.0, xp.where(flat, 0.0, above)), arithmetic)
        points = [(at_lower, lower), (at_upper, upper)]
        points += [
            (xp.minimum(xp.maximum(at_lower, k), at_upper), xp.minimum(xp.maximum(lower, k), upper))
            for k in (low, high)
        ]

        def highest(slope: Array, sign: float) -> Array:
            """An upper bound of sign (f(z) - slope z)."""
            result = None
            for value, z in points:
                product = slope * z
                rounding = 8 * arithmetic.unit * (abs(value) + abs(product)) + (8 * arithmetic.tiny + 2 * doubt)
                gap = sign * (value - product) + rounding
                result = gap if result is None else xp.maximum(result, gap)
            # on the middle piece f is z; a kink at zero may be missed by a number flushed to zero
            exact = 2 * doubt + (2 * arithmetic.tiny if 0.0 in (low, high) else 0.0)
            return xp.where(middle, xp.full_like(lower, exact), result)

        return Relaxation(below, -highest(below, -1.0), above, highest(above, 1.0))

    def split_points(self, node: Node) -> tuple[float, ...]:
        return (node["low"], node["high"])
