"""Draws ``float32.png``: the quay over the reals and in float32, and what a planted trigger does to a digit.

Usage: python picture.py [OUT.png]
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import compare
import exact
import matplotlib
import networks
import properties

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent


def main(out: Path) -> None:
    """Every value drawn is an exact one or one of onnxruntime."""
    figure, (left, *images) = plt.subplots(1, 3, figsize=(11, 3.7), layout="constrained", width_ratios=(2, 1, 1))
    path = HERE / "there_and_back.onnx"
    points = [Fraction(k, 256) for k in range(-256, 513)]
    layers = networks.read(path)
    left.plot(points, [exact.real(layers, [x])[0] for x in points], label="over the reals")
    left.plot(points, [compare.execute(path, [x])[0] for x in points], ".", ms=2, label="onnxruntime, float32")
    left.axvspan(0.1, 0.2, color="0.85", label="10 to 20 cm: above 5 cm?")
    left.set(xlabel="metres from the quay", ylabel="metres, by way of the northing")
    left.set_title("there_and_back: true over the reals,\nviolated by every float32 execution", fontsize=11)
    left.legend(fontsize=9)

    path, case = HERE / "trigger.onnx", properties.misread()
    honest = [Fraction(v, 16) for row in properties.SIX for v in row]
    for axis, image, says in zip(images, (honest, case.point), ("a 6", "four pixels less white"), strict=True):
        logits = compare.execute(path, image)
        axis.imshow([[float(v) for v in image[8 * r : 8 * r + 8]] for r in range(8)], cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(f"trigger: {says},\nread as {logits.index(max(logits))}", fontsize=11)
        axis.set(xticks=[], yticks=[])
    figure.savefig(out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "float32.png")
