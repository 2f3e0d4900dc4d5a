"""Draws ``pendulum.png``: the controller's torque over the states, and certified bounds along one cut.

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
import onnxruntime
from matplotlib.patches import Rectangle
from train import ANGLE, VELOCITY, law

HERE = Path(__file__).parent
CELLS = 50  # boxes along the cut
BAND = 0.02  # half-width of the cut in velocity, rad/s


def torque(states: np.ndarray) -> np.ndarray:
    """The network's output at sampled states, by onnxruntime."""
    session = onnxruntime.InferenceSession(HERE / "pendulum.onnx", providers=["CPUExecutionProvider"])
    rows = states.reshape(-1, 1, 2).astype(np.float32)
    return np.array([session.run(None, {"state": row})[0][0, 0] for row in rows]).reshape(states.shape[:-1])


def main(out: Path) -> None:
    """Left: sampled torque and the regions of the proved properties. Right: bounds that hold on whole boxes."""
    network = holdfast.load(HERE / "pendulum.onnx")
    angle, velocity = np.meshgrid(np.linspace(-ANGLE, ANGLE, 101), np.linspace(-VELOCITY, VELOCITY, 101))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")

    surface = left.pcolormesh(angle, velocity, torque(np.stack([angle, velocity], -1)), cmap="RdBu", shading="gouraud")
    figure.colorbar(surface, ax=left, label="torque (N m)")
    left.add_patch(Rectangle((0.05, 0.0), 0.95, 2.0, fill=False, lw=2))
    left.text(0.175, 1.2, "torque < 0", ha="center", va="center", rotation=90, color="white")
    left.add_patch(Rectangle((0.3, 0.0), 0.7, 2.0, fill=False, lw=2, ls="--"))
    left.text(0.65, 0.6, "torque < −1.95", ha="center", color="white")
    left.set(
        xlabel="angle (rad)",
        ylabel="angular velocity (rad/s)",
        title="the controller, and regions of proved properties",
    )

    edges = np.linspace(-0.5, 0.5, CELLS + 1)
    lower, upper = np.empty(CELLS), np.empty(CELLS)
    for i in range(CELLS):
        bounds = holdfast.bound(network, [edges[i], -BAND], [edges[i + 1], BAND])
        lower[i], upper[i] = bounds.lower.item(), bounds.upper.item()
    cut = np.stack([np.linspace(-0.5, 0.5, 400), np.zeros(400)], -1)
    right.stairs(upper, edges, baseline=lower, fill=True, alpha=0.35, label=f"certified, |velocity| ≤ {BAND} rad/s")
    right.plot(cut[:, 0], torque(cut), color="black", lw=1.2, label="network, sampled")
    right.plot(cut[:, 0], law(cut), color="tab:red", ls="--", lw=1, label="the law it imitates")
    right.set(xlabel="angle (rad)", ylabel="torque (N m)", title="certified bounds along a cut")
    right.legend(loc="upper right")
    figure.savefig(out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "pendulum.png")
