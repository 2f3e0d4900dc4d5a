"""The checks: every claim of the bound engine about a random network, against exact values at the worst points found.

Points come from corners, edges, centres, random points and a local search in float64; float64 evaluation only chooses
which of them are decided exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import flint
import numpy as np

from holdfast.bounds.backward import LinearBound, concretise, substitute
from holdfast.bounds.bounder import bound
from holdfast.bounds.enclosure import Enclosures, Problem, plan, relax
from holdfast.bounds.optimised import Schedule, optimise
from holdfast.bounds.propagate import propagate
from holdfast.graph import Graph, Model
from holdfast.operators import OPERATORS, LinearOperator
from holdfast.rigor import FLOAT32, FLOAT64, Arithmetic
from holdfast.search.attack import gradient
from holdfast.search.frontier import outward
from holdfast.transforms.evaluate import evaluate
from random_networks.exact import Balls, balls, outside, values
from random_networks.graphs import Sample, exact_input, random_boxes

METHODS = ("interval", "backward", "optimised")


@dataclass
class Tally:
    """What was checked, and what was found."""

    networks: int = 0
    boxes: int = 0
    samples: int = 0
    comparisons: int = 0
    violations: list[str] = field(default_factory=list)

    def check(self, value: Balls, lower: np.ndarray, upper: np.ndarray, where: str) -> None:
        """Count a violation where ``value`` leaves [lower, upper]."""
        self.comparisons += value.size
        wrong = np.flatnonzero(outside(value, lower, upper))
        if len(wrong):
            i = int(wrong[0])
            low, high = float(np.reshape(lower, -1)[i]), float(np.reshape(upper, -1)[i])
            self.violations.append(
                f"{where}: element {i} is {value.reshape(-1)[i].str(25)}, outside [{low!r}, {high!r}]"
            )


def candidates(rng: np.random.Generator, problem: Problem, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Points (P, n) of one box: corners, edges, centre, random ones, ends of sign gradient walks."""
    n = len(low)
    share = np.concatenate(
        [np.full((1, n), 0.5), rng.integers(0, 2, (12, n)), rng.random((12, n)), rng.integers(0, 3, (6, n)) / 2]
    )
    edge = rng.integers(0, 2, (6, n)).astype(float)
    edge[np.arange(6), rng.integers(0, n, 6)] = rng.random(6)
    points = _inside(np.concatenate([share, edge]), low, high)
    weights = rng.normal(size=(len(points), *problem.graph[problem.graph.outputs[0]].shape))
    walk, width = points, high - low
    for step in (1.0, 0.3, 0.1):
        nodes = evaluate(problem.graph, problem.parameters, [walk.reshape(-1, *problem.graph[0].shape)])
        slope = gradient(problem, nodes, weights)
        slope = np.nan_to_num(slope.reshape(walk.shape))
        walk = np.clip(walk + step * width * np.sign(slope), low, high)
        points = np.concatenate([points, walk])
    return np.unique(points, axis=0)


def _inside(share: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.clip(low + share * (high - low), low, high)


def worst_points(
    rng: np.random.Generator,
    state: Enclosures,
    box: int,
    points: np.ndarray,
    count: int,
    extra: Sequence[LinearBound] = (),
) -> np.ndarray:
    """The points closest to some bound in plain arithmetic, ``count`` at most."""
    graph = state.problem.graph
    stored = {k: v.astype(np.float64) for k, v in state.problem.parameters.items()}
    nodes = evaluate(graph, stored, [points.reshape(-1, *graph[0].shape)])
    score = np.zeros(len(points))
    for position, value in enumerate(nodes):
        z = np.asarray(value, np.float64)
        if z.ndim != len(graph[position].shape) + 1:
            continue  # a constant
        z = z.reshape(len(points), -1)
        for end, sign in ((state.lower, 1.0), (state.upper, -1.0)):
            edge = np.asarray(end[position], np.float64)[box].reshape(-1)
            margin = np.nan_to_num(sign * (z - edge) / (np.abs(edge) + np.abs(z) + 1e-300), nan=1.0, posinf=1.0)
            np.add.at(score, margin.argmin(0), 1.0)
            score += 4.0 * (margin < 1e-12).sum(1) / margin.shape[1]
    for line in extra:
        fall = points @ line.coefficients[box].T
        np.add.at(score, np.nan_to_num(fall).argmin(0), 1.0)
    order = np.argsort(-score + 1e-3 * rng.random(len(points)))
    return points[order[:count]]


def functionals(rng: np.random.Generator, state: Enclosures) -> tuple[int, np.ndarray]:
    """A node and random coefficients (B, R, *shape) on it: units, sparse and full."""
    graph, batch = state.problem.graph, len(state.center)
    start = graph.outputs[0] if rng.random() < 0.4 else int(rng.integers(1, len(graph)))
    size = math.prod(graph[start].shape)
    rows = rng.normal(size=(batch, 4, size)) * 10.0 ** rng.uniform(-3, 3)
    rows[:, 0] = 0.0
    rows[:, 0, rng.integers(size)] = rng.choice([-1.0, 1.0])
    rows[:, 1] *= rng.random(size) < 0.5
    rows[:, 2] = rng.integers(-2, 3, (batch, size))
    return start, rows.reshape(batch, 4, *graph[start].shape).astype(state.problem.arithmetic.dtype)


def random_relaxations(rng: np.random.Generator, state: Enclosures, start: int, rows: int) -> dict[int, object]:
    """Relaxations with random free slopes, for some nodes below ``start``."""
    chosen = {}
    for position in range(start + 1):
        card = OPERATORS.get(state.problem.graph[position].op)
        free = 0 if card is None or isinstance(card, LinearOperator) else card.slopes  # type: ignore[attr-defined]
        if free and rng.random() < 0.7:
            shape = (free, len(state.center), int(rng.choice([1, rows])), *state.problem.graph[position].shape)
            slopes = rng.random(shape) if rng.random() < 0.6 else rng.integers(0, 2, shape)
            chosen[position] = relax(state, position, slopes.astype(state.problem.arithmetic.dtype))
    return chosen


def imposed(
    rng: np.random.Generator, state: Enclosures, box: int, exact: Sequence[Balls], rows: int
) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Splits that the point with values ``exact`` satisfies, for one box, with admissible random multipliers."""
    chosen = {}
    for position in plan(state.problem.graph).preactivations:
        if rng.random() < 0.3:
            continue
        shape = state.problem.graph[position].shape
        z = exact[position].reshape(-1)
        spread = [abs(float(v.mid())) * 10.0 ** rng.uniform(-16, 0) if v.is_finite() else np.inf for v in z]
        low = np.array([_below(v, s) if rng.random() < 0.6 else -np.inf for v, s in zip(z, spread, strict=True)])
        high = np.array([-_below(-v, s) if rng.random() < 0.6 else np.inf for v, s in zip(z, spread, strict=True)])
        at_zero = rng.random(len(z)) < 0.5
        low = np.where(at_zero & np.array([v >= 0 for v in z], bool), 0.0, low)
        high = np.where(at_zero & np.array([v <= 0 for v in z], bool), 0.0, high)
        beta = rng.normal(size=(1, rows, len(z))) * 10.0 ** rng.uniform(-3, 2) * (rng.random((1, rows, len(z))) < 0.6)
        beta = np.where((beta > 0) & ~np.isfinite(low), 0.0, np.where((beta < 0) & ~np.isfinite(high), 0.0, beta))
        chosen[position] = (beta.reshape(1, rows, *shape), low.reshape(1, *shape), high.reshape(1, *shape))
    return chosen


def _below(v: flint.arb, by: float) -> float:
    """A float64 at most ``v``, about ``by`` below it."""
    if not v.is_finite() or not math.isfinite(float(v.mid())) or abs(v) > 1e290:
        return -np.inf
    x = float(np.nextafter(np.nextafter(float(v.mid()), -np.inf) - by, -np.inf))
    return x if v >= x else -np.inf


def check_lines(
    tally: Tally, state: Enclosures, box: int, start: int, rows: np.ndarray, line: LinearBound, points: np.ndarray,
    exact: Sequence[Sequence[Balls]], where: str, value: np.ndarray | None = None,
) -> None:  # fmt: skip
    """a x + c <= functional(x) at the points, and the value of the line over the box below all of them."""
    value = concretise(state, line)[box] if value is None else value[box]
    for x, nodes in zip(points, exact, strict=True):
        z, point = nodes[start].reshape(-1), exact_input(x)
        for r in range(rows.shape[1]):
            functional = (balls(rows[box, r].reshape(-1)) * z).sum()
            slopes, constant = line.coefficients[box, r], line.constant[box, r]
            at = f"{where} of node {start} ({state.problem.graph[start].op}), row {r}, x = {x.tolist()}"
            if np.isfinite(slopes).all() and np.isfinite(constant):
                below = (balls(slopes) * point).sum() + flint.arb(float(constant))
                tally.comparisons += 1
                if below > functional:
                    tally.violations.append(f"{at}: the line is {below.str(25)}, the functional {functional.str(25)}")
            if not math.isnan(value[r]):
                tally.check(np.array([functional], object), value[r : r + 1], np.array([np.inf]), at)


def check_state(
    tally: Tally, state: Enclosures, box: int, points: np.ndarray, exact: Sequence[Sequence[Balls]], where: str
) -> None:
    """Values of all nodes lie in their ranges."""
    for x, nodes in zip(points, exact, strict=True):
        for position, z in enumerate(nodes):
            node = state.problem.graph[position]
            tally.check(
                z,
                state.lower[position][box],
                state.upper[position][box],
                f"{where}: node {position} ({node.op}), x = {x.tolist()}",
            )


def inherit(state: Enclosures, narrow: bool) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Ranges of pre-activations, as the search hands them to the parts of a box."""
    known = {}
    for position in plan(state.problem.graph).preactivations:
        low, high = state.lower[position], state.upper[position]
        known[position] = outward(low, high) if narrow else (low, high)
    return {p: (np.asarray(a, np.float64), np.asarray(b, np.float64)) for p, (a, b) in known.items()}


def part_of(rng: np.random.Generator, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Random parts of boxes."""
    a, b = (np.clip(low + rng.random(low.shape) * (high - low), low, high) for _ in range(2))
    keep = rng.random(low.shape) < 0.5
    return np.where(keep, low, np.minimum(a, b)), np.where(keep, high, np.maximum(a, b))


def check_engine(
    rng: np.random.Generator,
    sample: Sample,
    tally: Tally,
    *,
    arithmetic: Arithmetic = FLOAT64,
    boxes: int = 2,
    count: int = 3,
) -> None:
    """Ranges, lines, inherited ranges, splits with multipliers, and the one-call bounds, on random boxes."""
    graph, model = sample.graph, sample.model
    n = math.prod(graph[0].shape)
    problem = Problem.make(graph, model.parameters, model.radii, arithmetic)
    plain = Problem.make(graph, model.parameters, {}, FLOAT64)
    low, high = random_boxes(rng, n, boxes)
    tally.networks += 1
    with np.errstate(all="ignore"):
        wide = propagate(problem, low, high, narrow=False)
        close = propagate(problem, low, high, reach=np.arange(n) if rng.random() < 0.3 else None)
        parts = part_of(rng, low, high)
        known = inherit(close, narrow=bool(rng.random() < 0.5))
        small = propagate(problem, *parts, known=known)
        lines = []
        for state in (close, small):
            start, rows = functionals(rng, state)
            relaxations = random_relaxations(rng, state, start, rows.shape[1]) if rng.random() < 0.6 else None
            lines.append((start, rows, substitute(state, start, rows, relaxations=relaxations)))
        for box in range(boxes):
            tally.boxes += 2
            for state, (a, b), (start, rows, line) in zip((close, small), ((low, high), parts), lines, strict=True):
                points = candidates(rng, plain, a[box], b[box])
                points = worst_points(rng, state, box, points, count, [line])
                exact = [values(graph, sample.truth, [exact_input(x)]) for x in points]
                tally.samples += len(points)
                check_state(tally, state, box, points, exact, "narrowed" if state is close else "inherited")
                if state is close:
                    check_state(tally, wide, box, points, exact, "intervals")
                check_lines(tally, state, box, start, rows, line, points, exact, "line")
                if state is close:
                    best = (
                        optimise(state, start, rows, schedule=Schedule(iterations=3))
                        if free(graph, start) and rng.random() < 0.2
                        else None
                    )
                    if best is not None:
                        check_lines(
                            tally, state, box, start, rows, best.bound, points, exact, "optimised line", best.value
                        )
                    check_split(rng, tally, problem, a[box], b[box], points[0], exact[0])
                    if arithmetic is FLOAT64:
                        check_bound(rng, tally, model, a[box], b[box], points, [e[graph.outputs[0]] for e in exact])


def check_split(
    rng: np.random.Generator,
    tally: Tally,
    problem: Problem,
    low: np.ndarray,
    high: np.ndarray,
    x: np.ndarray,
    exact: Sequence[Balls],
) -> None:
    """Everything holds at a point that satisfies imposed splits, with multipliers for them."""
    outer = propagate(problem, low[None], high[None])
    splits = imposed(rng, outer, 0, exact, 4)
    known = {position: (a, b) for position, (_, a, b) in splits.items()}
    inner = propagate(problem, low[None], high[None], known=known)
    start, rows = functionals(rng, inner)
    kind = problem.arithmetic.dtype
    multipliers = {p: (beta.astype(kind), *_cast(a, b, kind)) for p, (beta, a, b) in splits.items() if p < start}
    line = substitute(inner, start, rows, multipliers=multipliers)
    check_state(tally, inner, 0, x[None], [exact], "split")
    check_lines(tally, inner, 0, start, rows, line, x[None], [exact], "line with multipliers")
    if splits and free(problem.graph, start) and rng.random() < 0.3:
        ends = {p: _cast(a, b, kind) for p, (_, a, b) in splits.items()}
        best = optimise(inner, start, rows, splits=ends, schedule=Schedule(iterations=3))
        check_lines(
            tally, inner, 0, start, rows, best.bound, x[None], [exact], "optimised line with splits", best.value
        )


def free(graph: Graph, start: int) -> bool:
    """Whether a node depends on the input (the optimiser follows values from there)."""
    return plan(graph).carries[start]


def _cast(low: np.ndarray, high: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    return outward(low, high) if kind == "float32" else (low, high)


def check_bound(
    rng: np.random.Generator,
    tally: Tally,
    model: Model,
    low: np.ndarray,
    high: np.ndarray,
    points: np.ndarray,
    exact: Sequence[Balls],
) -> None:
    """The one-call bounds, one method (the optimised one is slow, hence rarer)."""
    for method in (rng.choice(METHODS, p=(0.3, 0.5, 0.2)),):
        found = bound(model, low, high, method=str(method))  # type: ignore[arg-type]
        for x, y in zip(points, exact, strict=True):
            tally.check(y, found.lower, found.upper, f"bound({method}), x = {x.tolist()}")


__all__ = ["FLOAT32", "FLOAT64", "Tally", "check_engine"]
