"""Controllers that pick a row: every trajectory, computed exactly, is in a member of the tube at every sample; benchmarks."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from holdfast.errors import UnsupportedError
from holdfast.load.function import load_function
from holdfast.load.problem import load_problem
from holdfast.load.problem_controller import read_controller
from holdfast.load.problem_fields import Place
from holdfast.load.problem_plant import read_plant
from holdfast.loop import selecting
from holdfast.loop.merging import merged
from holdfast.loop.tube import Front, Segment, System
from holdfast.sets.monomials import monomials
from holdfast.sets.taylor_model import TaylorModel
from holdfast.spec.plant import LoopData
from holdfast.spec.region import Box

BENCHMARKS = os.environ.get("HOLDFAST_BENCHMARKS")
Point = list[Fraction]
RATE = 1.2  # of the switching line
INTEGRATOR = {"kind": "ode", "states": ["x", "v"], "inputs": ["u"], "derivative": {"x": "v", "v": "u"}}
MAP = {"kind": "map", "states": ["x", "v"], "inputs": ["u"], "next": {"x": "x + 0.25*v", "v": "0.5*v + u"}}


def network(*rows: Sequence[float]) -> Any:
    """y = W (x, v, 1)."""
    W = np.array(rows)
    return load_function(lambda x: jnp.asarray(W) @ jnp.append(x, 1.0), {"x": 2}, name="network")


def loop(plant: dict[str, Any], select: dict[str, Any], *networks: Any, **settings: Any) -> LoopData:
    place = Place("test")
    built, formulas = read_plant(place.at("plant"), plant)
    given = {"network_inputs": ["x", "v"], "select": select} | settings
    if plant["kind"] == "ode":
        given = {"feedback": "sampled", "period": Decimal("0.25")} | given
    given |= {"networks": list(range(len(networks)))} if len(networks) > 1 else {"network": 0}
    return LoopData(
        built, read_controller(place.at("controller"), given, formulas, plant["kind"], lambda _, i: networks[i])
    )


def regulator(by: str = "argmin", **settings: Any) -> LoopData:
    """Bang - nothing - bang about a line across both axes."""
    sign = 1.0 if by == "argmin" else -1.0
    values = network([sign, sign * RATE, 0.0], [0.0, 0.0, -sign * 0.125], [-sign, -sign * RATE, 0.0])
    return loop(INTEGRATOR, {"by": by, "rows": [{"u": 1}, {"u": 0}, {"u": -1}]}, values, **settings)


def regulated(rng: np.random.Generator, state: Point, row: int) -> tuple[Point, int]:
    """One period of it."""
    x, v = state
    s = x + Fraction(RATE) * v
    values = [s, Fraction(-1, 8), -s]
    row = int(rng.choice([i for i, y in enumerate(values) if y == min(values)]))
    u, h = Fraction(1 - row), Fraction(1, 4)
    return [x + h * v + u * h * h / 2, v + u * h], row


SWITCHED = {
    "by": "argmax", "first": 1, "rows": [
        [{"after": 0, "where": ["x < 0"], "u": "-0.25"}, {"where": ["v <= 0", "x <= 0.5"], "u": "0.5*y0"}, {"u": "0.25 - x"}],
        [{"after": 1, "u": "-0.125*v"}, {"u": "-0.25"}],
    ],
}  # fmt: skip
WEIGHTS = [[[1.0, 0.5, 0.0], [-1.0, 0.25, 0.125]], [[-0.5, 1.0, 0.25], [0.5, 0.5, 0.0]]]


def switched_loop() -> LoopData:
    return loop(MAP, SWITCHED, *(network(*w) for w in WEIGHTS))


def switched(rng: np.random.Generator, state: Point, row: int) -> tuple[Point, int]:
    """One step of the map with memory, by hand."""
    x, v = state
    y = [Fraction(a) * x + Fraction(b) * v + Fraction(c) for a, b, c in WEIGHTS[row]]
    after, row = row, int(rng.choice([i for i in range(2) if y[i] == max(y)]))
    if row == 0:
        first, second = after == 0 and x < 0, v <= 0 and x <= Fraction(1, 2)
        u = Fraction(-1, 4) if first else y[0] / 2 if second else Fraction(1, 4) - x
    else:
        u = -v / 8 if after == 1 else Fraction(-1, 4)
    return [x + v / 4, v / 2 + u], row


CASES: dict[str, tuple[Callable[[], LoopData], Any, int, Box, int]] = {
    "argmin": (regulator, regulated, 0, Box.of([0.5, -0.25], [1.0, 0.25]), 12),
    "argmax": (lambda: regulator("argmax"), regulated, 0, Box.of([0.0, -0.5], [0.5, 0.25]), 10),
    "on the line": (regulator, regulated, 0, Box.of([-0.125, 0.0], [0.125, 0.0]), 6),
    "memory": (switched_loop, switched, 1, Box.of([-0.5, -0.5], [0.5, 0.5]), 8),
}


def tube(data: LoopData, boxes: Sequence[Box], steps: int) -> tuple[list[Front], list[Segment]]:
    system = System(data, boxes[0])
    assert data.controller is not None
    horizon = Fraction(steps) * (data.controller.period or 1)
    front = system.start(boxes, horizon)
    fronts, segments = [front], []
    while front.time < horizon:
        front, parts = system.advance(front, horizon)
        fronts.append(front)
        segments += parts
    return fronts, segments


def within(front: Front, state: Point, origin: int = 0) -> bool:
    """Whether a member of that initial box holds the state."""
    low, high = front.states.range()
    return any(
        all(a <= s <= b for a, s, b in zip(low[i].tolist(), state, high[i].tolist(), strict=True))
        for i in np.flatnonzero(front.origin == origin)
    )


def points(rng: np.random.Generator, box: Box, count: int) -> list[Point]:
    """Corners, edges, the middle, inside; on binary fractions, so that ties occur."""
    share = rng.integers(0, 17, (count, len(box))) / 16
    share[: count // 4] = rng.integers(0, 2, (count // 4, len(box)))
    values = box.lower + (box.upper - box.lower) * share
    return [[Fraction(float(x)) for x in row] for row in values]


@pytest.mark.parametrize("name", CASES)
def test_every_trajectory_is_in_a_member(name: str) -> None:
    make, following, first, box, steps = CASES[name]
    fronts, _ = tube(make(), [box], steps)
    rng = np.random.default_rng(0)
    for state in points(rng, box, 150):
        row = first
        for k, front in enumerate(fronts[1:]):
            state, row = following(rng, state, row)
            assert within(front, state), f"step {k + 1}: {[float(x) for x in state]}"


def test_few_members_go_on_and_they_stay_close_to_what_happens() -> None:
    box = CASES["argmin"][3]
    fronts, _ = tube(regulator(), [box], 12)
    assert 1 < max(len(f.origin) for f in fronts) <= 2 * selecting.HALVED * selecting.LIMIT
    rng, ends = np.random.default_rng(0), []
    for state in points(rng, box, 400):
        for _ in range(12):
            state, _row = regulated(rng, state, 0)
        ends.append([float(x) for x in state])
    low, high = fronts[-1].states.range()
    assert (high.max(0) - low.min(0) < 3 * np.ptp(np.array(ends), axis=0)).all()


def test_members_belong_to_the_box_they_came_from() -> None:
    boxes = [Box.of([0.5, -0.25], [0.75, 0.0]), Box.of([-0.75, 0.0], [-0.5, 0.25])]
    fronts, segments = tube(regulator(), boxes, 6)
    rng = np.random.default_rng(1)
    for origin, box in enumerate(boxes):
        for state in points(rng, box, 40):
            for front in fronts[1:]:
                state, _ = regulated(rng, state, 0)
                assert within(front, state, origin) and not within(front, state, 1 - origin)
    assert all(len(s.origin) == len(s.states.error) for s in segments)


def test_one_row_is_always_picked() -> None:
    fronts, _ = tube(loop(MAP, {"by": "argmax", "rows": [{"u": "-x"}]}, network([1.0, 1.0, 0.0])), [Box.of([0, 0], [1, 1])], 5)  # fmt: skip
    assert [len(f.origin) for f in fronts] == [1] * 6


def test_unknown_outputs_pick_every_row() -> None:
    system = System(regulator(), Box.of([0.5, 0.0], [1.0, 0.5]))
    assert isinstance(system.control, selecting.Selector)
    front = system.start([Box.of([0.5, 0.0], [1.0, 0.5])], Fraction(1))
    fed = system._signals(front, None, np.zeros((0, 0)))
    for nothing in (np.inf, np.nan):
        blind = TaylorModel(fed.basis, fed.terms, np.full_like(fed.error, nothing))
        with np.errstate(all="ignore"):
            after, inputs = system.control.pick(front, blind)
        assert after.row is not None and after.row.tolist() == [0, 1, 2]
        assert inputs.terms[0].tolist() == [[1.0], [0.0], [-1.0]]


def test_continuous_feedback_is_refused() -> None:
    data = regulator()
    assert data.controller is not None
    continuous = replace(data, controller=replace(data.controller, feedback="continuous", period=None))
    with pytest.raises(UnsupportedError, match="with continuous feedback the right side jumps; accepted are"):
        System(continuous, Box.of([0, 0], [1, 1]))


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("rest", [0.0, 0.1])
def test_where_constraints_can_hold_is_within_the_sub_box(degree: int, rest: float) -> None:
    rng = np.random.default_rng(degree)
    basis, B, k = monomials(2, degree), 60, 2
    terms = rng.normal(size=(len(basis) + 2, B, k))
    terms[3:] *= 0.1
    terms[len(basis) :] *= rest
    terms[1, ::7] = 0.0
    model = TaylorModel(basis, terms, rest * rng.random((B, k)))
    possible, low, high = selecting._contracted(model)
    assert 0 < possible.sum() < B and (low[possible] > -1).any() and (high[possible] < 1).any()
    grid = [Fraction(i, 8) for i in range(-8, 9)]
    met = 0
    for b in range(B):
        coefficients = [[Fraction(c) for c in term] for term in terms[:, b].T.tolist()]
        most = [
            sum(map(abs, c[len(basis) :]), Fraction(e))
            for c, e in zip(coefficients, model.error[b].tolist(), strict=True)
        ]
        for xi in ((x, y) for x in grid for y in grid):
            values = [xi[0] ** i * xi[1] ** j for i, j in basis.exponents.tolist()]
            if all(
                sum((a * v for a, v in zip(c, values, strict=False)), Fraction(0)) <= m
                for c, m in zip(coefficients, most, strict=True)
            ):
                met += 1
                assert possible[b] and all(
                    a <= x <= z for a, x, z in zip(low[b].tolist(), xi, high[b].tolist(), strict=True)
                )
    assert met > 1000


@pytest.mark.parametrize("limit", [1, 3, 8])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("variables", [(0, 1, None, 2), (None, None, None, 2)])
def test_merged_members_hold_what_they_came_from(limit: int, flat: bool, variables: tuple[int | None, ...]) -> None:
    rng = np.random.default_rng(limit)
    B, n, basis = 20, 3, monomials(3, 2)
    terms = rng.normal(size=(len(basis) + 4, B, n)) * 0.1
    terms[0] += rng.normal(size=(B, n)) * 2
    if flat:
        terms[:, :, 1] = terms[:, :, 0]
        terms[1:, :, 2] = 0.0
    states = TaylorModel(basis, terms, 1e-3 * rng.random((B, n)))
    parameters = TaylorModel(basis, np.zeros((len(basis), B, 1)), np.zeros((B, 1)))
    parameters.terms[[0, 3]] = rng.random((2, B, 1))
    origin = np.arange(B) % 2
    front = Front(Fraction(0), states, parameters, origin, Fraction(1), np.zeros((B, 3)), np.zeros(B, int))
    after = merged(front, origin[:, None], limit, 0.1, variables)
    assert max(np.bincount(after.origin)) <= limit
    directions = np.concatenate([np.eye(n), rng.integers(-4, 5, (6, n))])
    for _ in range(100):
        b = int(rng.integers(B))
        x, p = _point(rng, states, parameters, b)
        assert any(_may_hold(after, i, x, p, directions) for i in np.flatnonzero(after.origin == origin[b]))


def _point(rng: np.random.Generator, states: TaylorModel, parameters: TaylorModel, b: int) -> tuple[Point, Point]:
    """A point of a member, exactly."""
    basis = states.basis
    xi = [Fraction(float(v)) for v in rng.uniform(-1, 1, basis.variables).round(int(rng.integers(0, 3)))]
    values = [
        math.prod((v**e for v, e in zip(xi, row, strict=True)), start=Fraction(1)) for row in basis.exponents.tolist()
    ]
    values += [Fraction(int(v)) for v in rng.choice([-1, 1], states.symbols)]

    def at(model: TaylorModel) -> Point:
        columns = zip(model.terms[:, b].T.tolist(), model.error[b].tolist(), strict=True)
        return [sum((Fraction(c) * v for c, v in zip(column, values, strict=False)), Fraction(0)) + int(rng.choice([-1, 1])) * Fraction(error)
                for column, error in columns]  # fmt: skip

    return at(states), at(parameters)


def _may_hold(front: Front, i: int, x: Point, p: Point, directions: np.ndarray) -> bool:
    """Whether the point is on the right side of the member's supporting planes, exactly."""
    assert front.parameters is not None
    return _supported(front.parameters, i, p, np.eye(1)) and _supported(front.states, i, x, directions)


def _supported(model: TaylorModel, i: int, x: Point, directions: np.ndarray) -> bool:
    terms = [[Fraction(c) for c in term] for term in model.terms[:, i].tolist()]
    error = [Fraction(e) for e in model.error[i].tolist()]
    for direction in directions.tolist():
        w = [Fraction(c) for c in direction]
        along = [sum((a * b for a, b in zip(w, term, strict=True)), Fraction(0)) for term in (*terms, x)]
        reach = sum(map(abs, along[1:-1]), Fraction(0)) + sum(
            (abs(a) * e for a, e in zip(w, error, strict=True)), Fraction(0)
        )
        if abs(along[-1] - along[0]) > reach:
            return False
    return True


@pytest.mark.skipif(not BENCHMARKS, reason="HOLDFAST_BENCHMARKS is not set")
@pytest.mark.parametrize(
    ("name", "instance"),
    [("vcas", "middle-19.5"), ("vcas", "middle-22.5"), ("vcas", "worst-19.5"), ("quadrotor_mpc_verisig", "polar"), ("quadrotor_mpc_verisig", "verisig-box")],
)  # fmt: skip
def test_benchmarks_that_hold(name: str, instance: str) -> None:
    problem = load_problem(Path(BENCHMARKS or "", "closedloop", name, "problem.toml"))
    chosen = next(i for i in problem.instances if i.id == instance)
    assert chosen.steps is not None and chosen.initial is not None
    fronts, segments = tube(chosen.loop, [chosen.initial], chosen.steps)
    if name == "vcas":
        for front in fronts:
            low, high = front.states.component(0).range()
            assert ((low > 100) | (high < -100)).all()
        return
    for segment in segments:
        part = (segment.end - segment.start) / 8
        for k in range(8):
            low, high = segment.between(segment.start + k * part, segment.start + (k + 1) * part).range()
            assert (low[:, :3] >= -0.32).all() and (high[:, :3] <= 0.32).all()
