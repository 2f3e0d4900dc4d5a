"""The worked examples: their files follow from their scripts, and every instance gets the expected answer."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import holdfast

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PROBLEMS = sorted(EXAMPLES.glob("*/problem.toml"))
TUBES = sorted(EXAMPLES.glob("tubes/*.toml"))
FOLDERS = sorted(path.parent for path in EXAMPLES.glob("*/instances.csv"))
INSTANCES = [
    (folder, *row.split(",")[:3])
    for folder in FOLDERS
    for row in (folder / "expected.csv").read_text().splitlines()[1:]
]  # fmt: skip


@pytest.mark.parametrize(("folder", "network", "prop", "expected"), INSTANCES, ids=lambda v: getattr(v, "name", v))
def test_expected_answer(folder: Path, network: str, prop: str, expected: str) -> None:
    result = holdfast.verify(folder / network, folder / prop, timeout=60)
    assert result.verdict.vnnlib == expected, result.detail
    assert (result.counterexample is not None) == (expected == "sat")


@pytest.mark.parametrize("path", PROBLEMS, ids=lambda p: p.parent.name)
def test_expected_answers_of_problem_files(path: Path) -> None:
    problem = holdfast.load_problem(path)
    expected = {one.id: one.expected for one in problem.instances}
    results = holdfast.verify_problem(path, timeout=120)
    assert {name: result.verdict.value for name, result in results.items()} == expected


def test_certificates_of_problem_files(tmp_path: Path) -> None:
    path, cheap = EXAMPLES / "balance" / "problem.toml", ("held", "too-far")  # one proof, one refutation
    for name in cheap:
        holdfast.verify_problem(path, instance=name, timeout=60, certificate=tmp_path / f"{name}.hfc")
        checked = subprocess.run(
            [sys.executable, "-m", "holdfast_check", str(path), str(tmp_path / f"{name}.hfc")],
            capture_output=True, text=True,
        )  # fmt: skip
        assert checked.stdout.startswith("valid"), checked.stdout + checked.stderr


@pytest.mark.parametrize("path", TUBES, ids=lambda p: p.stem)
def test_tubes_of_the_gallery_are_complete(path: Path) -> None:
    tube = holdfast.reach(path)
    assert tube.complete and len(tube.initial) == 1
    assert path.with_suffix(".png").exists()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_property_files_are_what_the_script_writes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if folder.name == "digits":
        pytest.importorskip("sklearn", reason="the images come with scikit-learn (extra: examples)")
    for script in folder.glob("*.py"):
        shutil.copy(script, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "train", raising=False)
    runpy.run_path(str(tmp_path / "properties.py"), run_name="__main__")
    monkeypatch.delitem(sys.modules, "train", raising=False)
    written = {p.name: p.read_text() for p in tmp_path.iterdir() if p.suffix in {".vnnlib", ".csv"}}
    committed = {p.name: p.read_text() for p in folder.iterdir() if p.suffix in {".vnnlib", ".csv"}}
    assert written == committed
