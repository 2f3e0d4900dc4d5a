"""Simulated trajectories against the flow tubes of a folder of problems: who is ever outside? One worker, one table.

    python benchmarks/tubes.py FOLDER [PROBLEM ...]

1,000 trajectories of each loop (corners, edges, inside; disturbances at their extremes, switching) at 1,000 times. A point counts as
outside where it leaves the tube by more than the simulation's own error, estimated by halving its steps.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from holdfast.load.problem import load_problem
from holdfast.loop.tube import Segment
from holdfast.reachability.reach import reach_tube
from holdfast.reachability.simulate import Simulator, horizon_of
from holdfast.reachability.tube import Tube
from holdfast.sets.taylor_model import TaylorModel
from holdfast.spec.plant import LoopData
from holdfast.spec.region import Box
from holdfast.spec.temporal import Instance

Array = np.ndarray
TRAJECTORIES = 1000
TIMES = 1000
TIMEOUT = 60.0
ROUNDING = 1e-12  # of the size of a state: rounding of the simulation, beside its truncation


@dataclass(frozen=True)
class Found:
    """``reached`` of ``horizon``; ``points`` that were compared, ``outside`` of them, by at most ``worst`` (beyond the simulation's error);
    ``loose``: width of the tube over that of the trajectories at the last time, of the worst state."""

    boxes: int
    reached: float
    horizon: float
    points: int
    outside: int
    worst: float
    loose: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Samples:
    """``times`` (T); ``states`` (T, P, n) and what they may be off by."""

    times: tuple[Fraction, ...]
    states: Array
    error: Array


def starts(rng: np.random.Generator, box: Box, count: int) -> Array:
    """Points (count, n) of a box: corners, edges, inside."""
    n = len(box)
    share = rng.random((count, n))
    share[: count // 3] = np.round(share[: count // 3])
    edges = slice(count // 3, 2 * count // 3)
    share[edges] = np.where(rng.random(share[edges].shape) < 0.7, np.round(share[edges]), share[edges])
    return np.clip(box.lower + share * (box.upper - box.lower), box.lower, box.upper)


def sampled(data: LoopData, initial: Box, horizon: Fraction, count: int, times: int, seed: int = 0) -> Samples:
    """Trajectories over the horizon, and how far each may be from the real one."""
    rng = np.random.default_rng(seed)
    simulator = Simulator(data, horizon)
    x, p = starts(rng, initial, count), starts(rng, data.plant.parameters, count)
    w = np.stack([starts(rng, data.plant.disturbances, count) for _ in range(max(simulator.pieces, 1))])
    w[:, : count // 4] = w[:1, : count // 4]  # some stay as they are
    cuts = max(1, simulator.pieces)
    simulator.parts = 1 if simulator.map else max(simulator.parts, -(-times // cuts))
    if simulator.map:
        found = simulator.run(x, p, w)
        return Samples(found.times, found.states, ROUNDING * (1 + abs(found.states)))
    coarse = simulator.run(x, p, w)
    for _ in range(4):
        simulator.parts *= 2
        fine = simulator.run(x, p, w)
        same = fine.states[::2]
        error = abs(same - coarse.states)
        coarse, known = fine, np.isfinite(same)
        if not (error > 1e-10 * (1 + abs(same)))[known].any():
            break
    every = slice(None, None, max(1, (len(coarse.times) - 1) // 2 // times))
    return Samples(coarse.times[::2][every], same[every], (error + ROUNDING * (1 + abs(same)))[every])


def checked(data: LoopData, initial: Box, horizon: Fraction, count: int, times: int, timeout: float) -> Found:
    """The tube of one loop against its trajectories."""
    begin = time.monotonic()
    tube = reach_tube(data, [initial], horizon, timeout=timeout)
    seconds = time.monotonic() - begin
    samples = sampled(data, initial, horizon, count, times)
    return Found(
        len(tube.initial), float(tube.end), float(horizon), *compared(tube, samples), loose(tube, samples), seconds
    )


def compared(tube: Tube, samples: Samples) -> tuple[int, int, float]:
    """How many points were compared, how many lie outside, and by how much at the most (beyond the simulation's error)."""
    first = samples.states[0]
    own = np.stack([((first >= b.lower) & (first <= b.upper)).all(1) for b in tube.initial])  # (boxes, P)
    points = outside = 0
    worst = -np.inf
    for wanted, pieces in _questions(tube, samples):
        x, slack = samples.states[wanted], samples.error[wanted]
        away = np.full(len(x), np.inf)
        for origin, states in pieces:
            with np.errstate(all="ignore"):
                low, high = states.range()
            for k, a, b in zip(origin.tolist(), low, high, strict=True):
                mine = np.flatnonzero(own[k])
                excess = np.maximum(a - x[mine], x[mine] - b) - slack[mine]
                away[mine] = np.minimum(away[mine], np.where(np.isnan(excess), -np.inf, excess).max(1))
        asked = own.any(0) & np.isfinite(x).all(1)
        points += int(asked.sum())
        outside += int((away[asked] > 0).sum())
        worst = max(worst, float(away[asked].max(initial=-np.inf)))
    return points, outside, worst


def _questions(tube: Tube, samples: Samples) -> Iterator[tuple[int, list[tuple[Array, TaylorModel]]]]:
    """Which sample has to be in which sets: at its time, and over the spans that begin or end there."""
    start = np.array([float(s.start) for s in tube.segments])
    end = np.array([float(s.end) for s in tube.segments])

    def near(first: Fraction, last: Fraction) -> list[Segment]:
        margin = 1e-9 * (1 + float(last))
        return [tube.segments[k] for k in np.flatnonzero((start <= last + margin) & (end >= first - margin))]

    known = [i for i, t in enumerate(samples.times) if t <= tube.end]
    for i in known:
        t = samples.times[i]
        # where two steps meet, the one that ends there
        at = [s for s in near(t, t) if s.start < t <= s.end or s.start == t == 0 or s.start == s.end == t]
        yield i, [(s.origin, s.between(t, t)) for s in at]
    if tube.kind == "map":
        return
    for i, j in pairwise(known):
        a, b = samples.times[i], samples.times[j]
        begin, finish = [], []
        for s in near(a, b):
            if not (s.start < b and s.end > a):
                continue
            piece = (s.origin, s.between(max(a, s.start), min(b, s.end)))
            begin += [piece] if s.start <= a else []
            finish += [piece] if s.end >= b else []
        yield i, begin
        yield j, finish


def loose(tube: Tube, samples: Samples) -> float:
    """Width of the tube over the spread of the trajectories at the last time known."""
    last = max(i for i, t in enumerate(samples.times) if t <= tube.end)
    width = tube.at(samples.times[last]).width
    spread = np.ptp(samples.states[last], axis=0)
    return float((width / np.maximum(spread, 1e-9 + 1e-6 * abs(samples.states[last]).max(0))).max())


def instances(folder: Path) -> list[tuple[str, Instance]]:
    """All instances of all problems, one for each loop, initial set and horizon."""
    found: dict[tuple, tuple[str, Instance]] = {}
    for path in sorted(folder.glob("*/problem.toml")):
        for instance in load_problem(path).instances:
            if instance.initial is None or not horizon_of(instance):
                continue
            plant = instance.loop.plant
            key = (path.parent.name, instance.network if hasattr(instance, "network") else instance.id, instance.initial.lower_text, instance.initial.upper_text, horizon_of(instance), plant.disturbances.upper_text)  # fmt: skip
            found.setdefault(key, (path.parent.name, instance))
    return list(found.values())


def main() -> None:
    """Prints a row as each loop is done."""
    folder, *names = sys.argv[1:]
    print(f"{'problem':28} {'instance':28} {'boxes':>5} {'reached':>9} {'points':>9} {'outside':>7} {'worst':>9} {'loose':>7} {'s':>6}")  # fmt: skip
    total = 0
    for name, instance in instances(Path(folder)):
        if names and name not in names:
            continue
        assert instance.initial is not None
        row = checked(instance.loop, instance.initial, horizon_of(instance), TRAJECTORIES, TIMES, TIMEOUT)
        total += row.outside
        reached = f"{row.reached:.3g}/{row.horizon:.3g}"
        print(f"{name:28} {instance.id:28} {row.boxes:5} {reached:>9} {row.points:9} {row.outside:7} {row.worst:9.2g} {row.loose:7.3g} {row.seconds:6.1f}", flush=True)  # fmt: skip
    print(f"{total} points outside")
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
