"""Branch and bound over initial boxes: nothing gets lost on the way to a proof."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from holdfast.load.problem import load_problem
from holdfast.loop.tube import System
from holdfast.reachability.claim import claim_of
from holdfast.reachability.decide import decide
from holdfast.reachability.split import Cell, explore, prove
from holdfast.search.budget import Budget
from holdfast.spec.temporal import Problem
from holdfast.verdict import Verdict

HEAD = 'format = "holdfast-problem/1"\ntitle = "t"\n'
PENDULUM = """[plant]
kind = "ode"
states = ["x", "y"]
derivative = {{ x = "y", y = "-x - 2*sin(2*x) - 0.1*y" }}
[initial]
x = [-1.5, 1.5]
y = [-1.5, 1.5]
[horizon]
time = 1.0
[[property]]
id = "p"
kind = "always"
set = {{ where = ["x^2 + y^2 <= {level}"] }}
"""
POINT = """[plant]
kind = "ode"
states = ["x"]
derivative = { x = "-x" }
[initial]
x = 1
[horizon]
time = 1.0
[[property]]
id = "p"
kind = "always"
set = { where = ["x <= 0.9999999999999999999"] }
"""


def problem(folder: Path, text: str) -> Problem:
    path = folder / "problem.toml"
    path.write_text(HEAD + text)
    return load_problem(path)


def test_a_point_that_cannot_be_halved_is_not_lost(tmp_path: Path) -> None:
    one = problem(tmp_path, POINT)
    assert decide(one, one.instances[0], timeout=10, workers=1).verdict is not Verdict.VERIFIED


@pytest.mark.parametrize("workers", [1, 2])
def test_boxes_are_halved_until_the_claim_is_proved(tmp_path: Path, workers: int) -> None:
    one = problem(tmp_path, PENDULUM.format(level="9.5")).instances[0]
    assert one.initial is not None
    claim = claim_of(one)
    make = lambda degree: System(one.loop, one.initial, 1)  # noqa: E731
    cell = Cell(one.initial, one.loop.plant.parameters)
    found = prove(make, claim, cell, Fraction(1), Budget(60.0), workers)
    assert found.holds and found.proved == 1 and not found.open
    assert found.followed > 1


def test_what_is_not_followed_is_not_proved(tmp_path: Path) -> None:
    one = problem(tmp_path, PENDULUM.format(level="9.5")).instances[0]
    assert one.initial is not None
    cell = Cell(one.initial, one.loop.plant.parameters)
    late = explore(System(one.loop, one.initial), claim_of(one), [cell], Fraction(1), lambda: True)
    assert late[0].kind == "late"
    make = lambda degree: System(one.loop, one.initial, degree)  # noqa: E731
    found = prove(make, claim_of(one), cell, Fraction(1), Budget(0.0), 1)
    assert not found.holds


def test_a_false_claim_is_refuted(tmp_path: Path) -> None:
    one = problem(tmp_path, PENDULUM.format(level="4.0"))
    answer = decide(one, one.instances[0], timeout=60, workers=1)
    assert answer.verdict is Verdict.FALSIFIED
