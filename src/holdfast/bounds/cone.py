"""The part of a network that matters for some neurons on a batch of boxes, as a small dense problem of its own.

Two kinds of elements are left out: those the neurons do not depend on (in lattice networks a neuron reads a handful of
the thousands before it; Ferlez et al., Fast BATLLNN, HSCC 2022), and those whose relaxation is zero on every box of the
batch (a ReLU that is never active): their coefficients are exactly zero, without rounding, so nothing is owed for
them. Ranges, relaxations and rounding charges of the others are those of the whole.
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
CUT_COST = 1 << 25  # multiplications that take about as long as cutting out


def has_cones(problem: Problem) -> bool:
    """Whether some layer is stored sparse."""
    return any(hasattr(p, "indptr") for p in problem.parameters.values())


def cone(state: Enclosures, position: int, chosen: Array, rows: int) -> tuple[Enclosures, int] | None:
    """The state cut down to what elements ``chosen`` (sorted, distinct) of a node depend on, and the node's new place.

    None where the network is not a chain of flat layers, where what is left is no smaller than half of it, or where
    that would not pay for ``rows`` functionals.
    """
    graph = state.problem.graph
    needed: dict[int, Array] = {position: chosen}
    chain = [position]
    columns: dict[int, Array] = {}  # dense node -> its matrix, columns in need only
    sparse = has_cones(state.problem)
    work = full = 0
    shared: list[int] = []  # nodes up to the next unary one that share their elements with it
    while graph[chain[-1]].op != INPUT:
        node = graph[chain[-1]]
        if len(node.inputs) != 1:
            return None
        (source,), index = node.inputs, needed[chain[-1]]
        if node.op == "dense" and math.prod(node.shape[:-1]) == 1:
            matrix = state.problem.parameters[node.parameters[0]]
            if sparse:
                columns[chain[-1]] = picked = matrix[:, index]
                needed[source] = (
                    np.unique(picked.indices) if hasattr(picked, "indptr") else np.flatnonzero(picked.any(1))
                )
            else:
                columns[chain[-1]] = matrix
                needed[source] = np.arange(matrix.shape[0])
            full += math.prod(matrix.shape)
            shared = [source]
        elif node.op == "reshape":
            needed[source] = index
            shared.append(source)
        elif isinstance(OPERATORS[node.op], UnaryOperator):
            if shared:  # read by a dense layer only: elements that are exactly zero need not be read
                index = index[_live(state, chain[-1])[index]]
                if not len(index):
                    return None
                needed |= dict.fromkeys(shared, index)
            needed[source] = index
            shared = []
        else:
            return None
        chain.append(source)
    source = chain[-1]
    needed[source] = np.arange(math.prod(graph[source].shape))
    for above, below in zip(chain[-2::-1], chain[::-1], strict=False):  # exact structure keeps the whole input
        if graph[above].op == "dense":
            break
        if graph[above].op != "reshape":
            return None
        needed[above] = needed[below]
    else:
        return None
    for node_position in columns:
        work += len(needed[node_position]) * len(needed[graph[node_position].inputs[0]])
    if 2 * work > full or (not sparse and rows * (full - work) < CUT_COST):
        return None
    return _cut(state, chain[::-1], needed, columns)


def within_cone(state: Enclosures, position: int, chosen: Array) -> tuple[Enclosures, int, Array]:
    """State, place and elements (B, m) of the same neurons in their cone; unchanged where cutting it out is no gain."""
    if state.problem.xp is not np:
        return state, position, chosen
    distinct = np.unique(chosen)
    cut = cone(state, position, distinct, 2 * chosen.size)
    return (state, position, chosen) if cut is None else (*cut, np.searchsorted(distinct, chosen))


def _live(state: Enclosures, position: int) -> Array:
    """Which elements of a unary node have a relaxation other than exactly zero on some box."""
    shape = state.problem.graph[position].shape
    live = np.full(math.prod(shape), state.noise[position] is not None)
    for part in relaxation(state, position)[0]:
        nonzero = np.broadcast_to(part != 0, (*part.shape[:2], *shape))
        live |= nonzero.reshape(-1, live.size).any(0)
    return live


def _cut(
    state: Enclosures, chain: list[int], needed: dict[int, Array], columns: dict[int, Array]
) -> tuple[Enclosures, int] | None:
    problem, graph = state.problem, state.problem.graph
    sparse = has_cones(problem)
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
                row, column = matrix.indices, np.repeat(np.arange(len(index)), np.diff(matrix.indptr))
                live = np.isin(row, before)  # rows of elements whose relaxation is zero were dropped
                full[np.searchsorted(before, row[live]), column[live]] = matrix.data[live]
                matrix = full
            else:
                matrix = matrix[before] if sparse else _cached(state, old, matrix, before, index)
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
    facts = [_facts(state, old, needed[old], top=old == chain[-1]) for old in chain]
    names = ("lower", "upper", "size", "noise", "charge")
    arrays: dict[str, Any] = {name: [found[k] for found, _ in facts] for k, name in enumerate(names)}
    cut = replace(
        state,
        problem=replace(problem, graph=small, parameters=parameters, radii={}),
        relaxation={place[old]: lines for old, (_, lines) in zip(chain, facts, strict=True) if lines is not None},
        reach={},
        cuts={},
        origin={place[old]: (old, needed[old]) for old in chain},
        flushed=[state.flushed[old] for old in chain],
        **arrays,
    )
    return cut, len(nodes) - 1


def _facts(state: Enclosures, position: int, index: Array, *, top: bool) -> tuple[list[Array | None], Any]:
    """Ranges, noise and charge of some elements of a node, and their relaxation; kept while the elements stay."""
    kept = state.cuts.get((position, "facts"))
    if kept is None or top or not np.array_equal(kept[0], index):
        batch, node = state.center.shape[0], state.problem.graph[position]
        sources = (state.lower, state.upper, state.size, state.noise, state.charge)
        arrays = [_pick(source[position], batch, index) for source in sources]
        lines = None
        if not top and node.op != INPUT and isinstance(OPERATORS[node.op], UnaryOperator):
            whole, charge, flushed = relaxation(state, position)
            parts = (_pick(part, batch, index, rows=True) for part in whole)
            lines = (type(whole)(*parts), _pick(charge, batch, index, rows=True), flushed)
        if top:  # its range is about to be narrowed
            return arrays, lines
        kept = state.cuts[(position, "facts")] = (index, (arrays, lines))
    return kept[1]


def _cached(state: Enclosures, position: int, matrix: Array, before: Array, index: Array) -> Array:
    """matrix[before][:, index], kept while the live elements on both sides stay the same."""
    kept = state.cuts.get(position)
    if kept is None or not (np.array_equal(kept[0], before) and np.array_equal(kept[1], index)):
        part = matrix if len(before) == matrix.shape[0] else matrix[before]
        kept = (before, index, part if len(index) == matrix.shape[1] else part[:, index])
        state.cuts[position] = kept
    return kept[2]


def _pick(array: Array | None, batch: int, index: Array, *, rows: bool = False) -> Array | None:
    if array is None:
        return None
    lead = (batch, 1) if rows else (batch,)
    return np.broadcast_to(array, (*lead, *array.shape[len(lead) :])).reshape(*lead, -1)[..., index]
