"""Answers about closed loops as text and JSON: first line, instances, escapes, conditions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loop_texts import BOX, DISC, HALVED, LATER, MOVED, SPIRAL, problem

from holdfast.api import verify_problem
from holdfast.loop import close
from holdfast.report.loop import condition_lines, loop_json, loop_text, overall
from holdfast.report.size import sizes
from holdfast.verdict import Escape, Reason, Result, Verdict

PROVED = Result(Verdict.VERIFIED, Reason.PROVED)
REFUTED = Result(Verdict.FALSIFIED, Reason.WITNESS)
OPEN = Result(Verdict.UNKNOWN, Reason.INCOMPLETE)
LATE = Result(Verdict.TIMEOUT, Reason.TIME)


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        ([PROVED, PROVED], Verdict.VERIFIED),
        ([PROVED, LATE, REFUTED], Verdict.FALSIFIED),
        ([PROVED, LATE], Verdict.TIMEOUT),
        ([LATE, OPEN], Verdict.UNKNOWN),
        ([REFUTED, OPEN], Verdict.FALSIFIED),
    ],
)
def test_the_verdict_of_a_file(results: list[Result], verdict: Verdict) -> None:
    assert overall(results) is verdict


def test_instances_are_told_one_by_one(tmp_path: Path) -> None:
    loaded = problem(tmp_path, SPIRAL + DISC + BOX + LATER)
    results = verify_problem(loaded, timeout=60, workers=1)
    assert [r.verdict for r in results.values()] == [Verdict.VERIFIED, Verdict.FALSIFIED, Verdict.UNKNOWN]
    assert results["later"].reason is Reason.UNSUPPORTED
    lines = loop_text(loaded, results).splitlines()
    assert lines[0] == "falsified"
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["disc", "verified"],
        ["box", "falsified"],
        ["later", "unknown"],
    ]
    assert all(line.startswith("; ") for line in lines[4:])
    text = "\n".join(lines[4:])
    assert "every condition of the proof holds" in text and "not supported yet: " in text
    assert str(tmp_path) not in text
    assert len(loop_text(loaded, results, quiet=True).splitlines()) == 4
    escape = results["box"].counterexample
    assert isinstance(escape, Escape)
    assert f"from x = {escape.state[0]!r}, y = {escape.state[1]!r}" in text
    assert f"under the constant disturbances w = {escape.disturbances[0]!r}" in text
    assert f"at {escape.time!r} s is proved to lie in x in [" in text and "is violated by at least" in text
    content = json.loads(json.dumps(loop_json(loaded, results), allow_nan=False))
    assert content["verdict"] == "falsified"
    assert [(one["instance"], one["expected"]) for one in content["instances"]] == [
        ("disc", "verified"), ("box", "falsified"), ("later", "open"),
    ]  # fmt: skip


def test_a_file_without_instances_has_no_line_for_one(tmp_path: Path) -> None:
    loaded = problem(tmp_path, MOVED)
    lines = loop_text(loaded, verify_problem(loaded, workers=1)).splitlines()
    assert lines[0] == "falsified" and all(line.startswith("; ") for line in lines[1:])
    assert any("the state after 1 step is proved" in line for line in lines)


def test_many_conditions_are_shortened_to_the_hardest() -> None:
    conditions = [{"condition": f"p: {k}", "proved": k != 3, "sub-problems": k, "seconds": 0.0} for k in range(20)]
    lines = condition_lines(conditions)
    assert len(lines) == 9 and "the 8 hardest of 20" in lines[0]
    assert [line.split()[:2] for line in lines[1:3]] == [["3", "no"], ["19", "yes"]]


def test_sizes(tmp_path: Path) -> None:
    loaded = problem(tmp_path, SPIRAL + DISC + BOX)
    found = [one for i in loaded.instances for one in sizes(i, close(i.loop))]
    assert [one["family"] for one in found] == ["ellipsoid", "box"]
    assert [float(one["volume"]) for one in found] == [3.14159, 2.0]
    loaded = problem(tmp_path, HALVED)
    assert sizes(loaded.instances[0], close(loaded.instances[0].loop))[0]["volume"] == "8"
