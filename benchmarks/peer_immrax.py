"""Parallelotopes that loops never leave: holdfast beside the embedding test of immrax, on the same problem files.

    python benchmarks/peer_immrax.py DIR --python PYTHON [--timeout S] [--scales 0.5,1,2]

DIR: the folder with leader_follower and segway. PYTHON: an interpreter that has immrax (never a dependency of holdfast); without it
only our side is shown. immrax computes in float64 without outward rounding, and its first call compiles. Its test is run
twice: with the disturbances as published, and with every corner of them as a point, since the published form drops sensitivities of
one sign (`bounds refuted`: faces whose sampled flow lies outside of the bound). A size is log10(volume) per
dimension. Sets are also scaled, to see which sizes are kept.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from holdfast.api import load_problem
from holdfast.invariance.decide import decide
from holdfast.loop import close
from holdfast.report.table import table
from holdfast.spec.temporal import Instance, Polytope, Problem

PROBLEMS = ("leader_follower", "segway")
HERE = Path(__file__).resolve().parent
HEAD = (
    "problem",
    "instance",
    "expected",
    "log10 vol / dim",
    "tool",
    "answer",
    "first s",
    "cpu s",
    "again s",
    "cpu s",
    "scales kept",
    "bounds refuted",
)


def scaled(one: Instance, scale: float) -> Instance:
    """The instance with its parallelotope scaled around its center."""
    prop = one.properties[0]
    assert isinstance(prop.states, Polytope)
    by = Fraction(scale)
    ends = ([None if v is None else v * by for v in side] for side in (prop.states.lower, prop.states.upper))
    lower, upper = (tuple(side) for side in ends)
    return replace(one, properties=(replace(prop, states=replace(prop.states, lower=lower, upper=upper)),))


def size(states: Polytope) -> float:
    """log10 of the volume, per dimension."""
    H = np.array([[float(v) for v in row] for row in states.H])
    wide = [float(u - a) for a, u in zip(states.lower, states.upper, strict=True) if a is not None and u is not None]
    return (sum(map(math.log10, wide)) - float(np.linalg.slogdet(H)[1]) / math.log(10)) / len(H)


def ours(problem: Problem, one: Instance, timeout: float, scales: list[float]) -> tuple[str, ...]:
    """The cells of our row: nothing is compiled, so that the first call is like the others."""
    start = time.perf_counter(), time.process_time()
    result = decide(problem, one, timeout=timeout, workers=1)
    spent = time.perf_counter() - start[0], time.process_time() - start[1]
    kept = [
        s for s in scales if decide(problem, scaled(one, s), timeout=timeout, workers=1).verdict.value == "verified"
    ]
    return result.verdict.value, f"{spent[0]:.3f}", f"{spent[1]:.3f}", "", "", listed(kept), ""


def listed(scales: list[float]) -> str:
    """Scales as text."""
    return " ".join(f"{s:g}" for s in scales) or "none"


def question(folder: Path, name: str, one: Instance, disturbances: str, scales: list[float]) -> dict[str, Any]:
    """What the other side is asked."""
    states, loop = one.properties[0].states, close(one.loop)
    assert isinstance(states, Polytope)
    graph = onnx.load(str(folder / name / one.document["controller"]["network"])).graph
    stored = {tensor.name: numpy_helper.to_array(tensor).astype(float) for tensor in graph.initializer}
    layers = [
        (stored[node.input[1]].tolist(), stored[node.input[2]].tolist())
        for node in graph.node
        if node.op_type == "Gemm"
    ]
    low, high = loop.others.lower, loop.others.upper
    if name == "segway" and not len(low):  # numbers instead of intervals
        low = high = np.array(
            [float(one.document["plant"]["parameters"][k]) for k in one.document["plant"]["parameters"]]
        )
    return {
        "problem": name, "layers": layers, "disturbances": disturbances, "scales": [1.0, *scales],
        "H": [[float(v) for v in row] for row in states.H], "center": [float(v) for v in states.center],
        "lower": [float(v) for v in states.lower if v is not None], "upper": [float(v) for v in states.upper if v is not None],
        "w_low": low.tolist(), "w_high": high.tolist(),
    }  # fmt: skip


def theirs(python: str, asked: dict[str, Any], scales: list[float]) -> tuple[str, ...]:
    """The cells of a row of immrax."""
    done = subprocess.run(
        [python, str(HERE / "immrax_side.py")], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    if done.returncode:
        return (f"failed: {done.stderr.strip().splitlines()[-1][:80]}", *[""] * 6)
    answer = json.loads(done.stdout)
    word = "kept" if answer["kept"]["1.0"] else "not shown"
    times = (f"{answer[key]:.3f}" for key in ("first", "first_cpu", "again", "again_cpu"))
    return (
        word,
        *times,
        listed([s for s in scales if answer["kept"][str(s)]]),
        f"{answer['wrong']['1.0']} of {2 * len(asked['H'])}",
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="", help="interpreter with immrax")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds for each of our answers")
    parser.add_argument("--scales", default="0.25,0.5,1.5,2,3")
    parser.add_argument("--filter", default="", help="only instances whose problem/instance contains this")
    options = parser.parse_args()
    scales = [float(text) for text in options.scales.split(",")]
    present = (
        bool(options.python)
        and not subprocess.run([options.python, "-c", "import immrax"], capture_output=True, check=False).returncode
    )
    if not present:
        sys.stderr.write("peer_immrax: no interpreter with immrax (--python); only our side is shown\n")
    rows: list[tuple[str, ...]] = []
    for name in PROBLEMS:
        problem = load_problem(options.folder / name / "problem.toml")
        for one in problem.instances:
            states = one.properties[0].states
            if options.filter not in f"{name}/{one.id}" or not isinstance(states, Polytope):
                continue
            common = (name, one.id, str(one.expected), f"{size(states):.3f}")
            rows.append((*common, "holdfast", *ours(problem, one, options.timeout, scales)))
            wide = bool((close(one.loop).others.lower < close(one.loop).others.upper).any())
            ways = ("halves" if name == "segway" else "whole", "corners") if wide else ("whole",)
            for way in ways if present else ():
                cells = theirs(options.python, question(options.folder, name, one, way, scales), scales)
                rows.append((*common, f"immrax, w {way}", *cells))
            for row in rows[-1 - len(ways) :]:
                sys.stderr.write(" ".join(row) + "\n")
    sys.stdout.write(table(HEAD, rows) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
