"""What a benchmark folder of networks asks: instances.csv (what to run) and expected.csv (what is known).

Form of the VNN-COMP benchmarks: `onnx,vnnlib,timeout` without a header, paths relative to the folder. Folders of problem
files: problem_folder.py.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import InputError
from holdfast.report.bench import Key

EXPECTED = ("sat", "unsat", "unknown", "timeout")


@dataclass(frozen=True)
class NetworkInstance:
    """One line of instances.csv: the names as written, the files they mean, the time limit in seconds."""

    onnx: str
    vnnlib: str
    network: Path
    prop: Path
    timeout: float

    @property
    def key(self) -> Key:
        """What results and expectations are filed under."""
        return (self.onnx, self.vnnlib)

    @property
    def words(self) -> list[str]:
        """The arguments of `holdfast verify`."""
        return [str(self.network), str(self.prop)]


@dataclass(frozen=True)
class ProblemInstance:
    """One instance of a problem file: the folder's name, the id ("": the file is one problem), the file."""

    problem: str
    instance: str
    file: Path
    timeout: float

    @property
    def key(self) -> Key:
        """What results and expectations are filed under."""
        return (self.problem, self.instance)

    @property
    def words(self) -> list[str]:
        """The arguments of `holdfast verify`."""
        return [str(self.file), *(["--instance", self.instance] if self.instance else [])]


Instance = NetworkInstance | ProblemInstance


def read_instances(folder: Path, cap: float | None = None, containing: str = "") -> list[NetworkInstance]:
    """The instances of a folder whose line contains a text, their time limits cut to ``cap``. Raises InputError."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; accepted is a folder with instances.csv")
    path = folder / "instances.csv"
    if not path.is_file():
        raise InputError(
            f"{folder}: has neither instances.csv nor problem.toml; accepted is a folder with instances.csv (onnx,vnnlib,timeout), "
            "with a problem.toml, or with folders that have one"
        )
    found = []
    for number, cells in _lines(path):
        if len(cells) != 3:
            raise InputError(f"{path}, line {number}: found {len(cells)} columns; accepted are onnx,vnnlib,timeout")
        onnx, vnnlib, seconds = (cell.strip() for cell in cells)
        limit = _seconds(seconds, path, number)
        if containing and containing not in onnx and containing not in vnnlib:
            continue
        files = [_file(folder, name, path, number) for name in (onnx, vnnlib)]
        found.append(NetworkInstance(onnx, vnnlib, files[0], files[1], limit if cap is None else min(limit, cap)))
    if not found:
        raise InputError(f"{path}: no instance" + (f" contains '{containing}'" if containing else " is listed"))
    return found


def read_expected(folder: Path) -> dict[Key, str]:
    """The known verdicts of expected.csv, empty where the file is absent. Raises InputError."""
    path = folder / "expected.csv"
    if not path.is_file():
        return {}
    lines = list(_lines(path))
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    missing = [name for name in ("onnx", "vnnlib", "verdict") if name not in header]
    if missing:
        raise InputError(f"{path}: the header has no column {', '.join(missing)}; accepted is onnx,vnnlib,verdict,...")
    columns = [header.index(name) for name in ("onnx", "vnnlib", "verdict")]
    known: dict[Key, str] = {}
    for number, cells in lines[1:]:
        if len(cells) <= max(columns):
            raise InputError(f"{path}, line {number}: found {len(cells)} columns, the header has {len(header)}")
        onnx, vnnlib, verdict = (cells[k].strip() for k in columns)
        if verdict not in EXPECTED:
            raise InputError(
                f"{path}, line {number}: found the verdict '{verdict}'; accepted are {', '.join(EXPECTED)}"
            )
        if {known.get((onnx, vnnlib), verdict), verdict} == {"sat", "unsat"}:
            raise InputError(f"{path}, line {number}: contradicts an earlier line about {onnx} {vnnlib}")
        known[onnx, vnnlib] = verdict
    return known


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Line numbers and cells of all lines that are not blank."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.reader(stream, strict=True)
            return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from error


def _seconds(text: str, path: Path, number: int) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(
            f"{path}, line {number}: found the time limit '{text}'; accepted is a number of seconds above 0"
        )
    return seconds


def _file(folder: Path, name: str, path: Path, number: int) -> Path:
    """The named file, or the same name with .gz: benchmarks are often stored compressed."""
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise InputError(f"{path}, line {number}: no such file: {folder / name}")
