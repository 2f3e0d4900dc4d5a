"""Attack: random points, corners and projected gradient descent, all restarts in one batch of points.

Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018. Runs before any proof; its
finds are candidates only, until `holdfast.search.replay` confirms them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from holdfast.bounds.enclosure import Problem
from holdfast.graph import Graph
from holdfast.operators import INPUT, OPERATORS, LinearOperator, ProductOperator, UnaryOperator
from holdfast.spec.query import Query
from holdfast.transforms.evaluate import evaluate
from holdfast.verdict import Counterexample

Confirm = Callable[[int, np.ndarray], Counterexample | None]


def margins(problem: Problem, x: np.ndarray) -> np.ndarray:
    """Rows (P, R) at points (P, n), in plain arithmetic."""
    return evaluate(problem.graph, problem.parameters, [x])[problem.graph.outputs[0]]


def gradient(problem: Problem, values: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """The gradient (P, n) of sum(weights * rows), weights (P, R), at points whose node values are given (`evaluate`)."""
    graph: Graph = problem.graph
    x = values[graph.inputs[0]]
    pending: dict[int, np.ndarray] = {graph.outputs[0]: weights}
    result = np.zeros_like(x)
    for position in range(len(graph) - 1, -1, -1):
        weight = pending.pop(position, None)
        if weight is None:
            continue
        node = graph[position]
        if node.op == INPUT:
            result = weight.reshape(x.shape)
            continue
        card = OPERATORS[node.op]
        if isinstance(card, LinearOperator):
            parts = card.adjoint(np, node, problem.weights(position), weight)
        elif isinstance(card, ProductOperator):
            parts = (weight * values[node.inputs[1]], weight * values[node.inputs[0]])
        else:
            assert isinstance(card, UnaryOperator)
            parts = (weight * card.gradient(np, node, values[node.inputs[0]]),)
        for source, part in zip(node.inputs, parts, strict=True):
            pending[source] = pending[source] + part if source in pending else part
    return result


def violation(rows: np.ndarray, case: np.ndarray) -> np.ndarray:
    """How far points (P, R) are from satisfying their case (P, k) of row indices, padded with -1: <= 0 violates."""
    chosen = np.take_along_axis(rows, np.maximum(case, 0), axis=1)
    return np.where(case >= 0, chosen, -np.inf).max(1)


def pad_cases(cases: list[tuple[int, ...]]) -> np.ndarray:
    """Cases as an array of row indices, padded with -1."""
    width = max(1, *(len(c) for c in cases)) if cases else 1
    return np.array([list(c) + [-1] * (width - len(c)) for c in cases]).reshape(len(cases), width)


def attack(
    query: Query,
    problem: Problem,
    confirm: Confirm,
    rng: np.random.Generator,
    *,
    restarts: int,
    steps: int,
    expired: Callable[[], bool],
    starts: tuple[np.ndarray, np.ndarray] | None = None,
) -> Counterexample | None:
    """Look for a counterexample: ``restarts`` starting points over all cases, then ``steps`` of descent.

    ``starts``: extra (region indices (S,), points (S, n)), such as corners that bounds suggest.
    """
    pairs = [(r, case) for r, region in enumerate(query.regions) for case in region.cases]
    cases = pad_cases([case for _, case in pairs])
    pick = np.arange(max(restarts, 1)) % len(pairs)
    if len(pairs) > restarts:
        pick = np.sort(rng.choice(len(pairs), restarts, replace=False))
    regions = np.array([pairs[p][0] for p in pick])
    boxes_low = np.stack([query.regions[r].box.lower for r in regions])
    boxes_high = np.stack([query.regions[r].box.upper for r in regions])
    share = rng.random(boxes_low.shape)
    share[: len(pairs)] = 0.5
    corner = rng.random(len(pick)) < 0.3
    share[corner] = np.round(share[corner])
    x = (boxes_low + share * (boxes_high - boxes_low)).astype(problem.arithmetic.dtype)
    case = cases[pick]
    if starts is not None and len(starts[0]):
        extra = [(i, k) for i, r in enumerate(starts[0]) for k, (region, _) in enumerate(pairs) if region == r]
        extra = extra[: 4 * max(restarts, 1)]
        take, which = np.array([i for i, _ in extra]), np.array([k for _, k in extra])
        x = np.concatenate([starts[1][take], x])
        case = np.concatenate([cases[which], case])
        regions = np.concatenate([starts[0][take], regions])
        boxes_low = np.stack([query.regions[r].box.lower for r in regions])
        boxes_high = np.stack([query.regions[r].box.upper for r in regions])
    width = boxes_high - boxes_low
    points = np.arange(len(x))
    step = np.full(len(x), 0.25)
    best = np.full(len(x), np.inf)
    tried = 0
    for iteration in range(steps + 1):
        values = evaluate(problem.graph, problem.parameters, [x])
        rows = values[problem.graph.outputs[0]]
        value = violation(rows, case)
        for i in np.argsort(value)[: 8 if iteration else 32]:
            if value[i] > 0 or tried > 64:
                break
            tried += 1
            found = confirm(int(regions[i]), x[i])
            if found is not None:
                return found
        if iteration == steps or expired():
            return None
        chosen = np.where(case >= 0, np.take_along_axis(rows, np.maximum(case, 0), axis=1), -np.inf)
        worst = np.take_along_axis(case, chosen.argmax(1)[:, None], axis=1)[:, 0]
        weights = np.zeros_like(rows)
        weights[points, worst] = 1.0
        slope = gradient(problem, values, weights)
        better = value < best - 1e-12
        best = np.minimum(best, value)
        step = np.where(better, step, 0.7 * step)
        x = np.clip(x - step[:, None] * width * np.sign(slope), boxes_low, boxes_high).astype(x.dtype)
    return None
