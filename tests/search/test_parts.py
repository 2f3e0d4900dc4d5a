"""The parts of the search: clipping loses no point, the frontier no box, workers no result; gradients are gradients."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_networks.graphs import random_boxes, random_sample
from tiny import Tiny, as_property, tiny_network

from holdfast.bounds.bounder import flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.graph import Node
from holdfast.operators import GraphBuilder
from holdfast.rigor import FLOAT64
from holdfast.search.attack import gradient
from holdfast.search.clipping import clip
from holdfast.search.frontier import Boxes, Frontier, outward
from holdfast.search.replay import Replay
from holdfast.search.workers import Workers
from holdfast.spec.query import bind
from holdfast.transforms.evaluate import evaluate


def _exact(a: np.ndarray, c: float, x: np.ndarray) -> Fraction:
    return sum((Fraction(float(p)) * Fraction(float(q)) for p, q in zip(a, x, strict=True)), Fraction(float(c)))


@pytest.mark.parametrize("scale", ["usual", "wild", "cancelling", "dyadic"])
def test_clipping_loses_no_point(scale: str) -> None:
    rng = np.random.default_rng(len(scale))
    kept = emptied = 0
    for _ in range(60):
        n = int(rng.integers(1, 5))
        low, high = random_boxes(rng, n, 4)
        a, x = rng.normal(size=(4, n)), low + rng.random((4, n)) * (high - low)
        x = np.clip(np.where(rng.random((4, n)) < 0.4, np.where(rng.random((4, n)) < 0.5, low, high), x), low, high)
        if scale == "wild":
            a = a * 10.0 ** rng.uniform(-160, 100, (4, n))
        if scale == "dyadic":
            a, low, high, x = np.round(a * 4) / 4, np.round(low * 4) / 4, np.round(high * 4) / 4, np.round(x * 4) / 4
            low, high = np.minimum(low, x), np.maximum(high, x)
        c = -(a * x).sum(1)  # the points lie on the boundary up to rounding
        if scale == "cancelling":
            c = c + rng.normal(size=4) * 1e-13
        new_low, new_high = clip(a, c, low, high)
        corners = np.where(a > 0, low, high)
        for i in range(4):
            assert (new_low[i] >= low[i]).all() and (new_high[i] <= high[i]).all()
            for point in (x[i], corners[i], 0.5 * x[i] + 0.5 * corners[i]):
                if _exact(a[i], c[i], point) <= 0:
                    kept += 1
                    assert (new_low[i] <= point).all() and (point <= new_high[i]).all(), (a[i], c[i], point)
            if (new_low[i] > new_high[i]).any():
                emptied += 1
                assert _exact(a[i], c[i], corners[i]) > 0
    assert kept > 100


def test_clipping_cuts() -> None:
    low, high = clip(np.array([[1.0, 1.0]]), np.array([-1.0]), np.zeros((1, 2)), np.array([[3.0, 0.5]]))
    assert (low == 0).all() and 1.0 <= high[0, 0] < 1.0 + 1e-12 and high[0, 1] == 0.5
    low, high = clip(np.array([[1.0]]), np.array([1.0]), np.zeros((1, 1)), np.ones((1, 1)))
    assert (low > high).all()


def test_outward_encloses() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(size=500) * 10.0 ** rng.uniform(-60, 60, 500), [0.0, 1e300, -1e300, np.inf, -np.inf, 5e-324, -5e-324, 3.5e38]])  # fmt: skip
    low, high = outward(values, values)
    assert low.dtype == high.dtype == np.float32
    assert (low.astype(np.float64) <= values).all() and (high.astype(np.float64) >= values).all()
    near = np.abs(values) < 1e30
    assert (high[near].astype(np.float64) - low[near] <= np.abs(values[near]) * 2.0**-22 + 1e-44).all()


def _boxes(rng: np.random.Generator, count: int, first: int) -> Boxes:
    tags = np.arange(first, first + count, dtype=float)
    return Boxes(
        tags[:, None] + np.zeros((1, 2)), tags[:, None] + np.ones((1, 2)), tags.astype(int), np.ones((count, 3), bool),
        rng.normal(size=count), np.zeros((count, 1), np.float32), np.ones((count, 1), np.float32), tags.astype(int),
    )  # fmt: skip


@pytest.mark.parametrize("wide", [5, 100, 10_000])
def test_the_frontier_is_a_bag(wide: int) -> None:
    """Random pushes and pops: what comes out is what went in, and the worst bound is known."""
    rng = np.random.default_rng(wide)
    frontier, inside, first = Frontier(_boxes(rng, 3, 0), wide=wide), {}, 3
    start = frontier.pop(3)
    assert len(frontier) == 0 and frontier.bound == np.inf and len(start) == 3
    for _ in range(300):
        if rng.random() < 0.55:
            pushed = _boxes(rng, int(rng.integers(0, 40)), first)
            first += len(pushed)
            frontier.push(pushed)
            inside.update(zip(pushed.region.tolist(), pushed.bound.tolist(), strict=True))
        else:
            count = int(rng.integers(1, 50))
            few = len(inside) <= wide
            worst = sorted(inside.values())[: min(count, len(inside))]
            popped = frontier.pop(count)
            assert len(popped) == len(worst)
            for tag, value, low in zip(popped.region.tolist(), popped.bound.tolist(), popped.low, strict=True):
                assert inside.pop(tag) == value and (low == tag).all()
            if few:
                assert sorted(popped.bound.tolist()) == worst
        assert len(frontier) == len(inside) and frontier.bound == min(inside.values(), default=np.inf)


def _square(x: int) -> int:
    if x < 0:
        raise ValueError("negative")
    return x * x


@pytest.mark.parametrize("count", [1, 2, 3])
def test_workers_keep_the_order(count: int) -> None:
    team = Workers(_square, count)
    try:
        for first in range(5):
            arguments = list(range(first, first + team.count))
            assert team.map(arguments) == [x * x for x in arguments]
            assert team.map(arguments[:1]) == [first * first]
        with pytest.raises(ValueError, match="negative"):
            team.map([*range(team.count - 1), -1])
    finally:
        team.close()
    assert all(not process.is_alive() for process in team._processes)


def _replay(tiny: Tiny, low: list, high: list) -> Replay:
    none = Fraction(0)
    from regions import Row

    row = Row((Fraction(1), *(none,) * (tiny.outputs - 1)), (none,) * tiny.inputs, Fraction(-1000), False)
    prop = as_property(tiny, tuple(low), tuple(high), [[row]])
    query = bind(prop, tiny.model)
    return Replay(query, Problem.make(query.graph, query.parameters, query.radii, FLOAT64))


def test_replay_rounds_into_the_region(tmp_path: Path) -> None:
    """0.1 is no float32: the witness is the next one inside; a degenerate decimal is kept as text and must be proved."""
    tiny = tiny_network(np.random.default_rng(1), tmp_path)
    tenth = Fraction(1, 10)
    found = _replay(tiny, [tenth] * tiny.inputs, [tenth + 1] * tiny.inputs).confirm(0, np.full(tiny.inputs, 0.1))
    assert found is not None and not found.decimals
    (x,) = found.inputs.values()
    assert x.dtype == np.float32 and all(Fraction(float(v)) >= tenth for v in x.reshape(-1))
    found = _replay(tiny, [tenth] * tiny.inputs, [tenth] * tiny.inputs).confirm(0, np.full(tiny.inputs, 0.1))
    assert found is not None and found.proved
    assert {Fraction(t) for texts in found.decimals.values() for t in texts.values()} == {tenth}


def test_replay_counts_thin_cases(tmp_path: Path) -> None:
    """A point that violates in plain float64 but not as run is no counterexample."""
    from regions import Row, forward

    thin = 0
    for index in range(30):
        tiny = tiny_network(np.random.default_rng([5, index]), tmp_path, real=True)
        x = np.random.default_rng(index).normal(size=tiny.inputs).astype(np.float32)
        exact = forward(tiny.layers, tuple(Fraction(float(v)) for v in x))
        row = Row((Fraction(1), *(Fraction(0),) * (tiny.outputs - 1)), (Fraction(0),) * tiny.inputs, -exact[0], False)
        point = tuple(Fraction(float(v)) for v in x)
        query = bind(as_property(tiny, point, point, [[row]]), tiny.model)
        replay = Replay(query, Problem.make(query.graph, query.parameters, query.radii, FLOAT64))
        found = replay.confirm(0, x.astype(np.float64))
        replayed = None if found is None else next(iter(found.outputs.values())).reshape(-1)
        assert found is None or Fraction(float(replayed[0])) <= exact[0]
        assert (found is None) == (replay.thin == 1)
        thin += replay.thin
    assert 0 < thin < 30


def test_attack_gradients_agree_with_automatic_differentiation() -> None:
    for index in range(3):
        rng = np.random.default_rng([21, index])
        model = random_sample(rng, mild=True).model
        if any(node.op == "heaviside" for node in model.graph.nodes):
            continue
        problem = flat_problem(model, FLOAT64)
        n = problem.graph[problem.graph.inputs[0]].shape[0]
        rows = problem.graph[problem.graph.outputs[0]].shape[0]
        x, weights = rng.normal(size=(3, n)), rng.normal(size=(3, rows))
        values = evaluate(problem.graph, problem.parameters, [x])
        ours = gradient(problem, values, weights)

        def total(x: jax.Array, problem: Problem = problem, weights: np.ndarray = weights) -> jax.Array:
            return (weights * evaluate(problem.graph, problem.parameters, [x], jnp)[problem.graph.outputs[0]]).sum()

        theirs = np.asarray(jax.grad(total)(jnp.asarray(x)))
        finite = np.isfinite(theirs) & np.isfinite(ours) & (np.abs(theirs) < 1e100)
        away = np.ones(3, bool)  # at a kink both are right
        for node in problem.graph.nodes:
            away &= _away_from_kinks(node, values, 1e-9)
        np.testing.assert_allclose(ours[away][finite[away]], theirs[away][finite[away]], rtol=1e-6, atol=1e-9)


def _away_from_kinks(node: Node, values: list[np.ndarray], distance: float) -> np.ndarray:
    if node.op not in ("relu", "abs", "leaky_relu", "clip", "sqrt", "heaviside"):
        return np.ones(3, bool)
    z = np.broadcast_to(values[node.inputs[0]], (3, *node.shape)).reshape(3, -1)
    kinks = np.array([0.0, *(v for k, v in node.attributes if k in ("low", "high"))])
    return np.asarray((np.abs(z[:, :, None] - kinks) > distance).all((1, 2)))


def test_attack_gradients_agree_with_differences() -> None:
    compared = 0
    for index in range(60):
        rng = np.random.default_rng([22, index])
        problem = flat_problem(random_sample(rng, mild=True).model, FLOAT64)
        output = problem.graph.outputs[0]
        n, rows = problem.graph[problem.graph.inputs[0]].shape[0], problem.graph[output].shape[0]
        x, weights, step = rng.normal(size=(3, n)), rng.normal(size=(3, rows)), 1e-6
        with np.errstate(all="ignore"):
            values = evaluate(problem.graph, problem.parameters, [x])
            ours = gradient(problem, values, weights)
            sides = [
                [evaluate(problem.graph, problem.parameters, [x + s * step * unit]) for s in (1, -1)]
                for unit in np.eye(n)
            ]
        away = np.ones(3, bool)
        for node in problem.graph.nodes:
            for side in sides:  # no kink between or close to the two points
                away &= _away_from_kinks(node, side[0], 1e-3) & _away_from_kinks(node, side[1], 1e-3)
                if node.op in ("relu", "abs", "leaky_relu", "clip", "heaviside"):
                    i = node.inputs[0]
                    same = np.sign(side[0][i]) == np.sign(side[1][i])
                    away &= np.broadcast_to(same, (3, *node.shape)).reshape(3, -1).all(1)
        theirs = np.stack([((weights * (a[output] - b[output])).sum(1)) / (2 * step) for a, b in sides], 1)
        size = np.abs(values[output]).max() + np.abs(ours).max()
        if not np.isfinite(size) or size > 1e3:
            continue
        compared += int(away.sum())
        np.testing.assert_allclose(ours[away], theirs[away], rtol=1e-3, atol=1e-5 * (1 + size))
    assert compared > 30


def test_gradient_by_hand() -> None:
    b = GraphBuilder()
    x = b.input((2,))
    h = b.add("relu", [b.add("dense", [x], [np.array([[1.0, -1.0], [2.0, 0.0]]), np.zeros(2)])])
    graph, parameters = b.build([b.add("product", [h, b.add("gather", [x], axis=0, indices=(1, 1))])])
    problem = Problem.make(graph, parameters, {}, FLOAT64)
    point = np.array([[1.0, 3.0]])
    values = evaluate(graph, problem.parameters, [point])
    assert values[graph.outputs[0]].tolist() == [[21.0, 0.0]]
    assert gradient(problem, values, np.ones((1, 2))).tolist() == [[3.0, 13.0]]
