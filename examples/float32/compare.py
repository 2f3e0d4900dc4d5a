"""Prints the table of the page: what every arithmetic says about every case, nothing of it written by hand.

Usage: python compare.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import exact
import networks
import numpy as np
import onnxruntime
import plain_verifier
import properties

import holdfast

HERE = Path(__file__).parent
SECONDS = 2.0
HEAD = ("case", "exact", "onnxruntime", "plain float32", "plain float64", "holdfast real", "holdfast float32")


@dataclass(frozen=True)
class Row:
    """One case. The first two say how far the point is from being a counterexample: at most 0 means it is one."""

    case: str
    exact: Fraction
    executed: Fraction
    plain32: bool
    plain64: bool
    real: holdfast.Result
    float32: holdfast.Result


def margin(case: properties.Case, outputs: Sequence[Fraction]) -> Fraction:
    """The smallest of the rows: the point is a counterexample if and only if it is not positive."""
    return min(sum((c * y for c, y in zip(row, outputs, strict=True)), constant) for row, constant in case.rows)


def execute(path: Path, point: Sequence[Fraction]) -> list[Fraction]:
    """The outputs of onnxruntime, as they are."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (values,) = session.run(None, {"x": np.array([[float(v) for v in point]], np.float32)})
    return [Fraction(float(v)) for v in values[0]]


def plain(layers: Sequence[networks.Layer], case: properties.Case, dtype: str) -> bool:
    """What the verifier without error terms says of the case."""
    low, high = (np.array([float(ends[k]) for ends in case.region]) for k in (0, 1))
    rows = np.array([row for row, _ in case.rows], np.float64)
    constants = np.array([float(c) for _, c in case.rows])
    return plain_verifier.proved(layers, rows, constants, low, high, dtype)


def compare(case: properties.Case) -> Row:
    """Everything about one case."""
    path = HERE / f"{case.name}.onnx"
    layers = networks.read(path)
    answers = [
        holdfast.verify(path, HERE / f"{case.name}.vnnlib", semantics=semantics, timeout=SECONDS)
        for semantics in ("real", "float32")
    ]
    return Row(
        case.name,
        margin(case, exact.real(layers, case.point)),
        margin(case, execute(path, case.point)),
        plain(layers, case, "float32"),
        plain(layers, case, "float64"),
        *answers,
    )


def verdict(result: holdfast.Result) -> str:
    """The word, and whether a counterexample is proved to be one over the reals too."""
    if result.verdict in (holdfast.Verdict.UNKNOWN, holdfast.Verdict.TIMEOUT):
        return "undecided"
    if result.counterexample is None:
        return result.verdict.vnnlib
    return result.verdict.vnnlib + (" (proved)" if result.counterexample.proved else " (thin)")


def cells(row: Row) -> tuple[str, ...]:
    """One line of the table."""
    values = (f"{float(v):.6g}{' violated' if v <= 0 else ''}" for v in (row.exact, row.executed))
    said = ("proved" if p else "not proved" for p in (row.plain32, row.plain64))
    return (row.case, *values, *said, verdict(row.real), verdict(row.float32))


def main() -> None:
    """Prints the table."""
    lines = [HEAD, ("---",) * len(HEAD), *(cells(compare(case)) for case in properties.cases())]
    for line in lines:
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
