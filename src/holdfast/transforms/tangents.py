"""Tangents of a forward-mode derivative: zero, a constant, or a value of the graph, and what cards do to them.

A tangent has the axes ``extra`` in front of those of its node: (n,) for n directions at once, () for one. Constants
are folded where that is exact or cheap, so that the first layer of a network contributes its matrix and no node.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.errors import ModelError
from holdfast.graph import Node, Shape
from holdfast.operators import OPERATORS, GraphBuilder, LinearOperator
from holdfast.rigor.accurate import Ball, broadcast, matrix_product, multiply, reshape
from holdfast.transforms.rewriting import keywords
from holdfast.transforms.structural_rules import are_ones

_LARGEST_FOLD = 2**22  # multiplications spent on folding a constant tangent through a matrix


@dataclass(frozen=True, eq=False)
class Fixed:
    """A tangent that does not depend on the inputs."""

    ball: Ball


Tangent = int | Fixed | None  # a position in the builder, a constant, or zero


def materialise(builder: GraphBuilder, tangent: Tangent, shape: Shape) -> int:
    """The tangent as a value of the graph."""
    if isinstance(tangent, int):
        return tangent
    ball = Ball(np.zeros(shape)) if tangent is None else broadcast(tangent.ball, shape)
    return builder.add("constant", [], [np.ascontiguousarray(ball.value)], radii=[ball.radius])


def times(builder: GraphBuilder, factor: int, tangent: Tangent, extra: Shape) -> Tangent:
    """factor * tangent, element by element. A constant tangent makes it a scaling: linear, hence tight."""
    if tangent is None:
        return None
    shape = (*extra, *builder.shape(factor))
    spread = builder.add("expand", [factor], shape=shape) if extra else factor
    if isinstance(tangent, int):
        return builder.add("product", [spread, tangent])
    return builder.add("scale", [spread], [tangent.ball.value, np.zeros(())], radii=[tangent.ball.radius, None])


def plus(builder: GraphBuilder, a: Tangent, b: Tangent, shape: Shape) -> Tangent:
    """a + b."""
    if a is None or b is None:
        return b if a is None else a
    return builder.add("add", [materialise(builder, a, shape), materialise(builder, b, shape)], signs=(1, 1))


def linear(
    builder: GraphBuilder, node: Node, balls: Sequence[Ball], incoming: Sequence[Tangent], extra: Shape
) -> Tangent:
    """The tangent of a linear node: its linear part, without bias, applied to the tangents (not all zero)."""
    if not any(isinstance(tangent, int) for tangent in incoming):
        folded = _fold(node, balls, incoming, extra)
        if folded is not None:
            return folded
    if node.op == "add":
        kept = [(t, sign) for t, sign in zip(incoming, node["signs"], strict=True) if t is not None]
        if len(kept) == 1 and kept[0][1] > 0:
            return kept[0][0]
        shape = (*extra, *node.shape)
        return builder.add(
            "add", [materialise(builder, t, shape) for t, _ in kept], signs=tuple(sign for _, sign in kept)
        )
    if node.op == "scale" and are_ones(balls[0]):
        return incoming[0]
    shapes = [(*extra, *shape) for shape in node.input_shapes]
    return _lift(
        builder, node, balls, [materialise(builder, t, s) for t, s in zip(incoming, shapes, strict=True)], extra
    )


def _lift(builder: GraphBuilder, node: Node, balls: Sequence[Ball], inputs: Sequence[int], extra: Shape) -> int:
    """The same operator on values with the axes ``extra`` in front."""
    whole = tuple((0, n, 1) for n in extra)
    shift, op = len(extra), node.op
    if op in ("dense", "scale", "conv", "conv_transpose"):
        values, radii = [balls[0].value], [balls[0].radius]
        if op == "scale":
            values, radii = [*values, np.zeros(())], [*radii, None]
        if op in ("dense", "scale") or not extra:
            return builder.add(op, inputs, values, radii=radii, name=node.name, **keywords(node))
        source, n = node.input_shapes[0], math.prod(extra)  # directions join the batch axis
        batched = builder.add("reshape", inputs, shape=(n * source[0], *source[1:]))
        out = builder.add(op, [batched], values, radii=radii, name=node.name, **keywords(node))
        return builder.add("reshape", [out], shape=(*extra, *node.shape))
    if op == "reshape":
        return builder.add(op, inputs, name=node.name, shape=(*extra, *node.shape))
    if op == "transpose":
        axes = (*range(shift), *(shift + axis for axis in node["permutation"]))
        return builder.add(op, inputs, name=node.name, permutation=axes)
    if op == "slice":
        return builder.add(op, inputs, name=node.name, slices=(*whole, *node["slices"]))
    if op == "pad":
        return builder.add(op, inputs, name=node.name, pads=(*((0, 0) for _ in extra), *node["pads"]))
    if op == "gather":
        return builder.add(op, inputs, name=node.name, axis=shift + node["axis"], indices=node["indices"])
    if op == "concat":
        return builder.add(op, inputs, name=node.name, axis=shift + node["axis"])
    if op == "reduce_sum":
        return builder.add(op, inputs, name=node.name, axes=tuple(shift + axis for axis in node["axes"]))
    if op == "expand":
        source = node.input_shapes[0]
        new = len(node.shape) - len(source)  # axes that the broadcast puts in front: they belong behind ``extra``
        if extra and new:
            inputs = [builder.add("reshape", inputs, shape=(*extra, *(1,) * new, *source))]
        return builder.add(op, inputs, name=node.name, shape=(*extra, *node.shape))
    raise ModelError(f"node {node.name or '(unnamed)'}: the linear operator {op} has no rule for tangents")


def _fold(node: Node, balls: Sequence[Ball], incoming: Sequence[Tangent], extra: Shape) -> Fixed | None:
    """The card applied to constant tangents; None where that would round a lot or cost a lot."""
    card = OPERATORS[node.op]
    shapes = [(*extra, *shape) for shape in node.input_shapes]
    constants = [t.ball if isinstance(t, Fixed) else Ball(np.zeros(())) for t in incoming]
    full = [broadcast(ball, shape) for ball, shape in zip(constants, shapes, strict=True)]
    folded: Ball | None = None
    if isinstance(card, LinearOperator) and card.exact:
        value = card.linear(np, node, [], [ball.value for ball in full])
        radius = None
        if any(ball.radius is not None for ball in full):
            zeros = [np.zeros(shape) for shape in shapes]
            radii = [z if ball.radius is None else ball.radius for z, ball in zip(zeros, full, strict=True)]
            radius = card.magnitude(np, node, [], radii)
        folded = Ball(value, radius)
    elif node.op == "scale":
        folded = full[0] if are_ones(balls[0]) else multiply(full[0], balls[0])
    elif node.op == "dense":
        rows = _times_matrix(reshape(full[0], (-1, node.input_shapes[0][-1])), balls[0])
        folded = None if rows is None else reshape(rows, (*extra, *node.shape))
    return None if folded is None else Fixed(folded)


def _times_matrix(rows: Ball, weight: Ball) -> Ball | None:
    """rows @ weight; a selection of rows of the matrix, without arithmetic, where that is what it is."""
    if rows.radius is None and np.all(np.count_nonzero(rows.value, axis=1) <= 1):
        chosen = np.argmax(rows.value != 0, axis=1)
        factors = np.take_along_axis(rows.value, chosen[:, None], axis=1)
        picked = Ball(weight.value[chosen], None if weight.radius is None else weight.radius[chosen])
        if np.all((factors == 0) | (factors == 1)):
            return Ball(picked.value * factors, None if picked.radius is None else picked.radius * factors)
        return multiply(picked, Ball(factors))
    if rows.value.size * weight.value.shape[1] > _LARGEST_FOLD:
        return None
    return matrix_product(rows, weight)
