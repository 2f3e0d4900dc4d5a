"""The level proved is below every level that is violated, and near to it; whatever the time, what is said holds."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from holdfast.invariance.level_set import Sublevel, decrease, stay
from holdfast.invariance.levels import furthest
from holdfast.invariance.sets import Enclosed
from holdfast.load.formula_graph import compile_formulas
from holdfast.load.problem import load_problem
from holdfast.loop import ClosedLoop, close
from holdfast.search.budget import Budget
from holdfast.spec.condition import Condition
from holdfast.spec.region import Box

TEXT = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x", "y"]
derivative = { x = "-x + x*y^2", y = "-y + y*x^2" }
domain = { x = [-3, 3], y = [-3, 3] }
"""


@pytest.fixture
def example(tmp_path: Path) -> tuple[ClosedLoop, Sublevel]:
    """V = x^2 + y^2: V' = -2 V + 4 x^2 y^2 is negative exactly where V < 2 on the diagonal."""
    (tmp_path / "p.toml").write_text(TEXT)
    loop = close(load_problem(tmp_path / "p.toml").instances[0].loop)
    h = loop.on_states(compile_formulas({"V": "x^2 + y^2"}, loop.data.plant.signals.names))
    return loop, Sublevel(h, (Fraction(8), Fraction(8)), Box.of([-3, -3], [3, 3]), "V")


def test_band_grows_to_the_violation(example: tuple[ClosedLoop, Sublevel]) -> None:
    loop, states = example
    bottom = (Fraction(1, 100), Fraction(1, 100))
    found = furthest(lambda t, _: decrease(loop, replace(states, top=t), bottom), 8.0, Budget(10))
    assert found.level is not None and 1.99 < found.level < 2
    assert all(level < 2 for _, level in found.history)


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.1])
def test_any_time_is_sound(example: tuple[ClosedLoop, Sublevel], seconds: float) -> None:
    loop, states = example
    bottom = (Fraction(1, 100), Fraction(1, 100))
    found = furthest(lambda t, _: decrease(loop, replace(states, top=t), bottom), 8.0, Budget(seconds))
    assert found.level is None or found.level < 2


def test_faces(example: tuple[ClosedLoop, Sublevel]) -> None:
    """At x = 3 the flow points out where y^2 > 1, V > 10."""
    loop, states = example
    found = furthest(lambda t, _: stay(loop, replace(states, top=t)), 20.0, Budget(10))
    assert found.level is not None and 9.99 < found.level <= 10
    assert np.isfinite(found.level)


def test_the_bottom_rises_to_the_violation(tmp_path: Path) -> None:
    """V' = -2 V + 0.4 x is not negative on a disc that reaches up to V = 0.04."""
    (tmp_path / "p.toml").write_text(TEXT.replace("-x + x*y^2", "-x + 0.2").replace("-y + y*x^2", "-y"))
    loop = close(load_problem(tmp_path / "p.toml").instances[0].loop)
    h = loop.on_states(compile_formulas({"V": "x^2 + y^2"}, loop.data.plant.signals.names))
    states = Sublevel(h, (Fraction(2), Fraction(2)), Box.of([-3, -3], [3, 3]), "V")

    def make(top: Enclosed, bottom: Enclosed | None) -> Condition:
        assert bottom is not None
        return decrease(loop, replace(states, top=top), bottom)

    found = furthest(make, 2.0, Budget(10), bottom=0.001)
    assert found.level == 2 and found.bottom is not None and 0.04 < found.bottom < 0.05
    assert furthest(make, 2.0, Budget(0.0), bottom=0.001).level is None
