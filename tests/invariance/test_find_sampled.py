"""Sets of sampled loops that are found: trajectories stay, proofs by slopes hold, and what cannot be is not claimed."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.integrate import solve_ivp

from holdfast.errors import InputError
from holdfast.invariance.ball import Ball
from holdfast.invariance.find_sampled import find_sampled
from holdfast.invariance.held_samples import Flight
from holdfast.invariance.held_slopes import HeldSlopes, held_slopes
from holdfast.invariance.prove import prove
from holdfast.invariance.sampled import held_in_ball, hull_of, invariant_conditions
from holdfast.load.function import load_function
from holdfast.load.python_loop import Loop
from holdfast.loop.coordinates import in_coordinates
from holdfast.loop.sampled import sample
from holdfast.search.budget import Budget
from holdfast.spec.plant import LoopData
from holdfast.spec.region import Box
from holdfast.spec.temporal import Ellipsoid, Instance

TANH = load_function(lambda x: jnp.tanh(jnp.array([[-1.0, -1.5]]) @ x), {"x": 2}, name="tanh")
TURNED = np.array([[1.5, 0.25], [-0.5, 2.0]])
ORIGIN = (Fraction(0), Fraction(0))


def loop(flow: Any = None, period: str = "0.25", **settings: Any) -> LoopData:
    """A pendulum that tanh of a linear feedback holds upright."""

    def pendulum(x: Any, u: Any) -> Any:
        return jnp.array([x[1], jnp.sin(x[0]) - 0.5 * x[1] + 3 * u[0]])

    given = {"states": ["x", "v"], "inputs": ["u"], "feedback": "sampled", "period": period} | settings
    return Loop(flow or pendulum, TANH, **given).loop


def ball(rng: np.random.Generator, count: int, n: int) -> np.ndarray:
    """Half of the points on the boundary of the unit ball."""
    u = rng.normal(size=(count, n))
    u /= np.linalg.norm(u, axis=1)[:, None]
    u[::2] *= rng.random((len(u[::2]), 1)) ** (1 / n)
    return u


def around(center: tuple[Fraction, ...], Y: np.ndarray) -> Ellipsoid:
    """{x : |Y (x - center)| <= 1}, exactly."""
    exact = [[Fraction(float(v)) for v in row] for row in Y]
    n = range(len(exact))
    P = tuple(tuple(sum((r[i] * r[k] for r in exact), Fraction(0)) for k in n) for i in n)
    return Ellipsoid(center, P, Fraction(1))


def root_of(states: Ellipsoid) -> tuple[np.ndarray, np.ndarray]:
    """Centre, and R with |R (x - centre)| <= 1 for the set."""
    P = np.array([[float(v) for v in row] for row in states.P]) / float(states.level)
    return np.array([float(c) for c in states.center]), np.linalg.cholesky(P).T


def test_a_set_is_found_that_ten_thousand_trajectories_do_not_leave() -> None:
    """At no time, and what was found is proved again from nothing."""
    data = loop(lambda x, u: jnp.array([x[1], -jnp.sin(x[0]) - 0.5 * x[1] + u[0]]), period="0.1")
    search = find_sampled(Instance("", data), timeout=15.0)
    assert search.why == "" and search.radius is not None and search.radius < 1
    best = search.sets[0]
    assert best.always and best.found.volume > 0.01
    states = best.found.states
    assert isinstance(states, Ellipsoid)
    sampled = sample(data, hull_of(states, sampled_of(data), "again"))
    if best.rate is None:
        assert all(prove(c, Budget(20.0), 1).holds for c in invariant_conditions(sampled, states, "again"))
    else:
        assert isinstance(held_slopes(data, states), HeldSlopes)
    center, R = root_of(states)
    flight, x = Flight(data, 16), center + np.linalg.solve(R, ball(np.random.default_rng(0), 10_000, 2).T).T
    for _ in range(6):
        met = flight.run(x, flight.middle(len(x)))
        x = met[-1]
        # the first state is the set's own boundary, reached up to rounding of this test
        assert (np.linalg.norm((met[1:] - center) @ R.T, axis=2) <= 1).all()


def sampled_of(data: LoopData) -> Any:
    """The loop with continuous feedback: sets are read with it."""
    from holdfast.invariance.plans import continuous

    return continuous(data)


@pytest.mark.parametrize("always", [True, False])
def test_slopes_hold_for_exact_solutions(always: bool) -> None:
    """Solutions by a precise integrator, at random times of the period; the proof leaves room that is larger than its error."""
    data = loop()
    flight = Flight(data)
    slope = flight.slopes(np.zeros(2), [1.0])[0]
    V = np.linalg.inv(np.linalg.cholesky(scipy.linalg.solve_discrete_lyapunov((slope / 0.95).T, np.eye(2)))).T
    proved = None
    for size in 2.0 ** -np.arange(12):
        proved = held_slopes(data, around(ORIGIN, np.linalg.inv(size * V / abs(V).max())), always=always)
        if isinstance(proved, HeldSlopes):
            break
    assert isinstance(proved, HeldSlopes) and proved.rate < 1
    center, R = root_of(proved.states)
    count, rng = 2000, np.random.default_rng(3)
    x = center + np.linalg.solve(R, ball(rng, count, 2).T).T
    u = flight.inputs(x, flight.middle(count))[:, 0]
    share = rng.uniform(0.1, 1.0, count) if always else np.ones(count)

    def move(_: float, z: np.ndarray) -> np.ndarray:
        th, om = z.reshape(2, count)
        return (0.25 * share * np.stack([om, np.sin(th) - 0.5 * om + 3 * u])).ravel()

    y = solve_ivp(move, (0, 1), x.T.ravel(), "DOP853", rtol=1e-12, atol=1e-13).y[:, -1].reshape(2, count).T
    assert (np.linalg.norm((y - center) @ R.T, axis=1) <= 1).all()


def test_slopes_claim_nothing_of_sets_that_are_left() -> None:
    """x' = x^3 - x + ..., around the origin up to 1 only."""
    data = loop(lambda x, u: jnp.array([-x[0] + x[0] ** 3, -x[1]]), period="0.1")
    assert isinstance(held_slopes(data, around(ORIGIN, np.eye(2) / 0.4)), HeldSlopes)
    assert isinstance(
        held_slopes(data, around(ORIGIN, np.eye(2) / 0.8)), HeldSlopes
    )  # no contraction: derivatives there are positive
    assert isinstance(held_slopes(data, around(ORIGIN, np.eye(2) / 1.05)), str)
    assert isinstance(held_slopes(data, around((Fraction(1), Fraction(0)), np.eye(2) / 0.1)), str)


def test_inside_of_a_set_distances_may_grow() -> None:
    """x' = x (1 - x^2): no contraction around the origin, but nothing leaves intervals that are longer than 1."""
    data = Loop(
        lambda x, u: x - x**3 + 0 * u, load_function(lambda x: jnp.tanh(x), {"x": 1}, name="tanh"),
        states=["x"], inputs=["u"], feedback="sampled", period="0.05",
    ).loop  # fmt: skip
    proved = held_slopes(data, around((Fraction(0),), np.eye(1) / 1.8))
    assert isinstance(proved, HeldSlopes) and proved.rate < 0
    assert isinstance(held_slopes(data, around((Fraction(0),), np.eye(1) / 0.9)), str)


def test_nothing_is_proved_when_the_time_is_over() -> None:
    """And nothing hangs: each step asks."""
    data = loop(period="0.1")
    assert isinstance(held_slopes(data, around(ORIGIN, 8 * np.eye(2)), largest=0), str)
    with pytest.raises(InputError, match="within the time"):
        held_slopes(data, around(ORIGIN, 8 * np.eye(2)), expired=lambda: True)
    with pytest.raises(InputError, match="within the time"):
        sample(data, Box.of([-1, -1], [1, 1]), expired=lambda: True)


def test_a_long_period_makes_the_loop_unstable() -> None:
    """Continuous feedback would be stable; what was found of the sampled loop says so."""
    search = find_sampled(Instance("", loop(period="2")), timeout=3.0)
    assert not search.sets and search.radius is not None and search.radius > 1 and "unstable" in search.why


def test_a_drifting_loop_has_no_equilibrium() -> None:
    search = find_sampled(Instance("", loop(lambda x, u: jnp.array([1.0 + x[0] * 0, x[1]]))), timeout=3.0)
    assert not search.sets and search.why == "no equilibrium was found"


def test_other_coordinates_give_the_same_solutions() -> None:
    """Up to rounding of plain arithmetic."""
    data, center = loop(), (Fraction(1, 4), Fraction(-1, 8))
    turned = in_coordinates(data, [[Fraction(v) for v in row] for row in TURNED.tolist()], center)
    x = np.random.default_rng(1).normal(size=(50, 2))
    shift = np.array([float(c) for c in center])
    here, there = Flight(data), Flight(turned)
    met = here.run(x, here.middle(50))
    other = there.run((x - shift) @ TURNED.T, there.middle(50))
    np.testing.assert_allclose((met - shift) @ TURNED.T, other, rtol=1e-11, atol=1e-11)
    with pytest.raises(InputError, match="no inverse"):
        in_coordinates(data, [[Fraction(1), Fraction(1)], [Fraction(1), Fraction(1)]], center)


def test_the_order_is_as_low_as_remainders_allow() -> None:
    """A longer period needs a higher one."""
    orders = []
    for period in ("0.01", "0.4"):
        done = held_slopes(loop(lambda x, u: -x + 0 * u[0], period=period), around(ORIGIN, 100 * np.eye(2)))
        assert isinstance(done, HeldSlopes)
        orders.append(done.order)
    assert 2 <= orders[0] < orders[1] <= 8


def test_a_controller_that_jumps_is_refused() -> None:
    """Its derivative says nothing about the jump."""
    data = Loop(
        lambda x, u: jnp.array([-x[0] + u[0]]), load_function(lambda x: jnp.sign(x), {"x": 1}, name="sign"),
        states=["x"], inputs=["u"], feedback="sampled", period="0.1",
    ).loop  # fmt: skip
    with pytest.raises(InputError, match="jumps there"):
        held_slopes(data, around((Fraction(0),), np.eye(1)))


def test_coordinates_of_a_skewed_ellipsoid_bring_it_near_to_a_ball() -> None:
    """Branch and bound there proves what is kept, and nothing else."""
    P = ((Fraction(40), Fraction(18)), (Fraction(18), Fraction(9)))
    states = Ellipsoid((Fraction(1, 10), Fraction(0)), P, Fraction(2))
    turned = Ball.of(loop(), states)
    Y = np.array([[float(v) for v in row] for row in turned.rows])
    np.testing.assert_allclose(Y.T @ Y, np.array(P, float) / 2, rtol=1e-12)
    assert all(1 <= v <= 1 + 1e-12 for v in turned.reach)
    decaying = loop(lambda x, u: -x + 0 * u[0], period="0.2")
    for sign, kept in ((1, True), (-1, False)):
        ball_ = Ball.of(loop(lambda x, u, s=sign: -s * x + 0 * u[0], period="0.2"), around(ORIGIN, 3 * TURNED))
        conditions = held_in_ball(ball_, "a set")[1]
        assert all(prove(c, Budget(20.0), 1, stop=lambda r, x: True).holds for c in conditions) is kept
    assert isinstance(held_slopes(decaying, around(ORIGIN, 3 * TURNED)), HeldSlopes)
