"""Sets that sampled loops never leave: for every instance what was found, or why nothing was, as a table and CSV.

    python benchmarks/closed_loop_sets.py DIR [--timeout S] [--filter REGEX] [--trajectories N] [--out CSV]

DIR holds */problem.toml. Simulated trajectories start in each set that was found; none may leave it (exit status 1). Rows are written as they
come; instances that --out has already are not run again. Instances of one loop (other initial sets or properties) are run once.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from holdfast.errors import HoldfastError
from holdfast.invariance.find_sampled import KeptSet, find_sampled
from holdfast.invariance.held_samples import Flight
from holdfast.invariance.plans import is_sampled
from holdfast.load.problem import load_problem
from holdfast.report.table import table
from holdfast.spec.temporal import Ellipsoid, Instance

PERIODS = 10  # that are simulated
FINE = 32  # Runge-Kutta steps of a period
BLOCK = 2000


@dataclass(frozen=True)
class Line:
    """One instance; empty where there is none."""

    problem: str
    instance: str
    states: str = ""
    radius: str = ""  # spectral radius of the linearised period
    kept: str = ""  # at all times, or at the sample times
    proof: str = ""
    volume: str = ""
    half_widths: str = ""
    seconds: str = ""
    simulated: str = ""  # trajectories, and how many left
    furthest: str = ""  # largest norm met, 1 is the boundary
    why: str = ""


COLUMNS = tuple(f.name for f in fields(Line))


def simulated(instance: Instance, kept: KeptSet, count: int) -> tuple[int, float]:
    """How many trajectories from the set are outside at some time that the claim speaks of; the largest norm met there."""
    states = kept.found.states
    assert isinstance(states, Ellipsoid)
    flight, rng = Flight(instance.loop, FINE), np.random.default_rng(1)
    center = np.array([float(c) for c in states.center])
    P = np.array([[float(v) for v in row] for row in states.P]) / float(states.level)
    root = np.linalg.cholesky(P)
    u = rng.normal(size=(count, len(center)))
    u /= np.linalg.norm(u, axis=1)[:, None]
    u[count // 2 :] *= rng.random((count - count // 2, 1)) ** (1 / len(center))
    gone, furthest = np.zeros(count, bool), 0.0
    for first in range(0, count, BLOCK):
        part = slice(first, min(first + BLOCK, count))
        x = center + np.linalg.solve(root.T, u[part].T).T
        for _ in range(PERIODS):
            met = flight.run(x, flight.drawn(rng, len(x)))
            x = met[-1]
            size = np.linalg.norm((met[1:] if kept.always else met[-1:]) @ root - center @ root, axis=2)
            furthest = max(furthest, float(size.max()))
            gone[part] |= (size > 1.0).any(0)
    return int(gone.sum()), furthest


def line_of(problem: str, instance: Instance, timeout: float, trajectories: int) -> Line:
    """The row of one instance."""
    line = Line(problem, instance.id, str(len(instance.loop.plant.signals.states)))
    if not is_sampled(instance.loop):
        return replace(line, why="is not sampled: see holdfast invariant --find")
    begin = time.perf_counter()
    try:
        search = find_sampled(instance, timeout=timeout)
    except HoldfastError as error:
        return replace(line, why=" ".join(str(error).split()))
    line = replace(line, seconds=f"{time.perf_counter() - begin:.1f}", why=search.why)
    if search.radius is not None:
        line = replace(line, radius=f"{search.radius:.5f}")
    if not search.sets:
        return line
    best = search.sets[0]
    P = np.array([[float(v) for v in row] for row in best.found.states.P]) / float(best.found.states.level)  # type: ignore[union-attr]
    left, furthest = simulated(instance, best, trajectories)
    return replace(
        line,
        kept="all times" if best.always else "sample times",
        proof="branch and bound" if best.rate is None else f"slopes {best.rate:.4f}",
        volume=f"{best.found.volume:.4g}",
        half_widths=" ".join(f"{v:.3g}" for v in np.sqrt(np.diag(np.linalg.inv(P)))),
        simulated=f"{left} of {trajectories} left",
        furthest=f"{furthest:.6f}",
    )


def same_loop(instance: Instance) -> tuple[str, ...]:
    """What two instances of one file share if they are of the same loop."""
    parts = instance.document
    return tuple(str(parts.get(key)) for key in ("plant", "controller"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--timeout", type=float, default=40.0)
    parser.add_argument("--filter", default="")
    parser.add_argument("--trajectories", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(arguments)
    lines: list[Line] = []
    if asked.out and asked.out.exists():
        with asked.out.open() as file:
            lines = [Line(**row) for row in csv.DictReader(file)]
    have = {(line.problem, line.instance) for line in lines}
    for path in sorted(asked.folder.glob("*/problem.toml")):
        done: dict[tuple[str, ...], str] = {}
        for instance in load_problem(path).instances:
            key = same_loop(instance)
            if not re.search(asked.filter, f"{path.parent.name}/{instance.id}"):
                continue
            if key in done:
                line = Line(path.parent.name, instance.id, why=f"the same loop as {done[key]}")
            else:
                done[key] = instance.id
                if (path.parent.name, instance.id) in have:
                    continue
                line = line_of(path.parent.name, instance, asked.timeout, asked.trajectories)
            if (line.problem, line.instance) in have:
                continue
            lines.append(line)
            if asked.out:
                fresh = not asked.out.exists()
                with asked.out.open("a", newline="") as file:
                    writer = csv.writer(file)
                    if fresh:
                        writer.writerow(COLUMNS)
                    writer.writerow([getattr(line, c) for c in COLUMNS])
    print(table(COLUMNS, [[getattr(line, c) for c in COLUMNS] for line in lines]))
    return int(any(line.simulated and not line.simulated.startswith("0 of") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
