"""One pass over the graph: ranges of all nodes, each pre-activation narrowed by backward substitution where it pays.

Only elements whose relaxation depends on their range are narrowed (a ReLU that is already stable is linear), and
bounds inherited from a larger box are kept where they are tighter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from holdfast.bounds.backward import concretise, relaxation, substitute, unit_rows
from holdfast.bounds.cone import has_cones, within_cone
from holdfast.bounds.enclosure import Enclosures, Problem, extend, plan, start
from holdfast.bounds.forward import Forms
from holdfast.operators import OPERATORS, LinearOperator, UnaryOperator

Array = Any
CONE_ROWS = 32  # neighbours in a sparse layer share their cone
ROW_BYTES = 1 << 22  # coefficients of one backward substitution are kept about this small (cache, memory)
GROUP_COST = 1 << 25  # multiplications that take about as long as handling one more group of boxes

Ranges = Mapping[int, tuple[Array, Array]]


def propagate(
    problem: Problem,
    lower: Array,
    upper: Array,
    *,
    known: Ranges | None = None,
    narrow: bool = True,
    reach: Array | None = None,
    refine: Any = None,
    forward: Array | None = None,
) -> Enclosures:
    """Enclosures of all nodes on boxes (B, n).

    ``known``: node -> ranges (B, *shape) that hold on these boxes already. ``narrow``: whether to use backward
    substitution for pre-activations (else intervals only). ``reach``: inputs for which to keep how strongly bounds depend on them.
    ``forward``: inputs that vary, where ranges are to be narrowed by affine forms instead, which is much cheaper and less tight.
    ``refine``: another function like `refine_rows` to narrow chosen elements with.
    """
    box = covered(problem, lower, upper)
    state = start(problem, *box)
    facts = plan(problem.graph)
    wanted = frozenset(facts.preactivations)
    forms = None if forward is None else Forms(state, forward)
    for position in range(len(problem.graph)):
        extend(state, position, box)
        if known is not None and position in known:
            intersect(state, position, *known[position])
        if forms is not None:
            intersect(state, position, *forms.extend())
            if reach is not None and position in wanted and facts.carries[position]:
                state.reach[position] = forms.reach(position)
        elif position in wanted and facts.carries[position]:
            if narrow and position not in facts.settled:
                _narrow(state, position, reach, refine or refine_rows)
            elif reach is not None:
                _reach_settled(state, position, reach)
    return state


def covered(problem: Problem, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Boxes in the type of the arithmetic; where that is narrower, rounded outward."""
    xp, kind = problem.xp, np.dtype(problem.arithmetic.dtype)
    low, high = xp.asarray(lower, dtype=kind), xp.asarray(upper, dtype=kind)
    if problem.arithmetic.rigorous and kind != np.float64:
        low = xp.where(low > lower, xp.nextafter(low, kind.type(-np.inf)), low)
        high = xp.where(high < upper, xp.nextafter(high, kind.type(np.inf)), high)
    return low, high


def intersect(state: Enclosures, position: int, low: Array, high: Array) -> None:
    """Narrow the range of a node by another one (NaN says nothing). Crossing ranges prove the sub-problem empty."""
    xp = state.problem.xp
    state.lower[position] = xp.fmax(state.lower[position], low)
    state.upper[position] = xp.fmin(state.upper[position], high)
    state.size[position] = xp.maximum(abs(state.lower[position]), abs(state.upper[position]))


def loose(state: Enclosures, position: int) -> Array:
    """Which elements (B, size) of a pre-activation have a relaxation that depends on their range."""
    graph, xp = state.problem.graph, state.problem.xp
    low, high = state.lower[position], state.upper[position]
    needed = xp.zeros(low.shape, dtype=bool)
    for reader in set(graph.consumers[position]):
        card = OPERATORS[graph[reader].op]
        if isinstance(card, UnaryOperator) and card.piecewise_linear:
            needed = needed | card.crosses_kink(graph[reader], low, high)
        elif not hasattr(card, "linear"):
            needed = needed | (high > low)
    return needed.reshape(low.shape[0], -1)


def _narrow(state: Enclosures, position: int, reach: Array | None, refine: Any) -> None:
    xp, graph = state.problem.xp, state.problem.graph
    needed = np.asarray(loose(state, position))
    count = int(needed.sum(1).max(initial=0))
    batch, size = needed.shape
    if reach is not None:
        state.reach[position] = np.zeros((batch, size, len(reach)), state.problem.arithmetic.dtype)
    if not count:
        return
    low = np.array(state.lower[position].reshape(batch, -1))
    high = np.array(state.upper[position].reshape(batch, -1))
    for boxes in _groups(needed.sum(1), _row_cost(state.problem, position)):
        part = state if len(boxes) == batch else of_boxes(state, boxes, position)
        for elements in _parts(part, position, needed[boxes]):
            state.problem.check_time()
            below, above, slopes = refine(part, position, elements)
            place = boxes[:, None], elements
            # elements that only fill up a row stay as they are: bounds of a box do not depend on its company
            below, above = np.where(needed[place], below, -np.inf), np.where(needed[place], above, np.inf)
            low[place], high[place] = np.fmax(low[place], below), np.fmin(high[place], above)
            if reach is not None:
                slopes, m = abs(slopes[:, :, reach]), elements.shape[1]
                state.reach[position][place] = 0.5 * (slopes[:, :m] + slopes[:, m:])
    shape = (batch, *graph[position].shape)
    intersect(state, position, xp.asarray(low.reshape(shape)), xp.asarray(high.reshape(shape)))


def _parts(state: Enclosures, position: int, needed: Array) -> Iterator[Array]:
    """Elements (B, m) to narrow at a time, padded with elements that need nothing."""
    chosen = np.argsort(~needed, axis=1, kind="stable")[:, : int(needed.sum(1).max())]
    graph = state.problem.graph
    widest = max(math.prod(graph[i].shape) for i in range(position + 1))
    step = max(16, ROW_BYTES // (16 * len(needed) * widest))
    if has_cones(state.problem):
        step = min(step, CONE_ROWS)
    return (chosen[:, first : first + step] for first in range(0, chosen.shape[1], step))


def _row_cost(problem: Problem, position: int) -> int:
    """Multiplications to substitute one row from a node back to the input, roughly."""
    nodes = enumerate(problem.graph.nodes[: position + 1])
    linear = ((i, node, OPERATORS[node.op]) for i, node in nodes if node.op in OPERATORS and node.parameters)
    return sum(
        card.terms(node, problem.weights(i)) * math.prod(node.shape)
        for i, node, card in linear
        if isinstance(card, LinearOperator)
    )


def _groups(counts: Array, cost: int) -> list[Array]:
    """Boxes with something to narrow, those with about the same number of elements together.

    Padding a box to the count of its group wastes ``cost`` multiplications per row; another group takes its own time.
    """
    order = np.argsort(-counts, kind="stable")
    wasted = 2 * cost * (len(counts) * int(counts[order[0]]) - int(counts.sum()))
    if wasted < 4 * GROUP_COST:
        return [np.arange(len(counts))]
    order = order[counts[order] > 0]
    groups, first = [], 0
    for k in range(1, len(order) + 1):
        if k == len(order) or 2 * cost * (k - first) * int(counts[order[first]] - counts[order[k]]) > GROUP_COST:
            groups.append(np.sort(order[first:k]))
            first = k
    return groups


def of_boxes(state: Enclosures, boxes: Array, position: int) -> Enclosures:
    """What is known of nodes up to ``position`` on some boxes of the batch."""
    batch, graph = state.center.shape[0], state.problem.graph

    def some(array: Array) -> Array:
        return array[boxes] if array is not None and array.shape[:1] == (batch,) else array

    for i in range(position):
        if graph[i].op in OPERATORS and not isinstance(OPERATORS[graph[i].op], LinearOperator):
            relaxation(state, i)
    lines = {
        i: (type(found)(*(some(a) for a in found)), some(charge), some(flushed))
        for i, (found, charge, flushed) in state.relaxation.items()
        if i < position
    }
    arrays = ("lower", "upper", "size", "noise", "charge", "flushed")
    parts: dict[str, Any] = {name: [some(a) for a in getattr(state, name)[: position + 1]] for name in arrays}
    return Enclosures(state.problem, state.center[boxes], state.radius[boxes], relaxation=lines, **parts)


def refine_rows(state: Enclosures, position: int, chosen: Array) -> tuple[Array, Array, Array]:
    """Bounds (B, m) of the chosen elements by backward substitution, and the coefficients (B, 2m, n) that gave them."""
    m = chosen.shape[1]
    state, position, chosen = within_cone(state, position, chosen)
    source, rows, constant = unit_rows(state, position, state.problem.xp.asarray(chosen))
    bound = substitute(state, source, rows, constant=constant)
    value = concretise(state, bound)
    return value[:, :m], -value[:, m:], bound.coefficients


def _reach_settled(state: Enclosures, position: int, reach: Array) -> None:
    """A node one affine step from the box: its slopes are the weights themselves."""
    batch = state.center.shape[0]
    size = math.prod(state.problem.graph[position].shape)
    slopes = np.zeros((batch, size, len(reach)), state.problem.arithmetic.dtype)
    everything = np.broadcast_to(np.arange(size), (1, size))
    single = start(state.problem, state.center[:1], state.center[:1])
    box = (state.center[:1], state.center[:1])
    for i in range(position + 1):
        extend(single, i, box)
    source, rows, _ = unit_rows(single, position, everything)
    slopes[:] = abs(substitute(single, source, rows).coefficients[:, :size, reach])
    state.reach[position] = slopes
