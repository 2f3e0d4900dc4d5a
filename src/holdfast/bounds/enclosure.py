"""What is known about every node of a graph on a batch of boxes: ranges, rounding charges, relaxations.

The forward half of the bound engine. A node's range comes from the ranges of its inputs (interval arithmetic in
midpoint-radius form; Rump, Fast and parallel interval arithmetic, BIT 39, 1999); backward substitution
(`holdfast.bounds.backward`) may then narrow it before anything is built on it.

Rounding is charged a priori. A functional a.z, carried backwards through node z with rounded coefficients, is off by
at most |a|.charge(z); the charge contains the rounding of the substitution step itself, the uncertainty of the
parameters (radii) and, under float32 semantics, the rounding of the network's own execution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from holdfast.bounds.execution import EXACT_UNARY, FUSIBLE, LIBRARY_ABSOLUTE, LIBRARY_UNITS, or_overflow, sum_error
from holdfast.errors import InputError, InternalError
from holdfast.graph import Graph
from holdfast.operators import INPUT, OPERATORS, LinearOperator, ProductOperator, Relaxation, UnaryOperator
from holdfast.operators.lines import in_single
from holdfast.rigor import FLOAT32, Arithmetic, gamma

Array = Any
SPARSE_ENTRIES, SPARSE_SHARE = 1 << 16, 0.03


@dataclass(frozen=True)
class Plan:
    """Facts about a graph that every pass needs; computed once per graph."""

    preactivations: tuple[int, ...]  # nodes that a nonlinear operator reads
    settled: frozenset[int]  # nodes whose interval is already the exact range (one affine step from the box)
    carries: tuple[bool, ...]  # nodes that depend on the input at all
    fused: Mapping[int, int]  # linear node -> the one unary node that reads it and takes over its charge


@lru_cache(maxsize=64)
def plan(graph: Graph) -> Plan:
    """The `Plan` of a graph."""
    nonlinear = {i for node in graph.nodes if not _is_linear(node.op) for i in node.inputs}
    free: set[int] = set()
    settled: set[int] = set()
    carries: list[bool] = []
    for position, node in enumerate(graph.nodes):
        sources = node.inputs
        carries.append(node.op == INPUT or any(carries[i] for i in sources))
        if node.op == INPUT:
            free.add(position)
        elif not _is_linear(node.op):
            continue
        elif len(sources) == 1 and sources[0] in free:
            if node.op in ("reshape", "transpose", "slice", "pad", "scale"):
                free.add(position)
            else:
                settled.add(position)
        elif not sources:
            settled.add(position)
    fused = {}
    for position, node in enumerate(graph.nodes):
        readers = graph.consumers[position]
        if len(readers) == 1 and _is_linear(node.op) and position not in graph.outputs:
            reader = graph[readers[0]].op
            if reader != INPUT and isinstance(OPERATORS[reader], UnaryOperator):
                fused[position] = readers[0]
    return Plan(tuple(sorted(nonlinear)), frozenset(settled | free), tuple(carries), fused)


def _is_linear(op: str) -> bool:
    return op == INPUT or isinstance(OPERATORS[op], LinearOperator)


class OutOfTime(Exception):
    """A bound pass was given up because the time is over; nothing can be concluded from it."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A graph ready to be bounded: parameters in the arithmetic's type, radii, semantics.

    ``execution``: None for the graph over the reals, `FLOAT32` for every float32 execution of it. ``expired``: asked
    between the parts of a long pass, which then ends in `OutOfTime`.
    """

    graph: Graph
    parameters: Mapping[str, Array]
    radii: Mapping[str, Array]
    arithmetic: Arithmetic
    execution: Arithmetic | None = None
    xp: Any = np
    expired: Callable[[], bool] | None = None

    @staticmethod
    def make(
        graph: Graph,
        parameters: Mapping[str, Array],
        radii: Mapping[str, Array],
        arithmetic: Arithmetic,
        execution: Arithmetic | None = None,
        xp: Any = np,
    ) -> Problem:
        """Cast parameters to the arithmetic's type; what the cast loses is added to the radii."""
        if len(graph.inputs) != 1:
            raise InternalError(f"the bound engine takes graphs with one flat input, not {len(graph.inputs)}")
        cast, wide = {}, dict(radii)
        for key, value in parameters.items():
            cast[key] = np.asarray(value, arithmetic.dtype)
            # what compiled code would read as zero is zero from here on, and part of the radius
            denormal = (abs(cast[key]) < arithmetic.tiny) & (cast[key] != 0)
            if denormal.any():
                cast[key] = np.where(denormal, np.zeros((), arithmetic.dtype), cast[key])
            if arithmetic.rigorous and (arithmetic.dtype != "float64" or denormal.any()):
                lost = np.abs(value - cast[key].astype(np.float64))
                lost = np.where((lost > 0) & (lost < arithmetic.tiny), arithmetic.tiny, lost)
                if lost.any():
                    wide[key] = (lost + wide.get(key, 0.0)) * (1 + 1e-6)
        if not arithmetic.rigorous:
            wide = {}
        if xp is np:
            cast |= {key: _sparse(cast[key]) for n in graph.nodes if n.op == "dense" for key in n.parameters[:1]}
        move = (lambda a: a) if xp is np else xp.asarray
        narrow = {k: move(np.asarray(v * (1 + 1e-6), arithmetic.dtype)) for k, v in wide.items()}
        return Problem(graph, {k: move(v) for k, v in cast.items()}, narrow, arithmetic, execution, xp)

    def check_time(self) -> None:
        """Raise `OutOfTime` where the time is over."""
        if self.expired is not None and self.expired():
            raise OutOfTime

    def rows_of(self, key: str, chosen: Array) -> Array:
        """Columns ``chosen`` (B, m) of a dense layer's matrix, as rows (B, m, k)."""
        matrix = self.parameters[key]
        if hasattr(matrix, "indptr"):
            return matrix[:, chosen.reshape(-1)].toarray().T.reshape(*chosen.shape, -1)
        return matrix.T[chosen]

    def weights(self, position: int) -> list[Array]:
        """Parameters of a node."""
        return [self.parameters[k] for k in self.graph[position].parameters]

    def doubts(self, position: int) -> list[Array] | None:
        """Radii of a node's parameters (zeros where a parameter is exact), or None where all are exact."""
        keys = self.graph[position].parameters
        if not any(k in self.radii for k in keys):
            return None
        return [self.radii.get(k, self.xp.zeros(self.parameters[k].shape, self.arithmetic.dtype)) for k in keys]


def _sparse(matrix: Array) -> Array:
    """Large matrices that are nearly empty (lattice networks) are multiplied as such."""
    if matrix.size < SPARSE_ENTRIES or np.count_nonzero(matrix) > SPARSE_SHARE * matrix.size:
        return matrix
    from scipy.sparse import csc_array

    return csc_array(matrix)


@dataclass(eq=False)
class Enclosures:
    """State of one pass over a batch of B boxes: per node arrays of shape (B, *node.shape), filled front to back.

    ``charge[i]`` is None where nothing rounds; ``flushed[i]`` (B,) bounds what underflow costs a functional per row;
    ``relaxation[i]`` belongs to nonlinear node i (shapes (B, 1, *shape), or (B, R, *shape) with slopes per row).
    ``reach[i]`` (B, size, n): how strongly the bounds of pre-activation i depend on each input, where asked for.
    ``origin``: in a part that was cut out, node -> (node of the whole, its elements that are left).
    ``sums[i]``: how many products an execution may add up in node i, and the sum of their sizes (B, *shape), with those
    of the linear nodes before it that it may be fused with. ``cuts[i]``: what cutting out live elements of node i gave (see `holdfast.bounds.cone`).
    """

    problem: Problem
    center: Array
    radius: Array
    lower: list[Array] = field(default_factory=list)
    upper: list[Array] = field(default_factory=list)
    size: list[Array] = field(default_factory=list)
    noise: list[Array | None] = field(default_factory=list)
    charge: list[Array | None] = field(default_factory=list)
    flushed: list[Array | None] = field(default_factory=list)
    relaxation: dict[int, Any] = field(default_factory=dict)
    reach: dict[int, Array] = field(default_factory=dict)
    cuts: dict[Any, Any] = field(default_factory=dict)
    sums: dict[int, tuple[int, Array]] = field(default_factory=dict)
    origin: Mapping[int, tuple[int, Array]] | None = None


def start(problem: Problem, lower: Array, upper: Array) -> Enclosures:
    """Empty enclosures over boxes ``lower`` <= x <= ``upper``, shape (B, n)."""
    xp, u, tiny = problem.xp, problem.arithmetic.unit, problem.arithmetic.tiny
    lower, upper = (xp.asarray(a, dtype=problem.arithmetic.dtype) for a in (lower, upper))
    center = 0.5 * lower + 0.5 * upper
    spread = xp.maximum(upper - center, center - lower)
    return Enclosures(problem, center, spread * (1 + 8 * u) + (4 * tiny if problem.arithmetic.rigorous else 0.0))


def extend(state: Enclosures, position: int, box: tuple[Array, Array]) -> None:
    """Add the range and noise of node ``position`` from the ranges of its inputs."""
    problem, node = state.problem, state.problem.graph[position]
    xp, arithmetic = problem.xp, problem.arithmetic
    if node.op == INPUT:
        shape = (box[0].shape[0], *node.shape)
        _append(state, box[0].reshape(shape), box[1].reshape(shape), None)
        return
    card = OPERATORS[node.op]
    if isinstance(card, LinearOperator):
        _extend_linear(state, position, card)
        return
    lows, highs = [state.lower[i] for i in node.inputs], [state.upper[i] for i in node.inputs]
    if isinstance(card, ProductOperator):
        low, high = card.interval(xp, node, lows[0], highs[0], lows[1], highs[1], arithmetic)
    else:
        assert isinstance(card, UnaryOperator)
        low_end, high_end = card.domain(node)
        if low_end > -math.inf or high_end < math.inf:
            _check_domain(node.name or node.op, lows[0], highs[0], low_end, high_end, node.op)
        low, high = card.interval(xp, node, lows[0], highs[0], arithmetic)
    noise = None
    if problem.execution is not None and node.rounds and node.op not in EXACT_UNARY:
        e = problem.execution
        size = xp.maximum(abs(low), abs(high))
        exact = isinstance(card, ProductOperator) or node.op in ("leaky_relu", "square")
        units, absolute = (2.0, 0.0) if exact else (LIBRARY_UNITS, LIBRARY_ABSOLUTE)
        noise = size * (units * e.unit) + (absolute + 2 * e.tiny)
        noise = or_overflow(xp, noise, size + noise)
        low, high = low - noise, high + noise
    _append(state, low, high, noise)


def _check_domain(name: str, low: Array, high: Array, low_end: float, high_end: float, op: str) -> None:
    """A network that may compute log(-1) has no real value to bound."""
    if float(low.min()) < low_end or float(high.max()) > high_end:
        raise InputError(
            f"node {name}: {op} is defined on [{low_end:g}, {high_end:g}], but its input may be anywhere in "
            f"[{float(low.min()):g}, {float(high.max()):g}] on the region asked about"
        )


def _append(state: Enclosures, low: Array, high: Array, noise: Array | None) -> None:
    xp = state.problem.xp
    low, high = xp.where(low != low, -xp.inf, low), xp.where(high != high, xp.inf, high)  # NaN: nothing known
    state.lower.append(low)
    state.upper.append(high)
    state.size.append(xp.maximum(abs(low), abs(high)))
    state.noise.append(noise)
    state.charge.append(None)
    state.flushed.append(None)


def _extend_linear(state: Enclosures, position: int, card: LinearOperator) -> None:
    problem, node = state.problem, state.problem.graph[position]
    xp, a = problem.xp, problem.arithmetic
    weights, doubts = problem.weights(position), problem.doubts(position)
    lows, highs = [state.lower[i] for i in node.inputs], [state.upper[i] for i in node.inputs]
    batch = state.center.shape[0]
    terms = card.terms(node, weights)
    if card.exact and not doubts:
        _append(
            state,
            _batched(xp, card.linear(xp, node, weights, lows), batch, node.shape),
            _batched(xp, card.linear(xp, node, weights, highs), batch, node.shape),
            None,
        )
        if problem.execution is not None:
            _sum_up(state, position, card, 0, None)
        if terms > 1 and a.rigorous:  # the adjoint sums
            state.charge[position] = gamma(terms, a) * state.size[position]
            state.flushed[position] = _flush(xp, a, terms, [state.size[i] for i in node.inputs], batch)
        return
    middles = [0.5 * lo + 0.5 * hi for lo, hi in zip(lows, highs, strict=True)]
    spreads = [xp.maximum(hi - m, m - lo) * (1 + 8 * a.unit) for lo, hi, m in zip(lows, highs, middles, strict=True)]
    bias = card.bias(xp, node, weights)
    value = card.linear(xp, node, weights, middles)
    spread = card.magnitude(xp, node, weights, spreads)
    value = value if bias is None else value + bias
    if not a.rigorous and problem.execution is None:
        value, spread = (_batched(xp, v, batch, node.shape) for v in (value, spread))
        _append(state, value - spread, value + spread, None)
        return
    sizes = [state.size[i] for i in node.inputs]
    size = card.magnitude(xp, node, weights, sizes)
    size = size if bias is None else size + abs(bias)
    noise = None
    if doubts:
        own = card.bias(xp, node, doubts)
        noise = card.magnitude(xp, node, doubts, sizes)
        noise = (noise if own is None else noise + own) * (1 + 2 * gamma(terms + 2, a)) + 2 * (terms + 2) * a.tiny
    if problem.execution is not None and node.rounds:
        e = problem.execution
        count, whole = _sum_up(state, position, card, terms, bias) if node.op in FUSIBLE else (terms, size)
        state.sums[position] = count, whole
        executed = sum_error(count, e) * (whole if noise is None else whole + noise) + 2 * (count + 2) * e.tiny
        noise = executed if noise is None else noise + executed
        noise = or_overflow(xp, noise, whole + noise)
    rounding = gamma(terms + 4, a) * size + 2 * (terms + 2) * a.tiny
    total = rounding if noise is None else rounding + noise
    spread = (spread + total) * (1 + 4 * gamma(4, a))
    value, spread, total = (_batched(xp, v, batch, node.shape) for v in (value, spread, total))
    _append(state, value - spread, value + spread, noise)
    # substitution: |fl(aW) - aW||x| <= gamma |a||W||x|, fl(a.b) likewise, and the noise itself
    state.charge[position] = total + gamma(math.prod(node.shape) + 2, a) * (abs(bias) if bias is not None else 0.0)
    state.flushed[position] = _flush(xp, a, terms + math.prod(node.shape), sizes, batch)


def _sum_up(
    state: Enclosures, position: int, card: LinearOperator, terms: int, bias: Array | None
) -> tuple[int, Array]:
    """Products and their sizes of a node that an execution may compute in one sum with the linear nodes it reads."""
    problem, node = state.problem, state.problem.graph[position]
    before = [state.sums.get(i, (0, state.size[i])) for i in node.inputs]
    total = card.magnitude(problem.xp, node, problem.weights(position), [size for _, size in before])
    total = total if bias is None else total + abs(bias)
    found = terms + max((count for count, _ in before), default=0), total
    state.sums[position] = found
    return found


def _flush(xp: Any, a: Arithmetic, terms: int, sizes: Sequence[Array], batch: int) -> Array:
    """What flushed products cost one row: at most ``tiny`` each, times the size of what they multiply."""
    total = xp.zeros((batch,), dtype=a.dtype)
    for size in sizes:
        total = total + size.reshape(size.shape[0], -1).sum(1)
    return (total + 1.0) * (4.0 * terms * a.tiny)


def _batched(xp: Any, x: Array, batch: int, shape: tuple[int, ...]) -> Array:
    """Constants come without the batch axis."""
    full = (batch, *shape)
    return x if tuple(x.shape) == full else xp.broadcast_to(x, full)


def relax(state: Enclosures, position: int, slopes: Array | None = None, *, single: bool = False) -> Any:
    """The relaxation of nonlinear node ``position`` on the present ranges, axes (B, 1 or R, *shape), with its charge.

    Returns (relaxation, charge, flushed): ``charge`` covers the node and, where fused, the linear node it reads.
    ``single``: lines whose slopes are float32 numbers (what a certificate holds).
    """
    problem, node = state.problem, state.problem.graph[position]
    xp, a = problem.xp, problem.arithmetic
    card = OPERATORS[node.op]
    lows, highs = [state.lower[i][:, None] for i in node.inputs], [state.upper[i][:, None] for i in node.inputs]
    if isinstance(card, ProductOperator):
        lines: Any = card.relax(xp, node, lows[0], highs[0], lows[1], highs[1], a, slopes)
        coefficients: tuple[Array, ...] = (
            abs(lines.lower_x) + abs(lines.upper_x),
            abs(lines.lower_y) + abs(lines.upper_y),
        )
    else:
        assert isinstance(card, UnaryOperator)
        lines = card.relax(xp, node, lows[0], highs[0], a, slopes)
        if single:
            lines = in_single(xp, lines, lows[0], highs[0], a)
        coefficients = (abs(lines.lower_slope) + abs(lines.upper_slope),)
    if not a.rigorous and problem.execution is None:
        return lines, None, None
    shifts = abs(lines.lower_shift) + abs(lines.upper_shift)
    charge = gamma(math.prod(node.shape) + 8, a) * shifts
    for weight, i in zip(coefficients, node.inputs, strict=True):
        # the difference of two slopes may be flushed as well
        charge = charge + ((24 * a.unit) * weight + 8 * a.tiny) * state.size[i][:, None]
    noise = state.noise[position]
    if noise is not None:
        charge = charge + noise[:, None]
    sizes, batch = [state.size[i] for i in node.inputs], state.center.shape[0]
    flushed = _flush(xp, a, 8 + math.prod(node.shape), sizes, batch)
    (source, *others) = node.inputs
    taken_over = state.charge[source] if plan(problem.graph).fused.get(source) == position else None
    if not others and taken_over is not None:
        steepest = xp.maximum(abs(lines.lower_slope), abs(lines.upper_slope))
        charge = charge + steepest * taken_over[:, None] * (1 + 16 * a.unit)
        flushed = flushed + state.flushed[source] * (1.0 + xp.max(steepest))
        flushed = flushed + _flush(xp, a, 8, [taken_over], batch)
    return lines, charge * 1.01, flushed * 1.01


__all__ = [
    "FLOAT32",
    "Enclosures",
    "OutOfTime",
    "Plan",
    "Problem",
    "Relaxation",
    "extend",
    "plan",
    "relax",
    "start",
]
