"""The part of a model that chosen elements of its output depend on, element by element: a smaller model of fewer inputs.

What is kept of a value is a product of index sets, one per axis, so that operators stay what they are. Exact: nothing is
recomputed. A face of a polytope of many vehicles reads one of them; its proof should cost as much as one (compare
`simplify`, which drops whole nodes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.errors import MismatchError
from holdfast.graph import Model, Node, Tensor
from holdfast.operators import INPUT, OPERATORS, GraphBuilder, UnaryOperator
from holdfast.transforms.compose import finish
from holdfast.transforms.rewriting import keywords

Axes = tuple[np.ndarray, ...]  # what is kept along each axis: sorted indices
Constant = tuple[np.ndarray, np.ndarray | None]  # a parameter, and what it is off at most
_ELEMENTWISE = ("add", "scale", "product")


@dataclass(frozen=True, eq=False)
class LiveElements:
    """``model``: (len(inputs),) -> (number of chosen outputs,); ``inputs``: which elements of the input it reads."""

    model: Model
    inputs: np.ndarray


def live_elements(model: Model, chosen: Sequence[int]) -> LiveElements:
    """The model of the elements ``chosen`` (distinct, in increasing order) of the output, one flat input to one flat output.

    At least one input element is kept. MismatchError for models of several inputs or outputs.
    """
    graph = model.graph
    if len(graph.inputs) != 1 or len(graph.outputs) != 1 or len(graph[graph.outputs[0]].shape) != 1:
        raise MismatchError("live_elements takes models of one input and one flat output")
    kept = _kept(model, np.asarray(chosen))
    builder = GraphBuilder()
    source = graph.inputs[0]
    if source not in kept:
        kept[source] = tuple(np.arange(min(1, size)) for size in graph[source].shape)
    place: dict[int, int] = {}
    for position, node in enumerate(graph.nodes):
        if position not in kept:
            continue
        if node.op == INPUT:
            place[position] = builder.input(_shape(kept[position]), node.name)
        else:
            place[position] = _copied(builder, model, position, kept, place)
    inputs = np.ravel_multi_index(np.ix_(*kept[source]), graph[source].shape).reshape(-1)
    tensors = (Tensor(model.inputs[0].name, _shape(kept[source]), model.inputs[0].dtype),)
    made = finish(builder, [place[graph.outputs[0]]], tensors, model.outputs, model.name)
    return LiveElements(made, inputs)


def _kept(model: Model, chosen: np.ndarray) -> dict[int, Axes]:
    """For every node that matters what is kept of it."""
    graph = model.graph
    kept: dict[int, Axes] = {graph.outputs[0]: (chosen,)}
    for position in range(len(graph) - 1, -1, -1):
        node = graph[position]
        if position not in kept or node.op == INPUT:
            continue
        if not _known(node):
            kept[position] = tuple(np.arange(size) for size in node.shape)
        for source, wanted in zip(node.inputs, _wanted(model, node, kept[position]), strict=True):
            if all(map(len, wanted)):
                old = kept.get(source)
                kept[source] = wanted if old is None else tuple(map(np.union1d, old, wanted))
    return kept


def _known(node: Node) -> bool:
    known = ("dense", "slice", "gather", "concat", "constant", "reshape", "transpose", *_ELEMENTWISE)
    return node.op in known or isinstance(OPERATORS[node.op], UnaryOperator)


def _wanted(model: Model, node: Node, kept: Axes) -> list[Axes]:
    """What of its inputs a node reads for what is kept of it; an empty set along an axis: nothing."""
    if not _known(node):
        return [tuple(np.arange(size) for size in shape) for shape in node.input_shapes]
    match node.op:
        case "dense":
            return [(*kept[:-1], np.flatnonzero(_nonzero(model, node, kept[-1]).any(1)))]
        case "slice":
            return [tuple(np.sort(a + k * c) for k, (a, _, c) in zip(kept, node["slices"], strict=True))]
        case "gather":
            axis = node["axis"]
            return [(*kept[:axis], np.unique(np.asarray(node["indices"])[kept[axis]]), *kept[axis + 1 :])]
        case "concat":
            axis, first, found = node["axis"], 0, []
            for shape in node.input_shapes:
                part = kept[axis][(kept[axis] >= first) & (kept[axis] < first + shape[axis])] - first
                found.append((*kept[:axis], part, *kept[axis + 1 :]))
                first += shape[axis]
            return found
        case "reshape":
            mask = np.zeros(node.shape, bool)
            mask[np.ix_(*kept)] = True
            return [_hull(mask.reshape(node.input_shapes[0]))]
        case "transpose":
            order = np.argsort(node["permutation"])
            return [tuple(kept[i] for i in order)]
    return [kept for _ in node.inputs]


def _copied(builder: GraphBuilder, model: Model, position: int, kept: dict[int, Axes], place: dict[int, int]) -> int:
    """A node for what is kept of it."""
    node, mine = model.graph[position], kept[position]
    wanted = _wanted(model, node, mine)
    sources = [
        _selected(builder, place[i], kept[i], want) if all(map(len, want)) else -1
        for i, want in zip(node.inputs, wanted, strict=True)
    ]
    values: list[Constant] = [(model.parameters[k], model.radii.get(k)) for k in node.parameters]
    op = node.op
    match op:
        case "dense":
            columns = mine[-1:]
            if sources[0] < 0:  # only the constant is left
                values = values[1:] or [(np.zeros(node.shape[-1]), None)]
                op, sources, values = "constant", [], [_part(_widened(v, node.shape), mine) for v in values]
            else:
                values = [_part(values[0], (wanted[0][-1], *columns)), *(_part(v, columns) for v in values[1:])]
        case "constant":
            values = [_part(v, mine) for v in values]
        case "scale":
            values = [_part(_widened(v, node.shape), mine) for v in values]
        case "slice":
            target = tuple(a + k * c for k, (a, _, c) in zip(mine, node["slices"], strict=True))
            return _selected(builder, sources[0], wanted[0], target)
        case "gather":
            axis = node["axis"]
            target = (*mine[:axis], np.asarray(node["indices"])[mine[axis]], *mine[axis + 1 :])
            return _selected(builder, sources[0], wanted[0], target)
        case "concat":
            sources = [s for s in sources if s >= 0]
            if len(sources) == 1:
                return sources[0]
        case "reshape":
            return _reshaped(builder, node, sources[0], wanted[0], mine)
    return builder.add(
        op, sources, [a for a, _ in values], radii=[r for _, r in values], name=node.name, rounds=node.rounds,
        part=node.part, **({} if op == "constant" else keywords(node)),
    )  # fmt: skip


def _selected(builder: GraphBuilder, position: int, have: Axes, want: Axes) -> int:
    """The part ``want`` of a value of which ``have`` is there."""
    for axis, (old, new) in enumerate(zip(have, want, strict=True)):
        if len(old) != len(new) or (old != new).any():
            indices = tuple(np.searchsorted(old, new).tolist())
            position = builder.add("gather", [position], axis=axis, indices=indices)
    return position


def _reshaped(builder: GraphBuilder, node: Node, position: int, have: Axes, want: Axes) -> int:
    old = np.ravel_multi_index(np.ix_(*have), node.input_shapes[0]).reshape(-1)
    new = np.ravel_multi_index(np.ix_(*want), node.shape).reshape(-1)
    if len(old) != len(new):
        position = builder.add("reshape", [position], shape=(len(old),))
        position = _selected(builder, position, (old,), (new,))
    shape = _shape(want)
    return position if builder.shape(position) == shape else builder.add("reshape", [position], shape=shape)


def _nonzero(model: Model, node: Node, columns: np.ndarray) -> np.ndarray:
    key = node.parameters[0]
    nonzero = model.parameters[key][:, columns] != 0
    if key in model.radii:
        nonzero = nonzero | (np.broadcast_to(model.radii[key], model.parameters[key].shape)[:, columns] != 0)
    return nonzero


def _part(value: Constant, axes: Axes) -> Constant:
    near, off = value
    at = np.ix_(*axes)
    return near[at], None if off is None else np.broadcast_to(off, near.shape)[at]


def _widened(value: Constant, shape: tuple[int, ...]) -> Constant:
    near, off = value
    return np.broadcast_to(near, shape), None if off is None else np.broadcast_to(off, shape)


def _hull(mask: np.ndarray) -> Axes:
    axes = range(mask.ndim)
    return tuple(np.flatnonzero(mask.any(tuple(j for j in axes if j != i))) for i in axes)


def _shape(axes: Axes) -> tuple[int, ...]:
    return tuple(map(len, axes))
