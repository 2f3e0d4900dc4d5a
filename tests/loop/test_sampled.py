"""Sampled loops: what a period may lead to holds every solution, exact ones of linear plants and simulated ones of others."""

from __future__ import annotations

import functools
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import flint
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from holdfast.bounds.bounder import flat_problem, output_bounds
from holdfast.bounds.enclosure import Problem
from holdfast.errors import InputError
from holdfast.invariance.prove import prove
from holdfast.invariance.sampled import invariant_conditions, sample_time_conditions
from holdfast.load.function import load_function
from holdfast.load.python_loop import Loop
from holdfast.loop.closed_loop import ClosedLoop, close
from holdfast.loop.sampled import SampledLoop, between_hull, sample
from holdfast.rigor import FLOAT64
from holdfast.search.budget import Budget
from holdfast.spec.plant import LoopData, Signals
from holdfast.spec.region import Box
from holdfast.spec.temporal import BoxSet, Ellipsoid
from holdfast.transforms.evaluate import evaluate

A = np.array([[0.0, 1.0], [-2.0, -0.5]])
B = np.array([0.0, 1.0])
K = np.array([[-1.0, -1.5]])
LINEAR = load_function(lambda x: jnp.asarray(K) @ x, {"x": 2}, name="gain")
TANH = load_function(lambda x: jnp.tanh(jnp.asarray(K) @ x), {"x": 2}, name="tanh")


def oscillator(**settings: Any) -> LoopData:
    def flow(x: Any, u: Any, w: Any) -> Any:
        return jnp.array([x[1], -2.0 * x[0] - 0.5 * x[1] + u[0] + w[0]])

    def quiet(x: Any, u: Any) -> Any:
        return flow(x, u, [0.0])

    given = {"states": ["x", "v"], "inputs": ["u"], "feedback": "sampled", "period": "0.25"} | settings
    return Loop(flow if "disturbances" in given else quiet, LINEAR, **given).loop


def pendulum(**settings: Any) -> LoopData:
    given = {
        "states": ["th", "om"], "inputs": ["T"], "parameters": {"k": ("0.9", "1.1")}, "disturbances": {"w": ("-0.1", "0.3")},
        "feedback": "sampled", "period": "0.1",
    }  # fmt: skip
    return Loop(
        lambda x, u, w, p: jnp.array([x[1], p[0] * jnp.sin(x[0]) + 3 * u[0] + w[0] * jnp.cos(x[0])]),
        TANH, **(given | settings),
    ).loop  # fmt: skip


def points(rng: np.random.Generator, box: Box, count: int) -> np.ndarray:
    """Inside, and at corners."""
    share = rng.random((count, len(box)))
    share[::3] = share[::3].round()
    return np.clip(box.lower + share * (box.upper - box.lower), box.lower, box.upper)


def transition(time: Fraction, x: flint.arb_mat, u: flint.arb, w: flint.arb) -> flint.arb_mat:
    """Exact solution of the oscillator with constant u and w, as balls."""
    augmented = flint.arb_mat(3, 3, [*A[0], B[0], *A[1], B[1], 0, 0, 0])
    t = flint.arb(flint.fmpq(time.numerator, time.denominator))
    y = (augmented * t).exp() * flint.arb_mat(3, 1, [x[0, 0], x[1, 0], u + w])
    return flint.arb_mat(2, 1, [y[0, 0], y[1, 0]])


def certainly_inside(exact: flint.arb_mat, low: np.ndarray, high: np.ndarray) -> bool:
    return all(bool(flint.arb(float(low[i])) <= exact[i, 0] <= flint.arb(float(high[i]))) for i in range(2))


@pytest.mark.parametrize("order", [1, 2, 3, 5, None])
def test_exact_solutions_of_a_linear_plant_lie_between(order: int | None) -> None:
    rng = np.random.default_rng(0)
    data, states = oscillator(), Box.of([-1, "-0.5"], ["0.3", 1])
    sampled = sample(data, states, order)
    for x in points(rng, states, 60):
        start = flint.arb_mat(2, 1, x.tolist())
        u = flint.arb(K[0, 0]) * start[0, 0] + flint.arb(K[0, 1]) * start[1, 0]
        for share in (Fraction(0), Fraction(1, 64), Fraction(int(rng.integers(1, 64)), 64), Fraction(1)):
            exact = transition(share / 4, start, u, flint.arb(0))
            assert certainly_inside(exact, *image(sampled, "between", x, float(share)))
        assert certainly_inside(exact, *image(sampled, "step", x))


@pytest.mark.parametrize("order", [1, 2, 4])
def test_exact_solutions_with_disturbances_that_switch_within_the_period(order: int) -> None:
    rng = np.random.default_rng(1)
    data, states = oscillator(disturbances={"w": ("-0.25", "0.75")}), Box.of([-1, "-0.5"], ["0.3", 1])
    sampled = sample(data, states, order)
    assert (sampled.hold.deviation > 0).all()
    for x in points(rng, states, 100):
        start = flint.arb_mat(2, 1, x.tolist())
        u = flint.arb(K[0, 0]) * start[0, 0] + flint.arb(K[0, 1]) * start[1, 0]
        share = Fraction(int(rng.integers(1, 65)), 64)
        cuts = sorted([Fraction(0), share, *(share * Fraction(int(c), 100) for c in rng.integers(0, 100, 2))])
        state = start
        for first, last in pairwise(cuts):
            w = [-0.25, 0.75, float(rng.uniform(-0.25, 0.75))][rng.integers(3)]
            state = transition((last - first) / 4, state, u, flint.arb(w))
        assert certainly_inside(state, *image(sampled, "between", x, float(share)))


def image(sampled: SampledLoop, which: str, x: np.ndarray, share: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of all that a state may become, with the constants of the box as they are."""
    loop = sampled.step if which == "step" else sampled.between
    low, high = np.concatenate([x, loop.others.lower]), np.concatenate([x, loop.others.upper])
    if which == "between":
        at = loop.variables.index("s/h")
        low[at] = high[at] = share
    below, above = output_bounds(problem_of(loop), low[None], high[None], "backward")
    return below[0], above[0]


@functools.lru_cache
def problem_of(loop: ClosedLoop) -> Problem:
    return flat_problem(loop.dynamics, FLOAT64)


@pytest.mark.parametrize("order", [2, 3])
def test_simulated_solutions_of_a_pendulum_lie_between(order: int) -> None:
    """Ten thousand; remainders are at least 1e-6 wide here, the integrator is good for 1e-12, and no tolerance is given."""
    rng = np.random.default_rng(2)
    data, states = pendulum(), Box.of(["-0.5", -1], [1, "0.5"])
    sampled = sample(data, states, order)
    n, loop, h = 10_000, sampled.between, 0.1
    x, k = points(rng, states, n), points(rng, data.plant.parameters, n)[:, 0]
    u = np.tanh(x @ K[0])
    share = rng.random(n) * 0.9 + 0.1
    y = x.T.copy()
    for _ in range(3):  # a disturbance that jumps twice, at other times for each
        w = points(rng, data.plant.disturbances, n)[:, 0]

        def flow(_: float, z: np.ndarray, w: np.ndarray = w) -> np.ndarray:
            th, om = z.reshape(2, n)
            return (share * h / 3 * np.stack([om, k * np.sin(th) + 3 * u + w * np.cos(th)])).ravel()

        y = solve_ivp(flow, (0, 1), y.ravel(), "DOP853", rtol=1e-13, atol=1e-14).y[:, -1].reshape(2, n)
    assert inside(sampled.hold.states, y.T) and inside(between_hull(sampled), y.T)
    # the polynomial at these points; what is left must be a remainder
    width = len(loop.variables)
    v = np.zeros((n, width))
    v[:, :2], v[:, loop.variables.index("s/h")], v[:, loop.variables.index("k")] = x, share, k
    graph = loop.dynamics.graph
    middle = evaluate(graph, loop.dynamics.parameters, [v])[graph.outputs[0]]
    rest = (y.T - middle) / share[:, None] ** sampled.hold.exponent
    assert inside(sampled.hold.between, rest)
    used = (rest.max(0) - rest.min(0)) / (sampled.hold.between.upper - sampled.hold.between.lower)
    assert (used > 0.2).all()  # the test would see remainders of a fifth of the size


def inside(box: Box, x: np.ndarray) -> bool:
    return bool(((x >= box.lower) & (x <= box.upper)).all())


def test_higher_orders_have_smaller_remainders_and_linear_plants_next_to_none() -> None:
    states = Box.of([-1, -1], [1, 1])
    sizes = [
        float(np.ptp([s.remainder.lower, s.remainder.upper]))
        for s in (sample(oscillator(), states, p) for p in (2, 4, 6, 12))
    ]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 1e-12
    chosen = sample(oscillator(), states)
    assert chosen.order > 2 and len(chosen.between.dynamics.graph) < 40


def test_a_rotation_of_a_whole_second_has_a_box() -> None:
    """A first-order box does not exist there: the period times the growth is one."""
    data = Loop(
        lambda x, u: jnp.array([x[1], -x[0] + u[0]]), LINEAR,
        states=["a", "b"], inputs=["u"], feedback="sampled", period=1,
    ).loop  # fmt: skip
    assert sample(data, Box.of([-1, -1], [1, 1])).order > 2


def test_kinks_limit_the_order() -> None:
    data = Loop(
        lambda x, u: jnp.array([x[1], -jnp.abs(x[1]) * 0.5 - x[0] + u[0]]), LINEAR,
        states=["a", "b"], inputs=["u"], feedback="sampled", period="0.125",
    ).loop  # fmt: skip
    states = Box.of([-1, -1], [1, 1])
    sampled = sample(data, states)
    assert sampled.order == 2
    with pytest.raises(InputError, match="kinks"):
        sample(data, states, 3)
    rng = np.random.default_rng(3)
    x = points(rng, states, 500)
    u = x @ K[0]
    steps = 512  # a small step: kinks cost high-order methods their order
    y, dt = x.copy(), 0.125 / 512
    for _ in range(steps):

        def flow(z: np.ndarray) -> np.ndarray:
            return np.stack([z[:, 1], -abs(z[:, 1]) * 0.5 - z[:, 0] + u], axis=1)

        a = flow(y)
        b = flow(y + dt / 2 * a)
        c = flow(y + dt / 2 * b)
        y = y + dt / 6 * (a + 2 * b + 2 * c + flow(y + dt * c))
    for start, end in zip(x[:100], y[:100], strict=True):
        low, high = image(sampled, "step", start)
        assert (low <= end).all() and (end <= high).all()


def test_sets_that_are_never_left_and_sets_that_are_kept_at_the_sample_times() -> None:
    data = oscillator()
    third = Fraction(1, 3)
    ellipsoid = Ellipsoid((Fraction(0),) * 2, ((Fraction(3), third), (third, Fraction(1))), Fraction(1, 2))
    sampled = sample(data, Box.of([-1, -1], [1, 1]))
    for conditions in (
        invariant_conditions(sampled, ellipsoid, "set"),
        sample_time_conditions(sampled, ellipsoid, "set"),
    ):
        (condition,) = conditions
        assert prove(condition, Budget(60), 1).holds
    # a box is left at its corners, whether one looks between samples or not
    box = BoxSet({0: (Fraction(-1), Fraction(1)), 1: (Fraction(-1), Fraction(1))})
    for conditions in (invariant_conditions(sampled, box, "set"), sample_time_conditions(sampled, box, "set")):
        assert not prove(conditions[0], Budget(2), 1).holds
    with pytest.raises(InputError, match=r"set: x ranges over \[-2, 2\], the remainders hold for \[-1, 1\] only"):
        invariant_conditions(sampled, BoxSet({0: (Fraction(-2), Fraction(2)), 1: (Fraction(-1), Fraction(1))}), "set")


def test_a_set_that_is_kept_at_the_sample_times_may_be_left_in_between() -> None:
    """Half a turn per period, damped: a circle comes back smaller, and is an ellipse in between."""
    data = Loop(
        lambda x, u: jnp.array([x[1], -36.0 * x[0] - x[1] + 0.125 * u[0]]), LINEAR,
        states=["a", "b"], inputs=["u"], feedback="sampled", period="0.52",
    ).loop  # fmt: skip
    circle = Ellipsoid((Fraction(0),) * 2, ((Fraction(1), Fraction(0)), (Fraction(0), Fraction(1))), Fraction(1, 4))
    sampled = sample(data, Box.of(["-0.5", "-0.5"], ["0.5", "0.5"]), 20)
    assert prove(sample_time_conditions(sampled, circle, "circle")[0], Budget(60), 1).holds
    assert not prove(invariant_conditions(sampled, circle, "circle")[0], Budget(2), 1).holds
    half = solve_ivp(lambda _, z: [z[1], -36 * z[0] - z[1] - 0.0625], (0, 0.26), [0.5, 0.0]).y[:, -1]
    assert np.linalg.norm(half) > 1


def test_the_box_in_between_is_larger_than_the_set_at_the_sample_times() -> None:
    sampled = sample(oscillator(), Box.of([-1, -1], [1, 1]))
    hull = between_hull(sampled)
    assert hull.lower[0] < -1 and hull.upper[0] > 1 and (hull.upper <= sampled.hold.states.upper).all()
    small = between_hull(sampled, Box.of([0, 0], ["0.5", "0.5"]))
    assert (small.upper < hull.upper).all() and (small.lower > hull.lower).all()
    with pytest.raises(InputError, match="exceeds"):
        between_hull(sampled, Box.of([-2, 0], [0, 0]))


def test_what_is_not_sampled_is_refused() -> None:
    states = Box.of([-1, -1], [1, 1])
    with pytest.raises(InputError, match="'continuous' is another claim"):
        sample(oscillator(feedback="continuous", period=None), states)
    data = oscillator()
    assert data.controller is not None
    with pytest.raises(InputError, match="a controller"):
        sample(replace(data, controller=None), states)
    with pytest.raises(InputError, match="pick a row"):
        sample(replace(data, controller=replace(data.controller, select="argmin")), states)
    scheduled = replace(data.plant, signals=Signals(("x", "v"), ("u",), schedule=("r",)))
    with pytest.raises(InputError, match="this one has r"):
        sample(replace(data, plant=scheduled), states)
    with pytest.raises(InputError, match="order 0"):
        sample(data, states, 0)
    jumping = Loop(
        lambda x, u: jnp.array([x[1], jnp.sign(x[0]) + u[0]]), LINEAR,
        states=["a", "b"], inputs=["u"], feedback="sampled", period=1,
    ).loop  # fmt: skip
    with pytest.raises(InputError, match="jumps"):
        sample(jumping, states)


def test_solutions_that_may_escape_have_no_box() -> None:
    data = Loop(
        lambda x, u: jnp.array([x[0] ** 2 + 0 * u[0], x[1]]), LINEAR,
        states=["a", "b"], inputs=["u"], feedback="sampled", period=1,
    ).loop  # fmt: skip
    assert sample(data, Box.of([0, 0], ["0.125", 1])).period == 1
    with pytest.raises(InputError, match="a smaller set may have one"):
        sample(data, Box.of([0, 0], [1, 1]), 4)  # x' = x^2 from 1 is infinite at the time 1


def test_a_sampled_loop_has_no_right_side_of_its_own() -> None:
    with pytest.raises(InputError, match=r"holdfast\.loop\.sampled"):
        close(oscillator())
