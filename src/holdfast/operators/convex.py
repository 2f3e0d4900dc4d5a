"""Convex and concave functions: exp, log, sqrt, square, power, reciprocal, softplus. Tangent on one side, chord on the other.

Odd powers are S-shaped and use the rule of `sigmoidal`. Where an end of the interval would overflow, or leaves the
domain, the lines are the constant bounds. Zhang et al., NeurIPS 2018, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from holdfast.graph import Node, Shape
from holdfast.operators.lines import Curve, Line, between, chord, enclose, negate, relax_convex, tangent
from holdfast.operators.operator import Array, Relaxation, UnaryOperator
from holdfast.operators.sigmoidal import s_shaped_above
from holdfast.rigor import Arithmetic
from holdfast.rigor.functions import (
    EXP,
    LOG,
    RECIPROCAL,
    SIGMOID,
    SOFTPLUS,
    SQRT,
    Bounds,
    Elementary,
    largest,
    smallest,
)


def _smallest(x: Array) -> float:
    """A safe distance from zero: normal numbers, even after a few operations."""
    return 16.0 * smallest(x)


def _gentle(x: Array) -> float:
    """From here on 1 / z^2 and its like do not overflow, so that slopes and their gradients are finite."""
    return 1e-17 if x.dtype == np.float32 else 1e-150


def _centre(lower: Array, upper: Array) -> Array:
    return 0.5 * lower + 0.5 * upper


class Exp(UnaryOperator):
    """e^z. The lower line touches at most 1 right of the left end by default: so it stays above zero."""

    name = "exp"
    onnx = ("Exp", "Softmax")
    slopes = 1

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return xp.exp(x)

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return xp.exp(x)

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Bounds:
        return EXP.bounds(xp, lower, arithmetic)[0], EXP.bounds(xp, upper, arithmetic)[1]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """Slope: position of the tangent point, from the left end to the right end (or to 64 right of the left end)."""
        most = 80.0 if lower.dtype == np.float32 else 690.0
        outside = upper > most
        box = xp.minimum(lower, most), xp.minimum(upper, most)
        if slopes is None:
            point = xp.minimum(_centre(*box), box[0] + 1.0)
        else:
            point = between(xp, box[0], xp.minimum(box[1], box[0] + 64.0), slopes[0])
        curve = Curve(lambda z: EXP.bounds(xp, z, arithmetic), lambda z: EXP.bounds(xp, z, arithmetic))
        return relax_convex(
            xp, curve, xp.clip(point, *box), box, self.interval(xp, node, lower, upper, arithmetic), arithmetic, outside
        )


class Softplus(UnaryOperator):
    """log(1 + e^z)."""

    name = "softplus"
    onnx = ("Softplus",)
    slopes = 1

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return SOFTPLUS.compute(xp, x)

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return SIGMOID.compute(xp, x)

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Bounds:
        return SOFTPLUS.bounds(xp, lower, arithmetic)[0], SOFTPLUS.bounds(xp, upper, arithmetic)[1]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """Slope: position of the tangent point between the ends."""
        point = between(xp, lower, upper, 0.5 if slopes is None else slopes[0])
        curve = Curve(lambda z: SOFTPLUS.bounds(xp, z, arithmetic), lambda z: SIGMOID.bounds(xp, z, arithmetic))
        return relax_convex(
            xp, curve, point, (lower, upper), self.interval(xp, node, lower, upper, arithmetic), arithmetic
        )


class Log(UnaryOperator):
    """Natural logarithm, z >= 0 (minus infinity at zero)."""

    name = "log"
    onnx = ("Log",)
    slopes = 1

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return xp.log(x)

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return 1.0 / x

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Bounds:
        least = _smallest(lower)
        down = LOG.bounds(xp, xp.maximum(lower, least), arithmetic)[0]
        return xp.where(lower < least, -np.inf, down), LOG.bounds(xp, xp.maximum(upper, least), arithmetic)[1]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """Slope: position of the tangent point between the ends. A lower bound near zero leaves no line below."""
        least = _gentle(lower)
        box = xp.maximum(lower, least), xp.maximum(upper, least)
        point = between(xp, *box, 0.5 if slopes is None else slopes[0])
        curve = Curve(lambda z: LOG.bounds(xp, z, arithmetic), lambda z: RECIPROCAL.bounds(xp, z, arithmetic))
        above = tangent(xp, curve, point, xp.maximum(lower, 0.0), box[1], arithmetic)
        slope, shift = chord(xp, curve.negated(), *box, arithmetic)
        below = Line(slope, xp.where(lower < least, xp.inf, shift))
        values = self.interval(xp, node, lower, upper, arithmetic)
        return enclose(xp, above, below, values, lower, upper, upper < least)

    def domain(self, node: Node) -> tuple[float, float]:
        return (0.0, float("inf"))


class Sqrt(UnaryOperator):
    """Square root, z >= 0. Bounds below zero are read as zero; the engine refuses them (`domain`)."""

    name = "sqrt"
    onnx = ("Sqrt", "Pow")
    slopes = 1

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return xp.sqrt(x)

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return 0.5 / xp.sqrt(x)

    def _value(self, xp: Any, z: Array, arithmetic: Arithmetic) -> Bounds:
        least = _smallest(z)  # below it, z may be read as zero: its root is not negligible
        down, up = SQRT.bounds(xp, xp.maximum(z, least), arithmetic)
        return xp.where(z < least, 0.0, down), up

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Bounds:
        return self._value(xp, lower, arithmetic)[0], self._value(xp, upper, arithmetic)[1]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """Slope: position of the tangent point between the ends (kept away from zero, where it would be vertical)."""
        least = _smallest(lower)
        box = xp.maximum(lower, 0.0), xp.maximum(upper, 0.0)
        point = between(xp, *box, 0.5 if slopes is None else slopes[0])
        point = xp.maximum(point, xp.maximum(box[1] * 2.0**-30, _gentle(lower)))
        steep = Elementary(lambda xp, z: 0.5 / xp.sqrt(z), 48.0, low=0.0)
        curve = Curve(
            lambda z: self._value(xp, z, arithmetic), lambda z: steep.bounds(xp, xp.maximum(z, least), arithmetic)
        )
        down, up = self.interval(xp, node, lower, upper, arithmetic)
        return negate(relax_convex(xp, curve.negated(), point, box, (-up, -down), arithmetic, upper < _gentle(lower)))

    def domain(self, node: Node) -> tuple[float, float]:
        return (0.0, float("inf"))


class Reciprocal(UnaryOperator):
    """1 / z on an interval without zero; with zero inside, the bounds are infinite."""

    name = "reciprocal"
    onnx = ("Reciprocal", "Div")
    slopes = 2

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return 1.0 / x

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return -1.0 / (x * x)

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Bounds:
        least = _smallest(lower)
        zero = (lower < least) & (upper > -least)
        down = RECIPROCAL.bounds(xp, xp.where(zero, 1.0, upper), arithmetic)[0]
        up = RECIPROCAL.bounds(xp, xp.where(zero, 1.0, lower), arithmetic)[1]
        return xp.where(zero, -np.inf, down), xp.where(zero, np.inf, up)

    def undefined(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Array:
        return xp.isinf(self.interval(xp, node, lower, upper, arithmetic)[0])

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """Slopes: position of the tangent point, of the lower line for z > 0 and of the upper line for z < 0."""
        least = _gentle(lower)
        negative = upper < 0
        near, far = xp.where(negative, -upper, lower), xp.where(negative, -lower, upper)
        outside = (near < least) | (far > 1.0 / least)
        box = xp.where(outside, 1.0, near), xp.where(outside, 1.0, far)
        position = 0.5 if slopes is None else xp.where(negative, 1.0 - slopes[1], slopes[0])
        square = Elementary(lambda xp, z: -1.0 / (z * z), 16.0, high=0.0)
        curve = Curve(lambda z: RECIPROCAL.bounds(xp, z, arithmetic), lambda z: square.bounds(xp, z, arithmetic))
        down, up = self.interval(xp, node, lower, upper, arithmetic)
        values = xp.where(negative, -up, down), xp.where(negative, -down, up)
        low, low_shift, high, high_shift = relax_convex(
            xp, curve, between(xp, *box, position), box, values, arithmetic, outside
        )
        # 1 / z = -1 / (-z): for z < 0 the lower line comes from the upper one and the other way round
        return Relaxation(
            xp.where(negative, high, low), xp.where(negative, -high_shift, low_shift),
            xp.where(negative, low, high), xp.where(negative, -low_shift, high_shift),
        )  # fmt: skip


def _integer_power(x: Array, exponent: int) -> Array:
    """x^exponent, exponent >= 1, by repeated squaring: at most ``exponent`` roundings reach the result."""
    if exponent == 1:
        return x
    half = _integer_power(x, exponent // 2)
    return half * half * x if exponent % 2 else half * half


@lru_cache(maxsize=64)
def _odd_touch(exponent: int) -> float:
    """The tangent of z^n from (-1, -1) touches at t with (n - 1) t^n + n t^(n-1) = 1."""
    left, right = 0.0, 1.0
    for _ in range(60):
        t = 0.5 * (left + right)
        if (exponent - 1) * t**exponent + exponent * t ** (exponent - 1) < 1:
            left = t
        else:
            right = t
    return right


class Power(UnaryOperator):
    """z^n. Attribute: exponent, an integer >= 2."""

    name = "power"
    onnx: ClassVar[tuple[str, ...]] = ("Pow",)
    slopes = 2

    def exponent(self, node: Node) -> int:
        """n."""
        return node["exponent"]

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        if "exponent" in attributes and attributes["exponent"] < 2:
            raise ValueError(f"power has the exponent {attributes['exponent']}, an integer from 2 on is accepted")
        return tuple(input_shapes[0])

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return _integer_power(x, self.exponent(node))

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return self.exponent(node) * _integer_power(x, self.exponent(node) - 1)

    def _value(self, node: Node) -> Elementary:
        n = self.exponent(node)
        return Elementary(lambda xp, z: _integer_power(z, n), 2.0 * n, low=-np.inf if n % 2 else 0.0)

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Bounds:
        value = self._value(node)
        if self.exponent(node) % 2 == 0:
            lower, upper = xp.maximum(xp.maximum(lower, -upper), 0.0), xp.maximum(-lower, upper)
        return value.bounds(xp, lower, arithmetic)[0], value.bounds(xp, upper, arithmetic)[1]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """Slopes: position of the tangent point of the lower line; for odd exponents of the upper line too."""
        n = self.exponent(node)
        most = (largest(lower) ** (1.0 / n)) / 16.0
        outside = (lower < -most) | (upper > most)
        box = xp.clip(lower, -most, most), xp.clip(upper, -most, most)
        value = self._value(node)
        steep = Elementary(lambda xp, z: n * _integer_power(z, n - 1), 2.0 * n, low=0.0 if n % 2 else -np.inf)
        curve = Curve(lambda z: value.bounds(xp, z, arithmetic), lambda z: steep.bounds(xp, z, arithmetic))
        values = self.interval(xp, node, lower, upper, arithmetic)
        if n % 2 == 0:
            point = between(xp, *box, 0.5 if slopes is None else slopes[0])
            return relax_convex(xp, curve, point, box, values, arithmetic, outside)
        # -z^n is convex left of zero, concave right of it, and f(-z) = -f(z)
        position = None if slopes is None else xp.stack([slopes[0], slopes[1]])
        sides = xp.stack([box[0], -box[1]]), xp.stack([box[1], -box[0]])

        def touch(a: Array) -> Array:
            return _odd_touch(n) * a

        slope, shift = s_shaped_above(xp, curve.negated(), *sides, touch, None, arithmetic, position)
        above, below = Line(-slope[1], shift[1]), Line(slope[0], shift[0])
        return enclose(xp, above, below, values, *box, outside)

    def split_points(self, node: Node) -> tuple[float, ...]:
        return (0.0,)


class Square(Power):
    """z^2: the product of a value with itself."""

    name = "square"
    onnx = ("Mul", "Pow")
    slopes = 1

    def exponent(self, node: Node) -> int:
        return 2
