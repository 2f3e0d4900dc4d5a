"""What a few paths say about the number of boxes of a search is near to what the search takes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from holdfast.invariance.band import band
from holdfast.invariance.level_set import Sublevel, decrease
from holdfast.invariance.prove import prove
from holdfast.invariance.tree_size import paths
from holdfast.load.formula_graph import compile_formulas
from holdfast.load.problem import load_problem
from holdfast.loop import ClosedLoop, close
from holdfast.search.budget import Budget
from holdfast.spec.region import Box

TEXT = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x", "y", "z"]
derivative = { x = "-x + x*y^2", y = "-y + y*x^2", z = "-z + 0.3*x" }
domain = { x = [-3, 3], y = [-3, 3], z = [-3, 3] }
"""


def example(folder: Path) -> tuple[ClosedLoop, Sublevel]:
    (folder / "p.toml").write_text(TEXT)
    loop = close(load_problem(folder / "p.toml").instances[0].loop)
    h = loop.on_states(compile_formulas({"V": "x^2 + y^2 + z^2"}, loop.data.plant.signals.names))
    return loop, Sublevel(h, (Fraction(3, 2), Fraction(3, 2)), Box.of([-3] * 3, [3] * 3), "V")


def test_an_estimate_is_near(tmp_path: Path) -> None:
    loop, states = example(tmp_path)
    condition = decrease(loop, states, (Fraction(1, 20), Fraction(1, 20)))
    sample = band(states.h, states.domain, 0.05, 1.5, 400, np.random.default_rng(0))
    assert sample is not None
    found = paths(condition, sample.points, Budget(60))
    estimate = float((found.boxes * sample.weights).sum())
    actual = prove(condition, Budget(60), 1)
    assert actual.holds and 0.3 * actual.outcome.boxes < estimate < 3 * actual.outcome.boxes


def test_the_volume_of_a_band(tmp_path: Path) -> None:
    _, states = example(tmp_path)
    sample = band(states.h, states.domain, 0.05, 1.5, 20000, np.random.default_rng(0))
    assert sample is not None
    volume = 4 / 3 * np.pi * (1.5**1.5 - 0.05**1.5)
    assert abs(sample.weights.sum() / volume - 1) < 0.05
    surface = band(states.h, states.domain, None, 1.5, 500, np.random.default_rng(0))
    assert surface is not None and np.abs((surface.points**2).sum(1) - 1.5).max() < 1e-9


def test_what_the_time_does_not_suffice_for_is_infinite(tmp_path: Path) -> None:
    loop, states = example(tmp_path)
    condition = decrease(loop, states, (Fraction(1, 20), Fraction(1, 20)))
    assert np.isinf(paths(condition, np.zeros((3, 3)), Budget(0.0)).boxes).all()
