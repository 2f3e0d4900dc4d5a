"""How long a proof and its check take against the number of states: the platoons of 4 to 28 vehicles (8 to 56 states).

    python benchmarks/platoon.py DIR [--timeout S] [--plot FILE.png] [--repeat N]

DIR: the folder with platoon4, platoon10, ... Their instances that are expected to be verified, one at a time, everything imported before
the clock starts; the fitted exponent p of processor seconds ~ states^p.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

from holdfast.api import load_problem
from holdfast.cli.instances import ProblemInstance
from holdfast.report.table import table
from invariance import Line, decided

HEAD = (
    "problem",
    "instance",
    "states",
    "rows of H",
    "verdict",
    "s",
    "cpu s",
    "sub-problems",
    "bytes",
    "check",
    "check s",
    "check cpu s",
)
Point = tuple[int, Line]


def exponent(points: list[Point], name: str) -> float:
    """The slope of the least-squares line through (log states, log seconds)."""
    n, seconds = (
        np.log([float(v) for v in values]) for values in zip(*((k, getattr(a, name)) for k, a in points), strict=True)
    )
    return float(np.polyfit(n, seconds, 1)[0])


def draw(points: list[Point], path: Path) -> None:
    """Processor seconds against states, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.6), layout="constrained")
    for name, word in (("cpu", "proof"), ("check_cpu", "check")):
        ordered = sorted((n, float(getattr(line, name))) for n, line in points)
        label = f"{word}, ~ states^{exponent(points, name):.2f}" if len(points) > 1 else word
        axes.loglog([n for n, _ in ordered], [s for _, s in ordered], "o-", label=label)
    axes.set(xlabel="states", ylabel="processor seconds", title="Polytopes of platoons, proved and checked")
    states = sorted({n for n, _ in points})
    axes.set_xticks(states, [str(n) for n in states])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=160)


def main() -> int:
    """Run all, print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds per instance")
    parser.add_argument("--repeat", type=int, default=1, help="the fastest of so many runs counts")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="picture file")
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    points: list[Point] = []
    files = sorted(
        options.folder.glob("platoon*/problem.toml"), key=lambda f: int(re.sub(r"\D", "", f.parent.name) or 0)
    )
    with tempfile.TemporaryDirectory() as scratch:
        for file in files:
            for one in load_problem(file).instances:
                if one.expected != "verified":
                    continue
                asked = ProblemInstance(file.parent.name, one.id, file, options.timeout)
                tries = [decided(asked, "verified", Path(scratch), options.workers) for _ in range(options.repeat)]
                line = min(tries, key=lambda a: float(a.cpu or "inf"))
                states = len(one.loop.plant.signals.states)
                height = len(getattr(one.properties[0].states, "H", ()))
                figures = (
                    line.verdict,
                    line.seconds,
                    line.cpu,
                    line.boxes,
                    line.bytes,
                    line.check,
                    line.check_s,
                    line.check_cpu,
                )
                rows.append((asked.problem, one.id, str(states), str(height), *figures))
                sys.stderr.write(" ".join(rows[-1]) + "\n")
                # of 28 vehicles this is `half`: the published set is left when it is disturbed
                w = one.loop.plant.disturbances
                disturbed = bool((w.lower < w.upper).any())
                if line.verdict == "verified" and line.check == "valid" and disturbed:
                    points.append((states, line))
    sys.stdout.write(table(HEAD, rows) + "\n")
    if len(points) > 1:
        fitted = ", ".join(
            f"{word} ~ states^{exponent(points, name):.2f}" for name, word in (("cpu", "proof"), ("check_cpu", "check"))
        )
        sys.stdout.write(f"processor seconds, disturbed instances: {fitted}\n")
    if options.plot is not None and points:
        draw(points, options.plot)
    return int(any(row[4] != "verified" or row[9] != "valid" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
