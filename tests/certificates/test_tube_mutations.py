"""Corrupted certificates of flow tubes, and a search that is wrong: none is accepted unless what is left is a true proof of the claim."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mutations import Archive, _some_json, header_value
from test_loop_mutations import controller, leaves

from holdfast.load.problem import load_problem
from holdfast.plant.taylor_flow import Step
from holdfast.reachability.decide import decide
from holdfast.verdict import Verdict
from holdfast_check.__main__ import main

PROBLEM = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["th", "om"]
inputs = ["T"]
parameters = {{ k = [0.9, 1.1] }}
derivative = {{ th = "om", om = "k*sin(th) + T" }}
[controller]
network = "c.onnx"
feedback = "sampled"
period = 0.1
network_inputs = ["th", "om"]
plant_inputs = {{ T = "y0" }}
[initial]
th = [0.2, 0.3]
om = [-0.1, 0.1]
[horizon]
steps = {steps}
[[property]]
id = "p"
kind = "always"
set = {{ box = {{ th = [0, {limit}] }} }}
"""
# th stays below 0.3151 for all of these, and reaches 0.3145
TRUE, FALSE = PROBLEM.format(steps=10, limit=0.32), PROBLEM.format(steps=10, limit=0.314)
HARMLESS = {
    "producer": "the name of the program that wrote it is not part of the claim",
    "splits": "boxes may be cut anywhere: the tree is over the initial box of the problem file, and all of it is followed",
    "tubes": "degrees, orders and lengths of steps are choices: the enclosures are computed, and reach the horizon or prove nothing",
    "steps": "see tubes: an exact violation is looked for on whatever steps",
    "networks": "a list of networks with just those of the instance says what the file had said",
}


def solved(folder: Path, text: str, name: str = "") -> tuple[Verdict, Path]:
    """The answer, and where its certificate is."""
    (folder / "c.onnx").write_bytes(controller())
    (folder / "problem.toml").write_text(text)
    problem = load_problem(folder / "problem.toml")
    result = decide(problem, problem.instances[0], timeout=60, workers=1, certificate=folder / f"{name}c.hfc")
    assert result.certificate is not None
    return result.verdict, folder / f"{name}c.hfc"


def check(problem: Path, data: bytes | Path) -> tuple[int, str]:
    path = problem.with_name("mutated.hfc")
    path.write_bytes(data if isinstance(data, bytes) else data.read_bytes())
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        status = main([str(problem), str(path), "--timeout", "60"])
    return status, out.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bytes]]:
    """Valid certificates of both kinds."""
    found = {}
    for name, text, verdict in (("true", TRUE, Verdict.VERIFIED), ("false", FALSE, Verdict.FALSIFIED)):
        folder = tmp_path_factory.mktemp(name)
        answer, path = solved(folder, text)
        assert answer is verdict
        assert check(folder / "problem.toml", path)[0] == 0
        found[name] = folder / "problem.toml", path.read_bytes()
    return found


def without(text: str, data: bytes, folder: Path) -> tuple[int, str]:
    """The certificate for another problem file, its digest made true."""
    import hashlib

    (folder / "c.onnx").write_bytes(controller())
    (folder / "problem.toml").write_text(text)
    archive = Archive.read(data)
    archive.header = archive.header | {"problem": hashlib.sha256(text.encode()).hexdigest()}
    return check(folder / "problem.toml", archive.write())


KEYS = ("format", "version", "claim", "problem", "instance", "networks", "producer", "splits", "tubes", "trajectory")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("kind", ["true", "false"])
def test_every_key_of_the_header(made, kind: str, key: str) -> None:
    problem, data = made[kind]
    rng = np.random.default_rng(KEYS.index(key))
    for _ in range(4):
        mutated = header_value(key)(Archive.read(data), rng)
        if mutated is None:
            return
        assert isinstance(mutated, Archive)
        if mutated.header == Archive.read(data).header:
            continue
        status, said = check(problem, mutated.write())
        assert status != 0 or key in HARMLESS, (key, mutated.header[key], said)
    gone = Archive.read(data)
    gone.header = {k: v for k, v in gone.header.items() if k != key}
    assert check(problem, gone.write())[0] == 1


@pytest.mark.parametrize("kind", ["true", "false"])
def test_every_number_within(made, kind: str) -> None:
    problem, data = made[kind]
    archive, rng = Archive.read(data), np.random.default_rng(5)
    key = "trajectory" if kind == "false" else "tubes"
    places = [p for p in leaves(archive.header[key]) if rng.random() < 0.3 or len(p) < 3]
    accepted = []
    for place in places[:14]:
        header = json.loads(json.dumps(archive.header))
        inner = header[key]
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = _some_json(inner[place[-1]], rng)
        mutated = Archive.read(data)
        mutated.header = header
        if check(problem, mutated.write())[0] == 0:
            accepted.append(place)
    # a violation by other numbers is one if it is accepted; steps and degrees are choices
    assert all("steps" in place or "degree" in place or kind == "false" for place in accepted), accepted


def test_the_file_itself(made) -> None:
    problem, data = made["true"]
    for k in (10, len(data) // 2, len(data) - 30):
        assert check(problem, data[:k])[0] == 1
        flipped = bytearray(data)
        flipped[k] ^= 0xFF
        assert (
            check(problem, bytes(flipped))[0] == 1 or Archive.read(bytes(flipped)).members == Archive.read(data).members
        )
    stale = Archive.read(data)
    stale.header = stale.header | {"splits": []}
    assert check(problem, stale.write(digests=False))[0] == 1
    for members in ({"records/000000": b""}, {"more": b"1"}):
        assert check(problem, Archive(Archive.read(data).members | members).write())[0] == 1


def test_a_box_that_is_missing(made) -> None:
    problem, data = made["true"]
    archive = Archive.read(data)
    (tube,) = archive.header["tubes"]
    for splits, status in (
        ([[0, "1/4"], 0, 0], 0),
        ([[0, "1/4"], 0], 1),
        ([], 1),
        ([[0, "1/4"], 0, 1], 1),
        ([[3, "1/4"], 0, 0], 1),
    ):
        archive.header = archive.header | {"splits": splits}
        assert check(problem, archive.write())[0] == status
    archive.header = archive.header | {"splits": [0], "tubes": [tube | {"steps": tube["steps"][:-1]}]}
    assert check(problem, archive.write())[0] == 1  # it ends before the horizon


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (("0.32", "0.33"), 0), (("0.32", "0.3"), 1), (("steps = 10", "steps = 11"), 1), (("steps = 10", "steps = 9"), 0), (("k*sin", "-k*sin"), 1),
        (("+ T", "- T"), 1), (("om = [-0.1, 0.1]", "om = [-0.1, 0.2]"), 1), (("[0.9, 1.1]", "[0.9, 3]"), 1), (("period = 0.1", "period = 0.5"), 1),
        (('"always"\nset', '"always"\nnot_set'), 1),
    ],
)  # fmt: skip
def test_another_claim_or_loop(made, tmp_path: Path, change: tuple[str, str], status: int) -> None:
    """Choices for one problem prove of another what is true of it, and nothing that is not."""
    text = TRUE.replace(*change)
    assert text != TRUE
    assert without(text, made["true"][1], tmp_path)[0] == status


def test_another_network(made, tmp_path: Path) -> None:
    problem, data = made["true"]
    other = tmp_path / "problem.toml"
    other.write_bytes(problem.read_bytes())
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(controller())
    for tensor in model.graph.initializer:
        if tensor.name == "v":
            tensor.CopyFrom(numpy_helper.from_array(np.array([[-2.0, -1.001]], np.float32), "v"))
    (tmp_path / "c.onnx").write_bytes(model.SerializeToString())
    status, said = check(other, data)
    assert status == 1 and "networks" in said


def test_a_violation_of_another_claim(made, tmp_path: Path) -> None:
    assert without(TRUE, made["false"][1], tmp_path)[0] == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('kind = "always"\nset = { box = { th = [0, 0.32] } }', 'kind = "stl"\nformula = "G[0,0.5] F[0,0.5] th <= 0.32"'), "temporal"),
        (('derivative', 'schedule = { r = [[0, 1]] }\nderivative'), "scheduled"),
    ],
)  # fmt: skip
def test_what_has_no_certificate_yet(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    text = TRUE.replace(*change)
    if said == "scheduled":
        text = text.replace("set = { box = { th = [0, 0.32] } }", 'set = { where = ["th <= 0.32*r"] }')
    (tmp_path / "c.onnx").write_bytes(controller())
    (tmp_path / "problem.toml").write_text(text)
    problem = load_problem(tmp_path / "problem.toml")
    result = decide(problem, problem.instances[0], timeout=60, workers=1, certificate=tmp_path / "c.hfc")
    assert result.verdict is Verdict.VERIFIED and result.certificate is not None
    assert said in result.certificate.missing and not (tmp_path / "c.hfc").exists()


def test_a_search_that_forgets_its_remainders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All states of a step are taken to be its middle: the false claim is `verified`, and its certificate is not accepted."""
    own = Step.between

    def wrong(self: Step, first, last):  # type: ignore[no-untyped-def]
        found = own(self, first, last)
        terms = found.terms.copy()
        terms[1:] = 0.0
        return replace(found, terms=terms, error=0 * found.error)

    monkeypatch.setattr(Step, "between", wrong)
    monkeypatch.setattr(Step, "at", lambda self, time: wrong(self, time, time))
    monkeypatch.setattr(
        "holdfast.reachability.observation.Observer._roughly", lambda self, segment, *_: np.arange(len(segment.origin))
    )
    answer, path = solved(tmp_path, PROBLEM.format(steps=10, limit=0.305))
    assert answer is Verdict.VERIFIED
    status, said = check(tmp_path / "problem.toml", path)
    assert status == 1 and "not shown" in said
