"""The unit step, which is the derivative of relu: a set-valued card, [0, 1] at the kink.

With it the graph of a Jacobian encloses Clarke's generalised Jacobian (Clarke, Optimization and Nonsmooth Analysis,
1983, section 2.6), so that mean value forms and Lie derivatives hold for piecewise linear networks as well.
"""

from __future__ import annotations

from typing import Any

from holdfast.graph import Node
from holdfast.operators.operator import Array, Relaxation, UnaryOperator
from holdfast.rigor import Arithmetic

_NARROW = 1e-15  # a smaller side counts as this wide: the slope of its line stays finite, and sound


class Heaviside(UnaryOperator):
    """0 for z < 0, 1 for z > 0, the whole set [0, 1] at z = 0 (`function` returns 0 there)."""

    name = "heaviside"
    slopes = 2

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return (x > 0).astype(x.dtype)

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return xp.zeros_like(x)

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> tuple[Array, Array]:
        # a bound that is zero, or flushed to zero, leaves both values possible
        return (lower > 0).astype(lower.dtype), 1.0 - (upper < 0).astype(upper.dtype)

    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """Below: lines through (0, 0) with a slope in [0, 1 / upper]; above: through (0, 1), slope in [0, -1 / lower]."""
        positive, negative = lower > 0, upper < 0
        shrink = 1.0 - 8.0 * arithmetic.unit  # division may err by two units in the last place; slope * width <= 1
        right, left = xp.maximum(upper, _NARROW), xp.maximum(-lower, _NARROW)
        steepest_lower, steepest_upper = shrink / right, shrink / left
        if slopes is None:  # the smaller area
            lower_slope = xp.where(upper > -lower, steepest_lower, 0.0)
            upper_slope = xp.where(-lower > upper, steepest_upper, 0.0)
        else:
            lower_slope = xp.clip(slopes[0], 0.0, 1.0) * steepest_lower * shrink
            upper_slope = xp.clip(slopes[1], 0.0, 1.0) * steepest_upper * shrink
        one_side = positive | negative
        zero, one = xp.zeros_like(lower), xp.ones_like(lower)
        return Relaxation(
            xp.where(one_side, zero, lower_slope),
            xp.where(positive, one, zero),
            xp.where(one_side, zero, upper_slope),
            xp.where(negative, zero, one),
        )

    def split_points(self, node: Node) -> tuple[float, ...]:
        return (0.0,)
