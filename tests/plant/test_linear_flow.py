"""Exponentials of matrices in balls against python-flint's; which plants are affine; steps that are exact but for rounding."""

from __future__ import annotations

from fractions import Fraction

import flint
import numpy as np
import pytest
from flows import loop_of, problem_of
from integrators import met, steps
from taylor_points import BITS, ball

from holdfast.plant.embedding_flow import Embedding
from holdfast.plant.embedding_flow import step as embedding_step
from holdfast.plant.exponential import Balls, absolute_integral, exact, exponential
from holdfast.plant.linear_flow import affine
from holdfast.plant.linear_flow import step as linear_step
from holdfast.plant.taylor_flow import step as taylor_step
from holdfast.sets.monomials import monomials
from holdfast.sets.taylor_model import box


def _exact(A: np.ndarray, time: Fraction) -> flint.arb_mat:
    """exp([[A, I], [0, 0]] t): the exponential and its integral side by side."""
    n = len(A)
    rows = [[*A[i].tolist(), *np.eye(n)[i].tolist()] if i < n else [0.0] * (2 * n) for i in range(2 * n)]
    return flint.arb_mat(2 * n, 2 * n, [ball(e) * ball(time) for row in rows for e in row]).exp()


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-12, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_exponentials_of_points(n: int, scale: float) -> None:
    rng = np.random.default_rng([1, n])
    A = rng.normal(size=(3, n, n)) * scale / np.sqrt(n)
    A[rng.random(A.shape) < 0.3] = 0
    for time in (Fraction(0), Fraction(1, 10**30), Fraction(1, 3), Fraction(1), Fraction(4)):
        E, integral = exponential(exact(A), time)
        for b in range(3):
            with flint.ctx.workprec(BITS):
                M = _exact(A[b], time)
                for found, first in ((E, 0), (integral, n)):
                    for i in range(n):
                        for j in range(n):
                            away = abs(M[i, first + j] - ball(float(found.value[b, i, j])))
                            assert not away > ball(float(found.radius[b, i, j]))
            size = abs(E.value[b]).max()
            assert E.radius[b].max() < 1e-9 * size  # not much is lost


def test_exponentials_of_balls_hold_those_of_their_points() -> None:
    rng = np.random.default_rng(2)
    A = Balls(rng.normal(size=(1, 4, 4)), abs(rng.normal(size=(1, 4, 4))) * 1e-3)
    E, integral = exponential(A, Fraction(3, 2))
    for _ in range(30):
        share = rng.choice([-1.0, 1.0, 0.3], A.value.shape) * (1 - 1e-9)
        own = (A.value + A.radius * share)[0]
        with flint.ctx.workprec(BITS):
            M = _exact(own, Fraction(3, 2))
            for found, first in ((E, 0), (integral, 4)):
                for i in range(4):
                    for j in range(4):
                        away = abs(M[i, first + j] - ball(float(found.value[0, i, j])))
                        assert not away > ball(float(found.radius[0, i, j]))


def test_what_is_far_too_large_is_not_known() -> None:
    E, integral = exponential(exact(np.full((1, 2, 2), 1e200)), Fraction(1))
    assert not np.isfinite(E.radius).any() and not np.isfinite(integral.radius).any()
    assert not np.isfinite(
        absolute_integral(exact(np.full((1, 2, 2), 1e20)), exact(np.eye(2)[None]), Fraction(1), 4)
    ).any()


@pytest.mark.parametrize("time", [Fraction(1, 100), Fraction(1), Fraction(3)])
def test_integrals_of_absolute_values(time: Fraction) -> None:
    """Of exp(-2 t), and of a rotation's entries |cos t|, |sin t|."""
    found = absolute_integral(exact(np.array([[[-2.0]]])), exact(np.array([[[3.0]]])), time, 16)[0, 0, 0]
    with flint.ctx.workprec(BITS):
        decay = (1 - (-2 * ball(time)).exp()) * 3 / 2
        assert not decay > ball(float(found)) and found <= float(decay) * 1.01
        turning = absolute_integral(exact(np.array([[[0.0, -1.0], [1.0, 0.0]]])), exact(np.eye(2)[None]), time, 16)[0]
        t, right = ball(time), flint.arb.pi() / 2
        cosine = t.sin() if t < right else 2 - t.sin()
        sine = 1 - t.cos()
        for i, j, true in ((0, 0, cosine), (1, 1, cosine), (0, 1, sine), (1, 0, sine)):
            assert not true > ball(float(turning[i, j])) and turning[i, j] <= float(true) * 1.03 + 1e-4


AFFINE = {
    "2*x + 3*y - 0.1": True,
    "x*0.5*2 + y/3 + p": True,
    "p^2 + sin(q)*exp(p) - x": True,
    "(x + p)*2 + log(q + 5)": True,
    "2^3*x + (0.1 + 0.2)*y": True,
    "p*x": False,
    "x*y": False,
    "x^2": False,
    "sin(x)": False,
    "(x + p)*q": False,
    "(p - p + 1)*x": None,  # whether that is seen to be constant does not matter
    "abs(x + p)": False,
    "w*p + x": False,
    "w^2 + x": False,
    "2*w + x": True,
}


@pytest.mark.parametrize("text", AFFINE)
def test_which_plants_are_affine(tmp_path, text: str) -> None:
    data = loop_of(tmp_path, {"x": text, "y": "x"}, parameters="{ p = [0, 1], q = [0, 1] }", disturbances="{ w = [0, 1] }")  # fmt: skip
    w = data.plant.disturbances
    found = affine(problem_of(data), 2, 4, w.lower, w.upper, 0.5 * w.lower + 0.5 * w.upper)
    if AFFINE[text] is not None:
        assert (found is not None) == AFFINE[text]
    if found is not None:
        assert found.matrix.radius.max() < 1e-13 and found.matrix.value[0, 1].tolist() == [1, 0]


def test_a_long_step_is_as_good_as_many_short_ones(tmp_path) -> None:
    """Ten seconds at once, in enclosures that are exact but for rounding; the Taylor steps agree with it."""
    data = loop_of(tmp_path, {"x": "y", "y": "-2*x - 0.3*y + p"}, parameters="{ p = [0, 1] }")
    problem = problem_of(data)
    low = np.array([[1.0, -0.2]])
    basis = monomials(3, 2)
    states, rest = box(basis, low, low + 0.1, [0, 1]), box(basis, np.array([[0.2]]), np.array([[0.3]]), [2])
    plant = affine(problem, 2, 3, np.zeros(0), np.zeros(0), np.zeros(0))
    assert plant is not None
    with np.errstate(all="ignore"):
        end = linear_step(plant, states, rest, Fraction(10)).at_end()
        assert (end.error < 1e-12).all() and end.symbols == states.symbols
        x = states
        for _ in range(100):
            short, taylor = (
                linear_step(plant, x, rest, Fraction(1, 10)),
                taylor_step(problem, x, rest, Fraction(1, 10), 8),
            )
            met(short, taylor, 2)
            assert (taylor.states[0] < short.states[0]).all() and (short.states[1] < taylor.states[1]).all()
            x = short.at_end()
        for a, b in zip(x.range(), end.range(), strict=True):
            assert np.allclose(a, b, atol=1e-9)


def test_cooperative_plants_are_exact_as_boxes(tmp_path) -> None:
    """Off the diagonal all slopes are positive: the lower corner of the box flows to the lower corner, and the upper one."""
    rows = {"x": "-x + y^2", "y": "sqrt(x) - 2*y + p"}
    data = loop_of(tmp_path, rows, parameters="{ p = [0, 1] }")
    low, high = np.array([[1.0, 0.5]]), np.array([[1.4, 0.9]])
    basis = monomials(0, 0)
    h = Fraction(1, 20)

    def corner(x: np.ndarray, p: float) -> tuple[np.ndarray, np.ndarray]:
        at = box(basis, x, x, [None, None]), box(basis, np.array([[p]]), np.array([[p]]), [None])
        return steps(data)["taylor"](*at, h).at_end().range()

    with np.errstate(all="ignore"):
        states = box(basis, low, high, [None, None])
        rest = box(basis, np.array([[0.1]]), np.array([[0.2]]), [None])
        found = embedding_step(Embedding.of(data.plant.dynamics, 2), states, rest, h, order=8)
        assert found.sound.all()
        below, above = found.at_end().range()
        (a, b), (c, d) = corner(low, 0.1), corner(high, 0.2)
        assert (below <= b).all() and (above >= c).all()
        assert np.allclose(below, a, atol=1e-9) and np.allclose(above, d, atol=1e-9)
