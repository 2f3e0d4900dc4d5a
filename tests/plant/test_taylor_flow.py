"""Validated steps against exact solutions: at times and over spans, from corners, edges and inside; nothing is given away."""

from __future__ import annotations

from fractions import Fraction

import flint
import numpy as np
import pytest
from flows import ANTIDERIVATIVES, SCALAR, integrated, linear, loop_of, problem_of
from taylor_points import BITS, ball, holds, polynomial, random_model, random_point, room, value

from holdfast.plant.taylor_flow import step
from holdfast.sets.monomials import monomials
from holdfast.sets.taylor_model import TaylorModel, box

TIMES = 10
STARTS = 20


def _times(rng, length):
    """Random times within a step, its ends, and very early ones."""
    shares = [
        Fraction(0),
        Fraction(1),
        Fraction(1, 2),
        Fraction(1, 10**30),
        *(Fraction(float(v)) for v in rng.random(TIMES)),
    ]
    return [s * length for s in shares]


def _checked(found, states, exact, rng, rest=None, starts=STARTS, allowance=Fraction(0)) -> None:
    """``exact``: start, time -> state (balls); members of the batch and points of ``states`` at random."""
    assert found.sound.all()
    length, n = found.length, states.shape[0]
    times = _times(rng, length)
    at_times = [found.at(t) for t in times]
    spans = [tuple(sorted(Fraction(float(v)) * length for v in rng.random(2))) for _ in range(TIMES // 2)]
    spans += [(Fraction(0), length), (Fraction(0), length / 7), (length / 3, length / 3 + length / 10**6)]
    between = [found.between(*span) for span in spans]
    known = states.symbols
    for _ in range(starts):
        b = int(rng.integers(len(states.error)))
        xi, eps = random_point(rng, states.basis.variables), random_point(rng, known)
        shares = [Fraction(int(s)) for s in rng.choice([-1, 1], n)]
        start = [value(states, (b, i), xi, eps, s) for i, s in enumerate(shares)]
        parameters = [] if rest is None else [value(rest, (b, i), xi, eps, Fraction(1)) for i in range(rest.shape[0])]
        for t, model in zip(times, at_times, strict=True):
            for i, x in enumerate(exact([*start, *parameters], t)):
                assert _near(model, (b, i), xi, eps, x, allowance), (b, float(t), i)
                assert not (x < ball(float(found.states[0][b, i])) or x > ball(float(found.states[1][b, i])))
        for (first, last), model in zip(spans, between, strict=True):
            for t in (first, last, first + (last - first) * Fraction(float(rng.random()))):
                for i, x in enumerate(exact([*start, *parameters], t)):
                    assert _near(model, (b, i), xi, eps, x, allowance), (b, float(t), i)


def _near(model, at, xi, eps, x, allowance) -> bool:
    """As `holds`, with what the reference itself may be off by."""
    if not allowance:
        return holds(model, at, xi, eps, x)
    with flint.ctx.workprec(BITS):
        return holds(model, at, xi, eps, x + flint.arb(0, float(allowance)))


def _solved(solution):
    def exact(start, time):
        with flint.ctx.workprec(BITS):
            return [solution(ball(start[0]), ball(time))]

    return exact


@pytest.mark.parametrize("order", [1, 2, 3, 6, 9])
@pytest.mark.parametrize("name", SCALAR)
def test_one_state(tmp_path, name: str, order: int) -> None:
    text, solution, (low, high), longest = SCALAR[name]
    rng = np.random.default_rng([1, order])
    problem = problem_of(loop_of(tmp_path, {"x": text}))
    width = (high - low) * np.array([[0.0], [1e-6], [0.02], [0.1]])
    start = low + rng.random((4, 1)) * (high - low - width)
    length = Fraction(longest * {1: 0.02, 2: 0.1}.get(order, 0.4)).limit_denominator(1000)
    states = box(monomials(1, 4), start, start + width, [0])
    with np.errstate(all="ignore"):
        _checked(step(problem, states, None, length, order), states, _solved(solution), rng, starts=6)


@pytest.mark.parametrize("name", SCALAR)
def test_from_models_with_symbols_and_errors(tmp_path, name: str) -> None:
    text, solution, (low, high), longest = SCALAR[name]
    rng = np.random.default_rng(2)
    problem = problem_of(loop_of(tmp_path, {"x": text}))
    states = random_model(rng, monomials(2, 3), (1,), 3, 2)
    scale = 0.02 * (high - low) / states.spread()
    states = TaylorModel(states.basis, states.terms * scale, states.error * scale)
    states.terms[0] = low + (0.2 + 0.6 * rng.random((3, 1))) * (high - low)
    with np.errstate(all="ignore"):
        found = step(problem, states, None, Fraction(longest / 8).limit_denominator(1000), 5)
        _checked(found, states, _solved(solution), rng, starts=8)


@pytest.mark.parametrize("name", ANTIDERIVATIVES)
def test_functions_of_what_moves(tmp_path, name: str) -> None:
    rng = np.random.default_rng(3)
    problem = problem_of(loop_of(tmp_path, {"x": "x", "y": f"x*({name})"}))
    G = ANTIDERIVATIVES[name]
    low = np.array([[0.4, -1.0], [0.7, 0.0], [0.5, 0.0]])
    states = box(monomials(2, 3), low, low + np.array([[0.05, 0.5], [0.2, 1e-9], [0.0, 0.0]]), [0, 1])

    def exact(start, time):
        with flint.ctx.workprec(BITS):
            x, y = ball(start[0]), ball(start[1])
            moved = x * ball(time).exp()
            return [moved, y + G(moved) - G(x)]

    with np.errstate(all="ignore"):
        for order in (2, 6):
            _checked(step(problem, states, None, Fraction(1, 20), order), states, exact, rng, starts=8)


def test_inputs_and_parameters_stay_as_they_are(tmp_path) -> None:
    """x' = p x + u, with p, u that depend on the same variables and symbols as x."""
    rng = np.random.default_rng(4)
    data = loop_of(tmp_path, {"x": "p*x + u"}, parameters="{ p = [0, 1], u = [0, 1] }")
    basis = monomials(2, 4)
    states, rest = random_model(rng, basis, (1,), 3, 1, "exact"), random_model(rng, basis, (2,), 3, 3, "exact")
    states, rest = (TaylorModel(m.basis, m.terms * (0.1 / m.spread()), m.error) for m in (states, rest))
    states.terms[0], rest.terms[0] = 1.0, np.array([0.7, -0.4])
    with np.errstate(all="ignore"):
        found = step(problem_of(data), states, rest, Fraction(1, 5), 6)
    assert found.sound.all()
    at_end, between = found.at_end(), found.between(Fraction(1, 10), Fraction(1, 5))
    for _ in range(200):
        b, xi, eps = int(rng.integers(3)), random_point(rng, 2), random_point(rng, 3)
        x, p, u = (value(m, at, xi, eps, Fraction(0)) for m, at in ((states, (b, 0)), (rest, (b, 0)), (rest, (b, 1))))
        for model, t in (
            (at_end, Fraction(1, 5)),
            (between, Fraction(1, 5)),
            (between, Fraction(1, 10)),
            (between, Fraction(1, 7)),
        ):
            with flint.ctx.workprec(BITS):
                e = (ball(p) * ball(t)).exp()
                exact = ball(x) * e + ball(u) * (e - 1) / ball(p)
            assert holds(model, (b, 0), xi, eps, exact)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_linear_systems(tmp_path, n: int) -> None:
    rng = np.random.default_rng([5, n])
    A = np.round(rng.normal(size=(n, n)), 3)
    rows = {f"x{i}": " + ".join(f"({a!r})*x{j}" for j, a in enumerate(row)) for i, row in enumerate(A.tolist())}
    problem = problem_of(loop_of(tmp_path, rows))
    low = rng.normal(size=(3, n))
    states = box(monomials(n, 2), low, low + np.array([[0.0], [0.01], [1.0]]), list(range(n)))
    exactly = [[Fraction(str(a)) for a in row] for row in A.tolist()]

    def exact(start, time):
        with flint.ctx.workprec(BITS):
            M = flint.arb_mat(n, n, [ball(a * time) for row in exactly for a in row])
            x = M.exp() * flint.arb_mat(n, 1, [ball(s) for s in start])
            return [x[i, 0] for i in range(n)]

    for length, order in ((Fraction(1, 50), 2), (Fraction(1, 10), 5), (Fraction(1, 4), 9)):
        with np.errstate(all="ignore"):
            _checked(step(problem, states, None, length, order), states, exact, rng, starts=3)


def test_rotation_keeps_the_radius(tmp_path) -> None:
    problem = problem_of(loop_of(tmp_path, {"x": "-y", "y": "x"}))
    rng = np.random.default_rng(6)
    states = box(monomials(2, 1), np.array([[1.0, -0.1]]), np.array([[1.2, 0.1]]), [0, 1])
    A = np.array([[0.0, -1.0], [1.0, 0.0]])
    with np.errstate(all="ignore"):
        found = step(problem, states, None, Fraction(1, 4), 6)
        _checked(found, states, lambda s, t: linear(A, [ball(v) for v in s], ball(t)), rng)


REFERENCE = Fraction(1, 10**28)  # what the series below may be off by (tested against twice as many steps)
FIELDS = {
    "pendulum": ({"x": "y", "y": "-sin(x) - 0.1*y"}, lambda s: [s[1], -s[0].sin() - s[1] / 10]),
    "van der pol": ({"x": "y", "y": "(1 - x^2)*y - x"}, lambda s: [s[1], (1 - s[0] * s[0]) * s[1] - s[0]]),
    "mixed": (
        {"x": "y*cos(x) - x", "y": "-x/(1 + x^2) + tanh(y)"},
        lambda s: [s[1] * s[0].cos() - s[0], -s[0] / (1 + s[0] * s[0]) + 1 - 2 / (1 + (2 * s[1]).exp())],
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_two_states_that_are_coupled(tmp_path, name: str) -> None:
    rng = np.random.default_rng(7)
    text, field = FIELDS[name]
    problem = problem_of(loop_of(tmp_path, text))
    low = np.array([[0.9, -0.2], [-0.4, 0.3]])
    states = box(monomials(2, 4), low, low + np.array([[0.2], [0.02]]), [0, 1])
    with np.errstate(all="ignore"):
        found = step(problem, states, None, Fraction(1, 10), 6)
    assert found.sound.all()
    for t in (Fraction(1, 10), Fraction(1, 30)):
        model, between = found.at(t), found.between(t / 3, t)
        for _ in range(3):
            b, xi = int(rng.integers(2)), random_point(rng, 2)
            start = [ball(value(states, (b, i), xi, [], Fraction(0))) for i in range(2)]
            x = integrated(field, start, t, steps=4)
            finer = integrated(field, start, t, steps=8)
            for i in range(2):
                assert abs(x[i] - finer[i]) < ball(REFERENCE)
                assert _near(model, (b, i), xi, [], finer[i], REFERENCE)
                assert _near(between, (b, i), xi, [], finer[i], REFERENCE)


@pytest.mark.parametrize("text", ["-abs(x)", "abs(x) - 0.5", "max(x, 0) + 0.5", "min(x, 0.1)", "-2*max(x, -0.05)"])
def test_kinks_are_crossed_with_order_two(tmp_path, text: str) -> None:
    """Piecewise linear right sides, solved piece by piece."""
    problem = problem_of(loop_of(tmp_path, {"x": text}))
    states = box(monomials(1, 3), np.array([[-0.1], [-0.01]]), np.array([[0.1], [0.03]]), [0])
    rng = np.random.default_rng(8)
    with np.errstate(all="ignore"):
        assert not step(problem, states, None, Fraction(1, 10), 6).sound[0]
        found = step(problem, states, None, Fraction(1, 10), 2)
        _checked(found, states, lambda s, t: [_pieced(text, s[0], t)], rng, starts=10)


def _pieced(text: str, x: Fraction, t: Fraction) -> flint.arb:
    """x' = a x + c on each side of the kink, exactly; solutions of the tests cross it once at the most."""
    kink, left, right = {
        "-abs(x)": (Fraction(0), (1, 0), (-1, 0)),
        "abs(x) - 0.5": (Fraction(0), (-1, Fraction(-1, 2)), (1, Fraction(-1, 2))),
        "max(x, 0) + 0.5": (Fraction(0), (0, Fraction(1, 2)), (1, Fraction(1, 2))),
        "min(x, 0.1)": (Fraction(1, 10), (1, 0), (0, Fraction(1, 10))),
        "-2*max(x, -0.05)": (Fraction(-1, 20), (0, Fraction(1, 10)), (-2, 0)),
    }[text]
    with flint.ctx.workprec(BITS):
        value, rest = ball(x), ball(t)
        for _ in range(2):
            a, c = left if x < kink else right
            if x == kink and right[0] * x + right[1] < 0:
                a, c = left
            speed = a * x + c
            if speed == 0:
                return value
            there = None
            if (x < kink and speed > 0) or (x > kink and speed < 0):  # when it is at the kink
                if a == 0:
                    there = (ball(kink) - value) / ball(Fraction(c))
                else:
                    ratio = ball(a * kink + c) / (a * value + ball(Fraction(c)))
                    there = ratio.log() / a if ratio > 0 else None
            if there is None or not there < rest:
                return (
                    value + ball(Fraction(c)) * rest
                    if a == 0
                    else (value + ball(Fraction(c) / a)) * (a * rest).exp() - ball(Fraction(c) / a)
                )
            value, x, rest = ball(kink), kink, rest - there
        return value


def test_what_is_not_proved_is_not_sound(tmp_path) -> None:
    cases = {"x^2": (1.0, 1.2, 1), "1/x": (-0.1, 0.1, 1), "sqrt(x)": (-0.01, 1.0, 1), "log(x)": (-0.5, 0.5, 1), "tan(x)": (1.5, 1.6, 1), "exp(x)": (10.0, 12.0, 1)}  # fmt: skip
    for text, (low, high, length) in cases.items():
        problem = problem_of(loop_of(tmp_path, {"x": text}))
        both = box(monomials(1, 3), np.array([[low], [0.3]]), np.array([[high], [0.31]]), [0])
        with np.errstate(all="ignore"):
            found = step(problem, both, None, Fraction(length), 5)
        assert not found.sound[0], text
        for bad in (np.nan, np.inf):
            states = TaylorModel(both.basis, both.terms, np.full_like(both.error, bad))
            with np.errstate(all="ignore"):
                assert not step(problem, states, None, Fraction(1, 100), 5).sound.any()


def test_a_member_does_not_depend_on_the_others(tmp_path) -> None:
    problem = problem_of(loop_of(tmp_path, {"x": "x^2"}))
    good, bad = ((np.array([[a]]), np.array([[b]])) for a, b in ((0.1, 0.2), (5.0, 6.0)))
    alone = step(problem, box(monomials(1, 3), *good, [0]), None, Fraction(1, 4), 5)
    pair = [np.concatenate(side) for side in zip(good, bad, strict=True)]
    with np.errstate(all="ignore"):
        both = step(problem, box(monomials(1, 3), *pair, [0]), None, Fraction(1, 4), 5)
    assert both.sound.tolist() == [True, False]
    for a, b in zip(alone.at_end().range(), both[np.array([0])].at_end().range(), strict=True):
        assert (a == b).all()


def test_the_numbering_of_symbols_is_kept(tmp_path) -> None:
    """A right side that is constant reads no inputs; the symbol of time still gets a number of its own."""
    data = loop_of(tmp_path, {"x": "1"}, parameters="{ u = [0, 1] }")
    rng = np.random.default_rng(9)
    states = random_model(rng, monomials(1, 2), (1,), 1, 2)
    rest = random_model(rng, monomials(1, 2), (1,), 1, 5)
    found = step(problem_of(data), states, rest, Fraction(1, 10), 3)
    model = found.between(Fraction(0), Fraction(1, 10))
    K = len(model.basis)
    assert model.symbols == 6 and not model.terms[K + 2 : K + 5].any()
    assert room(model, (0, 0), 5) is not None and polynomial(model, (0, 0), [Fraction(0)]) is not None
