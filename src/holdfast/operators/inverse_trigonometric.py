"""Arc sine and arc cosine on [-1, 1]: S-shapes, the arc sine upside down, with vertical tangents at both ends.

The rule of `sigmoidal` for f(z) + f(-z) constant; the arc tangent stands there. Zhang et al., NeurIPS 2018, table 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from holdfast.graph import Node
from holdfast.operators.lines import Curve, enclose
from holdfast.operators.operator import Array, Relaxation, UnaryOperator
from holdfast.operators.sigmoidal import s_shaped_lines
from holdfast.rigor import Arithmetic
from holdfast.rigor.functions import ACOS, ASIN, ASIN_SLOPE, Bounds, Elementary

_SHARE = 0.875  # tangent points stay this far from an end where the tangent is vertical, as a share of the way


def _touch(xp: Any, a: Array) -> Array:
    """Where the tangent from (-a, acos(-a)) touches the arc cosine on the right: Newton on the angle, plain arithmetic."""
    angle = xp.arcsin(xp.clip(a, 0.0, 1.0))
    goal, t = xp.maximum(angle, 1e-3), 0.5 * xp.maximum(angle, 1e-3)
    for _ in range(3):
        rise, cosine = xp.sin(t) + xp.sin(goal), xp.cos(t)
        t = xp.clip(t - (rise * cosine - (t + goal) * cosine * cosine) / (rise * xp.sin(t)), 0.0, 0.8)
    return xp.where(angle < 1e-3, 0.5 * a, xp.sin(t))


class _Arc(UnaryOperator):
    slopes = 2
    value: Elementary
    sign: float  # f = sign g, where g is convex left of zero and concave right of it, with g' < 0

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return self.value.compute(xp, x)

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return -self.sign * ASIN_SLOPE.compute(xp, x)

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Bounds:
        ends = xp.clip(lower, -1.0, 1.0), xp.clip(upper, -1.0, 1.0)
        least, most = ends if self.sign < 0 else ends[::-1]
        return self.value.bounds(xp, least, arithmetic)[0], self.value.bounds(xp, most, arithmetic)[1]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """Slopes: positions of the tangent points of the lower and of the upper line, from the zero outwards."""
        edge = 1.0 - (2.0**-16 if lower.dtype == np.float32 else 2.0**-40)
        outside = (lower > edge) | (upper < -edge)
        box = xp.where(outside, 0.0, xp.maximum(lower, -1.0)), xp.where(outside, 0.0, xp.minimum(upper, 1.0))
        # the rule takes the curve g = sign f, with g' = -asin', whose line above is f's line below for sign < 0
        upright = self.sign > 0

        def steep(z: Array) -> Bounds:
            down, up = ASIN_SLOPE.bounds(xp, z, arithmetic)
            return -up, -down

        curve = Curve(lambda z: self.value.bounds(xp, z, arithmetic), steep)
        curve = curve if upright else Curve(curve.negated().value, steep)
        positions = None if slopes is None else (_SHARE * slopes[1], _SHARE * slopes[0])
        positions = positions if positions is None or upright else positions[::-1]
        lines = s_shaped_lines(xp, curve, *box, lambda a: _touch(xp, a), None, arithmetic, positions)
        above, below = lines if upright else lines[::-1]
        return enclose(xp, above, below, self.interval(xp, node, lower, upper, arithmetic), *box, outside)

    def split_points(self, node: Node) -> tuple[float, ...]:
        return (0.0,)

    def domain(self, node: Node) -> tuple[float, float]:
        return (-1.0, 1.0)


class Asin(_Arc):
    """Arc sine. Bounds outside [-1, 1] are read as its ends; the engine refuses them (`domain`)."""

    name = "asin"
    onnx = ("Asin",)
    value, sign = ASIN, -1.0


class Acos(_Arc):
    """Arc cosine. Bounds outside [-1, 1] are read as its ends; the engine refuses them (`domain`)."""

    name = "acos"
    onnx = ("Acos",)
    value, sign = ACOS, 1.0
