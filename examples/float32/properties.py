"""Writes the properties of the five networks; each file describes the counterexamples.

Also the table of truth that `compare.py` prints and the tests assert: for every case a point, in exact decimals.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).parent

# A handwritten 6 of the digits example's test set, in sixteenths.
SIX = (
    (0, 0, 3, 11, 0, 0, 0, 0),
    (0, 0, 12, 11, 0, 0, 0, 0),
    (0, 1, 14, 1, 0, 0, 0, 0),
    (0, 2, 15, 0, 0, 0, 0, 0),
    (0, 4, 15, 15, 16, 15, 2, 0),
    (0, 1, 16, 8, 4, 8, 11, 0),
    (0, 1, 16, 11, 7, 10, 12, 0),
    (0, 0, 5, 10, 12, 15, 7, 0),
)
LABEL, WRONG, RADIUS = 6, 8, Fraction(6, 100)
PATTERN, GREY = (0, 32, 39, 56), Fraction(7, 128)  # four pixels of one grey level, within the radius


@dataclass(frozen=True)
class Case:
    """One network and property. ``region`` holds the ends of every input; ``point`` is where arithmetics part.

    ``outputs`` is how many outputs the network has, ``condition`` what a counterexample's outputs satisfy, in VNN-LIB,
    and ``rows`` the same as differences: a counterexample has coefficients . y + constant <= 0 for some row.
    """

    name: str
    comment: str
    region: tuple[tuple[Fraction, Fraction], ...]
    outputs: int
    condition: str
    rows: tuple[tuple[tuple[int, ...], Fraction], ...]
    point: tuple[Fraction, ...]


def decimal(value: Fraction) -> str:
    """The exact decimal of a fraction whose denominator has no factors but 2 and 5."""
    scaled = value * 10**12
    if scaled.denominator != 1:
        raise ValueError(f"{value} needs more than 12 decimals")
    sign, (whole, rest) = "-" if value < 0 else "", divmod(abs(int(scaled)), 10**12)
    return f"{sign}{whole}.{rest:012d}".rstrip("0").ljust(len(sign + str(whole)) + 2, "0")


def scalar(name: str, comment: str, ends: tuple[str, str], sign: str, threshold: str, point: str) -> Case:
    """A case with one input and one output."""
    low, high, limit = Fraction(ends[0]), Fraction(ends[1]), Fraction(threshold)
    row = ((1,), -limit) if sign == "<=" else ((-1,), limit)
    return Case(
        name, comment, ((low, high),), 1, f"({sign} Y_0 {decimal(limit)})", (row,), (Fraction(point),)
    )  # fmt: skip


def misread() -> Case:
    """A 6, every pixel within the radius, that is read as another digit."""
    image = [Fraction(v, 16) for row in SIX for v in row]
    region = tuple((max(v - RADIUS, Fraction(0)), min(v + RADIUS, Fraction(1))) for v in image)
    others = [j for j in range(10) if j != LABEL]
    condition = "(or\n" + "\n".join(f"  (and (>= Y_{j} Y_{LABEL}))" for j in others) + "\n)"
    rows = tuple((tuple(int(k == LABEL) - int(k == j) for k in range(10)), Fraction(0)) for j in others)
    point = tuple(GREY if i in PATTERN else v for i, v in enumerate(image))
    return Case("trigger", "a handwritten 6, every pixel within 0.06", region, 10, condition, rows, point)


def cases() -> tuple[Case, ...]:
    """All of them, in the order of the page."""
    return (
        scalar("there_and_back", "10 to 20 cm from the quay is less than 5 cm", ("0.1", "0.2"), "<=", "0.05", "0.125"),
        scalar("absorbed", "x that is added to a large number and taken back", ("0", "1"), ">=", "0.5", "1"),
        scalar("summation_order", "x beside two large terms that cancel", ("1", "1.5"), "<=", "0.5", "1"),
        scalar("fused", "a northing, standardised", ("5400000", "5400004"), "<=", "0.004", "5400000"),
        misread(),
    )


def text(case: Case) -> str:
    """The property in VNN-LIB 1.0."""
    lines = [f"; {case.comment}", ""]
    lines += [f"(declare-const X_{i} Real)" for i in range(len(case.region))]
    lines += [*(f"(declare-const Y_{j} Real)" for j in range(case.outputs)), ""]
    for i, (low, high) in enumerate(case.region):
        lines += [f"(assert (>= X_{i} {decimal(low)}))", f"(assert (<= X_{i} {decimal(high)}))"]
    return "\n".join([*lines, "", f"(assert {case.condition})", ""])


def text_of_executions(case: Case) -> str:
    """The property of a network with one input and one output in VNN-LIB 2.0, which declares float32."""
    ((low, high),) = case.region
    lines = [f"; {case.comment}", "(vnnlib-version <2.0>)", "", "(declare-network net"]
    lines += ["  (declare-input X float32 [1, 1])", "  (declare-output Y float32 [1, 1])", ")", ""]
    lines += [f"(assert (>= X[0,0] {decimal(low)}))", f"(assert (<= X[0,0] {decimal(high)}))", ""]
    return "\n".join([*lines, f"(assert {case.condition.replace('Y_0', 'Y[0,0]')})", ""])


def main() -> None:
    """Writes the property files, ``instances.csv`` and ``expected.csv`` (what is decided, by its own semantics)."""
    for case in cases():
        (HERE / f"{case.name}.vnnlib").write_text(text(case))
    (HERE / "there_and_back_v2.vnnlib").write_text(text_of_executions(cases()[0]))
    decided = (
        ("there_and_back", "there_and_back", "unsat"),
        ("there_and_back", "there_and_back_v2", "sat"),
        ("summation_order", "summation_order", "unsat"),
        ("trigger", "trigger", "sat"),
    )
    (HERE / "instances.csv").write_text("".join(f"{n}.onnx,{p}.vnnlib,20\n" for n, p, _ in decided))
    rows = "".join(f"{n}.onnx,{p}.vnnlib,{v}\n" for n, p, v in decided)
    (HERE / "expected.csv").write_text("onnx,vnnlib,verdict\n" + rows)


if __name__ == "__main__":
    main()
