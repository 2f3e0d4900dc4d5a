"""False claims: none may ever be verified, however little is missing, and those that are clearly false are refuted.

Thin ones miss by 1.5e-7 and less, down to what float64 numbers cannot tell; there "unknown" is right as well.
"""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from holdfast.invariance.decide import decide
from holdfast.load.problem import load_problem
from holdfast.spec.plant import Plant
from holdfast.spec.region import Box
from holdfast.spec.temporal import BoxSet, Ellipsoid, Level, Polytope
from holdfast.verdict import Verdict

BENCHMARKS = Path(os.environ.get("HOLDFAST_BENCHMARKS", "")) / "invariance"
HEAD = 'format = "holdfast-problem/1"\ntitle = "false"\n'
UNIT = "{ box = { x = [-1, 1] } }"
SQUARE = "{ box = { x = [-1, 1], y = [-1, 1] } }"
DISC = "{ ellipsoid = { center = [0, 0], P = [[1, 0], [0, 1]], level = 1 } }"
TURNED = "{ polytope = { H = [[1, 1], [1, -1]], lower = [-1, -1], upper = [1, 1] } }"
HEXAGON = "{ polytope = { H = [[1, 0], [0, 1], [1, 1]], lower = [-1, -1, -1.5], upper = [1, 1, 1.5] } }"
DOMAIN = "domain = { x = [-2, 2], y = [-2, 2] }"
CIRCLE = '[functions]\nV = { expression = "x^2 + y^2" }\n'


def one(x: str, more: str = "", kind: str = "ode") -> str:
    return f'{HEAD}[plant]\nkind = "{kind}"\nstates = ["x"]\n{"derivative" if kind == "ode" else "next"} = {{ x = "{x}" }}\n{more}\n'


def two(x: str, y: str, more: str = "", kind: str = "ode") -> str:
    key = "derivative" if kind == "ode" else "next"
    return f'{HEAD}[plant]\nkind = "{kind}"\nstates = ["x", "y"]\n{key} = {{ x = "{x}", y = "{y}" }}\n{more}\n'


def kept(states: str) -> str:
    return f'[[property]]\nid = "kept"\nkind = "invariant"\nset = {states}\n'


def attracts(start: str, target: str) -> str:
    return f'[[property]]\nid = "reached"\nkind = "attracts"\nfrom = {start}\nto = {target}\n'


def level(end: str) -> str:
    return f'{{ level = {{ function = "V", at_most = {end} }} }}'


# feedback u = -x by two rectified units, its weight a little too small or its offset a little too large
FEEDBACK = """[controller]
network = "c.onnx"
feedback = "continuous"
network_inputs = ["x"]
plant_inputs = { u = "y0" }
"""
THIN = {
    "offset of 1.5e-7": one("-x + 1.00000015") + kept(UNIT),
    "offset of 1.5e-7 on the lower side": one("-x - 1.00000015") + kept(UNIT),
    "offset of 1e-12": one("-x + 1.000000000001") + kept(UNIT),
    "offset of 1e-19, which no float64 shows": one("-x + 1.0000000000000000001") + kept(UNIT),
    "an end of the box that is 1e-19 too far in": one("0.1 - x") + kept("{ box = { x = [-0.1, 0.0999999999999999999] } }"),
    "a decimal that float64 rounds upwards": one("0.1 - x") + kept("{ box = { x = [-0.1, 0.09999999999999999167] } }"),
    "disturbance beyond by 1.5e-7": one("-x + w", "disturbances = { w = [-1, 1.00000015] }") + kept(UNIT),
    "gain too small by 1.5e-7": one("-k*x + 1", "parameters = { k = [0.99999985, 2] }") + kept(UNIT),
    "saddle in a turned square": two("-x + 1.00000015*y", "-y + 1.00000015*x") + kept(TURNED),
    "flow along an edge, 1e-7 outwards": two("y + 0.0000001", "-y") + kept(TURNED),
    "rotation that drifts by 1.5e-7": two("0.00000015*x - y", "x + 0.00000015*y") + kept(DISC),
    "rotation that drifts by 1e-12": two("0.000000000001*x - y", "x + 0.000000000001*y") + kept(DISC),
    "rotation that drifts by 1e-20": two("0.00000000000000000001*x - y", "x + 0.00000000000000000001*y") + kept(DISC),
    "level set of a rotation that drifts": two("0.00000015*x - y", "x + 0.00000015*y", DOMAIN) + CIRCLE + kept(level("1")),
    "outwards on a thousandth of an edge": two("1.000001 - x - (y - 0.3)^2", "-y") + kept(SQUARE),
    "outwards at a corner only": two("x^3*y^2 - x + 0.0000001", "y^3*x^2 - y") + kept(SQUARE),
    "a hexagon, 1e-7 outwards": two("-x", "0.0000001 - y - x*(1 + y)*0 + 1") + kept(HEXAGON),
    "a face of the domain": two("0.5 + 0.00000015 - x", "-y", "domain = { x = [-2, 0.5], y = [-2, 2] }") + CIRCLE + kept(level("4")),
    "a map that grows by 1.5e-7": one("1.00000015*x", kind="map") + kept(UNIT),
    "a map that shifts by 1e-17": one("x + 0.00000000000000001", kind="map") + kept(UNIT),
    "a map that turns and grows by 1e-9": two("0.6*x - 0.800000001*y", "0.800000001*x + 0.6*y", kind="map") + kept(DISC),
    "a map with a jump past the edge": two("max(abs(x), 0.5)*1.0000002", "0.5*y", kind="map") + kept(SQUARE),
    "a network whose gain misses 1.2e-7": one("u + 1", 'inputs = ["u"]') + FEEDBACK + kept(UNIT),
    "a network whose offset misses 1.2e-7": one("1 - x + 0.00000001 + 0*u", 'inputs = ["u"]') + FEEDBACK + kept(UNIT),
}  # fmt: skip
CLEAR = {
    "unstable": one("x") + kept(UNIT),
    "disturbance three times too large": one("-x + w", "disturbances = { w = [-3, 3] }") + kept(UNIT),
    "parameters twice as wide": one("-k*x + 1", "parameters = { k = [0.8, 2] }") + kept(UNIT),
    "a level that is too high": two("-x + x^3", "-y", DOMAIN) + CIRCLE + kept(level("1.3")),
    "a square of a rotation": two("-y", "x") + kept(SQUARE),
    "a hexagon of a rotation": two("-y", "x") + kept(HEXAGON),
    "van der Pol, outside of its cycle": two("-y", "x - (1 - x^2)*y", DOMAIN) + CIRCLE + kept(level("4")),
    "a map that folds": two("1.9*x*y", "0.5*y", kind="map") + kept(SQUARE),
    "a controller with the wrong sign": one("-2*u + x", 'inputs = ["u"]') + FEEDBACK + kept(UNIT),
}
# what a falsifier of invariants does not refute
OTHERS = {
    "three equilibria": two("x - x^3", "-y", DOMAIN) + CIRCLE + attracts(level("2"), '"equilibrium"'),
    "an unstable equilibrium": two("x", "-y", DOMAIN) + CIRCLE + attracts(level("1"), '"equilibrium"'),
    "a centre": two("-y", "x", DOMAIN) + CIRCLE + attracts(level("1"), '"equilibrium"'),
    "a centre, to a smaller disc": two("-y", "x", DOMAIN) + CIRCLE + attracts(level("1"), level("0.999999")),
    "a growth of 1e-9": two("-x", "0.000000001*y", DOMAIN) + CIRCLE + attracts(level("1"), level("0.5")),
    "a cycle around": two("-y", "x - (1 - x^2)*y", DOMAIN) + CIRCLE + attracts(level("3.9"), level("0.1")),
    "a map that only turns": two("y", "-x", DOMAIN, "map") + CIRCLE + attracts(level("1"), level("0.9")),
    "a barrier that is crossed": two("1", "0", DOMAIN) + '[functions]\nB = { expression = "x - 0.5" }\n[initial]\nx = [0, 0.1]\ny = [0, 0.1]\n'
    + '[[property]]\nid = "b"\nkind = "barrier"\nfunction = "B"\nunsafe = { where = ["x >= 1"] }\n',
    "a barrier below zero on the unsafe set": two("-x", "-y", DOMAIN) + '[functions]\nB = { expression = "x^2 + y^2 - 1" }\n[initial]\nx = [0, 0.1]\ny = [0, 0.1]\n'
    + '[[property]]\nid = "b"\nkind = "barrier"\nfunction = "B"\nunsafe = { where = ["x >= 0.9999999"] }\n',
}  # fmt: skip


def decided(folder, text: str, seconds: float = 2.0):
    gain = np.float32(1 - 2.0**-23)  # just below 1
    constants = {"w0": [[1], [-1]], "b0": [0, 0], "w1": [[-gain, gain]], "b1": [0]}
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["z"], transB=1),
        helper.make_node("Relu", ["z"], ["a"]),
        helper.make_node("Gemm", ["a", "w1", "b1"], ["y"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1]) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "c.onnx")
    (folder / "problem.toml").write_text(text)
    problem = load_problem(folder / "problem.toml")
    return decide(problem, problem.instances[0], timeout=seconds, workers=1, seed=0).verdict


@pytest.mark.parametrize("name", THIN)
def test_thin(tmp_path, name):
    assert decided(tmp_path, THIN[name]) is not Verdict.VERIFIED


@pytest.mark.parametrize("name", CLEAR)
def test_clear(tmp_path, name):
    assert decided(tmp_path, CLEAR[name]) is Verdict.FALSIFIED


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds(tmp_path, name):
    assert decided(tmp_path, OTHERS[name]) in (Verdict.UNKNOWN, Verdict.TIMEOUT, Verdict.FALSIFIED)


# ---- published systems: what is verified of them, enlarged until it is false ----


def larger(states, factor: Fraction):
    """The set, scaled about its centre; of level sets the level itself is replaced."""
    if isinstance(states, Level):
        return replace(states, at_most=factor)
    if isinstance(states, Ellipsoid):
        return replace(states, level=states.level * factor**2)
    if isinstance(states, Polytope):
        ends = ([None if v is None else v * factor for v in side] for side in (states.lower, states.upper))
        low, high = (tuple(v) for v in ends)
        return replace(states, lower=low, upper=high)
    assert isinstance(states, BoxSet)
    middle = {i: (a + b) / 2 for i, (a, b) in states.ends.items()}
    return BoxSet({i: (m - (m - a) * factor, m + (b - m) * factor) for (i, m), (a, b) in zip(middle.items(), states.ends.values(), strict=True)})  # fmt: skip


def wider(box: Box, factor: Fraction) -> Box:
    """Every interval scaled about its middle."""
    ends = [(box.exact_lower(i), box.exact_upper(i)) for i in range(len(box))]
    middles = [(a + b) / 2 for a, b in ends]
    return Box.of(
        [m - (m - a) * factor for m, (a, _) in zip(middles, ends, strict=True)],
        [m + (b - m) * factor for m, (_, b) in zip(middles, ends, strict=True)],
    )


ENLARGED = [  # folder, instance, what grows, by how much (levels: the new level)
    ("van", "seed0", "set", "0.996"), ("van", "seed2", "set", "0.9985"), ("double", "seed0", "set", "0.998"),
    ("double", "seed2", "set", "0.998"), ("pendulum_bigtorque", "seed0", "set", "0.997"), ("pendulum_smalltorque", "seed0", "set", "0.997"),
    ("path_tracking_bigtorque", "seed0", "set", "0.999"), ("path_tracking_smalltorque", "seed0", "set", "0.999"),
    ("cartpole", "seed0", "set", "0.985"), ("2dquadrotor", "seed0-published-set", "set", "0.99"),
    ("segway", "one-percent", "set", "2"), ("segway", "one-percent", "set", "3"), ("segway", "one-percent", "parameters", "3"),
    ("segway", "nominal", "set", "3"), ("platoon4", "published", "disturbances", "5"), ("platoon4", "published", "disturbances", "3"),
    ("platoon10", "published", "disturbances", "4"), ("leader_follower", "parallelotope", "disturbances", "60"),
    ("pendulum_map", "big-invariant", "set", "800"), ("pendulum_map", "small-invariant", "set", "2"),
    ("pendulum_map", "quadratic-invariant", "set", "110"), ("path_tracking_map", "big-invariant", "set", "50"),
    ("path_tracking_map", "small-invariant", "set", "30"), ("pvtol_map", "quadratic-invariant", "set", "8"),
]  # fmt: skip


@pytest.mark.skipif(
    "HOLDFAST_BENCHMARKS" not in os.environ or not BENCHMARKS.is_dir(),
    reason="HOLDFAST_BENCHMARKS does not name a folder with invariance/",
)
@pytest.mark.parametrize(("folder", "name", "what", "factor"), ENLARGED)
def test_published_systems_enlarged(folder, name, what, factor):
    problem = load_problem(BENCHMARKS / folder / "problem.toml")
    (instance,) = [i for i in problem.instances if i.id == name]
    states = instance.properties[0].states
    plant: Plant = instance.loop.plant
    if what == "set":
        states = larger(states, Fraction(factor))
    elif what == "parameters":
        plant = replace(plant, parameters=wider(plant.parameters, Fraction(factor)))
    else:
        plant = replace(plant, disturbances=wider(plant.disturbances, Fraction(factor)))
    claim = replace(instance.properties[0], kind="invariant", states=states, target=None)
    changed = replace(instance, properties=(claim,), loop=replace(instance.loop, plant=plant))
    assert decide(problem, changed, timeout=15, workers=1, seed=0).verdict is Verdict.FALSIFIED
