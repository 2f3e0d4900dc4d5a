"""The table of library errors, sampled against ball arithmetic: NumPy and XLA, float64 and float32, zero tolerance."""

from __future__ import annotations

import flint
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from holdfast.rigor import FLOAT32, FLOAT64, functions

ARITHMETICS = {"float64": FLOAT64, "float32": FLOAT32}


def _sigmoid(z):
    return 1 / (1 + (-z).exp()) if z >= 0 else z.exp() / (1 + z.exp())


def _sigmoid_slope(z):
    e = (-abs(z)).exp()
    return e / ((1 + e) * (1 + e))


def _softplus(z):
    return z + (-z).exp().log1p() if z >= 0 else z.exp().log1p()


# name, ball arithmetic, where it is used (float64, float32): magnitudes up to, positive only
CASES = [
    ("EXP", lambda z: z.exp(), (709.0, 88.0), False),
    ("LOG", lambda z: z.log(), (1e300, 1e38), True),
    ("SQRT", lambda z: z.sqrt(), (1e300, 1e38), True),
    ("TANH", lambda z: z.tanh(), (1000.0, 200.0), False),
    ("TANH_SLOPE", lambda z: 4 * _sigmoid_slope(2 * z), (1000.0, 200.0), False),
    ("SIGMOID", _sigmoid, (1000.0, 200.0), False),
    ("SIGMOID_SLOPE", _sigmoid_slope, (1000.0, 200.0), False),
    ("SOFTPLUS", _softplus, (2000.0, 500.0), False),
    ("SIN", lambda z: z.sin(), (2.0**20, 2.0**10), False),
    ("COS", lambda z: z.cos(), (2.0**20, 2.0**10), False),
    ("RECIPROCAL", lambda z: 1 / z, (1e300, 1e37), True),
    ("TANH_CURVATURE", lambda z: -8 * z.tanh() * _sigmoid_slope(2 * z), (1000.0, 200.0), False),
    ("SIGMOID_CURVATURE", lambda z: -(z / 2).tanh() * _sigmoid_slope(z), (1000.0, 200.0), False),
    ("ATAN", lambda z: z.atan(), (1e300, 1e38), False),
    ("ATAN_SLOPE", lambda z: 1 / (1 + z * z), (1e300, 1e37), False),
    ("ATAN_CURVATURE", lambda z: -2 * z / (1 + z * z) ** 2, (1e300, 1e37), False),
    ("ASIN", lambda z: z.asin(), (1.0, 1.0), False),
    ("ACOS", lambda z: z.acos(), (1.0, 1.0), False),
    ("ASIN_SLOPE", lambda z: 1 / ((1 - z) * (1 + z)).sqrt(), (1.0 - 2.0**-20, 1.0 - 2.0**-20), False),
]  # fmt: skip


def _points(most, positive, dtype):
    rng = np.random.default_rng(2)
    least = 20 * float(np.finfo(dtype).tiny)
    points = np.concatenate([
        np.exp(rng.uniform(np.log(least), np.log(most), 800)),
        rng.uniform(0, min(most, 50.0), 800), rng.uniform(0, most, 400), 1 + rng.normal(size=500) * 10.0 ** rng.uniform(-9, -1, 500),
        (np.arange(1, 400) * np.pi / 2)[np.arange(1, 400) * np.pi / 2 < most], [least, most, 1.0, 0.5, 2.0],
    ]).astype(dtype)  # fmt: skip
    points = abs(points)
    points = points[(points <= most) & (points >= least)]
    return (
        points
        if positive
        else np.concatenate([points, -points, [0.0, np.finfo(dtype).smallest_subnormal]]).astype(dtype)
    )


@pytest.mark.parametrize("dtype", ARITHMETICS)
@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
@pytest.mark.parametrize(("name", "ball", "most", "positive"), CASES, ids=[c[0] for c in CASES])
def test_library_errors_stay_within_the_table(name, ball, most, positive, xp, dtype):
    entry, arithmetic = getattr(functions, name), ARITHMETICS[dtype]
    z = _points(most[dtype == "float32"], positive, np.dtype(dtype).type)

    def bounds(z):
        return entry.bounds(xp, z, arithmetic)

    down, up = (np.asarray(b) for b in (jax.jit(bounds) if xp is jnp else bounds)(z))
    assert down.dtype == up.dtype == np.dtype(dtype)
    with flint.ctx.workprec(160):
        for point, low, high in zip(z.tolist(), down.tolist(), up.tolist(), strict=True):
            value = ball(flint.arb(point))
            # at the ends of the range (tanh 1000 < 1) the ball may not be narrow enough to tell
            assert not value < flint.arb(low) and not value > flint.arb(high), (
                f"{name}({point!r}) is not in [{low!r}, {high!r}]"
            )
            assert flint.arb(low) <= value or low in (entry.low, 0.0), f"{name}({point!r}) against {low!r}"
            assert value <= flint.arb(high) or high in (entry.high,), f"{name}({point!r}) against {high!r}"


@pytest.mark.parametrize("dtype", ARITHMETICS)
@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_the_tangent_is_enclosed_up_to_its_poles(xp, dtype):
    arithmetic = ARITHMETICS[dtype]
    pole = np.dtype(dtype).type(1.570796)
    z = _points(float(pole), False, np.dtype(dtype).type)
    z = np.concatenate(
        [z, pole - np.geomspace(1e-7, 1, 300).astype(dtype), np.geomspace(1e-7, 1, 300).astype(dtype) - pole]
    )

    def bounds(z):
        value, slope = (f(xp, z, arithmetic) for f in (functions.tangent_bounds, functions.tangent_slope_bounds))
        return *value, *slope

    found = [np.asarray(b) for b in (jax.jit(bounds) if xp is jnp else bounds)(z)]
    assert all(b.dtype == np.dtype(dtype) for b in found)
    with flint.ctx.workprec(160):
        for point, low, high, least, most in zip(z.tolist(), *(b.tolist() for b in found), strict=True):
            value = flint.arb(point).tan()
            assert flint.arb(low) <= value <= flint.arb(high)
            assert (least == 1.0 or flint.arb(least) <= 1 + value**2) and 1 + value**2 <= flint.arb(most)


@pytest.mark.parametrize("arithmetic", [FLOAT64, FLOAT32], ids=lambda a: a.name)
def test_overflow_and_infinity_never_become_nan(arithmetic):
    x = np.array([1e30, -1e30, 1e38, np.inf, -np.inf], arithmetic.dtype)
    for name in (
        "EXP",
        "TANH",
        "SIGMOID",
        "SOFTPLUS",
        "TANH_SLOPE",
        "SIGMOID_SLOPE",
        "TANH_CURVATURE",
        "SIGMOID_CURVATURE",
        "ATAN",
        "ATAN_SLOPE",
        "ATAN_CURVATURE",
    ):
        down, up = getattr(functions, name).bounds(np, x, arithmetic)
        assert not np.isnan(down).any() and not np.isnan(up).any() and (down <= up).all()
        assert (down < np.inf).all()


def test_pinned_values_keep_their_bits():
    x = np.random.default_rng(0).normal(size=100)
    assert functions.pin(np, x) is x
    assert (np.asarray(jax.jit(lambda x: functions.pin(jnp, x))(x)) == x).all()
