"""`holdfast bench`: rows as instances end, comparison, resuming, and processes that die, hang or contradict."""

from __future__ import annotations

import csv
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli import own_process, worker_process
from holdfast.cli.bench import termination_as_interrupt
from holdfast.cli.execution import Options
from holdfast.cli.instances import Instance, read_instances
from holdfast.cli.own_process import OwnProcess
from holdfast.cli.schedule import run_all
from holdfast.report.bench import Row

HEADER = "onnx,vnnlib,verdict,seconds,cpu_seconds,peak_mib,reason"


@pytest.fixture
def folder(files: Path) -> Path:
    """A benchmark of four instances."""
    lines = [
        "net.onnx,prop.vnnlib,10",
        "other.onnx,prop.vnnlib,20.5",
        "broken.onnx,prop.vnnlib,5",
        "net.onnx,prop2.vnnlib,5",
    ]
    (files / "prop2.vnnlib").write_text("x")
    (files / "instances.csv").write_text("\n".join(lines) + "\n")
    return files


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_rows_summary_and_limits(engine: Any, run: Any, folder: Path) -> None:
    engine.answers = [engine.PROVED, engine.UNKNOWN, engine.REFUTED]
    out = folder / "out.csv"
    ended = run("bench", folder, "--out", out, "--timeout", "8")
    assert out.read_text().splitlines()[0] == HEADER
    assert [row["verdict"] for row in rows(out)] == ["unsat", "unknown", "error", "sat"]
    assert rows(out)[2]["reason"] == "broken.onnx: is not an ONNX file"
    assert "row 3 of the property" in rows(out)[1]["reason"]
    assert all(float(row["peak_mib"]) > 1 and float(row["cpu_seconds"]) >= 0 for row in rows(out))
    assert [round(call["timeout"]) for call in engine.calls] == [8, 8, 5]
    assert engine.loaded == ["net.onnx", "other.onnx", "broken.onnx"]  # net.onnx only once
    assert ended.exit_code == 2  # an instance could not be read
    assert "solved" in ended.stdout and "[4/4] sat" in ended.stderr


def test_contradiction_is_exit_status_1(engine: Any, run: Any, folder: Path) -> None:
    expected = folder / "expected.csv"
    expected.write_text("onnx,vnnlib,verdict,n_tools\nnet.onnx,prop.vnnlib,sat,3\nother.onnx,prop.vnnlib,unknown,0\n")
    ended = run("bench", folder, "--filter", "net.onnx")
    assert ended.exit_code == 1
    assert "WRONG: net.onnx prop.vnnlib: unsat, expected sat" in ended.stdout
    assert run("bench", folder, "--filter", "other").exit_code == 0  # unknown contradicts nothing
    expected.write_text("onnx,vnnlib,verdict\nnet.onnx,prop.vnnlib,unsat\n")
    assert run("bench", folder, "--filter", "net.onnx").exit_code == 0
    engine.answers = [engine.TIMEOUT]
    assert run("bench", folder, "--filter", "net.onnx").exit_code == 0


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_resume_redoes_a_row_that_was_cut_off(engine: Any, run: Any, folder: Path, cut: int) -> None:
    out = folder / "out.csv"
    run("bench", folder, "--out", out)
    whole = out.read_text().splitlines(keepends=True)
    out.write_text("".join(whole[:3]) + whole[3][: min(cut, len(whole[3]) - 1)])
    engine.calls.clear()
    ended = run("bench", folder, "--out", out, "--resume")
    assert len(engine.calls) == 1  # the third is broken, the fourth runs again
    assert [row["onnx"] for row in rows(out)] == ["net.onnx", "other.onnx", "broken.onnx", "net.onnx"]
    assert "2 of 4 instances are already" in ended.stderr and "instances" in ended.stdout
    engine.calls.clear()
    run("bench", folder, "--out", out, "--resume")
    assert not engine.calls and len(rows(out)) == 4


@pytest.mark.parametrize("start", ["", HEADER[:5], HEADER, HEADER + "\n"])
def test_resume_from_almost_nothing(engine: Any, run: Any, folder: Path, start: str) -> None:
    out = folder / "out.csv"
    out.write_text(start)
    run("bench", folder, "--out", out, "--resume")
    assert len(rows(out)) == 4


def test_files_of_others_are_left_alone(engine: Any, run: Any, folder: Path) -> None:
    out = folder / "out.csv"
    for text in ("some notes", "a,b\n1,2\n", f"{HEADER}\n1,2\n", f"{HEADER}\na,b,maybe,1,1,1,x\n"):
        out.write_text(text)
        for options in ([], ["--resume"]):
            ended = run("bench", folder, "--out", out, *options)
            assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)
            assert out.read_text() == text
    assert not engine.calls
    assert run("bench", folder, "--resume").exit_code == 2


def test_interrupt_keeps_what_is_there(engine: Any, run: Any, folder: Path) -> None:
    for last in (engine.INTERRUPTED, KeyboardInterrupt()):
        out = folder / "out.csv"
        out.unlink(missing_ok=True)
        engine.answers = [engine.PROVED, last]
        ended = run("bench", folder, "--out", out)
        assert ended.exit_code == 3
        assert [row["verdict"] for row in rows(out)] == ["unsat"]
        assert "3 of 4 instances were not run" in ended.stderr and "solved" in ended.stdout


def test_termination_is_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), termination_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("net.onnx,prop.vnnlib\n", "line 1: found 2 columns"),
        ("\nnet.onnx,prop.vnnlib,x\n", "line 2: found the time limit 'x'"),
        ("net.onnx,prop.vnnlib,0\n", "the time limit '0'"),
        ("net.onnx,absent.vnnlib,1\n", "no such file"),
        ("", "no instance is listed"),
        ('net.onnx,"prop\n', "cannot be read as CSV"),
    ],
)
def test_bad_instances(engine: Any, run: Any, folder: Path, text: str, sentence: str) -> None:
    (folder / "instances.csv").write_text(text)
    ended = run("bench", folder)
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1) and sentence in ended.stderr


def test_bad_folders_and_expectations(engine: Any, run: Any, folder: Path, tmp_path: Path) -> None:
    assert "contains 'zzz'" in run("bench", folder, "--filter", "zzz").stderr
    for text in (
        "onnx,verdict\n",
        "onnx,vnnlib,verdict\na,b,yes\n",
        "onnx,vnnlib,verdict\na,b,sat\na,b,unsat\n",
        "onnx,vnnlib,verdict\na\n",
    ):
        (folder / "expected.csv").write_text(text)
        assert run("bench", folder).exit_code == 2
    for name in ("instances.csv", "problem.toml"):
        (folder / name).unlink()
    assert "problem.toml" in run("bench", folder).stderr
    assert "no such folder" in run("bench", folder / "absent").stderr
    assert not engine.calls


def test_compressed_files_are_found(folder: Path) -> None:
    (folder / "net.onnx").rename(folder / "net.onnx.gz")
    instance = read_instances(folder)[0]
    assert (instance.onnx, instance.network.name) == ("net.onnx", "net.onnx.gz")


# What a `holdfast verify` process may do, and what its row then says.
PROCESSES = {
    "print('unsat')": ("unsat", ""),
    "print('sat'); print('((X_0 1))'); sys.exit(1)": ("sat", ""),
    "print('timeout'); sys.exit(3)": ("timeout", ""),
    "open(answer, 'w').write('{\"reason\": \"time\", \"detail\": \"d\"}'); print('timeout'); sys.exit(3)": ("timeout", "the time limit was reached. d"),
    "print('sat')": ("error", "internal error: exit status 0 with output 'sat'"),
    "sys.exit(0)": ("error", "internal error: exit status 0 with output ''"),
    "print('net.onnx: is bad', file=sys.stderr); sys.exit(2)": ("error", "net.onnx: is bad"),
    "import os; os.kill(os.getpid(), 9)": ("error", "internal error: the process was ended by signal 9"),
    "import subprocess; subprocess.run(['sleep', '60'])": ("timeout", "the process was killed: it did not stop at the time limit"),
}  # fmt: skip


@pytest.mark.parametrize("code", PROCESSES)
def test_each_process(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    words = [sys.executable, "-c"]
    monkeypatch.setattr(own_process, "GRACE", 0.1)
    monkeypatch.setattr(
        own_process,
        "command",
        lambda instance, answer, options: [*words, f"import sys; answer = {str(answer)!r}; {code}"],
    )
    instance = replace(read_instances(folder)[0], timeout=0.4 if "sleep" in code else 20.0)
    row = OwnProcess(Options()).run(instance)
    assert row is not None
    assert (row.verdict, row.reason) == PROCESSES[code]
    assert 0 < row.seconds < 20 and row.cpu_seconds is not None and row.peak_mib is not None and row.peak_mib > 1


def test_command_of_each_process(folder: Path) -> None:
    instance = read_instances(folder)[0]
    words = own_process.command(instance, folder / "a.json", Options("float32", 2, 512))
    assert words[1:4] == ["-m", "holdfast", "verify"]
    assert words[-6:] == ["--semantics", "float32", "--workers", "2", "--memory", "512"]


def test_closing_ends_what_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def words(instance: Instance, *_: object) -> list[str]:
        return [
            sys.executable,
            "-c",
            "print('unsat')" if instance.onnx == "net.onnx" else "import time; time.sleep(60)",
        ]

    monkeypatch.setattr(own_process, "command", words)
    executors: list[OwnProcess] = []

    def new() -> OwnProcess:
        executors.append(OwnProcess(Options()))
        return executors[-1]

    running = run_all(read_instances(folder), new, jobs=2)
    first = next(running)
    assert isinstance(first, Row) and first.verdict == "unsat"
    start = time.monotonic()
    running.close()
    assert time.monotonic() - start < 5
    assert all(executor._running is None and executor._stopped for executor in executors)


def test_a_worker_that_dies_is_an_error_and_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = worker_process.WorkerProcess(Options())
    instance = read_instances(folder)[0]
    try:
        first = worker.run(instance)  # the files hold nothing that could be loaded
        assert first is not None and first.verdict == "error" and first.cpu_seconds is not None
        worker._process.kill()
        worker._process.join()
        died = worker.run(instance)
        assert died is not None and died.reason == "internal error: the worker process died"
        again = worker.run(instance)
        assert again is not None and again.cpu_seconds is not None
        worker._kill()
        monkeypatch.setattr(worker_process, "GRACE", 0.0)
        late = worker.run(replace(instance, timeout=1e-6))  # a process does not even start in that time
        assert late is not None and (late.verdict, late.cpu_seconds) == ("timeout", None)
    finally:
        worker.stop()
    assert worker.run(instance) is None
