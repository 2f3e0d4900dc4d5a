"""Taylor coefficients of all functions against power series in ball arithmetic: at points, on intervals, where they end."""

from __future__ import annotations

import math

import flint
import numpy as np
import pytest

from holdfast.graph import Node
from holdfast.operators import OPERATORS
from holdfast.operators.series import series, smooth

ORDER = 8
BITS = 700
CASES = {
    "exp": lambda z: z.exp(),
    "sin": lambda z: z.sin(),
    "cos": lambda z: z.cos(),
    "tan": lambda z: z.tan(),
    "tanh": lambda z: 1 - 2 / (1 + (2 * z).exp()),
    "sigmoid": lambda z: 1 / (1 + (-z).exp()),
    "softplus": lambda z: (1 + z.exp()).log(),
    "atan": lambda z: z.atan(),
    "reciprocal": lambda z: 1 / z,
    "log": lambda z: z.log(),
    "sqrt": lambda z: z.sqrt(),
    "square": lambda z: z * z,
    **{f"power {n}": lambda z, n=n: z**n for n in (2, 3, 4, 5, 9, 12)},
}
POSITIVE = ("log", "sqrt")
MAGNITUDES = [
    1e-320,
    1e-200,
    1e-60,
    1e-30,
    1e-8,
    1e-3,
    0.1,
    0.7,
    1.0,
    1.5707,
    math.pi,
    5.0,
    20.0,
    300.0,
    1e5,
    1e30,
    1e100,
]


def node_of(name: str) -> Node:
    op, *exponent = name.split()
    return Node(op, (0,), (), ((),), tuple(("exponent", int(n)) for n in exponent))


def _exact(name: str, z: float) -> list[flint.arb]:
    """Coefficients at a point."""
    with flint.ctx.workprec(BITS):
        flint.ctx.cap = ORDER + 1
        x = flint.arb_series([flint.arb(flint.fmpq(*z.as_integer_ratio())), 1])
        value = CASES[name](x)
        return [value[k] for k in range(ORDER + 1)]


def _within(low: float, c: flint.arb, high: float) -> bool:
    with flint.ctx.workprec(BITS):
        below = math.isfinite(low) and c < flint.arb(low)
        above = math.isfinite(high) and c > flint.arb(high)
        impossible = low == math.inf or high == -math.inf
        return not (below or above or impossible)


def _points(name: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    points = np.concatenate([MAGNITUDES, rng.normal(size=12) * 10.0 ** rng.uniform(-2, 1.5, 12)])
    points = np.concatenate([points, -points, [0.0]])
    if name in POSITIVE:
        points = points[points > 0]
    if name == "reciprocal":
        points = points[points != 0]
    return points[abs(points) < 600] if name in ("exp", "softplus", "tanh", "sigmoid") else points


@pytest.mark.parametrize("name", CASES)
def test_at_points(name: str) -> None:
    z = _points(name)
    found = series(node_of(name), z, z, ORDER)
    assert found is not None and len(found) == ORDER + 1
    known = 0
    for i, point in enumerate(z.tolist()):
        for k, c in enumerate(_exact(name, point)):
            low, high = float(found[k][0][i]), float(found[k][1][i])
            assert math.isnan(low) or math.isnan(high) or _within(low, c, high), (point, k, low, high)
            known += math.isfinite(low) and math.isfinite(high)
    assert known > 0.7 * len(z) * (ORDER + 1)


@pytest.mark.parametrize("name", CASES)
def test_on_intervals(name: str) -> None:
    rng = np.random.default_rng(2)
    middle = np.repeat(_points(name), 2)
    radius = abs(middle) * 10.0 ** rng.uniform(-6, 0.5, len(middle)) + rng.choice([0.0, 1e-9], len(middle))
    low, high = middle - radius, middle + radius
    found = series(node_of(name), low, high, ORDER)
    assert found is not None
    for i in range(len(low)):
        for share in (0.0, 1.0, float(rng.random())):
            z = float(np.clip(low[i] + share * (high[i] - low[i]), low[i], high[i]))
            if (name in POSITIVE and z <= 0) or (name == "reciprocal" and z == 0):
                continue
            for k, c in enumerate(_exact(name, z)):
                a, b = float(found[k][0][i]), float(found[k][1][i])
                assert math.isnan(a) or math.isnan(b) or _within(a, c, b), (low[i], high[i], z, k, a, b)


@pytest.mark.parametrize(("name", "low", "high"), [
    ("log", -1.0, 2.0), ("log", 0.0, 1.0), ("sqrt", -1e-9, 1.0), ("reciprocal", -1.0, 1.0), ("reciprocal", 0.0, 1.0), ("tan", 1.5, 1.7),
])  # fmt: skip
def test_nothing_is_known_across_poles_and_outside_domains(name: str, low: float, high: float) -> None:
    found = series(node_of(name), np.array([low]), np.array([high]), 4)
    assert found is not None
    for k in range(1, 5):
        assert not (np.isfinite(found[k][0]) & np.isfinite(found[k][1])).any(), k
    assert name == "log" or not (np.isfinite(found[0][0]) & np.isfinite(found[0][1])).any()


def test_all_rules_are_covered() -> None:
    assert {name for name in OPERATORS if smooth(name)} == {name.split()[0] for name in CASES}
