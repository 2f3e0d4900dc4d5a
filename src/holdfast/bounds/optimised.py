"""Bounds with optimised relaxations: free slopes and split multipliers are moved to raise the bound of each row.

alpha-CROWN (Xu et al., Fast and Complete, ICLR 2021) and beta-CROWN (Wang et al., NeurIPS 2021), without automatic
differentiation: the derivative of the bound with respect to a line is the value that line takes at the minimiser, and
one forward evaluation along the chosen lines gives all of them (the envelope theorem). Every iterate is a rigorous
bound, so the best one met is kept and nothing needs to converge. What it was made of is on a grid that a certificate
can hold (docs/certificates/format.md, section 6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from holdfast.bounds.backward import LinearBound, Trace, concretise, relaxation, substitute, unit_rows
from holdfast.bounds.cone import within_cone
from holdfast.bounds.enclosure import Enclosures, plan, relax
from holdfast.graph import Graph
from holdfast.operators import INPUT, OPERATORS, LinearOperator, ProductOperator, Relaxation, UnaryOperator

Array = Any
UNIT = frozenset({"relu", "leaky_relu", "abs", "product"})  # slopes are of the form q / GRID
GRID = 255.0
KINKED = {"relu": (0.0, 1.0), "abs": (-1.0, 1.0)}  # lower slope between these on an interval that crosses the kink
SMOOTH_PACE = 0.4  # positions of tangent points move more cautiously than slopes


@dataclass(frozen=True)
class Schedule:
    """Adam with decaying steps; ``slope_rate`` in units of the slope range, ``split_rate`` of typical coefficients."""

    iterations: int = 20
    slope_rate: float = 0.25
    split_rate: float = 0.25
    decay: float = 0.96


@dataclass(eq=False)
class Optimised:
    """The best bounds found: ``value`` (B, R), with the linear bound and the variables that gave it.

    ``slopes``: nonlinear node -> (B, R, *shape) or (k, B, R, *shape); ``multipliers``: node -> (B, R, *shape).
    ``chosen``: node -> the line slopes (B, R, *shape) that the coefficients chose, for lines, and the weights for products.
    ``minimiser`` (B, R, n): where the last linear bound is least; ``values``: node -> values along the chosen lines.
    """

    value: Array
    bound: LinearBound
    slopes: dict[int, Array]
    multipliers: dict[int, Array]
    chosen: dict[int, Array]
    minimiser: Array
    values: dict[int, Array] = field(default_factory=dict)
    trace: Trace = field(default_factory=Trace)
    lines: dict[int, Any] = field(default_factory=dict)


def optimise(
    state: Enclosures,
    start: int,
    coefficients: Array,
    *,
    constant: Array | float = 0.0,
    schedule: Schedule = Schedule(),
    splits: Mapping[int, tuple[Array, Array]] | None = None,
    slopes: Mapping[int, Array] | None = None,
    multipliers: Mapping[int, Array] | None = None,
    target: float = np.inf,
) -> Optimised:
    """Raise the lower bounds of the functionals ``coefficients`` (B, R, *shape) of node ``start``.

    ``splits``: node -> (low, high) (B, *shape), the ends that splitting imposed (infinite where none). ``slopes``,
    ``multipliers``: where to begin. Stops when every row exceeds ``target``.
    """
    graph = state.problem.graph
    shape = coefficients.shape[:2]
    relevant = _relevant(state, start)
    movable = [p for p in relevant if _free_slopes(graph[p].op)]
    fixed = {p: relax(state, p, single=True) for p in relevant if p not in movable}
    current = {p: _first_slopes(state, p, shape, (slopes or {}).get(p)) for p in movable}
    betas = {
        p: np.array((multipliers or {}).get(p, np.zeros((*shape, *graph[p].shape))))
        for p in (splits or {})
        if p <= start
    }
    begun = slopes is not None
    moments: dict[Any, tuple[Array, Array]] = {}
    best: Optimised | None = None
    scale: dict[int, Array] = {}
    for iteration in range(max(1, schedule.iterations)):
        state.problem.check_time()
        shown = {p: _on_grid(graph[p].op, s) for p, s in current.items()}
        lines = fixed | {p: _lines(state, p, s, begun or iteration > 0) for p, s in shown.items()}
        trace = Trace()
        weights = {p: (b, *splits[p]) for p, b in betas.items()} if splits else None
        bound = substitute(
            state, start, coefficients, constant=constant, relaxations=lines, multipliers=weights, trace=trace
        )
        value = concretise(state, bound)
        value = np.where(np.isnan(value), -np.inf, value)
        minimiser = _minimiser(state, bound)
        if best is None:
            chosen = _chosen(graph, trace, lines, shown)
            best = Optimised(value, bound, shown, dict(betas), chosen, minimiser, trace=trace, lines=lines)
        elif (better := value > best.value).any():
            _keep(graph, best, better, value, bound, shown, betas, _chosen(graph, trace, lines, shown))
        if iteration + 1 >= schedule.iterations or not (best.value <= target).any():
            best.minimiser, best.trace, best.lines = minimiser, trace, lines
            break
        values = follow(state, start, minimiser, trace, lines)
        rate = schedule.decay**iteration
        for p in movable:
            if p not in trace.at:
                continue
            step = _slope_gradient(state, p, trace.at[p], values, lines[p], shown[p])
            move = _adam(moments, ("slope", p), step, iteration)
            pace = 1.0 if graph[p].op in KINKED else SMOOTH_PACE
            current[p] = np.clip(current[p] + pace * schedule.slope_rate * rate * move, 0.0, 1.0)
        for p, beta in betas.items():
            if p not in values:
                continue
            assert splits is not None
            low, high = splits[p]
            gain = _split_gradient(low[:, None], high[:, None], values[p], beta)
            if p not in scale:
                scale[p] = _typical(graph, p, trace)
            move = _adam(moments, ("split", p), gain, iteration)
            beta = beta + schedule.split_rate * rate * scale[p] * move
            floor = np.where(np.isfinite(high), -np.inf, 0.0)[:, None]
            ceiling = np.where(np.isfinite(low), np.inf, 0.0)[:, None]
            betas[p] = np.clip(beta, floor, ceiling).astype(np.float32).astype(np.float64)
    assert best is not None
    best.values = follow(state, start, best.minimiser, best.trace, best.lines)
    return best


def _relevant(state: Enclosures, start: int) -> list[int]:
    """Nonlinear nodes that ``start`` depends on, through the variable part of the graph."""
    graph, carries = state.problem.graph, plan(state.problem.graph).carries
    variable = (p for p in _needed(state, start) if carries[p] and graph[p].op != INPUT)
    return sorted(p for p in variable if not isinstance(OPERATORS[graph[p].op], LinearOperator))


def _free_slopes(op: str) -> int:
    card = OPERATORS[op]
    return card.slopes if isinstance(card, UnaryOperator | ProductOperator) else 0


def _first_slopes(state: Enclosures, position: int, shape: tuple[int, int], given: Array | None) -> Array:
    graph = state.problem.graph
    if given is not None:
        return np.array(given, state.problem.arithmetic.dtype)
    node = graph[position]
    if node.op in KINKED:
        lines, _, _ = relaxation(state, position)
        left, right = KINKED[node.op]
        start = (lines.lower_slope - left) / (right - left)
        return np.array(np.broadcast_to(start, (*shape, *node.shape)))
    count = _free_slopes(node.op)
    if node.op == "leaky_relu":
        source = node.inputs[0]
        right = (state.upper[source] > -state.lower[source])[None, :, None].astype(state.problem.arithmetic.dtype)
        return np.array(np.broadcast_to(right, (count, *shape, *node.shape)))
    return np.full((count, *shape, *node.shape), 0.5, state.problem.arithmetic.dtype)


def _on_grid(op: str, slopes: Array) -> Array:
    return np.rint(slopes * GRID) / GRID if op in UNIT else slopes


def _lines(state: Enclosures, position: int, slopes: Array, begun: bool) -> Any:
    """Relaxation with given slopes, and its charge. For kinked functions only the lower slope moves."""
    node = state.problem.graph[position]
    if node.op not in KINKED:  # the default lines are the better ones to begin with, where they can be told
        return relax(state, position, slopes if begun or node.op in UNIT else None, single=node.op not in UNIT)
    lines, charge, flushed = relaxation(state, position)
    left, right = KINKED[node.op]
    source = node.inputs[0]
    crossing = ((state.lower[source] < 0) & (state.upper[source] > 0))[:, None]
    # any slope in [left, right] through the origin lies below the function, whatever its rounding
    slope = np.where(crossing, np.clip(left + (right - left) * slopes, left, right), lines.lower_slope)
    if charge is not None:  # that of the default slope, and what a steeper one may add (both at most 1 in size)
        extra = (48 * state.problem.arithmetic.unit) * state.size[source]
        taken_over = state.charge[source] if plan(state.problem.graph).fused.get(source) == position else None
        if taken_over is not None:
            extra = extra + taken_over * 1.02
        charge = charge + extra[:, None]
        before = state.flushed[source]
        flushed = flushed * 2.0 + (before * 2.0 if before is not None else 0.0)
    return Relaxation(slope, lines.lower_shift, lines.upper_slope, lines.upper_shift), charge, flushed


def _slope_gradient(
    state: Enclosures, position: int, weight: Array, values: Mapping[int, Array], lines: Any, slopes: Array
) -> Array:
    """d bound / d slopes: how the chosen line's value at the minimiser moves, times the coefficient it is used with."""
    node = state.problem.graph[position]
    if node.op in KINKED:
        left, right = KINKED[node.op]
        source = node.inputs[0]
        crossing = ((state.lower[source] < 0) & (state.upper[source] > 0))[:, None]
        return np.where(crossing, np.maximum(weight, 0.0) * values[source] * (right - left), 0.0)
    ahead = np.where(slopes > 0.5, -1e-3, 1e-3)
    moved, _, _ = relax(state, position, slopes + ahead)
    now = lines[0]
    if isinstance(OPERATORS[node.op], ProductOperator):
        x, y = (values[i] for i in node.inputs)
        below = (
            (moved.lower_x - now.lower_x) * x + (moved.lower_y - now.lower_y) * y + moved.lower_shift - now.lower_shift
        )
        above = (
            (moved.upper_x - now.upper_x) * x + (moved.upper_y - now.upper_y) * y + moved.upper_shift - now.upper_shift
        )
    else:
        z = values[node.inputs[0]]
        below = (moved.lower_slope - now.lower_slope) * z + moved.lower_shift - now.lower_shift
        above = (moved.upper_slope - now.upper_slope) * z + moved.upper_shift - now.upper_shift
    gains = np.stack([np.maximum(weight, 0.0) * below, np.minimum(weight, 0.0) * above][: len(slopes)])
    return np.nan_to_num(gains / ahead, posinf=0.0, neginf=0.0)


def _split_gradient(low: Array, high: Array, z: Array, beta: Array) -> Array:
    """d bound / d beta: the bound holds beta (low - z) for beta > 0 and beta (high - z) for beta < 0."""
    has_low, has_high = np.isfinite(low), np.isfinite(high)
    to_low, to_high = np.where(has_low, low, z) - z, np.where(has_high, high, z) - z
    use_low = has_low & (~has_high | (beta > 0) | ((beta == 0) & (to_low > 0)))
    return np.where(use_low, to_low, to_high)


def follow(state: Enclosures, start: int, point: Array, trace: Trace, lines: Mapping[int, Any]) -> dict[int, Array]:
    """Values (B, R, *shape) of the nodes when each nonlinear one takes the line its coefficient chose, at ``point``."""
    problem, graph = state.problem, state.problem.graph
    carries = plan(graph).carries
    values: dict[int, Array] = {}
    needed = _needed(state, start)
    for position in range(start + 1):
        node = graph[position]
        if position not in needed:
            continue
        if node.op == INPUT:
            values[position] = point.reshape(*point.shape[:2], *node.shape)
            continue
        card = OPERATORS[node.op]
        arguments = [values[i] for i in node.inputs]
        if isinstance(card, LinearOperator):
            out = card.evaluate(problem.xp, node, problem.weights(position), arguments)
            values[position] = out if carries[position] else np.broadcast_to(out, (*point.shape[:2], *node.shape))
        elif position not in trace.at:  # no coefficient reaches it
            values[position] = card.evaluate(problem.xp, node, [], arguments)
        else:
            relaxed = (lines.get(position) or relaxation(state, position))[0]
            below = trace.at[position] >= 0
            if isinstance(card, ProductOperator):
                x, y = arguments
                low = relaxed.lower_x * x + relaxed.lower_y * y + relaxed.lower_shift
                high = relaxed.upper_x * x + relaxed.upper_y * y + relaxed.upper_shift
            else:
                assert isinstance(card, UnaryOperator)
                low = relaxed.lower_slope * arguments[0] + relaxed.lower_shift
                high = relaxed.upper_slope * arguments[0] + relaxed.upper_shift
            values[position] = np.where(below, low, high)
    return values


def _needed(state: Enclosures, start: int) -> set[int]:
    graph, seen, stack = state.problem.graph, set(), [start]
    while stack:
        position = stack.pop()
        if position not in seen:
            seen.add(position)
            stack.extend(graph[position].inputs)
    return seen


def _minimiser(state: Enclosures, bound: LinearBound) -> Array:
    return state.center[:, None] - np.sign(bound.coefficients) * state.radius[:, None]


def _chosen(graph: Graph, trace: Trace, lines: Mapping[int, Any], slopes: Mapping[int, Array]) -> dict[int, Array]:
    """Which line each coefficient took: its slope, or the weight of the plane; nothing for kinked functions."""
    chosen = {}
    for p, (found, _, _) in lines.items():
        if p not in trace.at:
            continue
        below = trace.at[p] >= 0
        if graph[p].op == "product":
            chosen[p] = np.where(below, slopes[p][0], slopes[p][1])
        elif graph[p].op not in UNIT:
            chosen[p] = np.where(below, found.lower_slope, found.upper_slope).astype(np.float32)
    return chosen


def _keep(
    graph: Graph, best: Optimised, better: Array, value: Array, bound: LinearBound, slopes: dict[int, Array], betas: dict[int, Array],
    chosen: dict[int, Array],
) -> None:  # fmt: skip
    """Take over the rows that are better now."""
    best.value = np.where(better, value, best.value)
    wide = better[:, :, None]
    best.bound = LinearBound(
        np.where(wide, bound.coefficients, best.bound.coefficients),
        np.where(better, bound.constant, best.bound.constant),
        np.where(better, bound.size, best.bound.size),
    )

    def merge(new: Array, old: Array, lead: int = 0) -> Array:
        mask = better.reshape((1,) * lead + better.shape + (1,) * (new.ndim - lead - 2))
        return np.where(mask, new, old)

    best.slopes = {p: merge(new, best.slopes[p], graph[p].op not in KINKED) for p, new in slopes.items()}
    best.multipliers = {p: merge(new, best.multipliers[p]) for p, new in betas.items()}
    best.chosen = {p: merge(new, best.chosen[p]) for p, new in chosen.items()}


def _typical(graph: Any, position: int, trace: Trace) -> Array:
    """The usual size of a coefficient at the readers of a node: the natural unit of its multipliers."""
    sizes = [np.abs(trace.at[r]) for r in graph.consumers[position] if r in trace.at]
    if not sizes:
        return np.ones(1)
    total = sum(s.reshape(*s.shape[:2], -1).mean(-1) for s in sizes) + 1e-30
    return total.reshape(*total.shape, *(1,) * len(graph[position].shape))


def _adam(moments: dict, key: Any, gradient: Array, iteration: int) -> Array:
    first, second = moments.get(key, (0.0, 0.0))
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * gradient * gradient
    moments[key] = (first, second)
    unbiased = np.sqrt(second / (1 - 0.999 ** (iteration + 1)))
    return (first / (1 - 0.9 ** (iteration + 1))) / (unbiased + 1e-30)


def refine_optimised(schedule: Schedule, record: Callable[..., None] | None = None) -> Any:
    """A refinement for `propagate`: like `refine_rows`, with slopes optimised for every single bound.

    ``record`` is told (state, node, elements, the part of the network that was used, bounds).
    """

    def refine(whole: Enclosures, node: int, elements: Array) -> tuple[Array, Array, Array]:
        m = elements.shape[1]
        state, position, chosen = within_cone(whole, node, np.asarray(elements))
        source, rows, constant = unit_rows(state, position, chosen)
        best = optimise(state, source, rows, constant=constant, schedule=schedule)
        if record is not None:
            record(whole, node, elements, state, best)
        return best.value[:, :m], -best.value[:, m:], best.bound.coefficients

    return refine
