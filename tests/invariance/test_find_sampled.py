"""Sets of sampled loops that are found: trajectories stay, proofs by contraction hold, and what cannot be is not claimed."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.integrate import solve_ivp

from holdfast.errors import InputError
from holdfast.invariance.find_sampled import find_sampled
from holdfast.invariance.held_contraction import HeldContraction, held_contraction, lowest_order
from holdfast.invariance.held_samples import Flight
from holdfast.invariance.prove import prove
from holdfast.invariance.sampled import hull_of, invariant_conditions
from holdfast.load.function import load_function
from holdfast.load.python_loop import Loop
from holdfast.loop.coordinates import in_coordinates
from holdfast.loop.sampled import sample
from holdfast.search.budget import Budget
from holdfast.spec.plant import LoopData
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


def root_of(states: Ellipsoid) -> tuple[np.ndarray, np.ndarray]:
    """Centre, and R with |R (x - centre)| <= 1 for the set."""
    P = np.array([[float(v) for v in row] for row in states.P]) / float(states.level)
    return np.array([float(c) for c in states.center]), np.linalg.cholesky(P).T


def test_a_set_is_found_that_ten_thousand_trajectories_do_not_leave() -> None:
    """At no time, and what was found is proved again from nothing."""
    data = loop(lambda x, u: jnp.array([x[1], -jnp.sin(x[0]) - 0.5 * x[1] + u[0]]), period="0.1")
    search = find_sampled(Instance("", data), timeout=10.0)
    assert search.why == "" and search.radius is not None and search.radius < 1
    best = search.sets[0]
    assert best.always and best.found.volume > 0.01
    states = best.found.states
    assert isinstance(states, Ellipsoid)
    sampled = sample(data, hull_of(states, sampled_of(data), "again"))
    assert not best.certified or all(
        prove(c, Budget(20.0), 1).holds for c in invariant_conditions(sampled, states, "again")
    )
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
def test_contraction_holds_for_exact_solutions(always: bool) -> None:
    """Solutions by a precise integrator, at random times of the period; the proof leaves room that is larger than its error."""
    data = loop()
    flight = Flight(data)
    slope = flight.slopes(np.zeros(2), [1.0])[0]
    V = np.linalg.inv(np.linalg.cholesky(scipy.linalg.solve_discrete_lyapunov((slope / 0.95).T, np.eye(2)))).T
    proved = None
    for size in 2.0 ** -np.arange(12):
        proved = held_contraction(data, ORIGIN, np.linalg.inv(size * V / abs(V).max()), always=always)
        if isinstance(proved, HeldContraction):
            break
    assert isinstance(proved, HeldContraction) and 0 < proved.rate < 1
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


def test_contraction_claims_nothing_of_sets_that_are_left() -> None:
    """x' = x^3 - x + ..., around the origin up to 1 only."""
    data = loop(lambda x, u: jnp.array([-x[0] + x[0] ** 3, -x[1]]), period="0.1")
    assert isinstance(held_contraction(data, ORIGIN, np.eye(2) / 0.4), HeldContraction)
    assert isinstance(held_contraction(data, ORIGIN, np.eye(2) / 1.05), str)
    assert isinstance(held_contraction(data, (Fraction(1), Fraction(0)), np.eye(2) / 0.1), str)


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
    short, long = (lowest_order(loop(period=h), ORIGIN, 100 * np.eye(2)) for h in ("0.01", "0.4"))
    assert 2 <= short <= long <= 7


def test_a_controller_that_jumps_is_refused() -> None:
    """Its derivative says nothing about the jump."""
    data = Loop(
        lambda x, u: jnp.array([-x[0] + u[0]]), load_function(lambda x: jnp.sign(x), {"x": 1}, name="sign"),
        states=["x"], inputs=["u"], feedback="sampled", period="0.1",
    ).loop  # fmt: skip
    with pytest.raises(InputError, match="jumps there"):
        held_contraction(data, (Fraction(0),), np.eye(1))
