"""Disturbances that switch at any time, and linear plants, against matrix exponentials: both integrators, nothing given away."""

from __future__ import annotations

from fractions import Fraction

import flint
import numpy as np
import pytest
from flows import loop_of, problem_of
from taylor_points import BITS, ball, holds, random_model, random_point, value

from holdfast.plant import linear_flow
from holdfast.plant.deviation import Disturbance
from holdfast.plant.taylor_flow import step
from holdfast.sets.monomials import monomials
from holdfast.sets.taylor_model import TaylorModel, concatenated, constant

LOW, HIGH = (-0.25, 0.0), (0.5, 1.0)
LENGTH = Fraction(1, 4)


def _plant(tmp_path, rng, n: int):
    """x' = A x + B w + c p, its matrices with three decimals, and what the integrators need."""
    A, B, c = (np.round(rng.normal(size=shape), 3) for shape in ((n, n), (n, 2), (n,)))
    rows = {
        f"x{i}": " + ".join(f"({a!r})*{v}" for a, v in zip([*A[i].tolist(), *B[i].tolist(), float(c[i])], [*(f"x{j}" for j in range(n)), "v", "w", "p"], strict=True))
        for i in range(n)
    }  # fmt: skip
    data = loop_of(
        tmp_path, rows, parameters="{ p = [0, 1] }", disturbances=f"{{ v = [{LOW[0]}, {HIGH[0]}], w = [{LOW[1]}, {HIGH[1]}] }}"
    )  # fmt: skip
    exactly = [[Fraction(str(v)) for v in [*A[i].tolist(), *B[i].tolist(), float(c[i])]] for i in range(n)]
    return data, exactly


def _moved(rows, x, w, p, time):
    """The solution for a constant signal."""
    n = len(rows)
    with flint.ctx.workprec(BITS):
        M = flint.arb_mat(
            n + 3, n + 3, [ball(v * time) for row in [*rows, *[[Fraction(0)] * (n + 3)] * 3] for v in row]
        )
        z = M.exp() * flint.arb_mat(n + 3, 1, [*x, *(ball(v) for v in (*w, p))])
        return [z[i, 0] for i in range(n)]


@pytest.mark.parametrize("which", ["taylor", "linear"])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_signals_that_switch(tmp_path, n: int, which: str) -> None:
    rng = np.random.default_rng([1, n])
    data, rows = _plant(tmp_path, rng, n)
    problem, plant = problem_of(data), data.plant
    disturbance = Disturbance.of(plant, plant.dynamics)
    assert disturbance is not None
    basis = monomials(2, 2)
    states, p = random_model(rng, basis, (n,), 2, 2), random_model(rng, basis, (1,), 2, 3)
    nominal = np.tile(disturbance.nominal, (2, 1))
    rest = concatenated([p, constant(basis, nominal, nominal)])
    with np.errstate(all="ignore"):
        if which == "taylor":
            small = TaylorModel(basis, states.terms * (0.2 / states.spread()), states.error * (0.2 / states.spread()))
            states = small
            found = step(problem, states, rest, LENGTH, 5, disturbance)
        else:
            w = plant.disturbances
            linear = linear_flow.affine(problem, n, n + 1, w.lower, w.upper, disturbance.nominal)
            assert linear is not None
            found = linear_flow.step(linear, states, rest, LENGTH)
    assert found.sound.all()
    for trial in range(40):
        b, xi, eps = int(rng.integers(2)), random_point(rng, 2), random_point(rng, 3)
        x = [ball(value(states, (b, i), xi, eps[:2], Fraction(1))) for i in range(n)]
        parameter = value(p, (b, 0), xi, eps, Fraction(-1))
        cuts = sorted(LENGTH * Fraction(float(v)) for v in rng.random(int(rng.integers(0, 5))))
        now = Fraction(0)
        for k, end in enumerate([*cuts, LENGTH]):
            high = (k + trial) % 2, (k // 2 + trial) % 2  # both ends in turn, or anything between
            w = [(LOW, HIGH)[side][i] for i, side in enumerate(high)] if trial % 4 else rng.uniform(LOW, HIGH).tolist()
            x, before, now = _moved(rows, x, w, parameter, end - now), now, end
            with np.errstate(all="ignore"):
                models = found.at(end), found.between(before, end), found.between(end, LENGTH)
            for model in models:
                assert all(holds(model, (b, i), xi, eps[:2], v) for i, v in enumerate(x))
            for i, v in enumerate(x):
                assert not (v < ball(float(found.states[0][b, i])) or v > ball(float(found.states[1][b, i])))


def test_deviations_are_not_far_from_what_happens(tmp_path) -> None:
    """x' = -x + w: the worst disturbance is a constant one."""
    data = loop_of(tmp_path, {"x": "-x + w"}, disturbances="{ w = [-0.5, 0.5] }")
    disturbance = Disturbance.of(data.plant, data.plant.dynamics)
    assert disturbance is not None
    zero = np.zeros((1, 1))
    found = disturbance.bound((zero - 1, zero + 1), (zero, zero), Fraction(1, 10))
    assert 0.5 * (1 - np.exp(-0.1)) <= found[0, 0] <= 0.0501


@pytest.mark.parametrize("text", ["-x^2 + w", "sin(x)*w", "-abs(x) + w", "-x*w - tanh(x)"])
def test_what_is_not_linear_is_seen(tmp_path, text: str) -> None:
    data = loop_of(tmp_path, {"x": text}, disturbances="{ w = [-0.5, 0.5] }")
    w = data.plant.disturbances
    assert linear_flow.affine(problem_of(data), 1, 1, w.lower, w.upper, np.zeros(1)) is None


@pytest.mark.parametrize(("length", "order"), [(Fraction(1, 100), 3), (Fraction(3), 5), (Fraction(40), 5)])
def test_long_steps_of_linear_plants(tmp_path, length: Fraction, order: int) -> None:
    rng = np.random.default_rng([2, order])
    data = loop_of(tmp_path, {"x": "-0.3*x + 2*y", "y": "-2*x - 0.1*y + 0.7"})
    none = np.zeros(0)
    linear = linear_flow.affine(problem_of(data), 2, 2, none, none, none)
    assert linear is not None
    states = random_model(rng, monomials(2, 2), (2,), 2, 2)
    with np.errstate(all="ignore"):
        found = linear_flow.step(linear, states, None, length)
        times = [Fraction(0), length, length / 3, length / 10**9]
        models = [(t, found.at(t)) for t in times] + [(t, found.between(t / 2, t)) for t in times[1:]]
    rows = [[Fraction(v) for v in row] for row in (["-0.3", "2", "0"], ["-2", "-0.1", "0.7"])]
    for _ in range(25):
        b, xi, eps = int(rng.integers(2)), random_point(rng, 2), random_point(rng, 2)
        x = [ball(value(states, (b, i), xi, eps, Fraction(1))) for i in range(2)]
        for t, model in models:
            with flint.ctx.workprec(BITS):
                M = flint.arb_mat(3, 3, [ball(v * t) for row in [*rows, [Fraction(0)] * 3] for v in row])
                z = M.exp() * flint.arb_mat(3, 1, [*x, ball(1)])
            assert all(holds(model, (b, i), xi, eps, z[i, 0]) for i in range(2)), float(t)
