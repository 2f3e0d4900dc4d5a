"""Claims about trajectories that are false, or true by a hair: no wrong verdict is given.

Each case was once answered wrongly, or is one that a plausible mistake would answer wrongly.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.load.problem import load_problem
from holdfast.reachability.decide import decide
from holdfast.verdict import Result, Verdict

HEAD = 'format = "holdfast-problem/1"\ntitle = "t"\n'


def decided(folder: Path, text: str, timeout: float = 20.0) -> Result:
    path = folder / "problem.toml"
    path.write_text(HEAD + text)
    problem = load_problem(path)
    return decide(problem, problem.instances[0], timeout=timeout, workers=1)


def along(derivative: str, initial: str, time: float, prop: str, more: str = "") -> str:
    return f"""[plant]
kind = "ode"
states = ["x"]
derivative = {{ x = "{derivative}" }}
{more}
[initial]
x = {initial}
[horizon]
time = {time}
[[property]]
id = "p"
{prop}
"""


@pytest.mark.parametrize(
    "text",
    [
        # an unsafe set that lies beyond what is looked at for vacuity is not empty
        along("10*x", "1", 3.0, 'kind = "always"\nset = { where = ["x <= 1000000000000"] }'),
        # nor one that lies outside the domain: trajectories leave it
        along("1", "0", 5.0, 'kind = "always"\nset = { where = ["x <= 4"] }', "domain = { x = [-1, 3] }"),
        # one part of a property that says nothing is not the whole property
        along("1", "0", 2.0, 'kind = "stl"\nformula = "G[0,2](x^2 >= -1) & G[0,2](x <= 1)"'),
    ],
)
def test_what_looks_empty_proves_nothing(tmp_path: Path, text: str) -> None:
    assert decided(tmp_path, text).verdict is Verdict.FALSIFIED
