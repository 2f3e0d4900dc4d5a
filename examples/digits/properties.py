"""Writes the robustness properties: no image within ``radius`` of a test image (every pixel) gets another digit.

A property file describes the counterexamples: pixels in a box and some other logit at least as large as the right one.
Pixels are multiples of 1/16 and stay in [0, 1], so every number in the files is an exact decimal.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from train import data

HERE = Path(__file__).parent
# position in the test set, radius in thousandths of the pixel range, version of VNN-LIB, what is expected
CASES = (
    (3, 60, "1.0", "unsat"),
    (4, 60, "1.0", "unsat"),
    (0, 60, "1.0", "sat"),
    (3, 60, "2.0", "unsat"),
)


def decimal(value: Fraction) -> str:
    """The exact decimal of a fraction whose denominator has no factors but 2 and 5."""
    scaled = value * 10**12
    if scaled.denominator != 1:
        raise ValueError(f"{value} needs more than 12 decimals")
    whole, rest = divmod(int(scaled), 10**12)
    return f"{whole}.{rest:012d}".rstrip("0").ljust(len(str(whole)) + 2, "0")


def box(image: np.ndarray, radius: Fraction) -> Iterator[tuple[str, str]]:
    """Lower and upper bound of every pixel, as exact decimals."""
    for pixel in image:
        centre = Fraction(float(pixel))
        yield decimal(max(centre - radius, Fraction(0))), decimal(min(centre + radius, Fraction(1)))


def version_1(image: np.ndarray, label: int, radius: Fraction) -> str:
    """The property in VNN-LIB 1.0."""
    lines = [f"; a handwritten {label}, every pixel within {decimal(radius)}", ""]
    lines += (
        [f"(declare-const X_{i} Real)" for i in range(64)] + [f"(declare-const Y_{j} Real)" for j in range(10)] + [""]
    )
    for i, (low, high) in enumerate(box(image, radius)):
        lines += [f"(assert (>= X_{i} {low}))", f"(assert (<= X_{i} {high}))"]
    others = "\n".join(f"  (and (>= Y_{j} Y_{label}))" for j in range(10) if j != label)
    return "\n".join([*lines, "", f"(assert (or\n{others}\n))", ""])


def version_2(image: np.ndarray, label: int, radius: Fraction) -> str:
    """The property in VNN-LIB 2.0; it declares float32, so the answer is about float32 executions of the network."""
    lines = [f"; a handwritten {label}, every pixel within {decimal(radius)}", "(vnnlib-version <2.0>)", ""]
    lines += [
        "(declare-network digits",
        "  (declare-input X float32 [1, 64])",
        "  (declare-output Y float32 [1, 10])",
        ")",
        "",
    ]
    for i, (low, high) in enumerate(box(image, radius)):
        lines += [f"(assert (>= X[0,{i}] {low}))", f"(assert (<= X[0,{i}] {high}))"]
    others = "\n".join(f"  (>= Y[0,{j}] Y[0,{label}])" for j in range(10) if j != label)
    return "\n".join([*lines, "", f"(assert (or\n{others}\n))", ""])


def main() -> None:
    """Writes the property files, ``instances.csv`` and ``expected.csv``."""
    _, images, _, labels = data()
    instances, expected = [], ["onnx,vnnlib,verdict"]
    for position, thousandths, version, verdict in CASES:
        write = version_1 if version == "1.0" else version_2
        suffix = "" if version == "1.0" else "_v2"
        name = f"robust_{position}_{thousandths:03d}{suffix}.vnnlib"
        (HERE / name).write_text(write(images[position], int(labels[position]), Fraction(thousandths, 1000)))
        instances.append(f"digits.onnx,{name},60")
        expected.append(f"digits.onnx,{name},{verdict}")
    (HERE / "instances.csv").write_text("\n".join(instances) + "\n")
    (HERE / "expected.csv").write_text("\n".join(expected) + "\n")


if __name__ == "__main__":
    main()
