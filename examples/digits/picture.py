"""Draws ``digits.png``: an image with a proved radius, and an image with the counterexample that holdfast finds.

Usage: python picture.py [OUT.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

import holdfast

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from train import data

HERE = Path(__file__).parent


def main(out: Path) -> None:
    """Asks the two questions anew, so that the picture never says more than the program does."""
    network = holdfast.load(HERE / "digits.onnx")
    proof = holdfast.verify(network, HERE / "robust_3_060.vnnlib", timeout=60)
    refutation = holdfast.verify(network, HERE / "robust_0_060.vnnlib", timeout=60)
    if proof.verdict is not holdfast.Verdict.VERIFIED or refutation.counterexample is None:
        raise SystemExit(f"expected one proof and one counterexample, got {proof.verdict} and {refutation.verdict}")
    _, images, _, labels = data()
    witness = np.asarray(next(iter(refutation.counterexample.inputs.values()))).reshape(8, 8)
    read_as = int(np.argmax(next(iter(refutation.counterexample.outputs.values()))))

    figure, axes = plt.subplots(1, 4, figsize=(11, 3.7), layout="constrained")
    shown = (
        (
            images[3].reshape(8, 8),
            "gray_r",
            (0, 1),
            f"a {labels[3]}: proved\nevery image within ±0.06\nis read as {labels[3]}",
        ),
        (images[0].reshape(8, 8), "gray_r", (0, 1), f"a {labels[0]}: refuted\nwithin ±0.06 there is ..."),
        (witness, "gray_r", (0, 1), f"... this image,\nread as {read_as}"),
        (witness - images[0].reshape(8, 8), "RdBu", (-0.06, 0.06), "the difference:\n+0.06 blue, −0.06 red"),
    )
    for axis, (picture, colours, (low, high), title) in zip(axes, shown, strict=True):
        axis.imshow(picture, cmap=colours, vmin=low, vmax=high)
        axis.set_title(title, fontsize=11)
        axis.set(xticks=[], yticks=[])
    figure.savefig(out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "digits.png")
