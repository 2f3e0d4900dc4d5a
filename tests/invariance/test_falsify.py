"""The falsifier: finds the ways out of sets of every kind, and none where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from holdfast.invariance.faces import Faces
from holdfast.invariance.falsify import search
from holdfast.invariance.field import Field
from holdfast.invariance.sets import inequalities
from holdfast.load.problem import load_problem
from holdfast.loop import close

BENCHMARKS = Path(os.environ.get("HOLDFAST_BENCHMARKS", "")) / "invariance"


def network(path, *layers) -> None:
    """A network of dense layers with tanh between them."""
    nodes, constants, x = [], [], "x"
    for k, (w, b) in enumerate(layers):
        constants += [
            numpy_helper.from_array(np.array(w, np.float32), f"w{k}"),
            numpy_helper.from_array(np.array(b, np.float32), f"b{k}"),
        ]
        last = k == len(layers) - 1
        nodes.append(helper.make_node("Gemm", [x, f"w{k}", f"b{k}"], ["y" if last else f"z{k}"], transB=1))
        if not last:
            nodes.append(helper.make_node("Tanh", [f"z{k}"], [f"a{k}"]))
            x = f"a{k}"
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size])
        for name, size in (("x", len(layers[0][0][0])), ("y", len(layers[-1][0])))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def found_in(folder, text: str, seconds: float = 4.0, seed: int = 0, starts=()):
    path = folder / "problem.toml"
    path.write_text('format = "holdfast-problem/1"\ntitle = "test"\n' + text)
    (instance,) = load_problem(path).instances
    loop = close(instance.loop)
    states = inequalities(instance.properties[0].states, loop, "set")
    return search(loop, states, 0, seed=seed, seconds=seconds, starts=starts)


def plant(x: str, y: str, more: str = "", kind: str = "ode") -> str:
    key = "derivative" if kind == "ode" else "next"
    return f'[plant]\nkind = "{kind}"\nstates = ["x", "y"]\n{key} = {{ x = "{x}", y = "{y}" }}\n{more}\n'


def kept(states: str) -> str:
    return f'[[property]]\nid = "kept"\nkind = "invariant"\nset = {states}\n'


DISC = "{ ellipsoid = { center = [0, 0], P = [[1, 0], [0, 1]], level = 1 } }"
SQUARE = "{ box = { x = [-1, 1], y = [-1, 1] } }"
HEXAGON = "{ polytope = { H = [[1, 0], [0, 1], [1, 1]], lower = [-1, -1, -1.5], upper = [1, 1, 1.5] } }"
LEVEL = '[functions]\nV = { expression = "x^2 + y^2 + 0.2*x^4" }\n' + kept(
    '{ level = { function = "V", at_most = 1 } }'
)
DOMAIN = "domain = { x = [-2, 2], y = [-2, 2] }"
LEFT = {
    "a corner of a box": plant("-x + 0.6*y^2 + 0.55*x^3", "-y") + kept(SQUARE),
    "a box, disturbed": plant("-x + w", "-y", "disturbances = { w = [-1.01, 1.01] }") + kept(SQUARE),
    "a box, for some parameters": plant("-k*x + 1", "-y", "parameters = { k = [0.99, 2] }") + kept(SQUARE),
    "a narrow part of a face": plant("1.01 - x - (y - 0.3)^2", "-y") + kept(SQUARE),
    "a hexagon": plant("y", "-x") + kept(HEXAGON),
    "a disc": plant("0.001*x - y", "x + 0.001*y") + kept(DISC),
    "a disc, one way only": plant("-x + 1.1*x*y^2*x^2", "-y + 4*y*x^2") + kept(DISC),
    "a level set": plant("-y", "x", DOMAIN) + LEVEL,
    "a level set, through the domain": plant("0.5 - x", "-y", "domain = { x = [-2, 0.4], y = [-2, 2] }") + LEVEL,
    "a ring": plant("-x", "-y", DOMAIN)
    + LEVEL.replace("at_most = 1", "at_most = 1, at_least = 0.2"),
    "conditions": plant("1 - x", "-y", DOMAIN) + kept('{ where = ["x <= 0.9", "x*y <= 1"] }'),
    "a map of a box": plant("1.1*x*y", "0.5*y", kind="map") + kept(SQUARE),
    "a map of a hexagon": plant("-y", "x", kind="map") + kept(HEXAGON),
    "a map of a disc": plant("1.01*y", "-1.01*x", kind="map") + kept(DISC),
    "a map of a level set": plant("y", "-1.05*x", DOMAIN, "map") + LEVEL,
}  # fmt: skip
KEPT = {
    "a box": plant("-x", "-y") + kept(SQUARE),
    "a box, disturbed": plant("-x + w", "-y", "disturbances = { w = [-1, 1] }") + kept(SQUARE),
    "a hexagon": plant("-x", "-y") + kept(HEXAGON),
    "a disc": plant("-y", "x") + kept(DISC),
    "a level set": plant("-x", "-y", DOMAIN) + LEVEL,
    "a map of a box": plant("x*y", "0.5*y", kind="map") + kept(SQUARE),
    "a map of a disc": plant("y", "-x", kind="map") + kept(DISC),
}


@pytest.mark.parametrize("name", LEFT)
def test_ways_out_are_found(tmp_path, name):
    found = found_in(tmp_path, LEFT[name])
    assert found is not None and found.margin > 0


@pytest.mark.parametrize("name", KEPT)
def test_sets_that_are_kept_are_not_refuted(tmp_path, name):
    assert found_in(tmp_path, KEPT[name], seconds=0.5) is None


def test_networks(tmp_path):
    rng = np.random.default_rng(3)
    w = rng.normal(size=(8, 2))
    network(tmp_path / "c.onnx", (w, rng.normal(size=8)), (rng.normal(size=(1, 8)), [0.0]))
    network(tmp_path / "V.onnx", ([[1, 0], [0, 1], [1, 1], [-1, 1]], [0.5] * 4), ([[1, 1, 1, 1]], [0.0]))
    text = plant("y", "u", 'inputs = ["u"]\n' + DOMAIN)
    text += '[controller]\nnetwork = "c.onnx"\nfeedback = "continuous"\nnetwork_inputs = ["x", "y"]\nplant_inputs = { u = "y0" }\n'
    text += '[functions]\nV = { network = "V.onnx", inputs = ["x", "y"] }\n' + kept(
        '{ level = { function = "V", at_most = 2 } }'
    )
    found = found_in(tmp_path, text)
    assert found is not None and found.margin > 0


def test_the_same_seed_finds_the_same(tmp_path):
    first, again = (found_in(tmp_path, LEFT["a level set"], seed=5) for _ in range(2))
    assert first == again


def test_hints_are_looked_at_first(tmp_path):
    text = plant("1.0001 - x - (y - 0.3)^2", "-y") + kept(SQUARE)
    found = found_in(tmp_path, text, starts=[np.array([0.99, 0.301])])
    assert found is not None and abs(found.state[1] - 0.3) < 0.011


def test_faces_of_parallelotopes_agree_with_linear_programs():
    rng = np.random.default_rng(0)
    H = rng.normal(size=(3, 3))
    A, b = np.concatenate([H, -H]), np.array([1.0, 2, 3, 1, 1, 2])
    quick = Faces(A, b)
    general = Faces(np.concatenate([A, H[:1]]), np.append(b, 5.0))
    assert quick.quick and not general.quick
    objective, side = rng.normal(size=(12, 3)), np.arange(12) % 7 - 1
    best = (objective * quick.best(objective, side)).sum(1)
    np.testing.assert_allclose(best, (objective * general.best(objective, side)).sum(1), rtol=1e-9, atol=1e-9)


def test_slopes_are_those_of_the_rates(tmp_path):
    path = tmp_path / "problem.toml"
    path.write_text('format = "holdfast-problem/1"\ntitle = "test"\n' + LEFT["a ring"])
    (instance,) = load_problem(path).instances
    loop = close(instance.loop)
    field = Field(loop, inequalities(instance.properties[0].states, loop, "set"))
    x, side = np.random.default_rng(1).uniform(-1, 1, (6, 2)), np.arange(6)
    others = np.zeros((6, 0))
    for i in range(2):
        step = np.zeros(2)
        step[i] = 1e-6
        ends = [field.rate(x + s * step, others, side) for s in (1, -1)]
        np.testing.assert_allclose(field.slope_of_rate(x, others, side)[:, i], (ends[0] - ends[1]) / 2e-6, atol=1e-6)


def refutable():
    if not BENCHMARKS.is_dir() or "HOLDFAST_BENCHMARKS" not in os.environ:
        return [
            pytest.param(
                None, None, marks=pytest.mark.skip(reason="HOLDFAST_BENCHMARKS names no folder with invariance/")
            )
        ]
    return [
        pytest.param(folder.name, instance.id, id=f"{folder.name}-{instance.id}")
        for folder in sorted(BENCHMARKS.iterdir())
        if (folder / "problem.toml").exists()
        for instance in load_problem(folder / "problem.toml").instances
        if instance.expected == "falsified" and all(p.kind == "invariant" for p in instance.properties)
    ]


@pytest.mark.parametrize(("folder", "name"), refutable())
def test_published_systems(folder, name):
    problem = load_problem(BENCHMARKS / folder / "problem.toml")
    (instance,) = [i for i in problem.instances if i.id == name]
    loop = close(instance.loop)
    states = inequalities(instance.properties[0].states, loop, name)
    found = search(loop, states, 0, seed=0, seconds=8)
    assert found is not None and found.margin > 0
