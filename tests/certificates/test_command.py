"""Certificates from the command line and from Python: written, checked, refused, and what a killed search leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from questions import Question, asked, check, question

import holdfast
from holdfast.certificate.check import environment

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"


def run(*words: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)], capture_output=True, text=True, env=environment(), check=False
    )


@pytest.fixture
def about(tmp_path: Path) -> Question:
    return asked(tmp_path)


def test_written_by_one_program_and_checked_by_another(about: Question, tmp_path: Path) -> None:
    proof, answer = tmp_path / "proof.hfc", tmp_path / "answer.json"
    done = run("holdfast", "verify", about.network, about.true, "--certificate", proof, "--json", answer)
    assert done.returncode == 0 and done.stdout.startswith("unsat\n") and f"; certificate: {proof} (" in done.stdout
    status = json.loads(answer.read_text())["certificate"]
    assert status["size"] == proof.stat().st_size and status["leaves"] > 1 and status["missing"] == ""
    for words in (("holdfast_check",), ("holdfast", "check")):
        checked = run(*words, about.network, about.true, proof)
        assert (checked.returncode, checked.stdout.split("\n")[0]) == (0, "valid")
        wrong = run(*words, about.network, about.false, proof)
        assert wrong.returncode == 1 and wrong.stdout.startswith("invalid: ") and "Traceback" not in wrong.stderr
        assert run(*words, about.network, about.true, tmp_path / "absent.hfc").returncode in (1, 2)
        assert run(*words, tmp_path / "absent.onnx", about.true, proof).returncode == 2


def test_from_python(about: Question, tmp_path: Path) -> None:
    proof = tmp_path / "proof.hfc"
    result = holdfast.verify(about.network, about.true, certificate=proof)
    assert result.certificate is not None and result.certificate.file == str(proof)
    assert holdfast.check(about.network, about.true, proof).valid
    refused = holdfast.check({"N": about.network}, about.false, proof)
    assert not refused.valid and refused.message.startswith("invalid: ")
    with pytest.raises(holdfast.InputError):
        holdfast.check(tmp_path / "absent.onnx", about.true, proof)


def test_counterexamples_are_certified_too(about: Question, tmp_path: Path) -> None:
    proof = tmp_path / "witness.hfc"
    result = holdfast.verify(about.network, about.false, certificate=proof)
    assert result.verdict is holdfast.Verdict.FALSIFIED and result.certificate is not None
    assert result.certificate.file and check(about.network, about.false, proof) == (0, "valid")
    assert check(about.network, about.true, proof)[0] == 1


def test_no_proof_no_certificate(tmp_path: Path) -> None:
    hard = question(tmp_path, 3, inputs=8, widths=(40, 40), margin=0.25)
    proof = tmp_path / "proof.hfc"
    proof.write_text("an older one")
    result = holdfast.verify(hard.network, hard.true, timeout=0.5, certificate=proof)
    assert result.certificate is not None and result.certificate.missing and not result.certificate.file
    assert proof.read_text() == "an older one" and not list(tmp_path.glob("*.part"))


def test_a_killed_search_leaves_what_is_recognised(tmp_path: Path) -> None:
    hard = question(tmp_path, 3, inputs=8, widths=(40, 40), margin=0.25)
    proof = tmp_path / "proof.hfc"
    words = [sys.executable, "-m", "holdfast", "verify", str(hard.network), str(hard.true), "--certificate", str(proof)]
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(), start_new_session=True
    )
    part = tmp_path / "proof.hfc.part"
    waited = time.monotonic() + 60
    while not part.exists() and time.monotonic() < waited and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert part.exists() and not proof.exists()
    status, said = check(hard.network, hard.true, part)
    assert status == 1 and said.startswith("invalid: ") and "truncated" in said


def test_bench_writes_one_for_each_proof(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    for extra in ([], ["--each-process"]):
        done = run("holdfast", "bench", DIGITS, "--certificates", folder, "--timeout", "20", *extra)
        assert done.returncode == 0, done.stderr
        rows = [line.split(",") for line in (DIGITS / "expected.csv").read_text().splitlines()[1:]]
        proofs = [row for row in rows if row[2] == "unsat"]
        for network, prop, *_ in proofs:
            name = f"{Path(network).stem}--{Path(prop).stem}.hfc"
            assert check(DIGITS / network, DIGITS / prop, folder / name) == (0, "valid")
            (folder / name).unlink()


def test_what_the_checker_reads_is_known() -> None:
    from holdfast.certificate.readable import OPERATORS
    from holdfast_check import network

    assert {*network.OPERATORS, *network.FUNCTIONS, *network.MOVES.split()} == OPERATORS


def test_no_certificate_that_could_not_be_checked(tmp_path: Path) -> None:
    about = asked(tmp_path)
    proto = onnx.load(about.network)
    proto.graph.node[-1].output[0] = "before"
    proto.graph.node.append(onnx.helper.make_node("Softmax", ["before"], [proto.graph.output[0].name], name="last"))
    onnx.save(proto, tmp_path / "softmax.onnx")
    never = tmp_path / "never.vnnlib"
    never.write_text(about.true.read_text().split("(assert (or")[0] + "(assert (<= Y_0 -1))\n")
    result = holdfast.verify(tmp_path / "softmax.onnx", never, timeout=20, certificate=tmp_path / "proof.hfc")
    assert result.verdict is holdfast.Verdict.VERIFIED and result.certificate is not None
    assert result.certificate.missing == "the checker does not read Softmax" and not (tmp_path / "proof.hfc").exists()
