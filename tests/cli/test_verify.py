"""`holdfast verify` keeps its contract: first line, witness, exit status, one-sentence errors, progress, JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from holdfast.cli.progress import terminal_progress
from holdfast.errors import PropertyError


@pytest.mark.parametrize(
    ("answer", "word", "status"),
    [
        ("PROVED", "unsat", 0),
        ("REFUTED", "sat", 1),
        ("UNKNOWN", "unknown", 3),
        ("TIMEOUT", "timeout", 3),
        ("INTERRUPTED", "unknown", 3),
    ],
)
def test_first_line_and_exit_status(engine: Any, run: Any, files: Path, answer: str, word: str, status: int) -> None:
    engine.answers = [getattr(engine, answer)]
    for quiet in ([], ["--quiet"]):
        ended = run("verify", files / "net.onnx", files / "prop.vnnlib", *quiet)
        lines = ended.stdout.splitlines()
        assert (lines[0], ended.exit_code, ended.stderr) == (word, status, "")
        assert quiet or all(line.startswith(("; ", "(")) for line in lines[1:])
        assert not quiet or lines[1:] == (
            [] if word != "sat" else ["((X_0 0.100000001490116119384765625)", "(X_1 -2.000)", "(Y_0 3.5))"]
        )


def test_explanation_names_reason_bound_work_and_time(engine: Any, run: Any, files: Path) -> None:
    text = run("verify", files / "net.onnx", files / "prop.vnnlib").stdout
    assert engine.PROVED.reason.value in text
    assert "worst margin: 0.123456 " in text  # rounded down, never up
    assert "sub problems 7" in text and "attack 0.100, bounds 0.400" in text and "semantics: real" in text
    engine.answers = [engine.UNKNOWN]
    text = run("verify", files / "net.onnx", files / "prop.vnnlib").stdout
    assert "row 3 of the property" in text and "-0.25" in text


def test_witness_of_a_version_2_property(engine: Any, run: Any, files: Path) -> None:
    engine.answers, engine.version = [engine.REFUTED], "2.0"
    ended = run("verify", files / "prop.vnnlib", "--network", f"f={files / 'net.onnx'}", "--quiet")
    assert ended.exit_code == 1
    assert ended.stdout.splitlines() == [
        "sat",
        "X float32 [1,2]",
        "0.100000001490116119384765625",
        "-2.000",
        "Y float32 [1,1]",
        "3.5",
    ]
    assert list(engine.calls[0]["networks"]) == ["f"]


def test_options_reach_the_engine(engine: Any, run: Any, files: Path) -> None:
    words = ["--timeout", "10", "--semantics", "float32", "--workers", "3", "--memory", "512", "--seed", "9"]
    assert run("verify", files / "net.onnx", files / "prop.vnnlib", *words).exit_code == 0
    call = engine.calls[0]
    assert 9 < call["timeout"] <= 10  # what loading took is gone
    assert (call["semantics"], call["workers"], call["memory_mib"], call["seed"]) == ("float32", 3, 512, 9)
    assert call["progress"] is None  # standard error is no terminal here
    run("verify", files / "net.onnx", files / "prop.vnnlib")
    assert engine.calls[1]["timeout"] is None and engine.calls[1]["semantics"] is None


def test_networks_by_name(engine: Any, run: Any, files: Path) -> None:
    named = ["--network", f"f={files / 'net.onnx'}", "--network", f"g={files / 'net.onnx'}"]
    assert run("verify", files / "prop.vnnlib", *named[:2]).exit_code == 0
    assert not isinstance(engine.calls[0]["networks"], dict)  # a 1.0 property gets the network itself
    ended = run("verify", files / "prop.vnnlib", *named)
    assert ended.exit_code == 2 and "2 networks are given (f, g)" in ended.stderr
    engine.version, engine.loaded[:] = "2.0", []
    assert run("verify", files / "prop.vnnlib", *named).exit_code == 0
    assert sorted(engine.calls[1]["networks"]) == ["f", "g"] and engine.loaded == ["net.onnx"]  # read once


BAD = {
    "no such file": ["absent.onnx", "prop.vnnlib"],
    "no such file ": ["net.onnx", "absent.vnnlib"],
    "is a folder": [".", "prop.vnnlib"],
    "in this order": ["prop.vnnlib", "net.onnx"],
    "the network": ["prop.vnnlib"],
    "the property": ["net.onnx"],
    "3 files given": ["net.onnx", "net.onnx", "prop.vnnlib"],
    "a problem file alone": ["net.onnx", "problem.toml"],
    "float32 is for networks": ["problem.toml", "--semantics", "float32"],
    "certificates/c.hfc: the folder": ["net.onnx", "prop.vnnlib", "--certificate", "certificates/c.hfc"],
    "is for problem files": ["net.onnx", "prop.vnnlib", "--plot", "p.png"],
    "accepted is NAME=FILE": ["prop.vnnlib", "--network", "net.onnx"],
    "already given": ["prop.vnnlib", "--network", "f=net.onnx", "--network", "f=net.onnx"],
    "together with two files": ["net.onnx", "prop.vnnlib", "--network", "f=net.onnx"],
    "is not an ONNX file": ["broken.onnx", "prop.vnnlib"],
    "does not exist": ["net.onnx", "prop.vnnlib", "--json", "absent/answer.json"],
    "accepted is the name of a file": ["net.onnx", "prop.vnnlib", "--json", "."],
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_input_is_one_sentence(
    engine: Any, run: Any, files: Path, monkeypatch: pytest.MonkeyPatch, sentence: str
) -> None:
    monkeypatch.chdir(files)
    ended = run("verify", *BAD[sentence])
    assert ended.exit_code == 2
    assert ended.stdout == ""
    assert sentence.strip() in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not engine.calls


@pytest.mark.parametrize(
    "words", [["--timeout", "0"], ["--timeout", "nan"], ["--timeout", "x"], ["--workers", "0"], ["--semantics", "ieee"]]
)
def test_usage_errors(engine: Any, run: Any, files: Path, words: list[str]) -> None:
    ended = run("verify", files / "net.onnx", files / "prop.vnnlib", *words)
    assert (ended.exit_code, ended.stdout) == (2, "") and words[0] in ended.stderr


def test_errors_of_the_engine(engine: Any, run: Any, files: Path) -> None:
    words = ["verify", files / "net.onnx", files / "prop.vnnlib"]
    engine.answers = [PropertyError("prop.vnnlib, line 3: unknown variable Z_0")]
    ended = run(*words)
    assert (ended.exit_code, ended.stdout, ended.stderr) == (2, "", "prop.vnnlib, line 3: unknown variable Z_0\n")
    engine.answers = [ValueError("a\nb")]
    ended = run(*words)
    assert (ended.exit_code, ended.stdout, ended.stderr) == (4, "", "internal error: ValueError: a b\n")
    ended = run(*words, "--debug")
    assert ended.exit_code == 4 and "Traceback" in ended.stderr
    for kind in (MemoryError(), RecursionError("deep"), EOFError(), BrokenPipeError()):
        engine.answers = [kind]
        assert run(*words).exit_code == 4
    engine.answers = [KeyboardInterrupt()]  # where the engine could not catch it: never the status of "refuted"
    assert run(*words).exit_code == 3


def test_json_holds_the_whole_result(engine: Any, run: Any, files: Path) -> None:
    engine.answers = [engine.REFUTED]
    assert run("verify", files / "net.onnx", files / "prop.vnnlib", "--json", files / "a.json").exit_code == 1
    content = json.loads((files / "a.json").read_text())
    assert content == json.loads(json.dumps(engine.REFUTED.to_json()))
    assert content["verdict"] == "falsified" and content["reason"] == "witness"
    assert not list(files.glob("*.part"))
    engine.answers = [ValueError()]
    run("verify", files / "net.onnx", files / "prop.vnnlib", "--json", files / "a.json")
    assert json.loads((files / "a.json").read_text()) == content  # an earlier answer survives a failure


def test_progress_is_drawn_on_terminals_only() -> None:
    state = SimpleNamespace(seconds=1.5, phase="split", open=3, done=4, bound=-np.inf, memory_mib=100.0)
    with terminal_progress(io.StringIO()) as draw:
        assert draw is None
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    with terminal_progress(terminal) as draw:
        assert draw is not None
        draw(state)  # type: ignore[arg-type]
        draw(state)  # type: ignore[arg-type]
    assert terminal.getvalue().count("split") == 1  # throttled
    assert "open 3" in terminal.getvalue() and terminal.getvalue().endswith("\x1b[2K")
