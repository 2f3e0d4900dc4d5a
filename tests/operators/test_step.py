"""The unit step: interval and lines enclose the set-valued function, exactly, at and around the jump."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from holdfast.graph import Node
from holdfast.operators.step import Heaviside
from holdfast.rigor import FLOAT32, FLOAT64

CARD, NODE = Heaviside(), Node("heaviside", (0,), (1,))
ENDS = [0.0, 5e-324, 2.3e-308, 1e-300, 1e-38, 1e-15, 1.1e-15, 1e-8, 0.1, 1 / 3, 1.0, 7.3, 1e15, 1e30, 1.7e308]
SMALL = [0.0, 1e-45, 1.2e-38, 1e-15, 1e-3, 0.3, 1.0, 7.3, 1e15, 3.4e38]


def _intervals(ends):
    every = sorted({s * e for e in ends for s in (-1.0, 1.0)})
    pairs = np.array([(a, b) for a in every for b in every if a <= b])
    return pairs[:, 0], pairs[:, 1]


def _values(z):
    return (0, 1) if z == 0 else (int(z > 0),) * 2


@pytest.mark.parametrize(("arithmetic", "ends"), [(FLOAT64, ENDS), (FLOAT32, SMALL)])
@pytest.mark.parametrize("free", [None, 0.0, 0.37, 1.0])
@pytest.mark.parametrize("module", ["numpy", "jax"])
def test_encloses_the_step(arithmetic, ends, free, module):
    xp = np if module == "numpy" else pytest.importorskip("jax.numpy")
    lower, upper = (x.astype(arithmetic.dtype) for x in _intervals(ends))
    if module == "jax":
        if xp.zeros(1).dtype != np.float64 and arithmetic is FLOAT64:
            pytest.skip("double precision is off")
        slopes = None if free is None else xp.full((2, *lower.shape), free, arithmetic.dtype)
        low, high = CARD.interval(xp, NODE, xp.asarray(lower), xp.asarray(upper), arithmetic)
        lines = CARD.relax(xp, NODE, xp.asarray(lower), xp.asarray(upper), arithmetic, slopes)
    else:
        slopes = None if free is None else np.full((2, *lower.shape), free, arithmetic.dtype)
        low, high = CARD.interval(np, NODE, lower, upper, arithmetic)
        lines = CARD.relax(np, NODE, lower, upper, arithmetic, slopes)
    assert all(np.asarray(a).dtype == arithmetic.dtype for a in (low, high, *lines))
    assert all(np.isfinite(a).all() for a in lines)
    exact = [[Fraction(float(v)) for v in np.asarray(a)] for a in lines]
    for k, (start, end) in enumerate(zip(lower, upper, strict=True)):
        a, b = Fraction(float(start)), Fraction(float(end))
        points = [p for p in (a, b, (a + b) / 2, a / 3, b / 7, Fraction(0)) if a <= p <= b]
        for z in points:
            least, most = _values(z)
            assert low[k] <= least
            assert most <= high[k]
            assert exact[0][k] * z + exact[1][k] <= least
            assert most <= exact[2][k] * z + exact[3][k]


def test_lines_touch_the_jump():
    lower, upper = np.array([-1.0, -4.0, 2.0, -3.0]), np.array([4.0, 1.0, 3.0, -2.0])
    lines = CARD.relax(np, NODE, lower, upper, FLOAT64)
    assert lines.lower_slope[0] > 0.2499
    assert lines.upper_slope[0] == 0
    assert lines.lower_slope[1] == 0
    assert lines.upper_slope[1] > 0.2499
    assert (lines.lower_slope[2], lines.lower_shift[2], lines.upper_shift[2]) == (0, 1, 1)
    assert (lines.upper_slope[3], lines.lower_shift[3], lines.upper_shift[3]) == (0, 0, 0)
