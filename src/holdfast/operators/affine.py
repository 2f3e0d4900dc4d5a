"""Affine operators with parameters: dense (matrix product with a constant), scale, add, constant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.graph import Node, Shape
from holdfast.operators.operator import Array, LinearOperator


def _product(x: Array, matrix: Array) -> Array:
    """One large product with the shared matrix (dense or sparse), not a batch of small ones."""
    return (x.reshape(-1, x.shape[-1]) @ matrix).reshape(*x.shape[:-1], matrix.shape[1])


class Dense(LinearOperator):
    """y[..., m] = sum_k x[..., k] W[k, m] (+ b[m]): acts on the last axis. Parameters: W, and b where there is one."""

    name = "dense"
    onnx = ("Gemm", "MatMul")

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        (x,), weight = input_shapes, parameter_shapes[0]
        if not x or x[-1] != weight[0]:
            raise ValueError(f"a matrix of shape {weight} does not fit an input of shape {x}")
        return (*x[:-1], weight[1])

    def terms(self, node: Node, parameters: Sequence[Array]) -> int:
        return max(parameters[0].shape) + 1

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        return _product(inputs[0], parameters[0])

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        return (_product(output, parameters[0].T),)

    def bias(self, xp: Any, node: Node, parameters: Sequence[Array]) -> Array | None:
        return parameters[1] if len(parameters) > 1 else None


class Scale(LinearOperator):
    """y = s * x + t with constants that broadcast to the shape of x. Parameters: s, t."""

    name = "scale"
    onnx = ("Add", "Sub", "Mul", "Div", "Neg", "BatchNormalization")

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        return tuple(input_shapes[0])

    def terms(self, node: Node, parameters: Sequence[Array]) -> int:
        return 2

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        return inputs[0] * parameters[0]

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        return (output * parameters[0],)

    def bias(self, xp: Any, node: Node, parameters: Sequence[Array]) -> Array | None:
        return parameters[1]


class Add(LinearOperator):
    """y = sum_i sign_i * x_i for inputs of one shape. Attribute: signs, a tuple of +1 and -1."""

    name = "add"
    onnx = ("Add", "Sub", "Sum")

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        if len({tuple(s) for s in input_shapes}) != 1:
            raise ValueError(f"a sum needs equal shapes, got {', '.join(map(str, input_shapes))}")
        return tuple(input_shapes[0])

    def terms(self, node: Node, parameters: Sequence[Array]) -> int:
        return len(node.inputs)

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        total = inputs[0] if node["signs"][0] > 0 else -inputs[0]
        for sign, x in zip(node["signs"][1:], inputs[1:], strict=True):
            total = total + x if sign > 0 else total - x
        return total

    def magnitude(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        return sum(inputs[1:], inputs[0])

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        return tuple(output if sign > 0 else -output for sign in node["signs"])


class Constant(LinearOperator):
    """A constant value, for operators that mix it with variables (Concat). Parameter: the value."""

    name = "constant"
    onnx = ("Constant",)

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        return tuple(parameter_shapes[0])

    def terms(self, node: Node, parameters: Sequence[Array]) -> int:
        return 1

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        return xp.zeros_like(parameters[0])

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        return ()

    def bias(self, xp: Any, node: Node, parameters: Sequence[Array]) -> Array | None:
        return parameters[0]
