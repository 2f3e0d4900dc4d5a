"""Certified sets against simulation: trajectories from every set that is verified, driven outwards as hard as possible.

    python benchmarks/trajectories.py DIR [--timeout S] [--count N] [--verdicts CSV] [--filter REGEX] [--skip REGEX] [--out CSV]

For each instance of DIR (problem.toml or */problem.toml) that is verified within the time limit - or that the file of
benchmarks/invariance.py says so of -, 10,000 trajectories (simulation.py). How many leave their set beyond the integrator's error, how
close they come to its boundary, and for `attracts` how many have not reached the target in the end. Exit status 1 if one leaves.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from simulation import Left, Simulator, count_left, equilibrium, slowness

from holdfast.api import load_problem, verify_problem
from holdfast.errors import UnsupportedError
from holdfast.invariance.sets import inequalities
from holdfast.loop import ClosedLoop, close
from holdfast.report.table import table
from holdfast.spec.temporal import Instance, TemporalProperty
from invariance import selected

REST = 4.0  # times the slowest time constant: one round of simulation
ROUNDS = 8  # of trajectories that have not reached the target
NEAR = 1e-3  # of the set's width: at the equilibrium, as far as a simulation can say


@dataclass(frozen=True)
class Line:
    """One set: numbers as text. ``distance``: least one to the boundary along the normal after the first twentieth of the time."""

    problem: str
    instance: str
    set: str
    trajectories: str
    left: str
    unreached: str
    distance: str
    error: str
    time: str
    cpu: str
    note: str = ""


COLUMNS = tuple(f.name for f in fields(Line))


def horizon(simulator: Simulator, starts: np.ndarray) -> tuple[float, np.ndarray | None]:
    """How long one round of simulation is, and the equilibrium, where there is one."""
    rest = equilibrium(simulator, starts)
    return REST * (1.0 if rest is None else slowness(simulator, rest)), rest


def kept(simulator: Simulator, count: int) -> tuple[Left, float]:
    """Trajectories from a set that is never left, and for how long."""
    starts = simulator.starts(count)
    seconds, _ = horizon(simulator, starts)
    return count_left(simulator, simulator.paths(starts, seconds), seconds), seconds


def attracted(simulator: Simulator, target: Simulator | None, count: int) -> tuple[Left, int, float]:
    """Trajectories from a set: how many leave it, how many have not reached the target (None: the equilibrium), after how long."""
    starts = simulator.starts(count)
    seconds, rest = horizon(simulator, starts)
    paths = simulator.paths(starts, seconds)
    left, total = count_left(simulator, paths, seconds), seconds
    x, signals = paths.end, paths.signals[-1]
    for _ in range(ROUNDS):
        if target is not None:
            away = target.over(x) > 0
        elif rest is not None:
            away = ~(abs((x - rest) / simulator.field.width).max(1) < NEAR)
        else:
            return left, len(x), total
        x, signals = x[away], signals[away]
        if not len(x):
            return left, 0, total
        more = simulator.paths(x, seconds, np.broadcast_to(signals, (len(paths.signals), *signals.shape)))
        x, total = more.end, total + seconds
    return left, len(x), total


def simulated(loop: ClosedLoop, prop: TemporalProperty, count: int) -> Iterator[tuple[str, Left, str, float]]:
    """For each set of a property: its name, what left it, how many have not reached the target, seconds simulated."""
    assert prop.states is not None
    simulator = Simulator(loop, inequalities(prop.states, loop, "set"))
    if prop.kind == "invariant":
        found, seconds = kept(simulator, count)
        yield "set", found, "", seconds
        return
    target = None
    if prop.target is not None and not isinstance(prop.target, str):
        target = Simulator(loop, inequalities(prop.target, loop, "to"), seed=1)
    found, unreached, seconds = attracted(simulator, target, count)
    yield "from", found, str(unreached), seconds
    if target is not None:  # reached, and then kept
        found, seconds = kept(target, max(1, count // 5))
        yield "to", found, "", seconds


def lines(problem: str, one: Instance, count: int) -> Iterator[Line]:
    """The rows of an instance."""
    try:
        loop = close(one.loop)
    except UnsupportedError as error:
        yield Line(problem, one.id, "", "", "", "", "", "", "", "", f"not simulated: {error}")
        return
    for k, prop in enumerate(one.properties):
        name = prop.id or str(k + 1)
        if prop.kind not in ("invariant", "attracts"):
            yield Line(problem, one.id, name, "", "", "", "", "", "", "", f"kind {prop.kind} is not simulated")
            continue
        cpu = time.process_time()
        for word, found, unreached, seconds in simulated(loop, prop, count):
            unit = "s" if loop.kind == "ode" else "steps"
            span = f"{seconds if loop.kind == 'ode' else 400:.3g} {unit}"
            note = "" if found.worst is None else f"left from {[float(v) for v in found.worst]}"
            yield Line(
                problem, one.id, f"{name}, {word}", str(found.count), str(found.left), unreached, f"{found.distance:.2e}",
                f"{found.error:.0e}", span, f"{time.process_time() - cpu:.1f}", note,
            )  # fmt: skip
            cpu = time.process_time()


def earlier(path: Path | None) -> dict[tuple[str, str], str]:
    """Verdicts that benchmarks/invariance.py wrote."""
    if path is None:
        return {}
    with path.open(newline="") as source:
        return {(row["problem"], row["instance"]): row["verdict"] for row in csv.DictReader(source)}


def main() -> int:
    """Simulate all and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to decide one instance")
    parser.add_argument("--count", type=int, default=10_000, help="trajectories per set")
    parser.add_argument("--verdicts", type=Path, help="CSV of benchmarks/invariance.py: decide nothing, take these")
    parser.add_argument("--filter", default="")
    parser.add_argument("--skip", default="")
    parser.add_argument("--out", type=Path, help="CSV file, rows are appended")
    options = parser.parse_args()
    chosen, _ = selected(options.folder, options.timeout, options.filter, options.skip)
    known = earlier(options.verdicts)
    rows: list[Line] = []
    for one in chosen:
        if options.verdicts is None:
            verdict = verify_problem(one.file, one.instance, timeout=one.timeout)[one.instance].verdict.value
        else:
            verdict = known.get(one.key, "")
        if verdict != "verified":
            continue
        instance = next(i for i in load_problem(one.file).instances if i.id == one.instance)
        for line in lines(one.problem, instance, options.count):
            rows.append(line)
            if options.out is not None:
                fresh = not options.out.exists()
                with options.out.open("a", newline="") as target:
                    csv.writer(target).writerows(
                        ([COLUMNS] if fresh else []) + [tuple(getattr(line, name) for name in COLUMNS)]
                    )
            sys.stderr.write(" ".join(str(getattr(line, name)) for name in COLUMNS) + "\n")
    sys.stdout.write(table(COLUMNS, [tuple(getattr(r, name) for name in COLUMNS) for r in rows]) + "\n")
    total, left = (sum(int(getattr(r, name) or 0) for r in rows) for name in ("trajectories", "left"))
    unreached = sum(int(r.unreached or 0) for r in rows)
    sys.stdout.write(
        f"{total} trajectories from {len(rows)} sets: {left} left, {unreached} did not reach their target\n"
    )
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(main())
