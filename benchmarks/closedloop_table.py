"""Every instance of a folder of loops as a program of its own, beside published times; widths of tubes where nothing is claimed.

    python benchmarks/closedloop_table.py DIR [--timeout S] [--filter TEXT] [--out CSV] [--workers N] [--widths]

DIR holds */problem.toml. Seconds and processor seconds are those of the whole process `python -m holdfast verify`, its start included, with
Python's cache of compiled modules warm; the start alone is measured too. Published times (`published_tubes.csv`) come from other machines. --widths: instances without claims, width at the end of the tube over that of
2,000 simulated trajectories. Exit status 1 if a verdict contradicts the expected one.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from tubes import sampled

from holdfast.cli.instances import ProblemInstance
from holdfast.cli.problem_folder import problem_files, read_problems
from holdfast.load.problem import load_problem
from holdfast.reachability.reach import reach_tube
from holdfast.reachability.simulate import horizon_of
from holdfast.report.bench import OPPOSITES
from holdfast.report.table import table

PUBLISHED = Path(__file__).with_name("published_tubes.csv")
TRAJECTORIES = 2000
START = 20.0  # seconds that a process may have beyond its time limit
IMPORTED = "onnx, onnxruntime, holdfast.cli.main, holdfast.load.problem, holdfast.reachability.decide"


@dataclass(frozen=True)
class Line:
    """One instance: numbers as text, empty where there is none. ``best``: least published time with a verdict, ``by`` whom."""

    problem: str
    instance: str
    expected: str
    verdict: str = ""
    seconds: str = ""
    cpu: str = ""
    boxes: str = ""
    degree: str = ""
    best: str = ""
    by: str = ""


COLUMNS = tuple(f.name for f in fields(Line))


def published() -> dict[tuple[str, str], tuple[float, str]]:
    """The least published time with a verdict of each instance, and the tool."""
    found: dict[tuple[str, str], tuple[float, str]] = {}
    with PUBLISHED.open(newline="") as source:
        for row in csv.DictReader(source):
            key, own = (row["problem"], row["instance"]), (float(row["seconds"]), row["tool"])
            if row["verdict"] != "unknown":
                found[key] = min(found.get(key, own), own)
    return found


def processor(words: Sequence[str], cache: Path, timeout: float) -> tuple[float, float]:
    """Seconds and processor seconds of one process."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(cache)
    begin, before = time.perf_counter(), os.times()
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(words, timeout=timeout, capture_output=True, check=False, env=environment)
    seconds, after = time.perf_counter() - begin, os.times()
    return seconds, after.children_user + after.children_system - before.children_user - before.children_system


def started(cache: Path) -> float:
    """Processor seconds until everything is imported that a tube needs; best of five, the first of which fills the cache."""
    words = [sys.executable, "-c", f"import {IMPORTED}"]
    return min(processor(words, cache, 60.0)[1] for _ in range(5))


def decided(
    one: ProblemInstance, expected: str, best: tuple[float, str] | None, workers: int | None, cache: Path
) -> Line:
    """One process."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        words = [sys.executable, "-m", "holdfast", "verify", str(one.file), "--quiet", "--json", str(answer)]
        words += ["--timeout", str(one.timeout)] + (["--instance", one.instance] if one.instance else [])
        words += [] if workers is None else ["--workers", str(workers)]
        seconds, cpu = processor(words, cache, one.timeout + START)
        found = json.loads(answer.read_text())["instances"][0] if answer.exists() else {}
    statistics = found.get("statistics", {})
    return Line(
        one.problem, one.instance, expected, found.get("verdict", "error"), f"{seconds:.2f}", f"{cpu:.2f}",
        str(statistics.get("sub-problems", "")), str(statistics.get("degree", "")),
        *(("", "") if best is None else (f"{best[0]:g}", best[1])),
    )  # fmt: skip


def earlier(out: Path | None) -> list[Line]:
    """The rows a file has already."""
    if out is None or not out.exists():
        return []
    with out.open(newline="") as source:
        return [Line(**{name: row.get(name) or "" for name in COLUMNS}) for row in csv.DictReader(source)]


def append(out: Path | None, line: Line) -> None:
    """One more row."""
    if out is None:
        return
    fresh = not out.exists()
    with out.open("a", newline="") as target:
        writer = csv.writer(target)
        writer.writerows([COLUMNS] if fresh else [])
        writer.writerow(astuple(line))


def told(lines: Sequence[Line], start: float) -> str:
    """The table, sums, everything that is wrong."""
    claims = [line for line in lines if line.expected in ("verified", "falsified")]
    agree = [line for line in claims if line.verdict == line.expected]
    wrong = [line for line in lines if {line.verdict, line.expected} in OPPOSITES]
    compared = [line for line in agree if line.best]
    whole = [line for line in compared if float(line.cpu) <= float(line.best)]
    after = [line for line in compared if float(line.cpu) - start <= float(line.best)]
    networks = [line for line in compared if line.problem.startswith("reachnn")]
    text = [
        table(COLUMNS, [astuple(line) for line in lines]),
        f"{len(agree)} of {len(claims)} verdicts as expected, {len(wrong)} wrong",
        f"{sum(float(line.seconds) for line in agree):.1f} s, {sum(float(line.cpu) for line in agree):.1f} processor seconds for those that agree",
        f"start of a process: {start:.2f} processor seconds",
        f"within the best published time: {len(whole)} of {len(compared)} instances that have one; without the start {len(after)}",
        f"of the {len(networks)} networks of ReachNN's examples: {sum(line in whole for line in networks)}; without the start "
        f"{sum(line in after for line in networks)}; the slowest takes {max((float(line.cpu) for line in networks), default=0.0):.2f} processor seconds",
        *(f"wrong: {line.problem} {line.instance}: {line.verdict}, expected {line.expected}" for line in wrong),
    ]
    return "\n".join(text)


def widths(folder: Path, wanted: str, timeout: float) -> Iterator[str]:
    """Instances that claim nothing: the tube against trajectories, state by state."""
    for path in problem_files(folder):
        for instance in load_problem(path).instances:
            if instance.properties or instance.initial is None or wanted not in f"{path.parent.name}/{instance.id}":
                continue
            horizon = horizon_of(instance)
            begin = time.process_time()
            tube = reach_tube(instance.loop, [instance.initial], horizon, timeout=timeout)
            seconds = time.process_time() - begin
            samples = sampled(instance.loop, instance.initial, tube.end, TRAJECTORIES, 2)
            spread = np.ptp(samples.states[-1], axis=0)
            ratios = tube.at(tube.end).width / np.maximum(spread, 1e-300)
            shown = " ".join(f"{name} {r:.3g}" for name, r in zip(tube.states, ratios, strict=True))
            yield (
                f"{path.parent.name:20} {instance.id:22} t = {float(tube.end):g} of {float(horizon):g}  boxes {len(tube.initial)}  "
                f"degree {tube.degree}  {seconds:.2f} s  width over that of trajectories: {shown}"
            )


def main() -> None:
    """Prints rows as they come, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--filter", default="", help="part of problem/instance")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--widths", action="store_true")
    asked = parser.parse_args()
    if asked.widths:
        for text in widths(asked.folder, asked.filter, asked.timeout):
            print(text, flush=True)
        return
    found, expected, _ = read_problems(problem_files(asked.folder), asked.timeout)
    known = published()
    lines = earlier(asked.out)
    with tempfile.TemporaryDirectory() as folder:
        start = started(Path(folder))
        for one in found:
            if asked.filter not in "/".join(one.key) or any((line.problem, line.instance) == one.key for line in lines):
                continue
            line = decided(one, expected.get(one.key, ""), known.get(one.key), asked.workers, Path(folder))
            append(asked.out, line)
            lines.append(line)
            print(*astuple(line), flush=True)
    print(told(lines, start))
    sys.exit(1 if any({line.verdict, line.expected} in OPPOSITES for line in lines) else 0)


if __name__ == "__main__":
    main()
