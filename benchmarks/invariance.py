"""Sets that closed loops never leave: every instance decided, its certificate written and checked, one table.

    python benchmarks/invariance.py DIR [--jobs N] [--timeout S] [--filter REGEX] [--skip REGEX] [--out CSV] [--keep DIR]

DIR holds problem.toml or */problem.toml. An instance and the check of its certificate run in one process, which imports both sides
before the clock starts. Rows are appended to --out as they come; instances that it has already are not run again. Exit status 1 if
a verdict contradicts the expected one or a certificate is not valid.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields, replace
from pathlib import Path

from holdfast.cli.execution import Meter
from holdfast.cli.instances import ProblemInstance
from holdfast.cli.problem_folder import problem_files, read_problems
from holdfast.errors import HoldfastError
from holdfast.report.bench import OPPOSITES
from holdfast.report.table import table

CHECK_LIMIT = 300.0  # seconds for the check of one certificate


@dataclass(frozen=True)
class Line:
    """One instance: numbers as text, empty where there is none."""

    problem: str
    instance: str
    expected: str
    verdict: str = ""
    seconds: str = ""
    cpu: str = ""
    boxes: str = ""
    leaves: str = ""
    bytes: str = ""
    check: str = ""
    check_s: str = ""
    check_cpu: str = ""
    reason: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Which instance it is."""
        return self.problem, self.instance

    @property
    def contradicts(self) -> bool:
        """Whether the verdict is the opposite of the expected one."""
        return {self.verdict, self.expected} in OPPOSITES

    @property
    def uncovered(self) -> bool:
        """Whether a certificate that was written is not valid; a check that ran out of time says nothing."""
        return bool(self.leaves) and self.check not in ("valid", "limit")


COLUMNS = tuple(f.name for f in fields(Line))


def selected(
    folder: Path, timeout: float, wanted: str, unwanted: str
) -> tuple[list[ProblemInstance], dict[tuple[str, str], str]]:
    """The instances that claim something and whose `problem/instance` the two patterns let pass; what is expected."""
    found, expected, _ = read_problems(problem_files(folder), timeout)
    chosen = [
        one
        for one in found
        if re.search(wanted, "/".join(one.key)) and not (unwanted and re.search(unwanted, "/".join(one.key)))
    ]
    return chosen, expected


def check(problem: Path, certificate: Path) -> tuple[str, str, str]:
    """What the checker says, its seconds and processor seconds."""
    from holdfast_check.__main__ import main as checker

    meter, said, complaint = Meter(), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
        status = checker(["--timeout", str(CHECK_LIMIT), str(problem), str(certificate)])
    word = {0: "valid", 3: "limit"}.get(status) or (said.getvalue() or complaint.getvalue()).strip()[-200:]
    return word, f"{meter.seconds():.3f}", f"{meter.cpu_seconds():.3f}"


def decided(one: ProblemInstance, expected: str, folder: Path, workers: int) -> Line:
    """The row of one instance."""
    import holdfast_check.__main__  # noqa: F401  (imports are no part of the times)
    from holdfast.api import load_problem, verify_problem

    line = Line(one.problem, one.instance, expected)
    target = folder / f"{one.problem}--{one.instance or 'problem'}.hfc"
    meter = Meter()
    try:
        problem = load_problem(one.file)
        answer = verify_problem(problem, one.instance, timeout=one.timeout, workers=workers, certificate=target)[
            one.instance
        ]
    except HoldfastError as error:
        return replace(line, verdict="error", reason=str(error), seconds=f"{meter.seconds():.3f}")
    line = replace(
        line,
        verdict=answer.verdict.value,
        seconds=f"{meter.seconds():.3f}",
        cpu=f"{meter.cpu_seconds():.3f}",
        boxes=str(answer.statistics.get("sub-problems", "")),
        reason=" ".join(answer.detail.split()),
    )
    status = answer.certificate
    if status is None or status.missing:
        return line
    word, seconds, cpu = check(one.file, target)
    return replace(line, leaves=str(status.leaves), bytes=str(status.size), check=word, check_s=seconds, check_cpu=cpu)


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
        if fresh:
            writer.writerow(COLUMNS)
        writer.writerow([getattr(line, name) for name in COLUMNS])


def told(lines: Sequence[Line]) -> str:
    """The table, and below it the sums and everything that is wrong."""
    head = (
        "problem",
        "instance",
        "expected",
        "verdict",
        "s",
        "cpu s",
        "sub-problems",
        "leaves",
        "bytes",
        "check",
        "check s",
        "check cpu s",
    )
    body = [
        (
            *(
                one.problem,
                one.instance,
                one.expected,
                one.verdict,
                one.seconds,
                one.cpu,
                one.boxes,
                one.leaves,
                one.bytes,
            ),
            *(one.check, one.check_s, one.check_cpu),
        )
        for one in lines
    ]
    text = [table(head, body), ""]
    for word in ("verified", "falsified", "open"):
        own = [one for one in lines if one.expected == word]
        if not own:
            continue
        counts = {v: sum(one.verdict == v for one in own) for v in dict.fromkeys(one.verdict for one in own)}
        text.append(f"expected {word}: {len(own)}; " + ", ".join(f"{v} {k}" for v, k in counts.items()))
    solved = [one for one in lines if one.verdict in ("verified", "falsified")]
    spent = [
        sum(float(getattr(one, name) or 0) for one in lines) for name in ("seconds", "cpu", "check_s", "check_cpu")
    ]
    text.append(
        f"{len(solved)} of {len(lines)} solved in {spent[0]:.1f} s ({spent[1]:.1f} processor s); "
        f"{sum(one.check == 'valid' for one in lines)} certificates valid, checked in {spent[2]:.1f} s ({spent[3]:.1f} processor s)"
    )
    text += [f"WRONG: {'/'.join(one.key)}: {one.verdict}, expected {one.expected}" for one in lines if one.contradicts]
    text += [f"NOT VALID: {'/'.join(one.key)}: {one.check}" for one in lines if one.uncovered]
    text += [f"error: {'/'.join(one.key)}: {one.reason}" for one in lines if one.verdict == "error"]
    return "\n".join(text)


def main() -> int:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="cores per instance")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds per instance")
    parser.add_argument("--filter", default="", help="only instances whose problem/instance matches")
    parser.add_argument("--skip", default="", help="no instances whose problem/instance matches")
    parser.add_argument("--out", type=Path, help="CSV file; what it has already is not run again")
    parser.add_argument("--keep", type=Path, help="folder to leave the certificates in")
    options = parser.parse_args()
    chosen, expected = selected(options.folder, options.timeout, options.filter, options.skip)
    lines = earlier(options.out)
    done = {one.key for one in lines}
    todo = [one for one in chosen if one.key not in done]
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
            running = [pool.submit(decided, one, expected.get(one.key, ""), keep, options.workers) for one in todo]
            for number, finished in enumerate(as_completed(running), 1):
                line = finished.result()
                append(options.out, line)
                lines.append(line)
                said = f"{line.verdict:9} {line.seconds:>9} s {line.check:8} {'/'.join(line.key)}"
                sys.stderr.write(f"[{number}/{len(todo)} {time.perf_counter() - begin:6.0f} s] {said}\n")
    order = {one.key: k for k, one in enumerate(chosen)}
    lines = sorted((one for one in lines if one.key in order), key=lambda one: order[one.key])
    sys.stdout.write(told(lines) + "\n")
    return int(any(one.contradicts or one.uncovered or one.verdict == "error" for one in lines))


if __name__ == "__main__":
    sys.exit(main())
