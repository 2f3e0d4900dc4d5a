"""The part of a sparse network that a few neurons depend on, as a small dense problem of its own.

In lattice networks (Ferlez et al., Fast BATLLNN, HSCC 2022) a neuron reads a handful of the thousands before it.
Backward substitution of a block of neighbouring neurons then touches a narrow cone; cutting it out first turns
nearly empty coefficient arrays into small full ones. Ranges, relaxations and rounding charges are those of the whole.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from holdfast.bounds.backward import relaxation
from holdfast.bounds.enclosure import Enclosures, Problem, plan
from holdfast.graph import Graph, Node
from holdfast.operators import INPUT, OPERATORS, UnaryOperator

Array = Any


def has_cones(problem: Problem) -> bool:
    """Whether some layer is stored sparse."""
    return any(hasattr(p, "indptr") for p in problem.parameters.values())


def cone(state: Enclosures, position: int, chosen: Array) -> tuple[Enclosures, int] | None:
    """The state cut down to what elements ``chosen`` (sorted, distinct) of a node depend on, and the node's new place.

    None where the network is not a chain of flat layers, or the cone is no smaller than half of it.
    """
    graph = state.problem.graph
    needed: dict[int, Array] = {position: chosen}
    chain = [position]
    columns: dict[int, Array] = {}  # dense node -> its matrix, columns in need only
    while graph[chain[-1]].op != INPUT:
        node = graph[chain[-1]]
        if len(node.inputs) != 1:
            return None
        (source,), index = node.inputs, needed[chain[-1]]
        if node.op == "dense" and math.prod(node.shape[:-1]) == 1:
            matrix = state.problem.parameters[node.parameters[0]]
            columns[chain[-1]] = picked = matrix[:, index]
            needed[source] = np.unique(picked.indices) if hasattr(picked, "indptr") else np.flatnonzero(picked.any(1))
        elif node.op == "reshape" or isinstance(OPERATORS[node.op], UnaryOperator):
            needed[source] = index
        else:
            return None
        chain.append(source)
    source = chain[-1]
    needed[source] = np.arange(math.prod(graph[source].shape))
    if graph[chain[-2]].op != "reshape" and graph[chain[-2]].op != "dense":
        return None
    for above, below in zip(chain[-2::-1], chain[::-1], strict=False):  # exact structure keeps the whole input
        if graph[above].op != "reshape":
            break
        needed[above] = needed[below]
    widest = max(chain, key=lambda p: math.prod(graph[p].shape))
    if 2 * len(needed[widest]) > math.prod(graph[widest].shape):
        return None
    return _cut(state, chain[::-1], needed, columns)


def _cut(
    state: Enclosures, chain: list[int], needed: dict[int, Array], columns: dict[int, Array]
) -> tuple[Enclosures, int] | None:
    problem, graph = state.problem, state.problem.graph
    batch = state.center.shape[0]
    parameters: dict[str, Array] = {}
    nodes: list[Node] = []
    place: dict[int, int] = {}
    for new, old in enumerate(chain):
        node, index = graph[old], needed[old]
        keys: tuple[str, ...] = ()
        if node.op == "dense":
            before = needed[node.inputs[0]]
            matrix = columns[old]
            if hasattr(matrix, "indptr"):
                full = np.zeros((len(before), len(index)), matrix.dtype)
                full[
                    np.searchsorted(before, matrix.indices), np.repeat(np.arange(len(index)), np.diff(matrix.indptr))
                ] = matrix.data
                matrix = full
            else:
                matrix = matrix[before]
            keys = tuple(f"{key}.{new}" for key in node.parameters)
            parameters[keys[0]] = matrix
            for key, name in zip(node.parameters[1:], keys[1:], strict=True):
                parameters[name] = problem.parameters[key][index]
        inputs = tuple(place[i] for i in node.inputs)
        shapes = tuple(nodes[i].shape for i in inputs)
        attributes = (("shape", (len(index),)),) if node.op == "reshape" else node.attributes
        nodes.append(Node(node.op, inputs, (len(index),), shapes, attributes, keys, node.rounds, node.name))
        place[old] = new
    small = Graph(tuple(nodes), (0,), (len(nodes) - 1,))
    ours, theirs = plan(graph).fused, plan(small).fused
    for old, new in place.items():
        if old != chain[-1] and (old in ours) != (new in theirs):
            return None  # charges were taken over differently
    cut = replace(
        state,
        problem=replace(problem, graph=small, parameters=parameters, radii={}),
        relaxation={},
        reach={},
        **{
            name: [_pick(getattr(state, name)[old], batch, needed[old]) for old in chain]
            for name in ("lower", "upper", "size", "noise", "charge")
        },
        flushed=[state.flushed[old] for old in chain],
    )
    for old in chain[:-1]:
        if graph[old].op != INPUT and isinstance(OPERATORS[graph[old].op], UnaryOperator):
            lines, charge, flushed = relaxation(state, old)
            picked = type(lines)(*(_pick(part, batch, needed[old], rows=True) for part in lines))
            cut.relaxation[place[old]] = (picked, _pick(charge, batch, needed[old], rows=True), flushed)
    return cut, len(nodes) - 1


def _pick(array: Array | None, batch: int, index: Array, *, rows: bool = False) -> Array | None:
    if array is None:
        return None
    lead = (batch, 1) if rows else (batch,)
    return np.broadcast_to(array, (*lead, *array.shape[len(lead) :])).reshape(*lead, -1)[..., index]
