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


SCHEDULE = "schedule = { r = [[0, 1], [0.25, -1], [0.3, 2]] }"
WRONG = {
    # x = t, exactly: claims that are false by nothing at all, or by less than float64 numbers tell apart
    "strict at the end": along("1", "0", 1.0, 'kind = "always"\nset = { where = ["x < 1"] }'),
    "strict at the start": along("1", "0", 1.0, 'kind = "always"\nset = { where = ["x > 0"] }'),
    "a decimal below a decimal": along("1", "[0.1, 0.3]", 1.0, 'kind = "always"\nset = { where = ["x >= 0.10000000000000001"] }'),
    "the start of a window": along("1", "0", 1.0, 'kind = "always"\nset = { where = ["x > 0.5"] }\nduring = [0.5, 1.0]'),
    "an instant between": along("1", "0", 1.0, 'kind = "always"\nnot_set = { where = ["x >= 0.5", "x <= 0.5"] }'),
    "until, no time left over": along("1", "0", 1.0, 'kind = "until"\nfirst = { where = ["x < 0.5"] }\nthen = { where = ["x > 0.5"] }'),
    "eventually, strict": along("1", "0", 1.0, 'kind = "eventually"\nset = { where = ["x > 1"] }'),
    "a root of a negative side": along("1", "0", 1.0, 'kind = "always"\nset = { where = ["sqrt(x^2 + 1) <= -2"] }'),
    "a sign at its jump": along("1", "0", 0.5, 'kind = "always"\nset = { where = ["sign(x - 0.5) < 0"] }'),
    # of a signal that jumps the value from the jump on counts, at the last instant too
    "a jump at the end": along("0", "0", 0.3, 'kind = "always"\nset = { where = ["x + r <= 1.5"] }', SCHEDULE),
    "a jump that is not there yet": along("0", "0", 0.29, 'kind = "eventually"\nset = { where = ["x + r >= 1.9"] }', SCHEDULE),
    # not defined on the way: nothing holds
    "a logarithm": along("1", "0", 1.0, 'kind = "always"\nset = { where = ["log(x - 0.5) <= 100"] }'),
    "a pole": along("1", "0", 1.0, 'kind = "always"\nset = { where = ["-1/(x - 0.3)^2 <= 0"] }'),
    "a pole of tan": along("1", "0", 1.0, 'kind = "always"\nset = { where = ["exp(-tan(2*x)^2) <= 2"] }'),
    "solutions that escape": along("x^2", "1", 1.1, 'kind = "always"\nset = { where = ["x >= 0"] }'),
    "solutions that are not unique": along("2*sqrt(abs(x))", "0", 1.0, 'kind = "always"\nset = { where = ["x <= 0.5"] }'),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_hold_is_not_verified(tmp_path: Path, name: str) -> None:
    assert decided(tmp_path, WRONG[name], 2.0).verdict is not Verdict.VERIFIED


RIGHT = {
    "touching at the end": along("1", "0", 1.0, 'kind = "always"\nset = { where = ["x <= 1"] }'),
    "touching at the start": along("1", "0", 1.0, 'kind = "always"\nset = { where = ["x >= 0"] }'),
    "until at once": along("1", "0", 1.0, 'kind = "until"\nfirst = { where = ["x >= 5"] }\nthen = { where = ["x <= 0"] }'),
    "until, at the instant at which holding ends": along("1", "0", 1.0, 'kind = "stl"\nformula = "(x < 0.5) U[0,1] (x >= 0.5)"'),
    "a negated until": along("1", "0", 1.0, 'kind = "stl"\nformula = "!((x < 0.49) U[0,1] (x >= 0.5))"'),
    "one or the other, by the initial state": along("1", "[-0.5, 0.5]", 1.0, 'kind = "stl"\nformula = "G[0,1](x <= 1) | F[0,1](x >= 1)"'),
    "at a jump": along("0", "0", 0.3, 'kind = "at"\ntime = 0.3\nset = { where = ["r >= 2"] }', SCHEDULE),
    "a kink": along("-x*abs(x)", "1", 1.0, 'kind = "at"\ntime = 1.0\nset = { where = ["x >= 0.5"] }'),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_what_holds_is_not_falsified(tmp_path: Path, name: str) -> None:
    assert decided(tmp_path, RIGHT[name], 2.0).verdict is not Verdict.FALSIFIED


def test_an_open_claim_does_not_hide_a_false_one(tmp_path: Path) -> None:
    text = along("-x", "[0.1, 0.5]", 1.0, 'kind = "always"\nset = { where = ["x <= 0.5"] }')
    text += '[[property]]\nid = "q"\nkind = "invariant"\nset = { box = { x = [0.25, 1] } }\n'
    assert decided(tmp_path, text, 4.0).verdict is Verdict.FALSIFIED
