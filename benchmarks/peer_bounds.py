"""Bounds of holdfast beside those recorded from auto_LiRPA: tightness, time per call, and soundness by sampling.

Reads the folders peer_bounds and vnncomp below $HOLDFAST_BENCHMARKS and prints one table; nothing is written.
Methods: Xu et al., Automatic Perturbation Analysis for Scalable Certified Robustness, NeurIPS 2020 (IBP, CROWN);
Xu et al., Fast and Complete, ICLR 2021 (optimised slopes).

Usage: python benchmarks/peer_bounds.py [--case TEXT] [--method TEXT] [--batch N] [--plain] [--repeat N]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from holdfast.bounds.bounder import Method, bounds_of_rows, flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.graph import Model
from holdfast.load.onnx import load_model
from holdfast.rigor import FLOAT64, PLAIN
from holdfast.transforms.evaluate import evaluate

NETWORKS = {
    "acas_1_1": "vnncomp/acasxu/onnx/ACASXU_run2a_1_1_batch_2000.onnx",
    "mnist_256x4": "vnncomp/mnist_fc/onnx/mnist-net_256x4.onnx",
    "mnist_256x6": "vnncomp/mnist_fc/onnx/mnist-net_256x6.onnx",
    "oval21_cifar_base_kw": "vnncomp/oval21/onnx/cifar_base_kw.onnx",
    "eran_sigmoid_6x200": "vnncomp/eran/onnx/ffnnSIGMOID__Point_6x200.onnx",
}
METHODS: dict[str, Method] = {"IBP": "interval", "CROWN": "backward", "CROWN-Optimized": "optimised"}
RECORDS = ("bounds_lirpa_acas", "bounds_lirpa_mnist_conv_sig")
HEADER = (
    f"{'case':<31}{'batch':>6} {'method':<16}{'rows':<7}{'ours':>11}{'recorded':>11}{'looser':>8}"
    f"{'worst':>9}{'wall s':>9}{'cpu s':>9}{'peer s':>9}{'ratio':>7}  sound"
)


@dataclass(frozen=True)
class Record:
    """One recorded call: its boxes, its bounds, and the median seconds it took."""

    case: str
    batch: int
    method: str
    rows: str
    seconds: float
    low: np.ndarray
    high: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def records(folder: Path) -> list[Record]:
    """All recorded calls."""
    found = []
    for name in RECORDS:
        entries = json.loads((folder / f"{name}.json").read_text())["cases"]
        with np.load(folder / f"{name}.npz") as arrays:
            for e in entries:
                method = e["method"].split("(")[0]
                key = f"{e['case']}_b{e['batch']}"
                low, high = (arrays[f"{key}_{end}"].astype(np.float64).reshape(e["batch"], -1) for end in ("lo", "hi"))
                lower, upper = (arrays[f"{key}_{method}_{e['spec']}_{end}"] for end in ("lb", "ub"))
                found.append(Record(e["case"], e["batch"], method, e["spec"], e["wall_med_s"], low, high, lower, upper))
    return found


def network(root: Path, case: str) -> Model:
    """The network a case was recorded on."""
    path = root / next(file for prefix, file in NETWORKS.items() if case.startswith(prefix))
    return load_model(path if path.exists() else path.with_name(path.name + ".gz"))


def outputs(problem: Problem, points: np.ndarray) -> np.ndarray:
    """The network's outputs (N, m) at points (N, n)."""
    return evaluate(problem.graph, problem.parameters, [points])[problem.graph.outputs[0]].reshape(len(points), -1)


def functionals(problem: Problem, record: Record) -> np.ndarray:
    """The rows (R, m) that were bounded: the outputs, or the label's output minus each other one."""
    size = problem.graph[problem.graph.outputs[0]].shape[0]
    unit = np.eye(size)
    if record.rows == "out":
        return unit
    middle = 0.5 * record.low[0] + 0.5 * record.high[0]
    label = int(np.argmax(outputs(problem, middle[None])[0]))
    return unit[label] - np.delete(unit, label, axis=0)


def violations(problem: Problem, record: Record, rows: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> int:
    """How many of 1000 points and 200 corners of each of (at most) four boxes lie outside the bounds; no tolerance."""
    random, count = np.random.default_rng(0), 0
    for b in range(min(4, record.batch)):
        low, high = record.low[b], record.high[b]
        inside = low + random.random((1000, low.size)) * (high - low)
        corners = np.where(random.random((200, low.size)) < 0.5, low, high)
        points = np.clip(np.concatenate([inside, corners]), low, high)
        value = outputs(problem, points) @ rows.T
        count += int(((value < lower[b]) | (value > upper[b])).any(1).sum())
    return count


def compare(problem: Problem, record: Record, repeat: int) -> str:
    """One line of the table."""
    rows = functionals(problem, record)
    walls, cpus = [], []
    for k in range(repeat + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        lower, upper = bounds_of_rows(problem, record.low, record.high, rows, METHODS[record.method])
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        if k and sum(walls) > 60.0:
            break
    used = slice(1, None) if len(walls) > 1 else slice(None)  # the first call warms up
    wall, cpu = float(np.median(walls[used])), float(np.median(cpus[used]))
    ours, theirs = upper - lower, (record.upper - record.lower).astype(np.float64)
    looser = float((ours > theirs * (1 + 1e-5)).mean())
    outside = violations(problem, record, rows, lower, upper)
    return (
        f"{record.case:<31}{record.batch:>6} {record.method:<16}{record.rows:<7}{ours.mean():>11.5g}{theirs.mean():>11.5g}"
        f"{looser:>8.1%}{(ours / theirs).max():>9.4f}{wall:>9.4f}{cpu:>9.4f}{record.seconds:>9.4f}"
        f"{wall / record.seconds:>7.2f}  {'yes' if not outside else f'NO: {outside} points outside'}"
    )


def main() -> int:
    """Print the table; exit status 1 where a sampled value lies outside its bounds, 2 without the benchmarks."""
    parser = argparse.ArgumentParser(description="bounds beside those recorded from auto_LiRPA")
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument("--method", default="", help="only this method: IBP, CROWN, CROWN-Optimized")
    parser.add_argument("--rows", default="", help="only these rows: out, margin")
    parser.add_argument("--batch", type=int, help="only this batch size")
    parser.add_argument("--repeat", type=int, default=3, help="calls to take the median of")
    parser.add_argument("--plain", action="store_true", help="without error terms, for comparison")
    options = parser.parse_args()
    root = Path(os.environ.get("HOLDFAST_BENCHMARKS", ""))
    if not os.environ.get("HOLDFAST_BENCHMARKS") or not (root / "peer_bounds").is_dir():
        sys.stderr.write("peer_bounds: set HOLDFAST_BENCHMARKS to a folder that contains peer_bounds/ and vnncomp/\n")
        return 2
    problems: dict[str, Problem] = {}
    sys.stdout.write(HEADER + "\n")
    sound = True
    for record in records(root / "peer_bounds"):
        if (record.method, record.rows) == ("IBP", "margin"):
            continue  # intervals of the outputs say nothing better about their differences
        if options.case not in record.case or options.method not in ("", record.method):
            continue
        if options.batch not in (None, record.batch) or options.rows not in ("", record.rows):
            continue
        if record.case not in problems:
            problems[record.case] = flat_problem(network(root, record.case), PLAIN if options.plain else FLOAT64)
        line = compare(problems[record.case], record, options.repeat)
        sound = sound and line.endswith("yes")
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
