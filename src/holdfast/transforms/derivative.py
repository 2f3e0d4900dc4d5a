"""The graph of a Jacobian, or of a directional derivative, by forward mode: every node gets a tangent.

Linear cards act on tangents as they act on values; an element-wise card multiplies by f'(x), which is built from
cards too, so that any bound of the graph bounds the derivative. At kinks f' is set-valued (card `heaviside`): what is
enclosed is Clarke's generalised Jacobian (Clarke, Optimization and Nonsmooth Analysis, 1983, theorem 2.6.6), which is
what mean value forms need. Griewank, Walther, Evaluating Derivatives, 2nd ed., 2008, chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from holdfast.graph import Model, Shape, Tensor
from holdfast.operators import INPUT, OPERATORS, GraphBuilder, LinearOperator
from holdfast.rigor.accurate import Ball
from holdfast.transforms.compose import add_inputs, finish, live_nodes
from holdfast.transforms.element_derivatives import element_derivative
from holdfast.transforms.rewriting import keywords
from holdfast.transforms.tangents import Fixed, Tangent, linear, materialise, plus, times


def derivative(model: Model) -> Model:
    """The Jacobian of all outputs (flat, concatenated, m) by all inputs (flat, concatenated, n): one output (m, n).

    Same inputs as ``model``. ModelError names the node that has no derivative. Cost: n times that of the model.
    """
    builder = GraphBuilder()
    inputs = add_inputs(builder, model)
    sizes = [math.prod(builder.shape(i)) for i in inputs]
    n = sum(sizes)
    seeds: list[Tangent] = []
    for position, size, start in zip(inputs, sizes, np.cumsum([0, *sizes[:-1]]), strict=True):
        block = np.zeros((n, size))
        block[start : start + size] = np.eye(size)
        seeds.append(Fixed(Ball(block.reshape(n, *builder.shape(position)))))
    tangents = _push(builder, model, inputs, seeds, (n,))
    parts = [
        _rows(builder, tangent, (n, *model.graph[i].shape))
        for i, tangent in zip(model.graph.outputs, tangents, strict=True)
    ]
    jacobian = parts[0] if len(parts) == 1 else builder.add("concat", parts, axis=0)
    numerator, denominator = (", ".join(t.name for t in tensors) for tensors in (model.outputs, model.inputs))
    output = Tensor(f"d({numerator})/d({denominator})", builder.shape(jacobian), "float64")
    return finish(builder, [jacobian], model.inputs, [output], f"derivative of {model.name}")


def directional_derivative(model: Model) -> Model:
    """(x, v) -> J(x) v: the inputs of ``model``, then one direction for each; one derivative per output, of its shape.

    A Lie derivative is this with v = f(x) (see `compose.embed`). Cost: about twice that of the model.
    """
    builder = GraphBuilder()
    inputs = add_inputs(builder, model)
    directions = tuple(replace(t, name=f"direction of {t.name}", dtype="float64") for t in model.inputs)
    seeds: list[Tangent] = [builder.input(builder.shape(i), t.name) for i, t in zip(inputs, directions, strict=True)]
    tangents = _push(builder, model, inputs, seeds, ())
    outputs = [
        materialise(builder, t, model.graph[i].shape) for i, t in zip(model.graph.outputs, tangents, strict=True)
    ]
    named = [replace(t, name=f"derivative of {t.name}", dtype="float64") for t in model.outputs]
    return finish(builder, outputs, (*model.inputs, *directions), named, f"directional derivative of {model.name}")


def _rows(builder: GraphBuilder, tangent: Tangent, shape: Shape) -> int:
    """(n, *shape of an output) -> (m, n)."""
    n, m = shape[0], math.prod(shape[1:])
    if isinstance(tangent, int):
        return builder.add("transpose", [builder.add("reshape", [tangent], shape=(n, m))], permutation=(1, 0))
    ball = Ball(np.zeros((n, m))) if tangent is None else tangent.ball
    turned = Ball(ball.value.reshape(n, m).T, None if ball.radius is None else ball.radius.reshape(n, m).T)
    return builder.add("constant", [], [turned.value], radii=[turned.radius])


def _push(
    builder: GraphBuilder, model: Model, inputs: Sequence[int], seeds: Sequence[Tangent], extra: Shape
) -> list[Tangent]:
    """Copies the model into the builder, a tangent beside every node; the tangents of the outputs."""
    graph = model.graph
    live = live_nodes(graph)
    values: dict[int, int] = dict(zip(graph.inputs, inputs, strict=True))
    tangents: dict[int, Tangent] = dict(zip(graph.inputs, seeds, strict=True))
    for position, node in enumerate(graph.nodes):
        if not live[position] or node.op == INPUT:
            continue
        balls = [Ball(model.parameters[k], model.radii.get(k)) for k in node.parameters]
        arguments = [values[i] for i in node.inputs]
        values[position] = builder.add(
            node.op, arguments, [ball.value for ball in balls], radii=[ball.radius for ball in balls], name=node.name,
            rounds=node.rounds, **keywords(node),
        )  # fmt: skip
        incoming = [tangents[i] for i in node.inputs]
        if all(tangent is None for tangent in incoming):
            tangents[position] = None
        elif isinstance(OPERATORS[node.op], LinearOperator):
            tangents[position] = linear(builder, node, balls, incoming, extra)
        elif node.op == "product":
            (x, y), (dx, dy) = arguments, incoming
            terms = times(builder, y, dx, extra), times(builder, x, dy, extra)
            tangents[position] = plus(builder, *terms, (*extra, *node.shape))
        else:
            factor = element_derivative(builder, node, arguments[0], values[position])
            tangents[position] = None if factor is None else times(builder, factor, incoming[0], extra)
    return [tangents[i] for i in graph.outputs]
