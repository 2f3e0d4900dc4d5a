"""The operator card: all facts about one operator, in one place.

Three kinds cover everything. A `LinearOperator` is y = L(x_1, ..., x_k) + b, with the linear part, its adjoint and
its absolute value; a `UnaryOperator` acts on each element and knows its range and its linear relaxation; the
`ProductOperator` multiplies two values. Domains lift any card, so M operators and N domains cost M + N.

All functions take the array module ``xp`` (numpy or jax.numpy) first; arrays carry any number of leading axes
(sub-problems, rows) before the axes of ``node.shape`` / ``node.input_shapes``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from holdfast.graph import Node, Shape
from holdfast.rigor import Arithmetic
from holdfast.rigor.functions import Elementary

Array = Any
Parameters = Mapping[str, Array]


class Relaxation(NamedTuple):
    """Two lines that enclose a function on an interval: lower_slope z + lower_shift <= f(z) <= upper_slope z + upper_shift.

    The inequalities hold exactly over the reals for the floating-point numbers stored here.
    """

    lower_slope: Array
    lower_shift: Array
    upper_slope: Array
    upper_shift: Array


class Operator:
    """What every card tells. Cards are stateless and registered once under their ``name``."""

    name: ClassVar[str]
    onnx: ClassVar[tuple[str, ...]] = ()  # ONNX operators that map to it (alone or with others)
    reference: ClassVar[str] = ""

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        """Output shape, or ValueError with a sentence that says what does not fit."""
        raise NotImplementedError

    def evaluate(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        """The value, on arrays with any leading axes."""
        raise NotImplementedError


class LinearOperator(Operator):
    """y = L(x_1, ..., x_k) + b with constant L, b."""

    exact: ClassVar[bool] = False  # True: only moves or copies numbers, never rounds

    def terms(self, node: Node, parameters: Sequence[Array]) -> int:
        """The largest number of products (or summands) that meet in one element of the output or of the adjoint."""
        raise NotImplementedError

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        """L(x), without b."""
        raise NotImplementedError

    def magnitude(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        """|L|(x) for x >= 0: the linear part with the absolute values of its coefficients."""
        return self.linear(xp, node, [abs(p) for p in parameters], inputs)

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        """L^T(a), one array per input: sum(a * L(x)) = sum_i sum(L^T(a)_i * x_i)."""
        raise NotImplementedError

    def bias(self, xp: Any, node: Node, parameters: Sequence[Array]) -> Array | None:
        """b, broadcastable to ``node.shape``, or None for zero."""
        return None

    def evaluate(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        out = self.linear(xp, node, parameters, inputs)
        b = self.bias(xp, node, parameters)
        return out if b is None else out + b


class UnaryOperator(Operator):
    """y = f(x), element by element."""

    piecewise_linear: ClassVar[bool] = False
    slopes: ClassVar[int] = 0  # number of free parameters per element that `relax` accepts (each in [0, 1])

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        return tuple(input_shapes[0])

    def evaluate(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        return self.function(xp, node, inputs[0])

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        """f(x)."""
        raise NotImplementedError

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        """f'(x), any element of the generalised derivative at a kink (used by attacks, never by proofs)."""
        raise NotImplementedError

    def interval(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> tuple[Array, Array]:
        """An enclosure of f([lower, upper])."""
        raise NotImplementedError

    def relax(
        self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic, slopes: Array | None = None
    ) -> Relaxation:
        """Sound lines on [lower, upper] (lower <= upper, finite). ``slopes``: free parameters in [0, 1], shape (self.slopes, ...)."""
        raise NotImplementedError

    def split_points(self, node: Node) -> tuple[float, ...]:
        """Where splitting the input makes relaxations tight: kinks and inflections."""
        return ()

    def crosses_kink(self, node: Node, lower: Array, upper: Array) -> Array:
        """Where a split point lies strictly inside [lower, upper]: elsewhere a piecewise linear function is linear."""
        crossing = lower < lower  # false everywhere, in the shape and kind of the bounds
        for kink in self.split_points(node):
            crossing = crossing | ((lower < kink) & (upper > kink))
        return crossing

    def domain(self, node: Node) -> tuple[float, float]:
        """The closed interval on which f is defined (bounds outside it are an error the engine reports)."""
        return (-float("inf"), float("inf"))

    def undefined(self, xp: Any, node: Node, lower: Array, upper: Array, arithmetic: Arithmetic) -> Array:
        """Where [lower, upper] may hold a pole inside the `domain`: `interval` is infinite there, and no reason to stop."""
        return lower != lower  # false everywhere


class SmoothOperator(UnaryOperator):
    """A function whose value and derivative stand in the table of `holdfast.rigor.functions`."""

    value: Elementary
    steepness: Elementary

    def function(self, xp: Any, node: Node, x: Array) -> Array:
        return self.value.compute(xp, x)

    def gradient(self, xp: Any, node: Node, x: Array) -> Array:
        return self.steepness.compute(xp, x)
