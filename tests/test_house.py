"""House rules: the order of layers, the public names, what the files may not contain, true declarations."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "holdfast"
MODULES = sorted(SOURCE.rglob("*.py"))
CHECKER = sorted((ROOT / "src" / "holdfast_check").rglob("*.py"))
# Lower never imports higher; packages on one line may know each other.
LAYERS = (
    ("errors", "verdict"),
    ("rigor",),
    ("graph",),
    ("operators",),
    ("transforms",),
    ("spec", "certificate"),
    ("sets",),
    ("load",),
    ("bounds",),
    ("search",),
    ("plant",),
    ("loop",),
    ("invariance", "reachability", "training"),
    ("report",),
    ("api", "cli"),
    ("__init__", "__main__"),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def layer(path: Path) -> str:
    """The first part of a module's name below holdfast."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and absolute name of every import in a module, those inside functions included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; accepted are absolute ones"
            names = [node.module or ""]
            if node.module == "holdfast":  # from holdfast import x: x is the layer
                names = [f"holdfast.{alias.name}" for alias in node.names]
            found += [(node.lineno, name) for name in names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_layers(path: Path) -> None:
    own = layer(path)
    assert own in RANK, f"{own}: name its place in LAYERS"
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] == "holdfast" and len(parts) > 1 and RANK[own] < len(LAYERS) - 1:
            assert parts[1] in RANK, f"{path.name}:{line}: {name} is in no layer"
            assert RANK[parts[1]] <= RANK[own], f"{path.name}:{line}: {own} may not import {name}, which is higher"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_module_form(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "a module says in its docstring what it is"
    assert text.count("\n") <= 400, "one concept a file, 400 lines at the most"


def test_public_names_exist() -> None:
    import holdfast

    assert sorted(holdfast.__all__) == holdfast.__all__
    for name in holdfast.__all__:
        value = getattr(holdfast, name)
        assert callable(value), name
    assert callable(holdfast.load) and not hasattr(holdfast, "no_such_name")


def test_import_is_light() -> None:
    code = (
        "import sys, holdfast; print([m for m in ('numpy', 'jax', 'onnx', 'onnxruntime', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src")
    assert done.stdout.strip() == "[]"


def test_version_is_stated_once() -> None:
    import holdfast

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == holdfast.__version__
    assert f"## {holdfast.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_declared_dependencies_are_those_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\[<>=~!; ]", item)[0].lower() for item in project["dependencies"]}
    top = {name.split(".")[0] for path in (*MODULES, *CHECKER) for _, name in imports(path)}
    foreign = top - sys.stdlib_module_names - {"holdfast", "holdfast_check"}
    owners = packages_distributions()
    used = {owners[m][0].lower() for m in foreign if m in owners}
    unknown = {m for m in foreign if m not in owners}
    assert not unknown, f"imported, but installed by no distribution: {unknown}"
    assert used == declared


def lines_of_code(path: Path) -> int:
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    text = path.read_text()
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (
            tokenize.COMMENT,
            tokenize.NL,
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.ENDMARKER,
        ):
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            lines.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def test_the_checker_stands_alone() -> None:
    top = {name.split(".")[0] for path in CHECKER for _, name in imports(path)}
    assert top - sys.stdlib_module_names <= {"holdfast_check", "numpy", "onnx", "flint"}
    loops = {"conditions", "contraction", "derivative", "escape", "flow", "formula", "loop", "matrices", "problem"}
    loops |= {"forms", "problem_file", "sampled", "slicing"}  # forms: for the few inputs of a loop
    sizes = {path.stem: lines_of_code(path) for path in CHECKER}
    tubes = {name for name in sizes if name.startswith("tube")}
    assert sum(size for name, size in sizes.items() if name not in loops | tubes) < 1500  # networks
    assert sum(size for name, size in sizes.items() if name in loops) < 1900  # closed loops
    assert sum(size for name, size in sizes.items() if name in tubes) < 1250  # flow tubes
    assert all(path.read_text().count("\n") <= 400 for path in CHECKER)
    code = "import sys, holdfast_check.__main__, holdfast_check.proof, holdfast_check.witness; print('holdfast' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src")
    assert done.stdout.strip() == "False"


def tracked() -> list[Path]:
    """Text files under version control, or everything the distribution holds where there is no repository."""
    done = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        pytest.skip("not a git checkout")
    kinds = {".py", ".md", ".toml", ".txt", ".yml", ".csv", ".vnnlib", ""}
    return [p for name in done.stdout.split("\0") if name and (p := ROOT / name).is_file() and p.suffix in kinds]


def test_no_machine_paths_nor_registry_addresses() -> None:
    # the patterns are put together here, so that this file does not contain them
    forbidden = re.compile(
        "|".join(["/" + "work/", "/" + "tmp/", "/home/" + r"\w", "/root/" + r"\w", "pypi" + r"\.org", "index" + "-url"])
    )
    for path in tracked():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            assert not forbidden.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"


def test_constraints_pin_every_declared_package() -> None:
    lines = [x for x in (ROOT / "constraints.txt").read_text().splitlines() if x and not x.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+", x) for x in lines)
    pinned = {x.split("==")[0].lower().replace("_", "-") for x in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    every = project["dependencies"] + [x for extra in project["optional-dependencies"].values() for x in extra]
    assert {re.split(r"[\[<>=~!; ]", x)[0].lower() for x in every} <= pinned


def test_examples_are_small_and_complete() -> None:
    for folder in sorted(p for p in (ROOT / "examples").iterdir() if p.is_dir()):
        if not (folder / "instances.csv").exists():
            continue
        for names in (("README.md",), ("expected.csv",), ("train.py", "networks.py")):  # what made the networks
            assert any((folder / name).exists() for name in names), f"{folder.name}: {names[0]} is missing"
        assert all(p.stat().st_size < 100_000 for p in folder.glob("*.onnx"))
        rows = [line.split(",") for line in (folder / "instances.csv").read_text().splitlines()]
        known = [line.split(",")[:2] for line in (folder / "expected.csv").read_text().splitlines()[1:]]
        assert [row[:2] for row in rows] == known
        assert all((folder / name).exists() for row in rows for name in row[:2])
