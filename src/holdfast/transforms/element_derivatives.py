"""f'(x) of every element-wise card, as a few nodes of a graph: the one table of derivatives.

A new activation needs one function here, `(builder, node, x, y) -> position of f'(x)`, where x and y are the
positions of its argument and of its value in the builder; None stands for zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from holdfast.errors import ModelError
from holdfast.graph import Node
from holdfast.operators import OPERATORS, GraphBuilder
from holdfast.rigor.accurate import Ball, multiply_add

Rule = Callable[[GraphBuilder, Node, int, int], int | None]


def element_derivative(builder: GraphBuilder, node: Node, x: int, y: int) -> int | None:
    """Position of f'(x), of the node's shape; ModelError where no derivative is known."""
    rule = _RULES.get(node.op)
    if rule is None:
        raise ModelError(
            f"node {node.name or '(unnamed)'}: operator {node.op} has no derivative here; those that have one: {', '.join(sorted(_RULES))}"
        )
    return rule(builder, node, x, y)


def _apply(builder: GraphBuilder, node: Node, op: str, x: int, **attributes: Any) -> int:
    if op not in OPERATORS:
        raise ModelError(
            f"node {node.name or '(unnamed)'}: the derivative of {node.op} needs the operator {op}, which is not supported"
        )
    return builder.add(op, [x], name=node.name, **attributes)


def _affine(builder: GraphBuilder, x: int, factor: Ball | float, shift: Ball | float) -> int:
    """factor x + shift."""
    balls = [b if isinstance(b, Ball) else Ball(np.array(float(b))) for b in (factor, shift)]
    return builder.add("scale", [x], [b.value for b in balls], radii=[b.radius for b in balls])


def _relu(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return _apply(builder, node, "heaviside", x)


def _leaky_relu(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    """alpha + (1 - alpha) step(x): between alpha and 1 at the kink."""
    alpha = float(node["alpha"])
    rise = multiply_add(Ball(np.array(-alpha)), Ball(np.array(1.0)), Ball(np.array(1.0)))
    if rise is None:
        raise ModelError(
            f"node {node.name or '(unnamed)'}: the slope {alpha} of leaky_relu is out of range for a derivative"
        )
    return _affine(builder, _apply(builder, node, "heaviside", x), rise, alpha)


def _abs(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return _affine(builder, _apply(builder, node, "heaviside", x), 2.0, -1.0)


def _clip(builder: GraphBuilder, node: Node, x: int, y: int) -> int | None:
    """step(x - low) - step(x - high)."""
    low, high = float(node["low"]), float(node["high"])
    if low == high:  # constant, kinks included
        return None
    steps = [_apply(builder, node, "heaviside", x if k == 0 else _affine(builder, x, 1.0, -k)) for k in (low, high)]
    return builder.add("add", steps, signs=(1, -1))


def _product(builder: GraphBuilder, x: int, y: int, factor: float) -> int:
    """factor x y."""
    return _affine(builder, builder.add("product", [x, y]), factor, 0.0)


def _sigmoid(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    """A card of its own: y - y^2 relaxes twice, and knows nothing of the range [0, 1/4] of the difference."""
    return _apply(builder, node, "sigmoid_derivative", x)


def _sigmoid_derivative(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    """(1 - 2 sigmoid) y."""
    return _product(builder, _affine(builder, _apply(builder, node, "sigmoid", x), -2.0, 1.0), y, 1.0)


def _tanh(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return _apply(builder, node, "tanh_derivative", x)


def _tanh_derivative(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    """-2 tanh y."""
    return _product(builder, _apply(builder, node, "tanh", x), y, -2.0)


def _atan(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return _apply(builder, node, "atan_derivative", x)


def _atan_derivative(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    """-2 x y^2."""
    return _product(builder, x, _apply(builder, node, "square", y), -2.0)


def _tan(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return _affine(builder, _apply(builder, node, "square", y), 1.0, 1.0)


def _asin(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    """1 / sqrt(1 - x^2)."""
    rest = _affine(builder, _apply(builder, node, "square", x), -1.0, 1.0)
    return _apply(builder, node, "reciprocal", _apply(builder, node, "sqrt", rest))


def _acos(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return _affine(builder, _asin(builder, node, x, y), -1.0, 0.0)


def _exp(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return y


def _log(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return _apply(builder, node, "reciprocal", x)


def _softplus(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return _apply(builder, node, "sigmoid", x)


def _sqrt(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return _affine(builder, _apply(builder, node, "reciprocal", y), 0.5, 0.0)


def _reciprocal(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return _affine(builder, _apply(builder, node, "square", y), -1.0, 0.0)


def _square(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return _affine(builder, x, 2.0, 0.0)


def _power(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    """k x^(k - 1)."""
    k = int(node["exponent"])
    if k == 2:
        lower = x
    elif k == 3:
        lower = _apply(builder, node, "square", x)
    else:
        lower = _apply(builder, node, "power", x, exponent=k - 1)
    return _affine(builder, lower, float(k), 0.0)


def _sin(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return _apply(builder, node, "cos", x)


def _cos(builder: GraphBuilder, node: Node, x: int, y: int) -> int:
    return _affine(builder, _apply(builder, node, "sin", x), -1.0, 0.0)


_RULES: dict[str, Rule] = {
    "relu": _relu, "leaky_relu": _leaky_relu, "abs": _abs, "clip": _clip, "sigmoid": _sigmoid, "tanh": _tanh,
    "exp": _exp, "log": _log, "softplus": _softplus, "sqrt": _sqrt, "reciprocal": _reciprocal, "square": _square,
    "power": _power, "sin": _sin, "cos": _cos, "tan": _tan, "asin": _asin, "acos": _acos, "atan": _atan,
    "tanh_derivative": _tanh_derivative, "sigmoid_derivative": _sigmoid_derivative, "atan_derivative": _atan_derivative,
}  # fmt: skip
