"""The product of two values: interval multiplication and the planes of McCormick.

McCormick, Computability of global solutions to factorable nonconvex programs: part I, Mathematical Programming 10,
1976. Any convex combination of the two lower (upper) planes is again one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from holdfast.graph import Node, Shape
from holdfast.operators.lines import between
from holdfast.operators.operator import Array, Operator
from holdfast.rigor import Arithmetic
from holdfast.rigor.functions import Bounds, clean, largest, widen


class ProductRelaxation(NamedTuple):
    """lower_x x + lower_y y + lower_shift <= x y <= upper_x x + upper_y y + upper_shift, exactly over the reals."""

    lower_x: Array
    lower_y: Array
    lower_shift: Array
    upper_x: Array
    upper_y: Array
    upper_shift: Array


def _below(
    xp: Any, a: Array, b: Array, box: tuple[Array, ...], worst: Array, arithmetic: Arithmetic
) -> tuple[Array, Array, Array]:
    """(a, b, c) with a x + b y + c <= x y on the box: x y - a x - b y = (x - b)(y - a) - a b is least at a corner."""
    a, b = clean(xp, a, arithmetic), clean(xp, b, arithmetic)
    xl, xu, yl, yu = box
    gaps = []
    for x, y in ((xl, yu), (xu, yl), (xl, yl), (xu, yu)):
        corner = (x - b) * (y - a)
        rounding = 16 * arithmetic.unit * abs(corner) + 8 * arithmetic.tiny * (1.0 + abs(x - b) + abs(y - a))
        gaps.append(corner - rounding)
    least = xp.minimum(xp.minimum(gaps[0], gaps[1]), xp.minimum(gaps[2], gaps[3]))
    product = a * b
    shift = least - product - (8 * arithmetic.unit * (abs(least) + abs(product)) + 8 * arithmetic.tiny)
    finite = abs(shift) <= largest(shift)
    return xp.where(finite, a, 0.0), xp.where(finite, b, 0.0), xp.where(finite, shift, worst)


class ProductOperator(Operator):
    """y = x_1 * x_2 element by element; the one operator of two variable inputs that is not linear."""

    name = "product"
    onnx = ("Mul", "MatMul", "Div", "Pow")
    slopes = 2

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        if tuple(input_shapes[0]) != tuple(input_shapes[1]):
            raise ValueError(f"a product needs equal shapes, got {input_shapes[0]} and {input_shapes[1]}")
        return tuple(input_shapes[0])

    def evaluate(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        return inputs[0] * inputs[1]

    @np.errstate(over="ignore", invalid="ignore")
    def interval(
        self, xp: Any, node: Node, xl: Array, xu: Array, yl: Array, yu: Array, arithmetic: Arithmetic
    ) -> Bounds:
        """An enclosure of x y for x in [xl, xu], y in [yl, yu]; 0 times infinity counts as zero."""
        corners = [xp.where((x == 0) | (y == 0), 0.0, x * y) for x in (xl, xu) for y in (yl, yu)]
        low = xp.minimum(xp.minimum(corners[0], corners[1]), xp.minimum(corners[2], corners[3]))
        high = xp.maximum(xp.maximum(corners[0], corners[1]), xp.maximum(corners[2], corners[3]))
        # an argument flushed to zero changes the product by at most ``tiny`` times the other one
        down, up = widen(xp, low, high, 4.0, arithmetic)
        most = largest(low)
        sizes = (
            xp.minimum(abs(xl), most),
            xp.minimum(abs(xu), most),
            xp.minimum(abs(yl), most),
            xp.minimum(abs(yu), most),
        )
        flushed = 2 * arithmetic.tiny * xp.maximum(xp.maximum(sizes[0], sizes[1]), xp.maximum(sizes[2], sizes[3]))
        return down - flushed, up + flushed

    @np.errstate(over="ignore", invalid="ignore")
    def relax(
        self,
        xp: Any,
        node: Node,
        xl: Array,
        xu: Array,
        yl: Array,
        yu: Array,
        arithmetic: Arithmetic,
        slopes: Array | None = None,
    ) -> ProductRelaxation:
        """Planes below and above. Slopes: weight (0 to 1) of the second of the two lower, resp. upper planes."""
        lower, upper = (0.5, 0.5) if slopes is None else (slopes[0], slopes[1])
        low, high = self.interval(xp, node, xl, xu, yl, yu, arithmetic)
        below = _below(xp, between(xp, yl, yu, lower), between(xp, xl, xu, lower), (xl, xu, yl, yu), low, arithmetic)
        # x y <= ... is -(x)(-y): planes below x * (-y) on the mirrored box
        mirrored = (xl, xu, -yu, -yl)
        a, b, c = _below(xp, between(xp, -yu, -yl, upper), between(xp, xl, xu, upper), mirrored, -high, arithmetic)
        return ProductRelaxation(*below, -a, b, -c)
