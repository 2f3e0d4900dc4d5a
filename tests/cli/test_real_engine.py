"""The verbs with the real engine, on the networks of the examples; witnesses are replayed without any of our code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import Result

ROOT = Path(__file__).parents[2]
DIGITS, PENDULUM = ROOT / "examples" / "digits", ROOT / "examples" / "pendulum"

PROPERTY = """
(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real)
(assert (>= X_0 -1)) (assert (<= X_0 1)) (assert (>= X_1 -1)) (assert (<= X_1 1))
"""


def process(*words: object) -> subprocess.CompletedProcess[str]:
    """The program as a process of its own, as a user starts it."""
    command = [sys.executable, "-m", "holdfast", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def violates(prop: str, values: dict[str, Fraction]) -> bool:
    """Whether a point fulfils every assertion of a property made of single comparisons, in exact arithmetic."""
    compared = re.findall(r"\(assert \((<=|>=) (\S+) ([^\s()]+)\)\)", prop)
    assert len(compared) == prop.count("assert")

    def value(term: str) -> Fraction:
        return values[term] if term in values else Fraction(term)

    return all(value(a) <= value(b) if sign == "<=" else value(a) >= value(b) for sign, a, b in compared)


def small_network(path: Path, weights: np.ndarray) -> Path:
    """y = relu(x W), two inputs, two outputs."""
    nodes = [helper.make_node("MatMul", ["X", "W"], ["Z"], name="first"), helper.make_node("Relu", ["Z"], ["Y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("X", "Y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weights, "W")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return small_network(tmp_path / "small.onnx", np.array([[1, 2], [3, -4]], np.float32))


@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_witness_is_real(network: Path, tmp_path: Path, semantics: str) -> None:
    prop, answer = tmp_path / "p.vnnlib", tmp_path / "a.json"
    prop.write_text(PROPERTY + "(assert (>= Y_0 3.9))(assert (>= Y_0 Y_1))\n")
    done = process("verify", network, prop, "--json", answer, "--semantics", semantics)
    assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (1, "sat", "")
    values = {name: Fraction(text) for name, text in re.findall(r"\((\w_\d+) ([-+.e\d]+)\)", done.stdout)}
    point = np.array([[float(values["X_0"]), float(values["X_1"])]], np.float32)
    outputs = onnxruntime.InferenceSession(network).run(None, {"X": point})[0][0]
    assert [Fraction(float(y)) for y in outputs] == [values["Y_0"], values["Y_1"]]
    assert violates(prop.read_text(), values)
    assert json.loads(answer.read_text())["verdict"] == "falsified"


def test_unsat_with_the_engine(network: Path, tmp_path: Path, run: Callable[..., Result]) -> None:
    prop = tmp_path / "p.vnnlib"
    prop.write_text(PROPERTY + "(assert (>= Y_0 4.0001))\n")
    done = run("verify", network, prop, "--workers", 1)
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "unsat")


def test_property_without_output_conditions(network: Path, tmp_path: Path, run: Callable[..., Result]) -> None:
    prop = tmp_path / "p.vnnlib"
    prop.write_text(PROPERTY)
    done = run("verify", network, prop, "--workers", 1)
    assert (done.exit_code, done.stdout.splitlines()[0]) == (1, "sat")


@pytest.mark.parametrize(
    ("addition", "says"),
    [
        ("(assert (>= X_0 2))(assert (>= Y_0 1))", "empty"),
        ("(assert (>= Y_0 5.0))(assert (<= Y_0 4.0))", "hold nowhere"),
        ("(assert (>= Q_0 5.0))", "Q_0"),
        ("(declare-const X_2 Real)(assert (>= X_2 0))(assert (<= X_2 0))(assert (>= Y_0 5.0))", "3 input variables"),
    ],
)
def test_bad_properties(network: Path, tmp_path: Path, run: Callable[..., Result], addition: str, says: str) -> None:
    prop = tmp_path / "p.vnnlib"
    prop.write_text(PROPERTY + addition)
    done = run("verify", network, prop)
    assert done.exit_code == 2 and done.stdout == ""
    assert says in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("bad", ["truncated", "text", "not a number", "huge claim", "outside"])
def test_bad_networks(tmp_path: Path, run: Callable[..., Result], bad: str) -> None:
    weights = np.ones((2, 2), np.float32)
    weights[0, 0] = np.nan if bad == "not a number" else 1.0
    path = small_network(tmp_path / "bad.onnx", weights)
    if bad == "truncated":
        path.write_bytes(path.read_bytes()[:60])
    elif bad == "text":
        path.write_text("a network\n")
    elif bad in ("huge claim", "outside"):
        model = onnx.load(path)
        constant = model.graph.initializer[0]
        if bad == "huge claim":
            del constant.dims[:]
            constant.dims.extend([50_000, 50_000])
        else:
            constant.data_location = TensorProto.EXTERNAL
            entry = constant.external_data.add()
            entry.key, entry.value = "location", "../secret"
        path.write_bytes(model.SerializeToString())
    prop = tmp_path / "p.vnnlib"
    prop.write_text(PROPERTY + "(assert (>= Y_0 5.0))")
    done = run("verify", path, prop)
    assert done.exit_code == 2 and done.stdout == ""
    assert "bad.onnx" in done.stderr and done.stderr.count("\n") == 1


def test_bound_holds_at_samples(tmp_path: Path, run: Callable[..., Result]) -> None:
    path = tmp_path / "bounds.json"
    done = run("bound", PENDULUM / "pendulum.onnx", "-0.1:0.1,-0.2:0.2", "--json", path)
    assert done.exit_code == 0, done.output
    text = path.read_text()
    session = onnxruntime.InferenceSession(PENDULUM / "pendulum.onnx")
    name = session.get_inputs()[0].name
    points = np.random.default_rng(0).uniform(-1, 1, (200, 1, 2)) * [0.1, 0.2]
    torques = [float(session.run(None, {name: point.astype(np.float32)})[0].item()) for point in points]
    (entry,) = json.loads(text)["boxes"]
    (lower,), (upper,) = np.ravel(entry["lower"]), np.ravel(entry["upper"])
    assert lower <= min(torques) and max(torques) <= upper


def test_verify_imports_nothing_heavy(tmp_path: Path) -> None:
    """A look at an easy property loads neither JAX nor SciPy."""
    code = (
        "import sys; from holdfast.cli.main import app; "
        f"app(['verify', {str(DIGITS / 'digits.onnx')!r}, {str(DIGITS / 'robust_3_060.vnnlib')!r}], "
        "standalone_mode=False); print([m for m in ('jax', 'scipy', 'rich', 'matplotlib') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
