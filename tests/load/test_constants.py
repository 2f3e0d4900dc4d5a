"""Arithmetic on constants: |real value - stored value| <= radius, checked in rational arithmetic without tolerance."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from holdfast.load.constants import Constant, divide, plus, real, root, times

RNG = np.random.default_rng(7)


def exact(c: Constant) -> list[Fraction]:
    return [Fraction(float(v)) for v in c.value.reshape(-1)]


def holds(result: Constant, reals: list[Fraction]) -> None:
    radii = np.zeros(result.shape) if result.radius is None else result.radius
    for value, radius, truth in zip(exact(result), radii.reshape(-1), reals, strict=True):
        assert abs(truth - value) <= Fraction(float(radius))


def samples(size: int) -> Constant:
    values = RNG.normal(size=size) * 2.0 ** RNG.integers(-60, 60, size)
    values[::3] = values[::3].astype(np.float32)
    values[::7] = 2.0 ** RNG.integers(-30, 30, values[::7].size)
    return real(values)


def test_arithmetic_on_constants_encloses() -> None:
    a, b = samples(400), samples(400)
    x, y = exact(a), exact(b)
    holds(plus(a, b), [p + q for p, q in zip(x, y, strict=True)])
    holds(times(a, b), [p * q for p, q in zip(x, y, strict=True)])
    holds(divide(a, b), [p / q for p, q in zip(x, y, strict=True)])
    c, d = plus(a, b), divide(b, a)  # operands that carry radii
    holds(times(c, d), [(p + q) * q / p for p, q in zip(x, y, strict=True)])
    e = plus(real(np.abs(b.value)), real(1.0))
    holds(divide(c, e), [(p + q) / (abs(q) + 1) for p, q in zip(x, y, strict=True)])
    square = root(e)
    radii = np.zeros(400) if square.radius is None else square.radius
    for value, radius, q in zip(exact(square), radii, y, strict=True):
        low, high = value - Fraction(float(radius)), value + Fraction(float(radius))
        assert low**2 <= abs(q) + 1 <= high**2


def test_exact_constants_have_no_radius() -> None:
    a, b = (real(RNG.normal(size=50).astype(np.float32)) for _ in range(2))
    assert times(a, b).exact and plus(a, real(0.0)).exact and divide(a, real(0.25)).exact and root(real(6.25)).exact
    assert not divide(a, real(3.0)).exact
