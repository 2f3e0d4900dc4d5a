"""Draws ``balance.png``: the sets that are proved, in the plane of states, and simulated ways of the pole out of and into them.

Usage: python picture.py [OUT.png]
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from train import ANGLE, MASSES, PUSH, RATE, TORQUE, flow

HERE = Path(__file__).parent
FROM, TO, CLAIMED = 0.8, 0.15, 0.97  # levels of V in problem.toml
CENTER, P = (
    np.array([-0.00953114296, 0.0367878867]),
    np.array([[3.534738464, 0.7294082325], [0.7294082325, 0.2141821516]]),
)
CORNERS = np.linalg.solve([[1, 0], [4.4, 1]], np.array([[0.42, 0.42, -0.42, -0.42, 0.42], [1.8, -1.8, -1.8, 1.8, 1.8]]))
GREEN, BLUE, RED = "#009E73", "#0072B2", "#D55E00"  # colours that colour-blind people can tell apart


@cache
def session_of(name: str) -> onnxruntime.InferenceSession:
    """Each file is read once."""
    return onnxruntime.InferenceSession(HERE / name, providers=["CPUExecutionProvider"])


def network(name: str, states: np.ndarray) -> np.ndarray:
    """One number per state, by onnxruntime."""
    session = session_of(name)
    names = [session.get_inputs()[0].name, session.get_outputs()[0].name]
    return session.run(names[1:], {names[0]: states.reshape(-1, 2).astype(np.float32)})[0].reshape(states.shape[:-1])


def simulated(states: np.ndarray, push: np.ndarray, mass: float, seconds: float, step: float = 0.01) -> np.ndarray:
    """Ways (steps, K, 2) from the states, under pushes (steps, K)."""
    ways = [states]
    for force in push[: round(seconds / step)]:
        x = ways[-1]
        torque = np.clip(network("controller.onnx", x), -TORQUE, TORQUE) + force
        middle = x + 0.5 * step * flow(x, torque, mass=mass)
        torque = np.clip(network("controller.onnx", middle), -TORQUE, TORQUE) + force
        x = x + step * flow(middle, torque, mass=mass)
        ways.append(np.where((abs(x) > [1.6, 6]).any(-1, keepdims=True), np.nan, x))
    return np.array(ways)


def main(out: Path) -> None:
    """Left: the plane of states. Right: the lean over time, from the edges of the sets."""
    rng = np.random.default_rng(1)
    angle, rate = np.meshgrid(np.linspace(-ANGLE, ANGLE, 301), np.linspace(-RATE, RATE, 301))
    grid = np.stack([angle, rate], -1)
    V = network("V.onnx", grid)
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained", width_ratios=[1.25, 1])
    speed = flow(grid, np.clip(network("controller.onnx", grid), -TORQUE, TORQUE))
    left.streamplot(angle, rate, speed[..., 0], speed[..., 1], density=1.1, color="0.75", linewidth=0.6, arrowsize=0.7)
    left.contourf(angle, rate, V, [0, TO, FROM], colors=[GREEN, GREEN], alpha=0.3)
    left.contourf(angle, rate, V, [0, TO], colors=[GREEN], alpha=0.6)
    left.contour(angle, rate, V, [TO, FROM], colors=[GREEN], linewidths=1.8)
    claimed = left.contour(angle, rate, V, [CLAIMED], colors=[RED], linewidths=1.5, linestyles="dashed")
    left.plot(*CORNERS, color=BLUE, lw=1.8)
    turn = np.linspace(0, 2 * np.pi, 300)
    circle = np.array([np.cos(turn), np.sin(turn)])
    left.plot(*(CENTER[:, None] + np.linalg.inv(np.linalg.cholesky(P)).T @ circle), color=BLUE, lw=1.8, ls=":")
    left.set(xlim=(-ANGLE, ANGLE), ylim=(-RATE, RATE), xlabel="angle from upright (rad)", ylabel="rate (rad/s)")
    left.set_title("what is proved of the pole")

    rim = np.concatenate(left.contour(angle, rate, V, [FROM], alpha=0).allsegs[0])
    inner = 0.995 * rim[rng.integers(0, len(rim), 24)]
    pushes = PUSH * np.sign(np.repeat(rng.normal(size=(20, 24)), 10, axis=0))  # anew every 0.1 s
    ways = simulated(inner, pushes, MASSES[-1], 2.0)
    beyond = claimed.allsegs[0][0]
    beyond = beyond[np.linspace(0, len(beyond) - 1, 200).astype(int)] * 0.999
    away = PUSH * np.sign(4.4 * beyond[:, 0] + beyond[:, 1])
    lost = simulated(beyond, np.tile(away, (200, 1)), MASSES[-1], 2.0)
    falls = np.flatnonzero(np.isnan(lost[-1, :, 0]))[:1]
    times = np.linspace(0, 2, len(ways))
    right.plot(times, ways[..., 0], color=GREEN, lw=0.7)
    right.plot(times, lost[:, falls, 0], color=RED, lw=1.8)
    left.plot(lost[:, falls, 0], lost[:, falls, 1], color=RED, lw=1.8)
    right.set(xlabel="time (s)", ylabel="angle from upright (rad)", ylim=(-ANGLE, ANGLE), xlim=(0, 2))
    right.set_title("simulated: heaviest pole, pushed anew every 0.1 s")
    handles = [
        plt.Rectangle(
            (0, 0), 1, 1, color=GREEN, alpha=0.3, label=f"V ≤ {FROM}: from here back to the dark part, for ever"
        ),
        plt.Rectangle((0, 0), 1, 1, color=GREEN, alpha=0.75, label=f"V ≤ {TO}: the dark part"),
        plt.Line2D([], [], color=BLUE, lw=1.8, label="parallelogram that is never left"),
        plt.Line2D([], [], color=BLUE, lw=1.8, ls=":", label="ellipse that is never left, found"),
        plt.Line2D([], [], color=RED, ls="--", lw=1.5, label=f"V ≤ {CLAIMED}: claimed, and refuted"),
        plt.Line2D([], [], color=RED, lw=1.8, label="a way out of it"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "balance.png")
