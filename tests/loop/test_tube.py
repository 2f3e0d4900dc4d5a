"""Flow tubes against simulated trajectories and exact solutions: nothing is outside, beyond the simulation's own error."""

from __future__ import annotations

import importlib.util
import os
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import flint
import numpy as np
import onnx
import pytest
from flows import loop_of
from onnx import helper, numpy_helper
from taylor_points import BITS, ball

from holdfast.errors import InputError
from holdfast.load.problem import load_problem
from holdfast.loop.tube import System
from holdfast.reachability.reach import reach_tube
from holdfast.reachability.simulate import horizon_of
from holdfast.spec.region import Box

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("HOLDFAST_BENCHMARKS", "")) / "closedloop"
PROBLEMS = sorted(p.parent.name for p in FOLDER.glob("*/problem.toml")) if "HOLDFAST_BENCHMARKS" in os.environ else []
COUNT, MOMENTS, PERIODS = 200, 40, 4


@pytest.fixture(scope="module")
def tubes():
    """The script that is run by hand."""
    spec = importlib.util.spec_from_file_location("tubes", ROOT / "benchmarks" / "tubes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tubes"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not PROBLEMS, reason="HOLDFAST_BENCHMARKS does not name a folder with closedloop/")
@pytest.mark.parametrize("name", PROBLEMS)
def test_benchmarks(tubes, name: str) -> None:
    """The first periods of the first instance; the whole of all of them is checked by the script."""
    instance = load_problem(FOLDER / name / "problem.toml").instances[0]
    controller = instance.loop.controller
    period = controller.period if controller is not None and controller.period is not None else Fraction(1)
    horizon = min(horizon_of(instance), PERIODS * period)
    found = tubes.checked(instance.loop, instance.initial, horizon, COUNT, MOMENTS, 10.0)
    assert found.outside == 0 and found.points > 0


# ---- small loops ----


def _network(path: Path, layers, op: str) -> None:
    nodes, constants, last = [], [], "x"
    for k, (W, b) in enumerate(layers):
        constants += [
            numpy_helper.from_array(W.astype(np.float32), f"W{k}"),
            numpy_helper.from_array(b.astype(np.float32), f"b{k}"),
        ]
        out = "y" if k == len(layers) - 1 else f"z{k}"
        nodes.append(helper.make_node("Gemm", [last, f"W{k}", f"b{k}"], [out]))
        if out != "y":
            nodes.append(helper.make_node(op, [out], [f"a{k}"]))
            last = f"a{k}"
    ends = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, k])
        for n, k in (("x", layers[0][0].shape[0]), ("y", layers[-1][0].shape[1]))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


HEAD = 'format = "holdfast-problem/1"\n[horizon]\n'
LOOPS = {
    "sampled, parameter, disturbance": """time = 1.5
[plant]
kind = "ode"
states = ["x", "y"]
inputs = ["u"]
parameters = { m = [0.8, 1.2] }
disturbances = { w = [-0.1, 0.2] }
derivative = { x = "y", y = "-sin(x)/m + u + w*cos(x)" }
[controller]
network = "net.onnx"
feedback = "sampled"
period = 0.25
network_inputs = ["x", "y"]
plant_inputs = { u = "y0" }
""",
    "the controller reads the disturbance and the parameter": """time = 1.0
[plant]
kind = "ode"
states = ["x", "y"]
inputs = ["u"]
parameters = { m = [0.8, 1.2] }
disturbances = { w = [-0.1, 0.2] }
derivative = { x = "y + w", y = "-m*x + u" }
[controller]
network = "net.onnx"
feedback = "sampled"
period = 0.2
network_inputs = ["x + w", "m*y"]
plant_inputs = { u = "y0 + 0.1*y1" }
saturate = { u = [-0.3, 0.3] }
""",
    "continuous": """time = 0.4
[plant]
kind = "ode"
states = ["x", "y"]
inputs = ["u"]
disturbances = { w = [-0.1, 0.1] }
derivative = { x = "y", y = "-x^3 + u + w" }
[controller]
network = "net.onnx"
feedback = "continuous"
network_inputs = ["x", "y"]
plant_inputs = { u = "y0" }
""",
    "schedule": """time = 1.0
[plant]
kind = "ode"
states = ["x", "y"]
inputs = ["u"]
schedule = { r = [[0, 0.1], [0.33, -0.7], [0.6, 0.2]] }
derivative = { x = "y", y = "r - x + u" }
[controller]
network = "net.onnx"
feedback = "sampled"
period = 0.25
network_inputs = ["x - r", "y"]
plant_inputs = { u = "y0" }
""",
    "map": """steps = 8
[plant]
kind = "map"
states = ["x", "y"]
inputs = ["u"]
parameters = { m = [0.8, 1.2] }
disturbances = { w = [-0.05, 0.1] }
next = { x = "x + 0.2*y", y = "y - 0.2*m*sin(x) + 0.2*u + w" }
[controller]
network = "net.onnx"
network_inputs = ["x", "y"]
plant_inputs = { u = "y0" }
""",
    "rows": """time = 1.0
[plant]
kind = "ode"
states = ["x", "y"]
inputs = ["u"]
derivative = { x = "y", y = "-x + u" }
[controller]
network = "net.onnx"
feedback = "sampled"
period = 0.25
network_inputs = ["x", "y"]
select = { by = "argmax", rows = [ { u = -1.0 }, { u = "0.5*x" } ] }
""",
}  # fmt: skip


@pytest.mark.parametrize("op", ["Tanh", "Relu"])
@pytest.mark.parametrize("name", LOOPS)
def test_loops(tubes, tmp_path: Path, name: str, op: str) -> None:
    rng = np.random.default_rng(1)
    sizes = (2, 6, 5, 2)
    layers = [(rng.normal(size=(a, b)) * 0.7, rng.normal(size=b) * 0.3) for a, b in pairwise(sizes)]
    _network(tmp_path / "net.onnx", layers, op)
    path = tmp_path / "problem.toml"
    path.write_text(HEAD + LOOPS[name] + "[initial]\nx = [0.3, 0.7]\ny = [-0.2, 0.2]\n")
    (instance,) = load_problem(path).instances
    found = tubes.checked(instance.loop, instance.initial, horizon_of(instance), COUNT, 60, 20.0)
    assert found.outside == 0 and found.reached == found.horizon
    assert found.loose < (1e3 if name == "rows" else 20)


# ---- a linear plant, exactly ----


def test_disturbances_that_switch(tmp_path: Path) -> None:
    """x' = A x + B w with w constant in pieces that have nothing to do with the steps: by matrix exponentials."""
    A, B = np.array([[-0.5, 1.0], [-1.0, 0.25]]), np.array([1.0, -0.5])
    data = loop_of(
        tmp_path, {"x": "-0.5*x + y + w", "y": "-x + 0.25*y - 0.5*w"}, disturbances="{ w = [-0.25, 0.5] }"
    )  # fmt: skip
    initial = Box.of(["0.5", "-0.125"], ["0.75", "0.125"])
    horizon = Fraction(1)
    tube = reach_tube(data, [initial], horizon)
    assert tube.complete
    rng = np.random.default_rng(2)
    with flint.ctx.workprec(BITS):
        augmented = [[*(float(a) for a in row), float(b)] for row, b in zip(A, B, strict=True)] + [[0.0] * 3]
        for trial in range(25):
            pieces = int(rng.integers(1, 9))
            cuts = sorted(Fraction(float(v)) for v in rng.random(pieces - 1))
            ends = [*cuts, horizon]
            x = [
                ball(Fraction(float(v)))
                for v in initial.lower + rng.integers(0, 2, 2) * (initial.upper - initial.lower)
            ]
            now = Fraction(0)
            for k, end in enumerate(ends):
                # the two extremes in turn, or anything between
                w = (0.5, -0.25)[(k + trial) % 2] if trial % 3 else float(rng.uniform(-0.25, 0.5))
                M = flint.arb_mat(3, 3, [ball(v) * ball(end - now) for row in augmented for v in row])
                z = M.exp() * flint.arb_mat(3, 1, [*x, ball(w)])
                x, before, now = [z[0, 0], z[1, 0]], now, end
                for boxes in (tube.at(end), tube.between(before, end)):
                    for i in range(2):
                        assert not (x[i] < ball(float(boxes.lower[0, i])) or x[i] > ball(float(boxes.upper[0, i])))


def test_a_tube_of_a_linear_plant_is_tight(tmp_path: Path) -> None:
    """The rotation of a square keeps its size for twenty turns: hardly any wrapping."""
    data = loop_of(tmp_path, {"x": "-y", "y": "x"})
    initial = Box.of(["0.9", "-0.1"], ["1.1", "0.1"])
    system = System(data, initial)
    front = system.start([initial], Fraction(125))
    while front.time < 125:
        front, _ = system.advance(front, Fraction(125))
    low, high = front.states.range()
    with flint.ctx.workprec(BITS):
        c, s = (abs(float(f(ball(125)).mid())) for f in (flint.arb.cos, flint.arb.sin))
    assert ((high - low)[0] <= 0.2 * (c + s) * 1.05).all()


def test_boxes_are_followed_together_as_alone(tmp_path: Path) -> None:
    data = loop_of(tmp_path, {"x": "y", "y": "(1 - x^2)*y - x"})
    boxes = [Box.of([a, b], [a + 0.1, b + 0.1]) for a, b in ((1.0, 0.5), (-0.3, 0.2), (0.0, -1.0))]
    whole = Box.of([-0.3, -1.0], [1.1, 0.6])
    system = System(data, whole)
    together = system.start(boxes, Fraction(2))
    alone = [system.start([b], Fraction(2)) for b in boxes]
    for _ in range(6):
        together, _ = system.advance(together, Fraction(2))
    for k, front in enumerate(alone):
        while front.time < together.time:
            front, _ = system.advance(front, together.time)
        # steps may differ, so the enclosures do; both hold the same trajectories and so they meet
        low, high = front.states.range()
        below, above = together[np.array([k])].states.range()
        assert (np.maximum(low, below) <= np.minimum(high, above)).all()
        assert ((high - low) <= 2 * (above - below) + 1e-6).all()


def test_right_sides_that_jump_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the right side jumps there"):
        System(loop_of(tmp_path, {"x": "-sign(x)"}), Box.of([0.0], [1.0]))
    _network(tmp_path / "net.onnx", [(np.ones((1, 1)), np.zeros(1))], "Tanh")
    text = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x"]
inputs = ["u"]
derivative = { x = "-x + u" }
[controller]
network = "net.onnx"
feedback = "continuous"
network_inputs = ["x"]
plant_inputs = { u = "sign(y0)" }
[initial]
x = [0, 1]
[horizon]
time = 1
"""
    path = tmp_path / "jumps.toml"
    path.write_text(text)
    (instance,) = load_problem(path).instances
    with pytest.raises(InputError, match="the right side jumps there"):
        System(instance.loop, instance.initial)
    # a controller that is held may jump
    path.write_text(text.replace('"continuous"', '"sampled"\nperiod = 0.5'))
    (instance,) = load_problem(path).instances
    assert reach_tube(instance.loop, [instance.initial], Fraction(1)).complete
