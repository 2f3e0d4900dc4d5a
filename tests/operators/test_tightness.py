"""How close the default lines are to the best possible ones: those of least area between them, found by sampling.

The best line above a function on an interval passes, at the centre, through the least concave majorant; so the gap
between the lines at the centre is compared with that between the majorant and the greatest convex minorant.
"""

from __future__ import annotations

import numpy as np
import pytest

from holdfast.graph import Node
from holdfast.operators import OPERATORS
from holdfast.rigor import FLOAT64

# card, attributes, ends between, largest ratio accepted: one, up to the width of the sampling grid. The default line
# below exp touches left of the centre, so as to stay positive.
CASES = [
    ("tanh", (), (-6.0, 6.0), 1.001), ("sigmoid", (), (-9.0, 9.0), 1.001), ("atan", (), (-9.0, 9.0), 1.001),
    ("tanh_derivative", (), (-6.0, 6.0), 1.001), ("sigmoid_derivative", (), (-9.0, 9.0), 1.001),
    ("atan_derivative", (), (-9.0, 9.0), 1.001), ("tan", (), (-1.5, 1.5), 1.001), ("tan", (), (1.7, 4.6), 1.001),
    ("asin", (), (-1.0, 1.0), 1.001), ("acos", (), (-1.0, 1.0), 1.001), ("sin", (), (0.0, 6.2), 1.001),
    ("cos", (), (-3.0, 3.1), 1.001), ("power", (("exponent", 3),), (-3.0, 2.0), 1.001),
    ("power", (("exponent", 4),), (-3.0, 2.0), 1.001), ("power", (("exponent", 7),), (-1.0, 2.0), 1.001),
    ("square", (), (-2.0, 3.0), 1.001), ("reciprocal", (), (0.01, 5.0), 1.001), ("reciprocal", (), (-5.0, -0.1), 1.001),
    ("sqrt", (), (0.0, 3.0), 1.001), ("log", (), (0.01, 5.0), 1.001), ("softplus", (), (-6.0, 6.0), 1.001),
    ("exp", (), (-4.0, 2.0), 1.13),
]  # fmt: skip


def _majorant_at_the_centre(z, f):
    """Of each function sampled at z (k, n): the highest chord above the centre."""
    centre = 0.5 * (z[:, :1] + z[:, -1:])
    half = z.shape[1] // 2
    (left, right), (low, high) = (
        (z[:, :half, None], z[:, None, half + 1 :]),
        (f[:, :half, None], f[:, None, half + 1 :]),
    )
    chords = (low * (right - centre[..., None]) + high * (centre[..., None] - left)) / (right - left)
    return np.maximum(chords.max((1, 2)), f[:, half])


@pytest.mark.parametrize(("name", "attributes", "ends", "accepted"), CASES, ids=[f"{c[0]}{c[2]}" for c in CASES])
def test_default_lines_are_the_best_ones(name, attributes, ends, accepted):
    card, node = OPERATORS[name], Node(name, (0,), (), ((),), attributes)
    rng = np.random.default_rng(5)
    lower, upper = np.sort(rng.uniform(*ends, (2, 120)), 0)
    lower[0], upper[0] = ends
    wide = upper - lower > 1e-2
    lower, upper = lower[wide], upper[wide]
    z = lower[:, None] + (upper - lower)[:, None] * np.linspace(0, 1, 401)
    f = card.function(np, node, z)
    best = _majorant_at_the_centre(z, f) + _majorant_at_the_centre(z, -f)
    low, low_shift, high, high_shift = card.relax(np, node, lower, upper, FLOAT64)
    found = (high - low) * (0.5 * lower + 0.5 * upper) + high_shift - low_shift
    assert (found / best).max() < accepted
    assert (found >= best * (1 - 1e-6)).all()  # the measure itself: no sound line is better
