"""Problem files: every table of the format, the way back, and the benchmark problems by another evaluator."""

from __future__ import annotations

import math
import os
import tomllib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from problem_files import IMPLICIT, MAP, PENDULUM, at, claimed, folder, load

from holdfast.errors import PropertyError
from holdfast.load.problem import load_problem
from holdfast.load.problem_writing import problem_text, write_problem
from holdfast.spec.temporal import BoxSet, Conditions, Ellipsoid, Level, Polytope

__all__ = ["folder"]  # the fixture
BENCHMARKS = os.environ.get("HOLDFAST_BENCHMARKS")
PROBLEMS = (
    sorted(p for part in ("closedloop", "invariance") for p in Path(BENCHMARKS, part).glob("*/problem.toml"))
    if BENCHMARKS
    else []
)
MOST_NODES = {"cartpole": 22, "quadrotor": 23, "platoon28": 7, "segway": 24, "van": 8, "vcas": 2}
FUNCTIONS = {
    **{name: getattr(math, name) for name in ("sin", "cos", "tan", "asin", "acos", "atan", "exp", "log", "sqrt", "tanh")},
    "abs": abs, "min": min, "max": max, "sigmoid": lambda v: 1 / (1 + math.exp(-v)), "sign": np.sign, "pi": math.pi,
}  # fmt: skip


def test_the_tables(folder: Path) -> None:
    problem = load(folder, PENDULUM)
    (instance,) = problem.instances
    plant, controller = instance.loop.plant, instance.loop.controller
    assert problem.title == "Pendulum" and len(problem.sha256) == 64 and instance.id == ""
    assert plant.signals.names == ("th", "om", "T", "k", "w", "r")
    assert at(plant.dynamics, 0.3, 0.7, 0.25, 1.1, 0.01, 5) == pytest.approx([0.7, 2.2 * math.sin(0.3) + 2.0 + 0.01])
    assert plant.parameters.exact_lower(0) == Fraction(9, 10) and plant.disturbances.exact_upper(0) == Fraction(1, 100)
    half = Fraction(1, 2)
    assert plant.schedule == (((0, half), (2, -half)),)
    assert (
        plant.bounded == (True, False) and plant.domain is not None and plant.domain.exact_upper(0) == Fraction("3.2")
    )
    assert controller is not None and controller.period == Fraction(1, 20) and controller.feedback == "sampled"
    assert at(controller.network_inputs, 1, 2, 3, 4, 5, 6) == [1.0, 2.0]
    assert controller.plant_inputs is not None
    assert [at(controller.plant_inputs, *[0.0] * 6, y) for y in (5, -5, 0.5)] == [[2.0], [-2.0], [0.5]]
    assert instance.initial is not None and instance.initial.exact_upper(0) == Fraction("1.175")
    assert (instance.steps, instance.time) == (20, None)
    assert at(instance.loop.functions["V"].value, 1, 2, 0, 0, 0, 0) == [1.5]
    assert at(instance.loop.functions["W"].value, 1, 2, 0, 0, 0, 0) == [7.0]
    (claim,) = instance.properties
    assert claim.during == (Fraction(1, 2), 1) and isinstance(claim.states, Conditions)
    assert claim.states.strict == (False, True) and at(claim.states.values, 0.25, *[0.0] * 5) == [-0.25, -0.75]


def test_sets_and_kinds(folder: Path) -> None:
    def only(text: str):
        return load(folder, claimed(text)).instances[0].properties[0]

    shape = only("kind = 'at'\ntime = 0.5\nnot_set = { box = { om = [0, 1] } }")
    assert shape.states == BoxSet({1: (Fraction(0), Fraction(1))}) and shape.negated and shape.at == Fraction(1, 2)
    assert only("kind = 'at'\nstep = 3\nset = { box = { om = 1 } }").at == Fraction(3, 20)
    polytope = only(
        "kind = 'invariant'\nset = { polytope = { H = [[1, 0], [0, 1], [1, 1]], lower = [-1, -inf, -1], upper = [1, 1, 0.1], center = [0.1, 0] } }"
    ).states
    assert isinstance(polytope, Polytope) and polytope.lower == (-1, None, -1) and polytope.center[0] == Fraction(1, 10)
    ellipsoid = only("kind = 'invariant'\nset = { ellipsoid = { P = [[2, 0.5], [0.5, 1]], level = 1 } }").states
    assert isinstance(ellipsoid, Ellipsoid) and ellipsoid.P[0][1] == Fraction(1, 2)
    attracts = only("kind = 'attracts'\nfrom = { level = { function = 'V', at_most = 0.9 } }\nto = 'equilibrium'")
    assert attracts.states == Level("V", Fraction(9, 10)) and attracts.target == "equilibrium"
    until = only("kind = 'until'\nfirst = { box = { om = [0, 1] } }\nthen = { where = ['th <= 0'] }\nduring = [0, 1]")
    assert isinstance(until.target, Conditions) and isinstance(until.states, BoxSet)
    assert only("kind = 'barrier'\nfunction = 'W'\nunsafe = { where = ['th > 3'] }").function == "W"
    assert only("kind = 'eventually'\nset = { where = ['th > 3'] }").kind == "eventually"
    assert only("kind = 'stl'\nformula = 'G[0, 1](th <= 3)'").formula == "G[0, 1](th <= 3)"


def test_selecting_controller_of_a_map(folder: Path) -> None:
    problem = load(folder, MAP)
    controller = problem.instances[0].loop.controller
    assert controller is not None and controller.feedback == "step" and controller.plant_inputs is None
    assert controller.select == "argmax" and controller.first == 1 and len(controller.networks) == 3
    assert controller.networks[0] is controller.networks[2]
    assert [len(row) for row in controller.rows] == [1, 1, 2]
    first, second = controller.rows[2]
    assert first.after == 2 and first.where is not None and first.strict == (False, True) and second.after is None
    assert at(first.where, 3, 0.5, 0) == [0.5, 3.0]
    assert at(controller.rows[0][0].inputs, *[0.0] * 6) == pytest.approx([-0.3])
    assert at(controller.rows[1][0].inputs, 0, 0, 0, 0.1, 0.2, 9) == pytest.approx([0.3])


def test_instances_merge(folder: Path) -> None:
    problem = load(folder, PENDULUM + """
[[instance]]
id = "a"
expected = "verified"
[[instance]]
id = "b"
network = "other.onnx"
parameters = { L = 1, k = 2 }
initial = { om = [0, 1] }
horizon = { time = 1.5 }
plant_inputs = { T = "2*y0" }
expected = "open"
[[instance.property]]
id = "other"
kind = "invariant"
set = { box = { th = [-1, 1], om = [-1, 1] } }
[[instance]]
id = "c"
plant = { kind = "ode", states = ["th", "om"], derivative = { th = "om", om = "-th + T" }, inputs = ["T"] }
[[instance]]
id = "d"
plant = { disturbances = { w = 0 } }
""")  # fmt: skip
    a, b, c, d = problem.instances
    assert a.loop.functions["V"].network is a.loop.controller.networks[0]
    assert a.loop.plant is not b.loop.plant and a.loop.controller.networks[0] is c.loop.controller.networks[0]
    assert a.expected == "verified" and [p.id for p in a.properties] == ["window"]
    assert b.loop.plant.signals.parameters == () and [p.id for p in b.properties] == ["other"]
    assert at(b.loop.plant.dynamics, 0, 1, 1, 0, 0) == [1.0, 2.0]
    assert at(b.loop.controller.plant_inputs, *[0.0] * 5, 0.5) == [1.0]
    assert b.initial.exact_lower(0) == 1 and b.initial.exact_upper(1) == 1
    assert (b.steps, b.time, b.expected) == (None, Fraction(3, 2), "open")
    assert c.loop.plant.signals.names == ("th", "om", "T")
    assert d.loop.plant.disturbances.exact_upper(0) == 0 and d.loop.plant.signals.parameters == ("k",)


def test_implicit_ode(folder: Path) -> None:
    state = [0.3, -0.4, 0.5, 0.6, 0.7, 0.8]
    mass = np.array([[3 + math.cos(-0.4), 1, 0.3], [1, 2, 0.5], [0.3, 0.5, 4]])
    solution = np.linalg.solve(mass, [-math.sin(0.3), 0.42, 0.5])
    plant = load(folder, IMPLICIT).instances[0].loop.plant
    assert plant.kind == "ode" and plant.singular is not None
    assert at(plant.dynamics, *state) == pytest.approx([0.6, 0.7, 0.8, *solution])
    assert at(plant.singular, *state) == pytest.approx([np.linalg.det(mass)])
    size = 5
    names = [f"v{i}" for i in range(size)]
    rng = np.random.default_rng(1)
    numbers = rng.integers(-4, 5, (size, size)) + 9 * np.eye(size, dtype=int)
    text = f"""format = "holdfast-problem/1"
[plant]
kind = "implicit-ode"
states = {names}
accelerations = {names}
mass = {[[str(x) for x in row] for row in numbers.tolist()]}
forces = {[f"{i}*v{i}" for i in range(size)]}
"""
    point = rng.normal(size=size)
    plant = load(folder, text).instances[0].loop.plant
    assert at(plant.dynamics, *point) == pytest.approx(np.linalg.solve(numbers, np.arange(size) * point))


def exact(value: object) -> object:
    """Tables with every number as a Fraction, so that 1 and 1.0 are equal and true is not 1."""
    if isinstance(value, dict):
        return {key: exact(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [exact(v) for v in value]
    if isinstance(value, Decimal | int | float) and not isinstance(value, bool):
        return Fraction(value) if math.isfinite(value) else ("infinite", float(value))
    return value


def same(text: str, document: object) -> bool:
    return exact(tomllib.loads(text, parse_float=Decimal)) == exact(document)


@pytest.mark.parametrize("text", [PENDULUM, MAP, IMPLICIT, claimed("kind = 'stl'\nformula = '''G[0, 1](th\n <= 3)'''")])
def test_written_problems_read_back(folder: Path, text: str) -> None:
    instance = load(folder, text).instances[0]
    written = write_problem(instance, folder / "again.toml")
    assert same(written, instance.document)
    again = load_problem(folder / "again.toml").instances[0]
    assert again.loop.plant.dynamics.graph == instance.loop.plant.dynamics.graph
    assert [p.id for p in again.properties] == [p.id for p in instance.properties]
    (folder / "sub").mkdir()
    write_problem(instance, folder / "sub" / "again.toml", folder / "problem.toml")
    load_problem(folder / "sub" / "again.toml")


def test_found_numbers_are_written_exactly() -> None:
    rows = np.array([[0.1, -1e-300], [1e22, 3.0]])
    values = {"a": rows, "b": Fraction(1, 8), "c": 'quote " and \\ \n\x01 é', "d e": [np.float64(0.3), 5, True, Decimal("1E+3")], "i": [Decimal("-Infinity")]}  # fmt: skip
    text = problem_text(values)
    assert same(text, {**values, "a": rows.tolist()})
    for bad in (Fraction(1, 3), float("nan"), None):
        with pytest.raises(PropertyError, match=r"cannot hold|no decimal"):
            problem_text({"a": bad})


def by_python(text: object, values: dict[str, float]) -> float:
    return float(eval(str(text).replace("^", "**"), {"__builtins__": {}}, {**FUNCTIONS, **values}))


@pytest.mark.skipif(not PROBLEMS, reason="HOLDFAST_BENCHMARKS is not set")
@pytest.mark.parametrize("path", PROBLEMS, ids=lambda p: p.parent.name)
def test_benchmark_problem(path: Path, tmp_path: Path) -> None:
    problem = load_problem(path)
    rng = np.random.default_rng(3)
    assert len(problem.instances) == len(tomllib.loads(path.read_text()).get("instance", [0]))
    for instance in problem.instances:
        plant, tables = instance.loop.plant, instance.document["plant"]
        constants = {k: float(v) for k, v in tables.get("parameters", {}).items() if not isinstance(v, list)}
        for _ in range(3):
            values = dict(zip(plant.signals.names, rng.uniform(0.1, 0.9, len(plant.signals)), strict=True))
            scope = {**constants, **values}
            for name, text in tables.get("definitions", {}).items():
                scope[name] = by_python(text, scope)
            formulas = tables["next" if plant.kind == "map" else "derivative"]
            expected = [by_python(formulas[name], scope) for name in plant.signals.states]
            assert at(plant.dynamics, *values.values()) == pytest.approx(expected, rel=1e-11, abs=1e-11)
            for name, function in instance.loop.functions.items():
                table = instance.document["functions"][name]
                if "expression" in table:
                    assert at(function.value, *values.values()) == pytest.approx(
                        [by_python(table["expression"], scope)]
                    )
            controller = instance.loop.controller
            assert controller is not None
            expected = [by_python(text, scope) for text in instance.document["controller"]["network_inputs"]]
            assert at(controller.network_inputs, *values.values()) == pytest.approx(expected, rel=1e-12)
    assert len(problem.instances[0].loop.plant.dynamics.graph) <= MOST_NODES.get(path.parent.name, 30)
    written = write_problem(problem.instances[0], tmp_path / "problem.toml", path)
    again = load_problem(tmp_path / "problem.toml").instances[0]
    assert again.loop.plant.dynamics.graph == problem.instances[0].loop.plant.dynamics.graph
    assert again.id == problem.instances[0].id and same(written, {**again.document})
