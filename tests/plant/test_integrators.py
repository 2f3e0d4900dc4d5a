"""All integrators by one table: solutions that are known lie inside, tubes intersect, batches are their members."""

from __future__ import annotations

from fractions import Fraction

import flint
import numpy as np
import pytest
from flows import SCALAR, loop_of
from integrators import held, known, met, steps
from taylor_points import BITS, ball, random_model

from holdfast.sets.monomials import monomials
from holdfast.sets.taylor_model import TaylorModel, box

NAMES = ("taylor", "zonotope", "embedding", "linear")
LINEAR = ("growth", "tenth", "still", "clock")
FIELDS = {
    "pendulum": {"x": "y", "y": "-sin(x) - 0.1*y"},
    "van der pol": {"x": "y", "y": "(1 - x^2)*y - x"},
    "mixed": {"x": "y*cos(x) - x", "y": "-x/(1 + x^2) + tanh(y)"},
    "three": {"x": "y*z", "y": "-x*z + exp(-x)", "z": "sqrt(2 + x) - z"},
}


def _step(data, name, disturbed=False):
    return steps(data, disturbed)[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("plant", SCALAR)
def test_one_state(tmp_path, plant: str, name: str) -> None:
    text, solution, (low, high), longest = SCALAR[plant]
    if name == "linear" and plant not in LINEAR:
        assert "linear" not in steps(loop_of(tmp_path, {"x": text}))
        return
    rng = np.random.default_rng(11)
    width = (high - low) * np.array([[0.0], [1e-6], [0.02], [0.1]])
    start = low + rng.random((4, 1)) * (high - low - width)
    states = box(monomials(1, 3), start, start + width, [0])
    # the first guess must not leave the domain, and steps of second order must be short
    length = Fraction(longest / 10).limit_denominator(1000)

    def exact(point, time):
        with flint.ctx.workprec(BITS):
            return [solution(ball(point[0]), ball(time))]

    with np.errstate(all="ignore"):
        held(_step(loop_of(tmp_path, {"x": text}), name)(states, None, length), states, None, exact, rng)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 3, 6])
def test_linear_plants_with_inputs_that_are_correlated(tmp_path, n: int, name: str) -> None:
    """x' = A x + B p + c, with x, p that depend on the same variables and symbols."""
    rng = np.random.default_rng([12, n])
    A, B, c = (np.round(rng.normal(size=size), 2) for size in ((n, n), (n, 2), (n,)))
    A[rng.random((n, n)) < 0.3] = 0
    rows = {
        f"x{i}": " + ".join(
            [f"({a})*x{j}" for j, a in enumerate(A[i].tolist())] + [f"({B[i, 0]})*p", f"({B[i, 1]})*q^3", f"({c[i]})"]
        )
        for i in range(n)
    }
    data = loop_of(tmp_path, rows, parameters="{ p = [-1, 1], q = [-1, 1] }")
    basis = monomials(2, 3)
    states, rest = random_model(rng, basis, (n,), 3, 2), random_model(rng, basis, (2,), 3, 3, "exact")
    rest = TaylorModel(basis, rest.terms[: len(basis) + 2] * (0.2 / rest.spread()), rest.error)
    states = TaylorModel(basis, states.terms * (0.2 / states.spread()), states.error * (0.2 / states.spread()))
    exactly = [[Fraction(str(a)) for a in row] for row in A.tolist()]

    def exact(point, time):
        with flint.ctx.workprec(BITS):
            p, q = ball(point[n]), ball(point[n + 1])
            b = [ball(Fraction(str(u))) * p + ball(Fraction(str(v))) * q**3 + ball(Fraction(str(w))) for (u, v), w in zip(B.tolist(), c.tolist(), strict=True)]  # fmt: skip
            # one more state that is 1: x' = A x + b
            M = flint.arb_mat(n + 1, n + 1, [e for i in range(n) for e in [*(ball(a * time) for a in exactly[i]), b[i] * ball(time)]] + [flint.arb(0)] * (n + 1))  # fmt: skip
            x = M.exp() * flint.arb_mat(n + 1, 1, [*(ball(s) for s in point[:n]), flint.arb(1)])
            return [x[i, 0] for i in range(n)]

    with np.errstate(all="ignore"):
        for length in (Fraction(1, 50), Fraction(1, 7)):
            held(_step(data, name)(states, rest, length), states, rest, exact, rng, starts=5)


@pytest.mark.parametrize("length", [Fraction(1, 50), Fraction(1, 10)])
@pytest.mark.parametrize("plant", FIELDS)
def test_tubes_intersect(tmp_path, plant: str, length: Fraction) -> None:
    low = np.array([[0.3] * len(FIELDS[plant]), [-0.4] * len(FIELDS[plant])])
    states = box(monomials(low.shape[1], 3), low, low + np.array([[0.1], [0.01]]), range(low.shape[1]))
    with np.errstate(all="ignore"):
        found = {name: f(states, None, length) for name, f in steps(loop_of(tmp_path, FIELDS[plant])).items()}
        assert set(found) == {"taylor", "zonotope", "embedding"}
        for name in ("zonotope", "embedding"):
            met(found["taylor"], found[name])
            for members in (found[name][np.array([1])], found[name][np.array([False, True])]):
                assert members.sound.shape == (1,)
                known(members.at_end())
                met(found["taylor"][np.array([1])], members, 4)
                ours, whole = members.at_end().range(), found[name].at_end().range()
                assert np.allclose(ours[0], whole[0][1:]) and np.allclose(ours[1], whole[1][1:])


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_switch(tmp_path, name: str) -> None:
    """x' = y + w, y' = -x + v p with w, v anywhere in boxes at any time: piecewise constant ones, solved exactly."""
    rng = np.random.default_rng(13)
    rows = {"x": "y + w - 0.1*x", "y": "-x + 2*v + p"}
    data = loop_of(tmp_path, rows, parameters="{ p = [0, 1] }", disturbances="{ w = [-0.1, 0.3], v = [-0.2, 0.2] }")
    low = np.array([[0.5, -0.2], [0.0, 0.0]])
    states = box(monomials(2, 2), low, low + np.array([[0.1], [0.0]]), [0, 1])
    basis = states.basis
    rest = box(basis, np.tile([0.25, 0.1, 0.0], (2, 1)), np.tile([0.25, 0.1, 0.0], (2, 1)), [None] * 3)
    h = Fraction(1, 4)
    A = [[Fraction(-1, 10), Fraction(1)], [Fraction(-1), Fraction(0)]]
    with np.errstate(all="ignore"):
        found = _step(data, name, disturbed=True)(states, rest, h)
        assert found.sound.all()
        pieces = 5
        for _ in range(40):
            b = int(rng.integers(2))
            share = rng.choice([0.0, 1.0], 2)
            w = np.where(rng.random(pieces) < 0.5, -0.1, 0.3)
            v = np.where(rng.random(pieces) < 0.5, -0.2, 0.2)
            with flint.ctx.workprec(BITS):
                x = [ball(float(states.terms[0, b, i])) + ball(float(states.terms[1 + i, b, i])) * int(2 * share[i] - 1) for i in range(2)]  # fmt: skip
                for k in range(pieces):
                    t, s = h * Fraction(k, pieces), h / pieces
                    # decimals of the file are not float64 numbers: those of the box that lie inside
                    u = [Fraction(str(w[k])), 2 * Fraction(str(v[k])) + Fraction(1, 4)]
                    M = flint.arb_mat(3, 3, [ball(e * s) for i in range(2) for e in [*A[i], u[i]]] + [flint.arb(0)] * 3)
                    y = M.exp() * flint.arb_mat(3, 1, [*x, flint.arb(1)])
                    x = [y[0, 0], y[1, 0]]
                    for model in (found.at(t + s), found.between(t, t + s)):
                        known(model)
                        low_end, high_end = model.range()
                        for i in range(2):
                            assert not (x[i] < ball(float(low_end[b, i])) or x[i] > ball(float(high_end[b, i])))


@pytest.mark.parametrize("name", ["taylor", "zonotope", "embedding"])
def test_what_blows_up_is_not_sound(tmp_path, name: str) -> None:
    """x' = x^2 reaches infinity at 1 / x, and 1 / x has no box around zero."""
    states = box(monomials(1, 2), np.array([[1.0], [1.0]]), np.array([[1.5], [1.1]]), [0])
    with np.errstate(all="ignore"):
        assert not _step(loop_of(tmp_path, {"x": "x^2"}), name)(states, None, Fraction(2, 3)).sound[0]
        assert not _step(loop_of(tmp_path, {"x": "1/(x - 1.2)"}), name)(states, None, Fraction(1, 100)).sound[0]
