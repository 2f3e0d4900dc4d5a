"""What the reader of problem files refuses: one sentence each, with file, key, what was found, what is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from problem_files import IMPLICIT, MAP, PENDULUM, claimed, folder, load, replaced

from holdfast.errors import HoldfastError, ModelError, PropertyError
from holdfast.load.problem import load_problem

__all__ = ["folder"]  # the fixture

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
