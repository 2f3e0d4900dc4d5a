"""Problem files on the command line, with the real engine: verify, invariant, bench."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from holdfast.cli.execution import Options
from holdfast.cli.own_process import OwnProcess
from holdfast.cli.problem_folder import problem_files, read_problems

PLANT = """
format = "holdfast-problem/1"
title = "Two tanks"
[plant]
kind = "ode"
states = ["x", "y"]
inputs = ["u"]
derivative = { x = "-1.5*x + y", y = "u" }
domain = { x = [-2, 2], y = [-2, 2] }
[controller]
network = "controller.onnx"
feedback = "continuous"
network_inputs = ["x", "y"]
plant_inputs = { u = "y0" }
"""
KEPT = '[[property]]\nid = "kept"\nkind = "invariant"\nset = { box = { x = [-1, 1], y = [-1, 1] } }\n'
LEFT = KEPT.replace("y = [-1", "y = [-2").replace("1] } }", "2] } }")


def several(*instances: tuple[str, str, str]) -> str:
    """Instances: id, property, expected."""
    texts = [
        f'[[instance]]\nid = "{i}"\nexpected = "{e}"\n{p.replace("[[property", "[[instance.property")}'
        for i, p, e in instances
    ]
    return PLANT + "".join(texts)


BOTH = several(("small", KEPT, "verified"), ("large", LEFT, "falsified"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two folders, each with a problem file and its network u = -relu(y) + relu(-y)."""
    first, second = np.array([[0, 1], [0, -1]], np.float32), np.array([[-1, 1]], np.float32)
    nodes = [
        helper.make_node("Gemm", ["in", "a"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "b"], ["out"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "u",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(first, "a"), numpy_helper.from_array(second, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for name, text in (("one", PLANT + KEPT), ("two", BOTH)):
        (tmp_path / name).mkdir()
        onnx.save(model, tmp_path / name / "controller.onnx")
        (tmp_path / name / "problem.toml").write_text(text)
    return tmp_path


def test_verified_with_a_certificate_that_is_valid(run: Any, folder: Path) -> None:
    file, certificate = folder / "one" / "problem.toml", folder / "c.hfc"
    ended = run("verify", file, "--certificate", certificate, "--json", folder / "o.json", "--workers", "1")
    assert ended.exit_code == 0 and ended.stderr == ""
    lines = ended.stdout.splitlines()
    assert lines[0] == "verified" and all(line.startswith("; ") for line in lines[1:])
    assert json.loads((folder / "o.json").read_text())["instances"][0]["verdict"] == "verified"
    assert run("check", file, certificate).exit_code == 0


def test_several_instances(run: Any, folder: Path) -> None:
    file = folder / "two" / "problem.toml"
    ended = run("verify", file, "--workers", "1", "--quiet", "--plot", folder / "p.png", "--timeout", "60")
    assert ended.exit_code == 1, ended.stderr
    assert [line.split()[:2] for line in ended.stdout.splitlines()[1:]] == [
        ["small", "verified"],
        ["large", "falsified"],
    ]
    assert (folder / "p.png").stat().st_size > 5000
    ended = run("verify", file, "--instance", "small", "--workers", "1")
    assert (ended.exit_code, ended.stdout.splitlines()[0]) == (0, "verified")
    ended = run("verify", file, "--certificate", folder, "--workers", "1")
    assert ended.exit_code == 1 and {p.name for p in folder.glob("*.hfc")} == {"small.hfc", "large.hfc"}


def test_what_is_not_supported_is_unknown(run: Any, folder: Path) -> None:
    file = folder / "one" / "problem.toml"
    text = several(("small", KEPT, "verified"), ("later", KEPT, "open"))
    file.write_text(text.replace('id = "later"\n', 'id = "later"\nplant = { schedule = { s = [[0, 1]] } }\n'))
    ended = run("verify", file, "--workers", "1")
    assert ended.exit_code == 3 and ended.stdout.splitlines()[0] == "unknown"
    assert "not supported yet: [plant] schedule" in ended.stdout
    ended = run("verify", file, "--instance", "later", "--plot", folder / "p.png")
    assert ended.exit_code == 3, ended.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--instance", "none"], "its instances: small, large"),
        (["--certificate", "all.hfc"], "choose"),
        (["--plot", "p.bmp"], "accepted are .png"),
        (["--semantics", "float32"], "over the real numbers"),
        (["--json", "absent/o.json"], "does not exist"),
    ],
)
def test_bad_words_are_one_sentence(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(folder)
    ended = run("verify", folder / "two" / "problem.toml", *words)
    assert (ended.exit_code, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert sentence.replace("choose", "--instance ID") in ended.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x", "not a TOML file"),
        (PLANT, "nothing is claimed"),
        (PLANT + KEPT.replace("x = [-1, 1], ", ""), "leaves state x open"),
        (PLANT.replace("controller.onnx", "absent.onnx") + KEPT, "does not exist"),
    ],
)
def test_bad_files_are_one_sentence(run: Any, folder: Path, text: str, sentence: str) -> None:
    file = folder / "one" / "problem.toml"
    file.write_text(text)
    for verb in ("verify", "invariant"):
        ended = run(verb, file)
        assert (ended.exit_code, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
        assert sentence in ended.stderr


def test_invariant_tells_the_size(run: Any, folder: Path) -> None:
    ended = run("invariant", folder / "two" / "problem.toml", "--instance", "small", "--json", folder / "o.json")
    assert ended.exit_code == 0 and "; small: kept, set: box, volume 4" in ended.stdout.splitlines()
    assert json.loads((folder / "o.json").read_text())["sets"][0]["volume"] == "4"
    assert run("invariant", folder / "two" / "problem.toml", "--quiet").exit_code == 1
    assert run("invariant", folder / "one" / "controller.onnx").exit_code == 2
    assert run("invariant", folder / "one" / "problem.toml", "--out", "x.toml").exit_code == 2


def test_a_set_is_found_written_and_checked(run: Any, folder: Path) -> None:
    out, certificate = folder / "found.toml", folder / "found.hfc"
    words = ["--find", "--kind", "box", "--timeout", "4", "--out", out, "--certificate", certificate]
    ended = run("invariant", folder / "two" / "problem.toml", "--instance", "large", *words)
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout.startswith("verified\n") and "; box of 2 rows: volume " in ended.stdout
    assert run("check", out, certificate).exit_code == 0
    assert run("verify", out, "--workers", "1").exit_code == 0
    assert "accepted is one of them" in run("invariant", folder / "two" / "problem.toml", "--find").stderr
    assert run("invariant", folder / "one" / "problem.toml", "--find", "--certificate", certificate).exit_code == 2


def test_interrupt_keeps_what_is_known(run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from holdfast.invariance import decide

    plain = decide.decide

    def interrupted(problem: Any, instance: Any, **options: Any) -> Any:
        if instance.id == "large":
            raise KeyboardInterrupt
        return plain(problem, instance, **options)

    monkeypatch.setattr(decide, "decide", interrupted)
    ended = run("verify", folder / "two" / "problem.toml", "--workers", "1")
    assert ended.exit_code == 3
    assert [line.split()[:2] for line in ended.stdout.splitlines()[1:3]] == [
        ["small", "verified"],
        ["large", "unknown"],
    ]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_bench_of_a_folder_and_of_one_problem(run: Any, folder: Path) -> None:
    out = folder / "out.csv"
    ended = run("bench", folder, "--out", out, "--workers", "1", "--certificates", folder / "certificates")
    assert ended.exit_code == 0, ended.stderr
    assert out.read_text().splitlines()[0] == "problem,instance,verdict,seconds,cpu_seconds,peak_mib,reason"
    assert [(r["problem"], r["instance"], r["verdict"]) for r in rows(out)] == [
        ("one", "", "verified"), ("two", "small", "verified"), ("two", "large", "falsified"),
    ]  # fmt: skip
    assert {p.name for p in (folder / "certificates").iterdir()} == {"one.hfc", "two--small.hfc", "two--large.hfc"}
    assert str(folder) not in out.read_text()
    assert "0 of 2 compared" in ended.stdout and "1 / 1 / 0" in ended.stdout
    again = run("bench", folder, "--out", out, "--resume")
    assert "3 of 3 instances are already" in again.stderr and len(rows(out)) == 3
    alone = run("bench", folder / "two", "--filter", "small", "--workers", "1")
    assert alone.exit_code == 0 and "[1/1] verified" in alone.stderr


def test_bench_contradictions_errors_and_what_is_left_out(run: Any, folder: Path) -> None:
    (folder / "one" / "problem.toml").write_text("x")
    text = several(("small", KEPT, "falsified"), ("large", LEFT, "open"), ("silent", "", "none"))
    (folder / "two" / "problem.toml").write_text(text)
    ended = run("bench", folder, "--workers", "1")
    assert ended.exit_code == 1, ended.stderr
    assert "WRONG: two small: verified, expected falsified" in ended.stdout
    assert "error: one: " in ended.stdout and "not a TOML file" in ended.stdout
    assert "1 instances claim nothing" in ended.stderr
    assert run("bench", folder, "--filter", "two", "--semantics", "float32").exit_code == 2
    assert run("bench", folder, "--filter", "nowhere").exit_code == 2


def test_instances_of_folders_and_their_limits(folder: Path) -> None:
    files = problem_files(folder)
    found, expected, silent = read_problems(files)
    assert [one.key for one in found] == [("one", ""), ("two", "small"), ("two", "large")]
    assert {one.timeout for one in found} == {60.0} and silent == 0
    assert expected == {("two", "small"): "verified", ("two", "large"): "falsified"}
    assert found[0].words == [str(files[0])] and found[1].words == [str(files[1]), "--instance", "small"]


def test_a_process_of_its_own(folder: Path) -> None:
    (one,), *_ = read_problems(problem_files(folder), containing="large")
    row = OwnProcess(Options(workers=1)).run(one)
    assert row is not None and row.verdict == "falsified", row
    assert row.reason.startswith("a trajectory that leaves the set") and str(folder) not in row.reason
