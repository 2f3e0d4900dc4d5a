"""`holdfast reach`, with the real engine: what is told, written and drawn, and one sentence for every bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

LOOP = """
format = "holdfast-problem/1"
title = "A tank"
[plant]
kind = "ode"
states = ["level", "flow"]
inputs = ["u"]
parameters = { k = 1.0 }
derivative = { level = "flow", flow = "k*u - flow" }
domain = { level = [-2, 1.01] }
[controller]
network = "controller.onnx"
feedback = "sampled"
period = 0.2
network_inputs = ["level", "flow"]
plant_inputs = { u = "y0" }
[initial]
level = [0.9, 1.0]
flow = [0, 0.3]
[horizon]
steps = 10
[[property]]
id = "safe"
kind = "always"
set = { where = ["level <= 1.3"] }
[[property]]
id = "never"
kind = "always"
not_set = { box = { level = [1, 1.2], flow = [0.5, 1] } }
[[property]]
id = "near"
kind = "at"
time = 2
set = { box = { level = [-0.5, 0.6] } }
[[instance]]
id = "gentle"
[[instance]]
id = "stiff"
plant = { parameters = { k = 3.0 } }
[[instance]]
id = "silent"
property = []
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The problem and its network u = -relu(level + flow) + relu(-level - flow)."""
    first, second = np.array([[1, 1], [-1, -1]], np.float32), np.array([[-1, 1]], np.float32)
    nodes = [
        helper.make_node("Gemm", ["in", "a"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "b"], ["out"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "law",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(first, "a"), numpy_helper.from_array(second, "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "controller.onnx")
    (tmp_path / "problem.toml").write_text(LOOP)
    return tmp_path / "problem.toml"


def test_all_instances_are_told_written_and_drawn(run: Any, file: Path) -> None:
    out, picture = file.parent / "o.json", file.parent / "p.png"
    ended = run("reach", file, "--json", out, "--plot", picture)
    assert ended.exit_code == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "complete" and [line.split()[:2] for line in lines[1:4]] == [
        ["gentle", "complete"], ["stiff", "complete"], ["silent", "complete"],
    ]  # fmt: skip
    assert any(line.startswith(";   all trajectories from t = 0 to 2 s: 1 box, ") for line in lines)
    assert any("may leave the domain in level" in line for line in lines)
    assert picture.stat().st_size > 5000
    found = json.loads(out.read_text())
    assert found["status"] == "complete" and [one["instance"] for one in found["instances"]] == [
        "gentle",
        "stiff",
        "silent",
    ]
    one = found["instances"][0]
    assert (one["horizon"], one["end"], one["boxes"], one["stopped"]) == ("2", "2", 1, None)
    assert one["initial"] == [{"lower": ["0.9", "0"], "upper": ["1", "0.3"]}]
    sizes = {len(one["pieces"][name]) for name in ("start", "end", "lower", "upper", "origin")}
    assert len(sizes) == 1 and one["times"][0] == "0" and one["times"][-1] == "2"
    assert all(a <= b for a, b in zip(one["sampled_width"], one["final"]["width"], strict=True))


def test_one_instance_as_arrays_and_in_a_plane(run: Any, file: Path) -> None:
    arrays, picture = file.parent / "t.npz", file.parent / "p.svg"
    words = ["--npz", arrays, "--plot", picture, "--project", "flow, level", "--quiet"]
    ended = run("reach", file, "stiff", *words)
    assert ended.exit_code == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 2 and picture.stat().st_size > 5000
    assert np.load(arrays)["lower"].shape[1] == 2


def test_a_tube_that_ends_early_is_status_3(run: Any, file: Path) -> None:
    file.write_text(LOOP.replace("k*u - flow", "k*u + 5*flow^3"))
    out = file.parent / "o.json"
    ended = run("reach", file, "gentle", "--timeout", "2", "--json", out)
    assert ended.exit_code == 3, ended.stdout
    assert ended.stdout.startswith("stopped\n")
    assert "stopped at " in ended.stdout and "widest there: " in ended.stdout
    stopped = json.loads(out.read_text())["instances"][0]["stopped"]
    assert stopped["why"] in ("blow-up", "time") and stopped["state"] in ("level", "flow")


@pytest.mark.parametrize(
    ("change", "words", "sentence"),
    [
        (("steps = 10", "time = 2.5"), (), "the horizon 2.5 s, accepted is a whole number of periods of 0.2 s"),
        (("steps = 10", "steps = 0"), (), "steps"),
        (("level = [0.9, 1.0]", "level = [0.9, 1.1]"), (), "the initial set leaves the domain"),
        (("[horizon]\nsteps = 10\n", ""), ("silent",), "needs [horizon]"),
        (("flow = [0, 0.3]\n", ""), (), "no value for flow"),
        (("", ""), ("absent",), "has no instance 'absent'; its instances: gentle, stiff, silent"),
        (("", ""), ("--npz", "t.npz"), "accepted is one of them"),
        (("", ""), ("gentle", "--npz", "t.txt"), "accepted is .npz"),
        (("", ""), ("--plot", "p.gif"), "accepted are .png"),
        (("", ""), ("--project", "level,u"), "accepted are two of the states level, flow"),
        (("", ""), ("--json", "absent/o.json"), "does not exist"),
    ],
)
def test_bad_input_is_one_sentence(
    run: Any, file: Path, change: tuple[str, str], words: tuple[str, ...], sentence: str
) -> None:
    file.write_text(LOOP.replace(*change) if change[0] else LOOP)
    ended = run("reach", file, *words)
    assert (ended.exit_code, ended.stdout, ended.stderr.count("\n")) == (2, "", 1), ended.stderr
    assert sentence in ended.stderr


def test_what_is_no_problem_file_is_refused(run: Any, file: Path) -> None:
    assert "accepted is a problem file" in run("reach", file.parent / "controller.onnx").stderr
    assert "no such file" in run("reach", file.parent / "absent.toml").stderr


def test_verify_draws_the_tube_and_what_violates(run: Any, file: Path) -> None:
    file.write_text(LOOP.replace("time = 2\n", "time = 1.9\n"))  # within a period: claims need not end at a sample
    picture = file.parent / "v.png"
    ended = run("verify", file, "--instance", "gentle", "--workers", "1", "--plot", picture, "--timeout", "30")
    assert ended.exit_code == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("verified\n") and picture.stat().st_size > 5000
    file.write_text(LOOP.replace("[-0.5, 0.6]", "[-0.5, 0.1]"))
    ended = run("verify", file, "--instance", "gentle", "--workers", "1", "--plot", picture, "--timeout", "30")
    assert ended.exit_code == 1, ended.stdout + ended.stderr
    assert ended.stdout.startswith("falsified\n") and picture.stat().st_size > 5000
