"""What a benchmark folder of problem files asks: the instances of `*/problem.toml`, and the verdicts they expect.

Only ids and claims are read here; the files are checked when an instance is run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.cli.instances import ProblemInstance
from holdfast.errors import InputError
from holdfast.report.bench import Key

NAME = "problem.toml"
LIMIT = 60.0  # seconds per instance where nothing is said


def problem_files(folder: Path) -> list[Path]:
    """The problem files of a folder: its own, or those of its sub-folders, by name. Empty where there are none."""
    own = folder / NAME
    return [own] if own.is_file() else sorted(folder.glob(f"*/{NAME}"))


def read_problems(
    files: Sequence[Path], limit: float | None = None, containing: str = ""
) -> tuple[list[ProblemInstance], dict[Key, str], int]:
    """All instances that claim something, what is expected of them, and how many claim nothing.

    ``containing``: only those whose problem or id contains the text. A file that is no TOML is one instance, whose row
    will say so. Raises InputError where nothing is left.
    """
    found: list[ProblemInstance] = []
    expected: dict[Key, str] = {}
    silent = 0
    for file in files:
        name = file.resolve().parent.name
        for identity, claims, verdict in _instances(file):
            if containing not in name and containing not in identity:
                continue
            if not claims:
                silent += 1
                continue
            one = ProblemInstance(name, identity, file, LIMIT if limit is None else limit)
            found.append(one)
            if verdict is not None:
                expected[one.key] = verdict
    if not found:
        raise InputError(
            f"{files[0].parent if len(files) == 1 else files[0].parent.parent}: no instance"
            + (f" contains '{containing}'" if containing else " claims anything")
        )
    return found, expected, silent


def _instances(file: Path) -> list[tuple[str, bool, str | None]]:
    """Id, whether it claims something, what is expected."""
    try:
        document: Mapping[str, Any] = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return [("", True, None)]
    common, claims = document.get("expected"), bool(document.get("property"))
    listed = document.get("instance")
    if not isinstance(listed, list):
        return [("", claims, common if isinstance(common, str) else None)]
    found = []
    for given in listed:
        if not isinstance(given, dict) or not isinstance(given.get("id"), str):
            return [("", True, None)]
        verdict = given.get("expected", common)
        own = bool(given["property"]) if "property" in given else claims
        found.append((given["id"], own, verdict if isinstance(verdict, str) else None))
    return found
