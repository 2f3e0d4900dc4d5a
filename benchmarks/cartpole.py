"""Cart-pole, 4 states: how large a sub-level set of the published neural Lyapunov function is certified in how much time.

Run: python benchmarks/cartpole.py FOLDER [minutes] [workers] [out]. FOLDER holds problem.toml; writes out.csv and out.png: seconds,
level c2 of {V <= c2} proved to decrease down to {V <= c1}, share of the domain's volume, boxes. The condition is cut in coordinates that
are chosen by a trial.
"""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from holdfast.invariance.attract import start_of
from holdfast.invariance.axes import for_band
from holdfast.invariance.level_set import decrease, stay
from holdfast.invariance.levels import furthest
from holdfast.invariance.oblique import Oblique
from holdfast.invariance.sets import level
from holdfast.load.problem import load_problem
from holdfast.loop import close
from holdfast.search.budget import Budget
from holdfast.spec.condition import Condition
from holdfast.spec.temporal import Level
from holdfast.transforms import evaluate


def main(folder: str, minutes: float = 2.0, workers: int = 2, out: str = "cartpole") -> None:
    """Prove outward from {V <= c1} until the time is over."""
    instance = load_problem(Path(folder) / "problem.toml").instances[0]
    loop = close(instance.loop)
    claim = instance.properties[0]
    top, _ = start_of(claim, loop, "from")
    assert isinstance(claim.target, Level) and claim.target.at_most is not None
    bottom = level(claim.target.at_most, loop.function(claim.target.function)[1])
    low, high = top.domain.lower, top.domain.upper
    x = low + (high - low) * np.random.default_rng(0).random((100000, len(low)))
    h = evaluate(top.h.graph, top.h.parameters, [x])[top.h.graph.outputs[0]][:, 0]
    rows: list[tuple[float, float, float, int]] = []
    budget = Budget(60 * minutes)

    def tell(seconds: float, reached: float, boxes: int) -> None:
        if reached > bottom[1]:
            rows.append((seconds, 1 / (1 + math.exp(-reached)), float((h <= reached).mean()), boxes))

    faces = furthest(lambda t, _: stay(loop, replace(top, top=t)), float(top.top[1]), Budget(30 * minutes), workers)
    if faces.level is None:
        raise SystemExit("no level is known not to be left through a face of the domain")

    def make(axes: Oblique | None) -> Condition:
        return decrease(loop, top, bottom, axes)

    axes = for_band(loop, make, top.h, top.domain, float(bottom[1]), float(top.top[0]), budget)
    furthest(lambda t, _: decrease(loop, replace(top, top=t), bottom, axes), faces.level, budget, workers, tell)
    with open(f"{out}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("seconds", "level", "share_of_domain", "boxes"))
        writer.writerows(rows)
    plot(rows, f"{out}.png")


def plot(rows: list[tuple[float, float, float, int]], path: str) -> None:
    """Certified share of the domain against time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3), layout="constrained")
    axes.plot([r[0] for r in rows], [r[2] for r in rows])
    axes.set(xlabel="seconds", ylabel="certified share of the domain", title="Cart-pole, {V <= c2}")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(arguments[0], *(kind(a) for kind, a in zip((float, int, str), arguments[1:], strict=False)))
