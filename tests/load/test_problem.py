"""Problem files: every table of the format, every refusal, the way back, and the benchmark problems by another evaluator."""

from __future__ import annotations

import math
import os
import re
import tomllib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from holdfast.errors import HoldfastError, ModelError, PropertyError
from holdfast.graph import Model
from holdfast.load.problem import load_problem
from holdfast.load.problem_writing import problem_text, write_problem
from holdfast.spec.temporal import BoxSet, Conditions, Ellipsoid, Level, Polytope, Problem
from holdfast.transforms.evaluate import evaluate

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

PENDULUM = """
format = "holdfast-problem/1"
title = "Pendulum"
[plant]
kind = "ode"
states = ["th", "om"]
inputs = ["T"]
parameters = { m = 0.5, L = 0.5, k = [0.9, 1.1] }
disturbances = { w = [-0.01, 0.01] }
schedule = { r = [[0, 0.5], [2.0, -0.5]] }
definitions = { a = "1/L" }
derivative = { th = "om", om = "k*a*sin(th) + T/(m*L^2) + w + 0*r" }
domain = { th = [-3.2, 3.2] }
[controller]
network = "net.onnx"
feedback = "sampled"
period = 0.05
network_inputs = ["th", "om"]
plant_inputs = { T = "y0" }
saturate = { T = [-2.0, 2.0] }
[initial]
th = [1.0, 1.175]
om = 0
[horizon]
steps = 20
[functions]
V = { network = "net.onnx", inputs = ["th", "om"] }
W = { expression = "th^2 + th*om + om^2" }
[[property]]
id = "window"
kind = "always"
during = [0.5, 1.0]
set = { where = ["th >= 0", "th < 1"] }
"""


def network(path: Path, inputs: int = 2, outputs: int = 1) -> None:
    weight = numpy_helper.from_array(np.full((inputs, outputs), 0.5, np.float32), "W")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outputs])], [weight],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    network(tmp_path / "net.onnx")
    network(tmp_path / "net3.onnx", 2, 3)
    network(tmp_path / "other.onnx")
    return tmp_path


def load(folder: Path, text: str) -> Problem:
    (folder / "problem.toml").write_text(text)
    return load_problem(folder / "problem.toml")


def at(model: Model, *values: float) -> list[float]:
    out = evaluate(model.graph, model.parameters, [np.array(values, float)])
    assert model.graph[model.graph.outputs[0]].shape == model.outputs[0].shape
    return out[model.graph.outputs[0]].tolist()


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


def replaced(*pairs: tuple[str, str]) -> str:
    text = PENDULUM
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def claimed(text: str) -> str:
    """The problem with this one property."""
    return PENDULUM[: PENDULUM.index("[[property]]")] + "[[property]]\nid = 'p'\n" + text


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


MAP = """
format = "holdfast-problem/1"
[plant]
kind = "map"
states = ["x", "v"]
inputs = ["u"]
next = { x = "x + v", v = "v + u" }
[controller]
networks = ["net3.onnx", "net3.onnx", "net3.onnx"]
network_inputs = ["x", "v"]
saturate = { u = [-0.3, 0.7] }
[controller.select]
by = "argmax"
first = 1
rows = [ { u = -1 }, { u = "y0 + y1" }, [ { after = 2, where = ["v >= 1", "x < 0"], u = 0.25 }, { u = "2*x" } ] ]
[initial]
x = [0, 1]
v = 0.5
[horizon]
steps = 3
"""


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


IMPLICIT = """
format = "holdfast-problem/1"
[plant]
kind = "implicit-ode"
states = ["q1", "q2", "q3", "v1", "v2", "v3"]
derivative = { q1 = "v1", q2 = "v2", q3 = "v3" }
accelerations = ["v1", "v2", "v3"]
mass = [["3 + cos(q2)", "1", "q1"], ["1", "2", "0.5"], ["q1", "0.5", "4"]]
forces = ["-sin(q1)", "v1*v2", "1 - q3"]
"""


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


BOX = 'set = { where = ["th >= 0", "th < 1"] }'
BAD = {
    "[plant] derivative.om: unknown name mu2 at column 1; known: th": [("k*a*sin(th)", "mu2*a")],
    "unknown key colour; accepted: format": [("title =", "colour =")],
    "[plant]: unknown key colour": [("kind = \"ode\"", "kind = \"ode\"\ncolour = 1")],
    "[plant] kind: found 'sde', accepted: ode, map": [("\"ode\"", "\"sde\"")],
    "[plant] derivative: no formula for om": [(", om = \"k*a*sin(th) + T/(m*L^2) + w + 0*r\"", "")],
    "[plant] derivative: x is no state": [("{ th = \"om\",", "{ x = \"1\", th = \"om\",")],
    "next does not belong to kind ode": [("domain =", "next = {}\ndomain =")],
    "the name th is used in states already": [("inputs = [\"T\"]", "inputs = [\"th\"]")],
    "'sin' cannot be a name": [("inputs = [\"T\"]", "inputs = [\"sin\"]")],
    "the name th appears twice": [("[\"th\", \"om\"]\ninputs", "[\"th\", \"th\"]\ninputs")],
    "parameters.k: the interval is empty: the lower end 1.9": [("k = [0.9,", "k = [1.9,")],
    "parameters.m: found 'x', expected a number": [("m = 0.5", "m = 'x'")],
    "parameters.m: found Infinity": [("m = 0.5", "m = inf")],
    "parameters.m: found true": [("m = 0.5", "m = true")],
    "parameters.m: found 1E+999": [("m = 0.5", "m = 1e999")],
    "schedule.r: the first piece must start at 0": [("[[0, 0.5]", "[[1, 0.5]")],
    "schedule.r: the starts of the pieces must increase": [("[2.0, -0.5]", "[0.0, -0.5]")],
    "schedule.r[1]: found 1 elements": [("[2.0, -0.5]", "[2.0]")],
    "definitions: a: unknown name Q": [("a = \"1/L\"", "a = \"1/Q\"")],
    "derivative.om: division by zero": [("L = 0.5", "L = 0"), ("definitions = { a = \"1/L\" }", "definitions = { a = \"1\" }")],
    "[plant] domain: unknown state x; known: th, om": [("domain = { th", "domain = { x")],
    "[controller]: feedback is missing": [("feedback = \"sampled\"", "")],
    "[controller]: period is missing": [("period = 0.05", "")],
    "[controller] period: found 0, expected a positive": [("period = 0.05", "period = 0")],
    "continuous feedback has no period": [("\"sampled\"", "\"continuous\"")],
    "[controller] network_inputs: found 1 formulas, the network takes 2 numbers": [("inputs = [\"th\", \"om\"]\nplant", "inputs = [\"th\"]\nplant")],
    "network_inputs[0]: T cannot be read here": [("network_inputs = [\"th\"", "network_inputs = [\"T\"")],
    "plant_inputs: T is missing": [("{ T = \"y0\" }", "{}")],
    "plant_inputs.T: unknown name y1": [("\"y0\"", "\"y1\"")],
    "plant_inputs.T: T cannot be read here": [("\"y0\"", "\"T + y0\"")],
    "saturate: unknown input U": [("saturate = { T", "saturate = { U")],
    "[controller]: found both plant_inputs and select": [("saturate =", "select = {}\nsaturate =")],
    "[controller]: found both network and networks": [("feedback", "networks = []\nfeedback")],
    "the plant uses the name y0": [("m = 0.5", "y0 = 1, m = 0.5")],
    "the file no.onnx does not exist": [("\"net.onnx\"\nfeed", "\"no.onnx\"\nfeed")],
    "expected a path relative to the problem file": [("\"net.onnx\"\nfeed", "\"/net.onnx\"\nfeed")],
    "[initial]: no value for om": [("om = 0\n", "")],
    "[initial] th: the initial set leaves the domain [-3.2, 3.2]": [("th = [1.0, 1.175]", "th = [1.0, 4]")],
    "[horizon]: found nothing, expected either steps or time": [("steps = 20", "")],
    "[horizon] steps: found 2.5, expected an integer from 1 on": [("steps = 20", "steps = 2.5")],
    "[functions] V: unknown key net": [("V = { network", "V = { net")],
    "[functions] V.inputs: found 1 formulas, the network takes 2": [("inputs = [\"th\", \"om\"] }", "inputs = [\"th\"] }")],
    "[functions] W.expression: w cannot be read here": [("th^2 +", "w +")],
    "[[property]] window: kind: found 'never', accepted: always": [("\"always\"", "\"never\"")],
    "[[property]] window: unknown key until": [("during = [0.5", "until = 1\nduring = [0.5")],
    "[[property]] window: during: found 2, the horizon ends at 1": [("[0.5, 1.0]", "[0.5, 2.0]")],
    "set.where[0]: found the end of the formula at column 3, expected a comparison": [("\"th >= 0\"", "\"th\"")],
    "set.where[0]: T cannot be read here": [("\"th >= 0\"", "\"T >= 0\"")],
    "set or not_set is missing": [(BOX, "")],
    "needs [horizon]": [("during = [0.5, 1.0]", ""), ("[horizon]\nsteps = 20", "")],
    "[initial] is missing": [("[initial]\nth = [1.0, 1.175]\nom = 0\n", "")],
    "expected exactly one of where, box": [(BOX, "set = { box = {}, where = [] }")],
    "set.box: unknown state x": [(BOX, "set = { box = { x = [0, 1] } }")],
    "set.box.th: the interval is empty": [(BOX, "set = { box = { th = [1, 0] } }")],
    "set.box: the set lies outside the domain of th": [(BOX, "set = { box = { th = [4, 5] } }")],
    "set.polytope.H: H has rank 1": [(BOX, "set = { polytope = { H = [[1, 2], [0.1, 0.2]], lower = [0, 0], upper = [1, 1] } }")],
    "set.polytope.H[0]: found 1 elements, expected 2": [(BOX, "set = { polytope = { H = [[1]], lower = [0], upper = [1] } }")],
    "set.polytope.lower: found 1 elements, expected 2": [(BOX, "set = { polytope = { H = [[1, 0], [0, 1]], lower = [0], upper = [1, 1] } }")],
    "the polytope is empty: lower[1] = 2 exceeds upper[1] = 1": [(BOX, "set = { polytope = { H = [[1, 0], [0, 1]], lower = [0, 2], upper = [1, 1] } }")],
    "the polytope is empty: no point": [(BOX, "set = { polytope = { H = [[1, 0], [0, 1], [1, 1]], lower = [0, 0, 3], upper = [1, 1, 4] } }")],
    "set.polytope: the set lies outside the domain": [(BOX, "set = { polytope = { H = [[1, 0], [0, 1]], lower = [4, 2], upper = [5, 3] } }")],
    "P is not symmetric": [(BOX, "set = { ellipsoid = { P = [[1, 0.1], [0.2, 1]], level = 1 } }")],
    "P is not positive definite": [(BOX, "set = { ellipsoid = { P = [[1, 1], [1, 1]], level = 1 } }")],
    "a negative level": [(BOX, "set = { ellipsoid = { P = [[1, 0], [0, 1]], level = -1 } }")],
    "unknown function U; known: V, W": [(BOX, "set = { level = { function = 'U', at_most = 1 } }")],
    "at_least = 1 is not below at_most = 1": [(BOX, "set = { level = { function = 'V', at_most = 1, at_least = 1 } }")],
    "at_most or at_least is missing": [(BOX, "set = { level = { function = 'V' } }")],
    "format: found 'holdfast-problem/2', accepted: holdfast-problem/1": [("problem/1", "problem/2")],
    "not a TOML file": [("title = ", "title = = ")],
    "plant is missing": [("[plant]", "[notes]")],
    "[controller]: the table is missing, the plant has inputs: T": [("[controller]", "[notes]")],
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_input(folder: Path, message: str) -> None:
    with pytest.raises(PropertyError, match=re.escape(message)) as caught:
        load(folder, replaced(*BAD[message]))
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(folder))


BAD_CLAIMS = {
    "to.level.at_most = 0.9 is not below from.level.at_most = 0.5": "kind = 'attracts'\nfrom = { level = { function = 'V', at_most = 0.5 } }\nto = { level = { function = 'V', at_most = 0.9 } }",
    "the set leaves the domain of th, [-3.2, 3.2]: found [-4, 1]": "kind = 'invariant'\nset = { box = { th = [-4, 1] } }",
    "set.polytope: the set leaves the domain": "kind = 'invariant'\nset = { polytope = { H = [[1, 0], [0, 1]], lower = [-4, 0], upper = [1, 1] } }",
    "set.ellipsoid: the set leaves the domain": "kind = 'invariant'\nset = { ellipsoid = { P = [[1, 0], [0, 1]], level = 16 } }",
    "formula: found the end of the formula": "kind = 'stl'\nformula = 'G[0, 1](th'",
    "formula: unknown name q": "kind = 'stl'\nformula = 'G[0, 1](q > 0)'",
    "formula: found 5, the horizon ends at 1": "kind = 'stl'\nformula = 'G[0, 5](th > 0)'",
    "time or step is missing": "kind = 'at'\nset = { box = { th = 1 } }",
    "step: found 30": "kind = 'at'\nstep = 30.5\nset = { box = { th = 1 } }",
    "the id p is used twice": "kind = 'invariant'\nset = { box = { th = 1 } }\n[[property]]\nid = 'p'\nkind = 'invariant'\nset = { box = { th = 1 } }",
    "to is missing": "kind = 'attracts'\nfrom = { box = { th = 1 } }",
    "the id a is used twice": "kind = 'invariant'\nset = { box = { th = 1 } }\n[[instance]]\nid = 'a'\n[[instance]]\nid = 'a'",
    "unknown key nets": "kind = 'invariant'\nset = { box = { th = 1 } }\n[[instance]]\nid = 'a'\nnets = 1",
    "expected: found 'yes', accepted: verified": "kind = 'invariant'\nset = { box = { th = 1 } }\n[[instance]]\nid = 'a'\nexpected = 'yes'",
}


@pytest.mark.parametrize("message", BAD_CLAIMS)
def test_bad_claims(folder: Path, message: str) -> None:
    with pytest.raises(PropertyError, match=re.escape(message)):
        load(folder, claimed(BAD_CLAIMS[message]))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("first = 1\n", "", "first is missing"),
        ("first = 1", "first = 3", "expected a row from 0 to 2"),
        ("after = 2", "after = 3", "expected a row from 0 to 2"),
        ("{ u = -1 }, ", "", "found 2 rows, expected one for each of the 3 outputs"),
        ('"net3.onnx"]', '"net3.onnx", "net3.onnx"]', "found 4 networks for 3 rows"),
        ('{ u = "2*x" }', '{ after = 1, u = "2*x" }', "the last case of a row always applies"),
        ("{ u = -1 }", "[ { u = 1 }, { u = -1 } ]", "needs after or where"),
        ("{ u = -1 }", "{ u = -1, w = 2 }", "unknown key w"),
        ('by = "argmax"', 'by = "max"', "accepted: argmin, argmax"),
        ("network_inputs", 'feedback = "sampled"\nnetwork_inputs', "neither feedback nor period"),
        ("steps = 3", "time = 3", "a map has no time"),
        ('"net3.onnx", "net3.onnx"]', '"net3.onnx", "net.onnx"]', "different numbers of outputs: 1, 3"),
    ],
)
def test_bad_selections(folder: Path, old: str, new: str, message: str) -> None:
    assert old in MAP
    with pytest.raises(PropertyError, match=re.escape(message)):
        load(folder, MAP.replace(old, new))


def test_bad_mass_matrices(folder: Path) -> None:
    for old, new, message in (
        ('["1", "2", "0.5"], ', "", "mass: found 2 elements, expected 3"),
        ('["q1", "0.5", "4"]', '["1", "2", "0.5"]', "division by zero"),
        ('accelerations = ["v1"', 'accelerations = ["a1"', "unknown state a1"),
        ('q3 = "v3"', 'q3 = "v3", v1 = "1"', "v1 is given by the mass matrix"),
    ):
        text = IMPLICIT.replace(old, new)
        if message == "division by zero":
            text = text.replace('["3 + cos(q2)", "1", "q1"]', '["1", "2", "0.5"]')
        with pytest.raises(PropertyError, match=message):
            load(folder, text)


def test_bad_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PropertyError, match="cannot be read"):
        load_problem(folder / "absent.toml")
    with pytest.raises(PropertyError, match="cannot be read"):
        load_problem(folder)
    (folder / "problem.toml").write_bytes(b"\xff")
    with pytest.raises(PropertyError, match="not UTF-8"):
        load_problem(folder / "problem.toml")
    (folder / "problem.toml").write_bytes(b"#" * (2**24 + 1))
    with pytest.raises(PropertyError, match="at most 16777216"):
        load_problem(folder / "problem.toml")
    with pytest.raises(PropertyError, match="nest too deep"):
        load(folder, "x = " + "[" * 5000)
    with pytest.raises(PropertyError, match="not a TOML file"):
        load(folder, "x = " + "1" * 5000)
    (folder / "net.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match=re.escape("[controller] network: ")):
        load(folder, PENDULUM)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_are_refused_or_read(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for text in (PENDULUM, MAP, IMPLICIT):
        for _ in range(40):
            damaged = list(text)
            for _ in range(rng.integers(1, 4)):
                damaged[rng.integers(len(damaged))] = str(rng.choice(list('"[]{}=,.0179xyT \n')))
            try:
                load(folder, "".join(damaged))
            except HoldfastError as error:
                assert "\n" not in str(error)


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
        with pytest.raises(PropertyError, match="cannot hold|no decimal"):
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
