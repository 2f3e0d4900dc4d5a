"""Joins models: outer(inner(x)), models side by side, and the copying of one model into a graph under construction.

A closed loop, a Lyapunov function along a vector field, two networks under one property: all are compositions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from holdfast.errors import MismatchError
from holdfast.graph import Graph, Model, Tensor
from holdfast.operators import INPUT, GraphBuilder
from holdfast.transforms.rewriting import keywords


def live_nodes(graph: Graph) -> tuple[bool, ...]:
    """For each node whether an output depends on it (inputs are always kept)."""
    live = [node.op == INPUT for node in graph.nodes]
    pending = list(graph.outputs)
    while pending:
        position = pending.pop()
        if not live[position]:
            live[position] = True
            pending.extend(graph[position].inputs)
    return tuple(live)


def embed(builder: GraphBuilder, model: Model, inputs: Sequence[int]) -> list[int]:
    """Copies a model into ``builder``, its inputs read from the given positions; the positions of its outputs.

    Constants (with their radii) are shared, not copied; nodes no output depends on are left out. An input of another
    shape but the same number of elements is reshaped; MismatchError where the numbers differ.
    """
    graph = model.graph
    if len(inputs) != len(graph.inputs):
        raise MismatchError(f"{_called(model)} has {len(graph.inputs)} input(s), {len(inputs)} were given")
    placed: dict[int, int] = {}
    for tensor, position, given in zip(model.inputs, graph.inputs, inputs, strict=True):
        wanted, found = graph[position].shape, builder.shape(given)
        if math.prod(wanted) != math.prod(found):
            raise MismatchError(
                f"input {tensor.name} of {_called(model)} has shape {wanted}, a value of shape {found} was given"
            )
        placed[position] = given if wanted == found else builder.add("reshape", [given], shape=wanted)
    live = live_nodes(graph)
    for position, node in enumerate(graph.nodes):
        if live[position] and position not in placed:
            placed[position] = builder.add(
                node.op, [placed[i] for i in node.inputs], [model.parameters[k] for k in node.parameters],
                radii=[model.radii.get(k) for k in node.parameters], name=node.name, rounds=node.rounds,
                part=node.part, **keywords(node),
            )  # fmt: skip
    return [placed[position] for position in graph.outputs]


def compose(outer: Model, inner: Model) -> Model:
    """x -> outer(inner(x)): the outputs of ``inner``, in order, are the inputs of ``outer``."""
    if len(inner.graph.outputs) != len(outer.graph.inputs):
        raise MismatchError(
            f"{_called(inner)} has {len(inner.graph.outputs)} output(s), {_called(outer)} takes {len(outer.graph.inputs)} input(s)"
        )
    builder = GraphBuilder()
    middle = embed(builder, inner, add_inputs(builder, inner))
    joined = finish(builder, embed(builder, outer, middle), inner.inputs, outer.outputs, f"{outer.name}({inner.name})")
    return replace(joined, rounded=(*inner.rounded, *outer.rounded))


def parallel(models: Sequence[Model]) -> Model:
    """Models side by side: all their inputs, then all their outputs, in order; equal names get a number."""
    builder = GraphBuilder()
    starts = [add_inputs(builder, model) for model in models]
    outputs = [
        position for model, start in zip(models, starts, strict=True) for position in embed(builder, model, start)
    ]
    inputs = _distinct([tensor for model in models for tensor in model.inputs])
    named = _distinct([tensor for model in models for tensor in model.outputs])
    joined = finish(builder, outputs, inputs, named, ", ".join(model.name for model in models))
    return replace(joined, rounded=tuple(name for model in models for name in model.rounded))


def add_inputs(builder: GraphBuilder, model: Model) -> list[int]:
    """New variables of the shapes and names of the model's inputs."""
    return [
        builder.input(model.graph[i].shape, tensor.name)
        for i, tensor in zip(model.graph.inputs, model.inputs, strict=True)
    ]


def finish(
    builder: GraphBuilder, outputs: Sequence[int], inputs: Sequence[Tensor], named: Sequence[Tensor], name: str
) -> Model:
    """The model built, without nodes no output depends on. No file stands behind it: nothing can be replayed elsewhere."""
    graph, parameters = builder.build(outputs)
    shaped = tuple(replace(t, shape=graph[i].shape) for t, i in zip(named, outputs, strict=True))
    model = Model(graph, parameters, tuple(inputs), shaped, name=name, replayable=False, radii=dict(builder.radii))
    if all(live_nodes(graph)):
        return model
    clean = GraphBuilder()
    return finish(clean, embed(clean, model, add_inputs(clean, model)), inputs, shaped, name)


def _called(model: Model) -> str:
    return f"model {model.name}" if model.name else "the model"


def _distinct(tensors: Sequence[Tensor]) -> list[Tensor]:
    taken = {tensor.name for tensor in tensors}
    seen: set[str] = set()
    out = []
    for tensor in tensors:
        name, number = tensor.name, 1
        while name in seen:
            number += 1
            candidate = f"{tensor.name}_{number}"
            name = name if candidate in taken else candidate
        seen.add(name)
        out.append(replace(tensor, name=name))
    return out
