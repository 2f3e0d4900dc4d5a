"""The file of a certificate of a loop, and the command: every field that is changed makes it invalid."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
from evaluation import archive, records
from loops import FILES, header, leaves
from test_loop_escapes import BOX, escape
from test_loop_proofs import FALSE, TRUE, box, linear

from holdfast_check.__main__ import main
from holdfast_check.loop import obligations
from holdfast_check.problem_file import read_problem

NAME = "equilibrium of the pendulum"


@pytest.fixture
def files(tmp_path):
    """A problem, its network and the header of a valid certificate."""
    text, proofs = TRUE[NAME]
    (tmp_path / "p.toml").write_text(text)
    (tmp_path / "c.onnx").write_bytes(FILES["c.onnx"])
    problem = read_problem(text.encode(), "", FILES.__getitem__)
    count = sum(len(q.regions) for q in obligations(problem, proofs).numbered)
    return tmp_path, header(text.encode(), "", proofs, used=["c.onnx"]), count


def run(folder: Path, head: dict, chunk: bytes, *more: str) -> int:
    archive(folder / "c.hfc", head, {"records/000000": chunk} if chunk is not None else {})
    return main([str(folder / "p.toml"), str(folder / "c.hfc"), *more])


def test_the_command_says_valid(files, capsys):
    folder, head, count = files
    assert run(folder, head, leaves(count)) == 0
    assert capsys.readouterr().out.startswith("valid\nverified (the problem): ")
    moved = folder / "elsewhere.onnx"
    (folder / "c.onnx").rename(moved)
    assert run(folder, head, leaves(count)) == 2
    assert run(folder, head, leaves(count), "--network", f"c.onnx={moved}") == 0
    assert run(folder, head, leaves(count), "--network", f"c.onnx={moved}", "--timeout", "0") == 3


def test_the_command_is_a_program(files):
    folder, head, count = files
    archive(folder / "c.hfc", head, {"records/000000": leaves(count)})
    args = [sys.executable, "-m", "holdfast_check", folder / "p.toml", folder / "c.hfc"]
    done = subprocess.run(args, capture_output=True, text=True, cwd=Path(__file__).parents[2] / "src")
    assert done.returncode == 0 and done.stdout.startswith("valid\n")


def changes(head):
    """Headers with one thing changed."""
    for key in head:
        yield f"without {key}", {k: v for k, v in head.items() if k != key}
        for value in (None, "", 2, [], {}, "x"):
            if key != "producer" and value != head[key]:
                yield f"{key} {value!r}", head | {key: value}
    yield "more", head | {"more": 1}
    yield "semantics", head | {"semantics": "real"}
    for name in ("c.onnx", "V.onnx"):
        yield f"another {name}", head | {"networks": head["networks"] | {name: "0" * 64}}
    yield "falsified", {k: v for k, v in head.items() if k != "proofs"} | {"claim": "falsified", "escape": escape()}
    end = head["proofs"][0]["end"]
    for key, values in {
        "center": [["0.3", "0"], ["0"], [0, 0], ["0", "x"]], "P": [[["2", "0.4"], ["0.4", "0.01"]], [["2", "0.4"]]], "level": ["0.01", "0", "-1", "1/0", 0.04],
"box": [["0.3", "0.3"]], "more": [1],
    }.items():  # fmt: skip
        for value in values:
            changed = copy.deepcopy(head)
            changed["proofs"][0]["end"] = end | {key: value}
            yield f"end {key} {value!r}", changed
    for key, value in (("level", "-0.0001"), ("level", "2"), ("level", "nan"), ("function", "th^2")):
        changed = copy.deepcopy(head)
        changed["proofs"][0]["stages"][0][key] = value
        yield f"stage {key} {value}", changed
    for value in ([], [{}], [{"level": "0.03"}, {"level": "0.03"}], "x"):
        changed = copy.deepcopy(head)
        changed["proofs"][0]["stages"] = value
        yield f"stages {value!r}", changed
    yield "two proofs", head | {"proofs": head["proofs"] * 2}


def test_every_field_counts(files, capsys):
    folder, head, count = files
    seen = 0
    for what, changed in changes(head):
        unknown = isinstance(changed.get("instance"), str) and changed["instance"]  # not one of the problem
        assert run(folder, changed, leaves(count)) == (2 if unknown else 1), what
        assert capsys.readouterr().out.startswith("" if unknown else "invalid: "), what
        seen += 1
    assert seen > 80


def test_regions_are_numbered_through_all_conditions(files, capsys):
    folder, head, count = files
    assert run(folder, head, leaves(count - 1)) == 1
    assert f"region {count - 1}: there is no root" in capsys.readouterr().out
    assert run(folder, head, leaves(count + 1)) == 1
    cut = records((0, "ROOT", 0, 0, 0.0), *((k, "ROOT", k, 0, 0.0) for k in range(1, count)), *((k, "LEAF", 0, 0, 0.0) for k in range(1, count)),
                  (0, "INPUT", 1, 0, 0.25), (count, "LEAF", 0, 1, 0.0), (count + 1, "AGAIN", 0, 0, 0.0), (count + 2, "LEAF", 0, 0, 0.0))  # fmt: skip
    assert run(folder, head, cut) == 0
    open_end = records(
        *((k, "ROOT", k, 0, 0.0) for k in range(count)), *((k, "LEAF", 0, 0, 0.0) for k in range(1, count))
    )
    assert run(folder, head, open_end) == 1
    beyond = records(*((k, "ROOT", k, 0, 0.0) for k in range(count)), *((k, "LEAF", 0, 0, 0.0) for k in range(1, count)),
                     (0, "INPUT", 2, 0, 0.25), (count, "LEAF", 0, 0, 0.0), (count + 1, "LEAF", 0, 0, 0.0))  # fmt: skip
    assert run(folder, head, beyond) == 1
    assert run(folder, head, None) == 1


def test_escapes_by_the_command(tmp_path, capsys):
    text = linear(BOX, "0.6")
    (tmp_path / "p.toml").write_text(text)
    (tmp_path / "V.onnx").write_bytes(FILES["V.onnx"])
    head = header(text.encode(), escape=escape())
    assert run(tmp_path, head, None) == 0
    assert "falsified (the problem): the trajectory leaves the set" in capsys.readouterr().out
    for key, value in [
        ("state", ["1", "0"]),
        ("side", "0"),
        ("time", 0.005),
        ("radius", "1/100"),
        ("property", "0"),
        ("parameters", ["1"]),
    ]:
        assert run(tmp_path, head | {"escape": escape(**{key: value})}, None) == 1, key
    assert run(tmp_path, head | {"escape": escape()}, leaves(1)) == 1


def test_a_problem_that_was_changed(files, capsys):
    folder, head, count = files
    (folder / "p.toml").write_text((folder / "p.toml").read_text() + "\n")
    assert run(folder, head, leaves(count)) == 1
    assert "another problem" in capsys.readouterr().out
    assert main([str(folder / "none.toml"), str(folder / "c.hfc")]) == 2


def test_the_tables_are_as_promised():
    assert len(FALSE) >= 40 and box("1") == TRUE["box"][0]
