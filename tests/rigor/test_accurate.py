"""Balls of products and sums contain the exact rational result, and claim exactness only where it is true."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.rigor.accurate import Ball, matrix_product, multiply, multiply_add, row_products, two_product, two_sum

NUMBERS = st.one_of(
    st.just(0.0),
    st.floats(min_value=2.0**-400, max_value=2.0**400),
    st.floats(min_value=-(2.0**400), max_value=-(2.0**-400)),
    st.floats(min_value=-10, max_value=10, width=32).filter(lambda x: x == 0 or abs(x) > 1e-30),
    st.integers(-9, 9).map(float),
)


def _holds(ball, exact):
    exact = np.asarray(exact, object)
    radius = np.zeros(ball.value.shape) if ball.radius is None else np.broadcast_to(ball.radius, ball.value.shape)
    assert ball.value.shape == exact.shape
    for value, r, real in zip(ball.value.flat, radius.flat, exact.flat, strict=True):
        assert abs(Fraction(float(value)) - real) <= Fraction(float(r))


def _exact(x):
    return np.array([Fraction(float(v)) for v in np.ravel(x)], object).reshape(np.shape(x))


@settings(max_examples=300, deadline=None)
@given(NUMBERS, NUMBERS)
def test_error_free_transformations(a, b):
    x, y = np.array([a]), np.array([b])
    for f, exact in ((two_sum, Fraction(a) + Fraction(b)), (two_product, Fraction(a) * Fraction(b))):
        value, error = f(x, y)
        assert Fraction(float(value[0])) + Fraction(float(error[0])) == exact


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMBERS, min_size=9, max_size=9))
def test_products_and_sums(numbers):
    a, b, c = np.array(numbers).reshape(3, 3)
    exact = [_exact(x) for x in (a, b, c)]
    _holds(multiply(Ball(a), Ball(b)), exact[0] * exact[1])
    _holds(multiply_add(Ball(a), Ball(b), Ball(c)), exact[0] * exact[1] + exact[2])


@pytest.mark.parametrize("seed", range(5))
def test_matrix_products(seed):
    rng = np.random.default_rng(seed)
    a, b, c = (rng.normal(size=s) * 2.0 ** rng.integers(-60, 60, s) for s in ((4, 7), (7, 3), (3,)))
    b[-1] = -(a[:, :-1] @ b[:-1])[0] / a[0, -1]  # the first row nearly cancels
    a[:, 2] = 0
    product = matrix_product(Ball(a), Ball(b), Ball(c))
    _holds(product, _exact(a) @ _exact(b) + _exact(c))
    assert np.all(product.radius[1:] <= 2.0**-50 * np.abs(product.value[1:]))
    rows = rng.normal(size=(4, 7))
    _holds(
        row_products(Ball(a), Ball(rows), Ball(c[0] * np.ones(4))),
        (_exact(a) * _exact(rows)).sum(1) + Fraction(float(c[0])),
    )


def test_small_numbers_are_exact():
    a, b = np.random.default_rng(0).integers(-99, 99, (2, 5, 5)).astype(float)
    assert matrix_product(Ball(a), Ball(b)).radius is None
    half = np.float32(np.random.default_rng(1).normal(size=(2, 50))).astype(float)
    assert multiply(Ball(half[0]), Ball(half[1])).radius is None  # float32 times float32 fits


@pytest.mark.parametrize("seed", range(5))
def test_radii_are_inherited(seed):
    rng = np.random.default_rng(seed)
    values = [rng.normal(size=s) for s in ((3, 4), (4, 2), (2,))]
    radii = [np.abs(rng.normal(size=v.shape)) * 10.0 ** rng.integers(-330, 0, v.shape).astype(float) for v in values]
    product = matrix_product(*(Ball(v, r) for v, r in zip(values, radii, strict=True)))
    for _ in range(5):
        real = [
            _exact(v) + _exact(r) * _exact(rng.choice([-1.0, 1.0], r.shape)) for v, r in zip(values, radii, strict=True)
        ]
        _holds(product, real[0] @ real[1] + real[2])


def test_zeros_stay_exact():
    value, radius = np.array([0.0, 3.0, 0.0]), np.array([0.0, 1e-300, 1e-300])
    product = multiply(Ball(value, radius), Ball(np.array([1 / 3, 1.0, 0.0])))
    assert product.radius[0] == 0
    assert product.radius[1] >= 1e-300
    assert product.radius[2] == 0


@pytest.mark.parametrize("bad", [1e-200, 1e200, np.inf, np.nan])
def test_out_of_range_is_refused(bad):
    assert multiply(Ball(np.array([bad])), Ball(np.ones(1))) is None
    assert multiply_add(Ball(np.ones(1)), Ball(np.ones(1)), Ball(np.array([bad]))) is None
    assert matrix_product(Ball(np.ones((1, 1))), Ball(np.array([[bad]]))) is None


def test_selections_cost_nothing_and_large_products_are_declined():
    big = np.zeros((3000, 3000))
    big[np.random.default_rng(2).integers(0, 3000, 3000), np.arange(3000)] = -1.0
    rows = np.random.default_rng(3).normal(size=(2, 3000))
    product = matrix_product(Ball(rows), Ball(big), limit=6000)
    assert product.radius is None
    assert (product.value == rows @ big).all()
    assert matrix_product(Ball(rows), Ball(big), limit=5999) is None
