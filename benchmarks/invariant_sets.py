"""Sets that are never left, found and proved for folders of problem files: volumes and times, as a table.

    python benchmarks/invariant_sets.py PROBLEM.toml [PROBLEM.toml ...] [--timeout S] [--kind KIND] [--instance ID] [--seed N] [--workers N]
                                        [--continuous] [--out DIR]

One row per form of set that was proved: its volume, and how it compares with the volume of the set the file itself asks about (polytopes of as
many rows as states, and ellipsoids). ``--continuous``: sampled controllers as if they acted at every instant, which is another loop; such rows say so.
``--out``: a folder that receives each set as a problem file, which `holdfast verify` proves again. What has no equilibrium that
attracts, or no right side of its own, is listed with the reason.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from holdfast.errors import HoldfastError
from holdfast.invariance.find import find_invariant
from holdfast.load.problem import load_problem
from holdfast.load.problem_writing import write_problem
from holdfast.loop import close
from holdfast.report.table import table
from holdfast.spec.temporal import Ellipsoid, Instance, Polytope

HEADER = ("problem", "states", "form", "volume", "of the file's", "equilibrium alone in", "seconds")


def parallelotope_volume(states: Polytope) -> float | None:
    """Volume of a parallelotope (as many rows as states), in plain arithmetic; None for other polytopes."""
    if len(states.H) != len(states.center):
        return None
    H = np.array([[float(v) for v in entries] for entries in states.H])
    width = [
        float(high - low)
        for low, high in zip(states.lower, states.upper, strict=True)
        if high is not None and low is not None
    ]
    return float(np.prod(width) / abs(np.linalg.det(H)))


def given_volume(instance: Instance) -> float | None:
    """Volume of the invariant set that the file asks about, where it is easily told."""
    for prop in instance.properties:
        if isinstance(prop.states, Polytope):
            return parallelotope_volume(prop.states)
        if isinstance(prop.states, Ellipsoid):
            P, n = np.array([[float(v) for v in row] for row in prop.states.P]), len(prop.states.center)
            ball = math.pi ** (n / 2) / math.gamma(n / 2 + 1)
            return ball * float(prop.states.level) ** (n / 2) / math.sqrt(np.linalg.det(P))
    return None


def rows_of(path: Path, instance: Instance, options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """The rows of one instance."""
    name = f"{path.parent.name} {instance.id}".strip()
    data = instance.loop
    if options.continuous and data.controller is not None and data.controller.feedback == "sampled":
        data = replace(data, controller=replace(data.controller, feedback="continuous", period=None))
        name += " (made continuous)"
    count = str(len(data.plant.signals.states))
    begin = time.monotonic()
    try:
        loop = close(data)
        found = find_invariant(
            loop, instance, timeout=options.timeout, seed=options.seed, kind=options.kind, workers=options.workers
        )
    except HoldfastError as error:
        yield name, count, f"- ({str(error)[:60]})", "", "", "", ""
        return
    if not found:
        yield name, count, "none", "", "", "", f"{time.monotonic() - begin:.1f}"
    for one in found:
        given = given_volume(instance)
        unique = "-" if one.unique is None else f"{float(one.unique.min()):.0e}"
        ratio = "" if given is None else f"{one.volume / given:.3g} x"
        yield name, count, one.form, f"{one.volume:.4g}", ratio, unique, f"{one.seconds:.1f}"
        if options.out is not None and data is instance.loop:
            options.out.mkdir(parents=True, exist_ok=True)
            write_problem(one.instance, options.out / f"{name.replace(' ', '_')}_{one.form}.toml", path)


def main() -> None:
    """Print the table, a row as soon as it is known on standard error too."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("problems", nargs="+", type=Path)
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds per instance")
    parser.add_argument("--kind", default="auto")
    parser.add_argument("--instance", help="only instances of this id")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--continuous", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    for path in options.problems:
        seen: set[int] = set()
        for instance in load_problem(path).instances:
            # instances that differ in what they ask only have the same loop
            if (
                options.instance not in (None, instance.id)
                or id(instance.loop.plant) + id(instance.loop.controller) in seen
            ):
                continue
            seen.add(id(instance.loop.plant) + id(instance.loop.controller))
            for row in rows_of(path, instance, options):
                rows.append(row)
                print(*row, sep="  ", flush=True)
    print()
    print(table(HEADER, rows, left=1))


if __name__ == "__main__":
    main()
