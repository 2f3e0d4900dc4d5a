"""One row per benchmark instance, and the table over all rows that `holdfast bench` ends with."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from holdfast.report.table import table

SOLVED = ("sat", "unsat")
VERDICTS = (*SOLVED, "unknown", "timeout", "error")

Key = tuple[str, str]


@dataclass(frozen=True)
class Row:
    """What one instance came to. ``cpu_seconds`` and ``peak_mib`` are None where they could not be measured."""

    onnx: str
    vnnlib: str
    verdict: str
    seconds: float
    cpu_seconds: float | None
    peak_mib: float | None
    reason: str

    @property
    def key(self) -> Key:
        """The instance the row belongs to."""
        return (self.onnx, self.vnnlib)


def contradictions(rows: Sequence[Row], expected: Mapping[Key, str]) -> list[Row]:
    """The rows that say sat where unsat is expected, or unsat where sat is. `unknown` contradicts nothing."""
    return [row for row in rows if {row.verdict, expected.get(row.key, "")} == set(SOLVED)]


def summary(rows: Sequence[Row], expected: Mapping[Key, str]) -> str:
    """The final table, and below it every contradiction and every error with its reason."""
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
                ("solved", str(count["sat"] + count["unsat"])),
                ("  sat", str(count["sat"])),
                ("  unsat", str(count["unsat"])),
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
    lines += [f"WRONG: {r.onnx} {r.vnnlib}: {r.verdict}, expected {expected[r.key]}" for r in wrong]
    lines += [f"error: {r.onnx} {r.vnnlib}: {r.reason}" for r in rows if r.verdict == "error"]
    return "\n".join(lines)
