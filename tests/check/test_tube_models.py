"""Models of flow tubes: arithmetic, functions and steps of the checker against exact numbers and balls, with no tolerance."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from flint import arb, ctx, fmpq

from holdfast_check.linear import Dense, Gather
from holdfast_check.network import Node
from holdfast_check.tube_flow import advance, through
from holdfast_check.tube_function import applied
from holdfast_check.tube_model import Model, basis, box, linear, reduced, symbolic, times, weighted


def random_model(
    rng: np.random.Generator, variables: int, degree: int, symbols: int = 3, batch: int = 2, n: int = 3
) -> Model:
    b = basis(variables, degree)
    scale = 10.0 ** rng.integers(-12, 3, (len(b) + symbols, batch, n))
    return Model(
        b,
        rng.normal(size=scale.shape) * scale,
        abs(rng.normal(size=(batch, n))) * 10.0 ** rng.integers(-15, 0, (batch, n)),
    )


def point(rng: np.random.Generator, count: int) -> list[Fraction]:
    """Corners and what lies inside."""
    return [Fraction(float(v)) for v in np.clip(rng.normal(size=count), -1, 1)]


def value(m: Model, xi: list[Fraction], eps: list[Fraction], k: int, i: int) -> tuple[Fraction, Fraction]:
    """Exact ends of what a model says for one value of its variables."""
    total = Fraction(0)
    for row, exponents in enumerate(m.basis.exponents.tolist()):
        part = Fraction(float(m.terms[row, k, i]))
        for x, e in zip(xi, exponents, strict=True):
            part *= x**e
        total += part
    for j, e in enumerate(eps[: len(m.symbols)]):
        total += Fraction(float(m.symbols[j, k, i])) * e
    error = Fraction(float(m.error[k, i]))
    return total - error, total + error


def inside(m: Model, rng: np.random.Generator, xi: list[Fraction], eps: list[Fraction], k: int, i: int) -> Fraction:
    low, high = value(m, xi, eps, k, i)
    return low + (high - low) * Fraction(float(rng.choice([0.0, 1.0, rng.random()])))


@pytest.mark.parametrize(("variables", "degree"), [(0, 1), (1, 4), (2, 3), (3, 2), (4, 1)])
def test_products_sums_and_ranges_hold_what_they_should(variables: int, degree: int) -> None:
    rng = np.random.default_rng(variables)
    for _ in range(6):
        x, y = random_model(rng, variables, degree), random_model(rng, variables, degree, symbols=2)
        factors = [Fraction(1, 3), Fraction(-7, 10)]
        product, total = times(x, y), weighted([x, y], factors)
        low, high = x.range()
        for _ in range(8):
            xi, eps = point(rng, variables), point(rng, 3)
            for k in range(2):
                for i in range(3):
                    a, b = inside(x, rng, xi, eps, k, i), inside(y, rng, xi, eps, k, i)
                    for made, exact in ((product, a * b), (total, factors[0] * a + factors[1] * b)):
                        below, above = value(made, xi, eps, k, i)
                        assert below <= exact <= above
                    assert Fraction(float(low[k, i])) <= a <= Fraction(float(high[k, i]))


def test_linear_maps_and_symbols() -> None:
    rng = np.random.default_rng(3)
    weights, bias = rng.normal(size=(4, 3)), rng.normal(size=4)
    dense = Node("linear", (0,), 4, linear=Dense(weights=weights, bias=bias, terms=3, back=4))
    gather = Node("linear", (0,), 4, linear=Gather(sizes=(3,), index=np.array([2, -1, 0, 0]), exact=True))
    for _ in range(5):
        x = random_model(rng, 2, 3)
        made, moved = linear(dense, [x]), linear(gather, [x])
        for _ in range(10):
            xi, eps = point(rng, 2), point(rng, 3)
            a = [inside(x, rng, xi, eps, 0, i) for i in range(3)]
            for row in range(4):
                exact = Fraction(bias[row]) + sum(Fraction(w) * v for w, v in zip(weights[row], a, strict=True))
                low, high = value(made, xi, eps, 0, row)
                assert low <= exact <= high
            for row, exact in enumerate((a[2], Fraction(0), a[0], a[0])):
                low, high = value(moved, xi, eps, 0, row)
                assert low <= exact <= high
        for other in (symbolic(x), reduced(x, 4)):  # the same sets, or larger ones
            low, high = other.range()
            xi, eps = point(rng, 2), point(rng, 3)
            for i in range(3):
                assert Fraction(float(low[0, i])) <= inside(x, rng, xi, eps, 0, i) <= Fraction(float(high[0, i]))


FUNCTIONS = {
    "exp": lambda z: z.exp(), "sin": lambda z: z.sin(), "cos": lambda z: z.cos(), "tanh": lambda z: z.tanh(), "tan": lambda z: z.tan(),
    "sigmoid": lambda z: 1 / (1 + (-z).exp()), "softplus": lambda z: z.exp().log1p(), "log": lambda z: z.log(), "sqrt": lambda z: z.sqrt(),
    "atan": lambda z: z.atan(), "asin": lambda z: z.asin(), "reciprocal": lambda z: 1 / z, "abs": lambda z: abs(z),
    "relu": lambda z: z.max(arb(0)), "clip": lambda z: z.max(arb(-0.5)).min(arb(0.75)), "leaky_relu": lambda z: z.max(z * arb(0.1)),
}  # fmt: skip
PARAMETERS = {"clip": (-0.5, 0.75), "leaky_relu": (0.1,)}
PLACES = {"log": 3.0, "sqrt": 3.0, "reciprocal": -3.0, "asin": 0.1, "tan": 0.2}


@pytest.mark.parametrize("kind", sorted(FUNCTIONS))
def test_functions_stay_in_their_polynomials(kind: str) -> None:
    ctx.prec = 200
    rng, node = np.random.default_rng(1), Node(kind, (0,), 1, parameters=PARAMETERS.get(kind, ()))
    for width in (0.0, 1e-14, 1e-6, 0.01, 0.4, 0.85, 2.5):
        if kind in ("asin", "tan") and width > 1:
            continue
        for degree in (1, 2, 4):
            b = basis(2, degree)
            center = PLACES.get(kind, 0.3) + 0.05 * rng.normal()
            z = box(b, np.array([[center - 0.7 * width]]), np.array([[center + 0.7 * width]]), [0])
            z.terms[2] = 0.3 * width
            made = applied(node, z)
            assert np.isfinite(made.error).all() or kind == "asin"
            for _ in range(40 if np.isfinite(made.error).all() else 0):
                xi = point(rng, 2)
                at = inside(z, rng, xi, [], 0, 0)
                low, high = value(made, xi, [], 0, 0)
                exact = FUNCTIONS[kind](arb(fmpq(at.numerator, at.denominator)))
                assert arb(fmpq(low.numerator, low.denominator)) <= exact <= arb(fmpq(high.numerator, high.denominator))
    ctx.prec = 53


@pytest.mark.parametrize("kind", ["log", "sqrt", "reciprocal", "asin", "tan"])
def test_outside_of_a_domain_nothing_is_known(kind: str) -> None:
    z = box(basis(1, 2), np.array([[-2.0]]), np.array([[2.0]]), [0])
    low, high = applied(Node(kind, (0,), 1), z).range()
    assert not np.isfinite(low).any() or not np.isfinite(high).any()


def test_what_is_not_a_number_proves_nothing() -> None:
    b = basis(1, 2)
    for bad in (np.nan, np.inf):
        z = Model(b, np.array([[[0.0]], [[1.0]], [[0.0]]]), np.array([[bad]]))
        for kind in ("tanh", "relu", "sin"):
            low, high = applied(Node(kind, (0,), 1), z).range()
            assert not (low <= 1e300).any() or not np.isfinite(high).any()


def oscillator() -> tuple[tuple[Node, ...], int]:
    """x' = y, y' = -x."""
    matrix = Dense(weights=np.array([[0.0, 1.0], [-1.0, 0.0]]), terms=1, back=1)
    return (Node("input", (), 2), Node("linear", (0,), 2, linear=matrix, place=1)), 1


def growth() -> tuple[tuple[Node, ...], int]:
    """x' = x^2: 1 / (1 / x - t)."""
    return (Node("input", (), 1), Node("square", (0,), 1, place=1)), 1


@pytest.mark.parametrize("order", [1, 2, 4, 6])
def test_steps_hold_exact_solutions(order: int) -> None:
    ctx.prec = 200
    b, rng = basis(2, 3), np.random.default_rng(order)
    x = box(b, np.array([[0.5, -0.25]]), np.array([[0.75, 0.5]]), [0, 1])
    h = Fraction(1, 20)
    one = advance(oscillator(), x, None, h, order)
    square = advance(growth(), Model(b, x.terms[:, :, :1], x.error[:, :1]), None, h, order)
    assert one.sound.all() and square.sound.all()
    pieces = [(Fraction(0), h), (Fraction(1, 50), Fraction(1, 30)), (h, h)]
    for _ in range(20):
        xi = point(rng, 2)
        p, q = (inside(x, rng, xi, [], 0, i) for i in range(2))
        a, c = (arb(fmpq(v.numerator, v.denominator)) for v in (p, q))
        for first, last in pieces:
            s = first + (last - first) * Fraction(float(rng.random()))
            t = arb(fmpq(s.numerator, s.denominator))
            for made, i, exact in (
                (one, 0, a * t.cos() + c * t.sin()),
                (one, 1, c * t.cos() - a * t.sin()),
                (square, 0, 1 / (1 / a - t)),
            ):
                model = made.states(first, last)
                if first == last:
                    low, high = value(model, xi, [], 0, i)
                else:
                    low, high = (Fraction(float(v[0, i])) for v in model.range())
                assert arb(fmpq(low.numerator, low.denominator)) <= exact <= arb(fmpq(high.numerator, high.denominator))
    ctx.prec = 53


def test_a_step_that_is_too_long_is_not_sound() -> None:
    x = box(basis(1, 2), np.array([[1.0]]), np.array([[1.1]]), [0])
    assert not advance(growth(), x, None, Fraction(1), 4).sound.any()  # it explodes at t < 1


def test_symbols_keep_networks_correlated() -> None:
    """tanh(z) - tanh(z), by two neurons: their errors cancel."""
    split = Dense(weights=np.array([[1.0], [0.5]]), bias=np.zeros(2), terms=1, back=2)
    mixed = Dense(weights=np.array([[1.0, 0.0], [1.0, 1.0]]), bias=np.zeros(2), terms=2, back=2)
    last = Dense(weights=np.array([[1.0, -1.0]]), bias=np.zeros(1), terms=2, back=1)
    nodes = (
        Node("input", (), 1), Node("linear", (0,), 2, linear=split, place=1), Node("tanh", (1,), 2, place=2),
        Node("linear", (2,), 2, linear=mixed, place=3), Node("linear", (3,), 1, linear=last, place=4),
    )  # fmt: skip
    x = box(basis(1, 2), np.array([[-2.0]]), np.array([[2.0]]), [0])
    widths = [float(np.subtract(*through((nodes, 4), x, symbols=flag).range()[::-1])[0, 0]) for flag in (True, False)]
    assert widths[0] < widths[1]
