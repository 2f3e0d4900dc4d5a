"""One row per benchmark instance, and the table over all rows that `holdfast bench` ends with."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from holdfast.report.table import table

OPPOSITES = ({"sat", "unsat"}, {"falsified", "verified"})  # words of VNN-LIB queries, and of problem files
SOLVED = ("sat", "unsat", "falsified", "verified")
VERDICTS = (*SOLVED, "unknown", "timeout", "error")

Key = tuple[str, str]  # network and property, or problem and instance: the first two columns of the result file
QUERIES = ("onnx", "vnnlib")
PROBLEMS = ("problem", "instance")


@dataclass(frozen=True)
class Row:
    """What the instance ``key`` came to. ``cpu_seconds``, ``peak_mib``: None where they could not be measured."""

    key: Key
    verdict: str
    seconds: float
    cpu_seconds: float | None
    peak_mib: float | None
    reason: str


def contradictions(rows: Sequence[Row], expected: Mapping[Key, str]) -> list[Row]:
    """The rows that say the opposite of what is expected. `unknown` contradicts nothing, `open` is contradicted by none."""
    return [row for row in rows if {row.verdict, expected.get(row.key, "")} in OPPOSITES]


def summary(rows: Sequence[Row], expected: Mapping[Key, str], words: tuple[str, str] = ("sat", "unsat")) -> str:
    """The final table, and below it every contradiction and every error with its reason.

    ``words``: how a refutation and a proof are called.
    """
    count = {verdict: sum(row.verdict == verdict for row in rows) for verdict in VERDICTS}
    seconds = [row.seconds for row in rows]
    cpu = [row.cpu_seconds for row in rows if row.cpu_seconds is not None]
    peak = [row.peak_mib for row in rows if row.peak_mib is not None]
    wrong = contradictions(rows, expected)
    compared = sum(expected.get(row.key) in SOLVED and row.verdict in SOLVED for row in rows)
    lines = [
        table(
            ("instances", str(len(rows))),
            [
                ("solved", str(sum(count[word] for word in SOLVED))),
                *((f"  {word}", str(count[word])) for word in words),
                ("unknown", str(count["unknown"])),
                ("timeout", str(count["timeout"])),
                ("error", str(count["error"])),
                ("wrong", f"{len(wrong)} of {compared} compared" if expected else "nothing to compare with"),
                ("total seconds", f"{sum(seconds):.2f}"),
                ("median seconds", f"{statistics.median(seconds):.3f}" if seconds else "-"),
                ("cpu seconds", f"{sum(cpu):.2f}" if cpu else "-"),
                ("max peak MiB", f"{max(peak):.0f}" if peak else "-"),
            ],
        )
    ]
    lines += [f"WRONG: {' '.join(r.key).strip()}: {r.verdict}, expected {expected[r.key]}" for r in wrong]
    lines += [f"error: {' '.join(r.key).strip()}: {r.reason}" for r in rows if r.verdict == "error"]
    return "\n".join(lines)


def problem_summary(rows: Sequence[Row], expected: Mapping[Key, str]) -> str:
    """What came of each problem beside what is expected of it, then the table over all."""
    kinds = ("verified", "falsified", "unknown", "timeout", "error")
    wrong = {row.key for row in contradictions(rows, expected)}
    lines = []
    for name in dict.fromkeys(row.key[0] for row in rows):
        own = [row for row in rows if row.key[0] == name]
        got = [str(sum(row.verdict == kind for row in own)) for kind in kinds]
        known = [expected.get(row.key, "none") for row in own]
        told = [str(sum(word == kind for word in known)) for kind in ("verified", "falsified", "open")]
        bad = str(sum(row.key in wrong for row in own))
        lines.append((name, *got, " / ".join(told), bad, f"{sum(row.seconds for row in own):.2f}"))
    head = ("problem", *kinds, "expected v / f / open", "wrong", "seconds")
    return table(head, lines) + "\n\n" + summary(rows, expected, ("falsified", "verified"))
