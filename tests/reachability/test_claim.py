"""Properties of problem files as one formula: what they mean, what is refused, atoms without roots and kinks."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from holdfast.errors import InputError
from holdfast.load.problem import load_problem
from holdfast.reachability.claim import claim_of
from holdfast.spec.formula import Formula
from holdfast.spec.temporal import Instance
from holdfast.transforms import evaluate

PROBLEMS = Path(os.environ.get("HOLDFAST_BENCHMARKS", ""), "closedloop")
PLANT = """
format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x", "v"]
parameters = { a = [0.5, 1.5], b = 2.0 }
schedule = { r = [[0, 0.5], [2.0, -0.5]] }
derivative = { x = "v", v = "-x" }
domain = { x = [-5, 5] }
[functions]
V = { expression = "x^2 + v^2" }
[initial]
x = 1
v = 0
[horizon]
time = 6
"""
MAP = """
format = "holdfast-problem/1"
[plant]
kind = "map"
states = ["x"]
next = { x = "x/2" }
[initial]
x = 1
[horizon]
steps = 4
"""


def instance(tmp_path: Path, properties: str, plant: str = PLANT) -> Instance:
    path = tmp_path / "problem.toml"
    path.write_text(plant + properties)
    return load_problem(path).instances[0]


def holds(formula: Formula, atoms: np.ndarray) -> np.ndarray:
    """Of a formula without temporal operators, on truths (points, K)."""
    if formula.operator == "atom":
        return atoms[:, formula.atom]
    parts = [holds(a, atoms) for a in formula.arguments]
    if formula.operator == "!":
        return ~parts[0]
    return np.logical_and.reduce(parts) if formula.operator == "&" else np.logical_or.reduce(parts)


def values(model, points: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    return np.asarray(evaluate(model.graph, model.parameters, [points])[model.graph.outputs[0]])


SETS = {
    'where = ["sqrt(x^2 + v^2) <= 0.2 + 2*a*sqrt(x^2 + 1)"]': lambda x, v, a: (
        np.hypot(x, v) - 0.2 - 2 * a * np.hypot(x, 1)
    ),
    'where = ["sqrt(x^2 + v^2) >= 1.5*a"]': lambda x, v, a: 1.5 * a - np.hypot(x, v),
    'where = ["sqrt(x^2 + v^2) < x - v"]': lambda x, v, a: np.hypot(x, v) - x + v,
    'where = ["2*sqrt(x^2) + 3*sqrt(v^2 + 0.5) <= 4"]': lambda x, v, a: 2 * abs(x) + 3 * np.sqrt(v * v + 0.5) - 4,
    'where = ["abs(x - v) <= 1", "max(x, v, 0.1) <= a"]': lambda x, v, a: np.maximum(
        abs(x - v) - 1, np.maximum(np.maximum(x, v), 0.1) - a
    ),
    'where = ["min(x, -abs(v)) <= -1"]': lambda x, v, a: np.minimum(x, -abs(v)) + 1,
    'where = ["abs(sqrt(x^2 + v^2) - 1) <= 0.25*abs(v)"]': lambda x, v, a: abs(np.hypot(x, v) - 1) - 0.25 * abs(v),
    'where = ["exp(x) - sqrt(exp(v)) > 0"]': lambda x, v, a: np.sqrt(np.exp(v)) - np.exp(x),
    "box = { x = [-1, 0.3] }": lambda x, v, a: np.maximum(x - 0.3, -1 - x),
    "polytope = { H = [[1, 1], [1, -2]], lower = [-1, -inf], upper = [0.7, 1], center = [0.1, 0.2] }": lambda x, v, a: (
        np.maximum.reduce([x + v - 1.0, -(x + v) - 0.7, x - 2 * v - 0.7])
    ),
    "ellipsoid = { P = [[2, 0.5], [0.5, 1]], level = 1.5, center = [0.1, -0.2] }": lambda x, v, a: (
        2 * (x - 0.1) ** 2 + (x - 0.1) * (v + 0.2) + (v + 0.2) ** 2 - 1.5
    ),
    'level = { function = "V", at_most = 2, at_least = 0.5 }': lambda x, v, a: np.maximum.reduce(
        [x * x + v * v - 2, 0.5 - x * x - v * v, abs(x) - 5]
    ),
}


@pytest.mark.parametrize("text", SETS)
def test_sets_are_what_they_say(tmp_path: Path, text: str) -> None:
    claim = claim_of(instance(tmp_path, f"[[property]]\nid = 'p'\nkind = 'at'\ntime = 0\nset = {{ {text} }}\n"))
    rng = np.random.default_rng(0)
    points = np.zeros((4000, 4))
    points[:, :2], points[:, 2] = rng.normal(size=(4000, 2)) * 1.5, rng.uniform(0.5, 1.5, 4000)
    points[:50, 1] = 0.0
    with np.errstate(all="ignore"):
        margin = SETS[text](*points.T[:3])
        g = values(claim.values, points)
    clear = abs(margin) > 1e-9  # plain arithmetic on both sides
    found = holds(claim.predicates[0].formula, np.where(claim.strict, g < 0, g <= 0))
    assert clear.sum() > 3500 and (found == (margin < 0))[clear].all()
    assert 0 < found.sum() < 4000


def test_roots_and_kinks_are_gone_where_they_can_be(tmp_path: Path) -> None:
    claim = claim_of(
        instance(
            tmp_path,
            """
[[property]]
id = "p"
kind = "stl"
formula = "G[0,1](sqrt(x^2 + v^2) <= 2 & abs(x) <= 1) & F[1,2](max(x, v) >= 0.5) & x <= sqrt(x)"
""",
        )
    )
    kinds = [node.op for node in claim.values.graph.nodes]
    assert kinds.count("sqrt") == 1 and not {"abs", "relu"} & set(kinds)  # the root of what may be negative stays
    assert set(claim.texts) == {"sqrt(x^2 + v^2) <= 2", "abs(x) <= 1", "max(x, v) >= 0.5", "x <= sqrt(x)"}


def test_kinds_become_temporal_operators(tmp_path: Path) -> None:
    claim = claim_of(
        instance(
            tmp_path,
            """
[[property]]
id = "always"
kind = "always"
not_set = { box = { x = [1, 2] } }
[[property]]
id = "at"
kind = "at"
time = 2.5
set = { box = { x = [1, 2] } }
[[property]]
id = "eventually"
kind = "eventually"
during = [1, 2]
set = { where = ["x < r"] }
[[property]]
id = "until"
kind = "until"
first = { where = ["x <= a"] }
then = { where = ["x <= b"] }
[[property]]
id = "nested"
kind = "stl"
formula = "!F[0,1] G[1,2] (x >= 0.3 | v <= 0)"
[[property]]
kind = "invariant"
id = "inv"
set = { box = { x = [-5, 5] } }
""",
        )
    )
    F = Fraction
    assert [f.operator for f in claim.tree.arguments] == ["G", "G", "F", "U", "!"]
    assert [(p.property, p.window, p.must) for p in claim.predicates] == [
        ("always", (0, 6), True), ("at", (F(5, 2), F(5, 2)), True), ("eventually", (1, 2), False),
        ("until", (0, 6), False), ("until", (0, 6), False), ("nested", (1, 3), False),
    ]  # fmt: skip
    assert claim.formula.arguments[4].operator == "G" and claim.formula.arguments[4].arguments[0].operator == "F"
    assert claim.end == 6 and not claim.discrete and [p.id for p in claim.others] == ["inv"]


REFUSED = {
    (PLANT, "kind = 'stl'\nformula = 'G[0,4] F[0,3] (x <= 1)'"): "the horizon ends at 6",
    (PLANT, "kind = 'always'\nduring = [0, 7]\nset = { box = { x = [0, 1] } }"): "the horizon ends at 6",
    (PLANT, "kind = 'at'\ntime = 6.5\nset = { box = { x = [0, 1] } }"): "the horizon ends at 6",
    (PLANT, "kind = 'stl'\nformula = 'G[0,1] (y <= 1)'"): "unknown name y",
    (MAP, "kind = 'stl'\nformula = 'G[0,1.5] (x <= 1)'"): "the steps of a map are integers",
    (MAP, "kind = 'always'\nduring = [0.5, 2]\nset = { box = { x = [0, 1] } }"): "the steps of a map are integers",
    (MAP, "kind = 'at'\nstep = 5\nset = { box = { x = [0, 1] } }"): "the horizon ends at 4",
}


@pytest.mark.parametrize("given", REFUSED, ids=range(len(REFUSED)))
def test_windows_that_do_not_fit_are_refused(tmp_path: Path, given: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=REFUSED[given]) as error:
        claim_of(instance(tmp_path, f"[[property]]\nid = 'mine'\n{given[1]}\n", given[0]))
    assert "mine" in str(error.value)


@pytest.mark.skipif(not PROBLEMS.is_dir(), reason="HOLDFAST_BENCHMARKS does not name a folder with closedloop/")
def test_all_benchmarks_have_a_claim() -> None:
    count = 0
    for path in sorted(PROBLEMS.glob("*/problem.toml")):
        for one in load_problem(path).instances:
            claim = claim_of(one)
            count += 1
            assert not claim.others
            assert bool(claim.predicates) == bool(one.properties)
            assert all(p.must for p in claim.predicates)
    assert count == 73
