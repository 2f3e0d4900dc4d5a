"""Problem files that the tests of the reader share, and networks of the sizes they need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from holdfast.graph import Model
from holdfast.load.problem import load_problem
from holdfast.spec.temporal import Problem
from holdfast.transforms.evaluate import evaluate

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


def replaced(*pairs: tuple[str, str]) -> str:
    text = PENDULUM
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def claimed(text: str) -> str:
    """The problem with this one property."""
    return PENDULUM[: PENDULUM.index("[[property]]")] + "[[property]]\nid = 'p'\n" + text
