"""Which initial values stand for variables: those that bend trajectories; tubes hold these whatever was chosen."""

from __future__ import annotations

import importlib.util
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from flows import loop_of

from holdfast.loop.tube import System
from holdfast.spec.region import Box

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["a", "b", "c", "d", "e", "f"]


@pytest.fixture(scope="module")
def tubes():
    """The script that compares tubes with trajectories."""
    spec = importlib.util.spec_from_file_location("tubes", ROOT / "benchmarks" / "tubes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tubes"] = module
    spec.loader.exec_module(module)
    return module


def chain(folder: Path, radii: list[float]):
    """Two oscillators that bend, and a linear tail behind them; all drive their neighbours."""
    rates = ["b", "(1 - a^2)*b - a", "d + 0.1*a*c", "-sin(c) - 0.3*d + 0.2*b", "f", "-e - 0.5*f + 0.1*c"]
    return loop_of(folder, dict(zip(NAMES, rates, strict=True))), Box.of(
        [0.2 - r for r in radii], [0.2 + r for r in radii]
    )


@pytest.mark.parametrize(
    "radii", [[0.3, 0.3, 0.01, 0.01, 0.01, 0.01], [0.05] * 6, [0.3, 0.0, 0.01, 0.2, 0.001, 0.3], [1e-6] * 6]
)
def test_symbols_and_variables_hold_trajectories(tubes, tmp_path: Path, radii: list[float]) -> None:
    data, box = chain(tmp_path, radii)
    found = tubes.checked(data, box, Fraction(2), 300, 40, 20.0)
    assert found.outside == 0 and found.points > 0 and found.reached == found.horizon
    assert found.loose < 6


def test_what_is_linear_is_a_symbol(tmp_path: Path) -> None:
    data, box = chain(tmp_path, [0.3] * 6)
    variables = System(data, box).variables
    assert variables[0] is not None and variables[1] is not None
    assert variables[4] is None and variables[5] is None


def test_a_linear_plant_and_units(tmp_path: Path) -> None:
    """The choice does not depend on units; of a plant that bends nothing two values are left, so that boxes can be halved."""
    data = loop_of(tmp_path, dict(zip(NAMES, ["b", "-a", "d", "-c", "f", "-e + a"], strict=True)))
    system = System(data, Box.of([0.0] * 6, [1.0] * 6))
    assert sum(v is not None for v in system.variables) == 2
    data = loop_of(
        tmp_path,
        dict(zip(NAMES, ["1000*b", "-0.001*a - 0.001*(0.001*a)^3", "d", "-c", "f", "-e + 0.001*a"], strict=True)),
    )
    assert System(data, Box.of([0.0] * 6, [1000.0, *[1.0] * 5])).variables == (0, 1, None, None, None, None)


def test_few_values_and_points(tmp_path: Path) -> None:
    data = loop_of(tmp_path, dict(zip(NAMES, ["b", "-a", "d", "-c", "f", "-e + a"], strict=True)))
    low, high = ["0.1"] * 6, ["0.1", "0.2", "0.2", "0.2", "0.2", "0.1"]
    system = System(data, Box.of(low, high))
    assert system.variables == (None, 0, 1, 2, 3, None)
    front = system.start([Box.of(low, high)], Fraction(1))
    assert np.all(np.isfinite(front.states.size)) and front.states.symbols == 2  # 0.1 is no float64 number


def test_trajectories_that_escape(tmp_path: Path) -> None:
    """Nothing is known at the first time looked at: all values are variables."""
    data = loop_of(tmp_path, dict(zip(NAMES, ["exp(exp(a))", "-b", "-c", "-d", "-e", "-f"], strict=True)))
    assert all(v is not None for v in System(data, Box.of([5.0] * 6, [50.0] * 6)).variables)
