"""Encodings that say nothing, and initial states that break a property at once."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from holdfast.load.problem import load_problem
from holdfast.reachability.claim import claim_of
from holdfast.reachability.vacuity import Finding, check_vacuity

PLANT = """
format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x", "v"]
derivative = { x = "v", v = "-x" }
[initial]
x = [0.1, 1.3]
v = [0, 0.3]
[horizon]
time = 1
[[property]]
id = "p"
kind = "always"
"""


def findings(tmp_path: Path, text: str) -> tuple[Finding, ...]:
    path = tmp_path / "problem.toml"
    path.write_text(PLANT + text)
    instance = load_problem(path).instances[0]
    return check_vacuity(claim_of(instance), instance)


@pytest.mark.parametrize(
    "text",
    [
        'not_set = { where = ["x >= -0.4", "x <= -0.6"] }',
        'not_set = { where = ["x^2 + v^2 <= -1"] }',
        'not_set = { where = ["x - v >= 1", "v <= 2", "x <= 2.9"] }\nduring = [0.5, 1]\n',
    ],
)
def test_empty_sets_are_noticed(tmp_path: Path, text: str) -> None:
    empty = "2.9" not in text  # that one is (2.9, 1.9), and more
    assert [f.kind for f in findings(tmp_path, text)] == ["empty"] * empty


def test_some_initial_states(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, 'set = { where = ["x + v <= 1.5"] }')
    assert (found.kind, found.every, found.state) == ("start", False, ("1.3", "0.3"))
    (found,) = findings(tmp_path, 'not_set = { where = ["(x - 0.7)^2 + (v - 0.1)^2 <= 0.0025"] }')
    x, v = (Fraction(Decimal(s)) for s in found.state)
    assert (x - Fraction(7, 10)) ** 2 + (v - Fraction(1, 10)) ** 2 <= Fraction(25, 10000)
    assert "violated at time 0 by some" in found.text


def test_every_initial_state(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, 'not_set = { where = ["x^2 + v^2 <= 2", "x <= 2"] }')
    assert found.kind == "start" and found.every


def test_sound_encodings_are_left_alone(tmp_path: Path) -> None:
    assert findings(tmp_path, 'set = { where = ["x + v <= 1.6"] }') == ()
    assert findings(tmp_path, "not_set = { box = { x = [1.4, 1.5] } }") == ()
    assert findings(tmp_path, "during = [0.5, 1]\nset = { box = { x = [5, 6] } }") == ()  # false, but later
