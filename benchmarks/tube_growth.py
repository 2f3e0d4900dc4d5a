"""What one flow tube costs, against the number of states, the width of the network and the number of periods; exponents, picture.

    python benchmarks/tube_growth.py [--timeout S] [--repeat N] [--only SERIES] [--plot FILE.png] [--csv FILE]

Processor seconds of one process, best of N, everything imported. Loops are written as problem files: chains of masses and springs,
chains of van der Pol oscillators; networks of two hidden layers of seeded random neurons whose last layer is fitted to a linear feedback.
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from holdfast.load.problem import load_problem
from holdfast.reachability.reach import reach_tube
from holdfast.reachability.simulate import horizon_of
from holdfast.report.table import table
from holdfast.spec.temporal import Instance

Activation = Literal["tanh", "relu"]
PERIOD = "0.1"
STATES = (2, 4, 8, 12, 16, 20, 24, 32, 50, 70, 100)
WIDTHS = (20, 40, 70, 100, 150, 200, 300, 400, 800, 1600)
PERIODS = (10, 20, 50, 100, 200, 500, 1000)
THIN, WIDE = 1e-3, 0.05  # half-widths of initial intervals
PANELS = {"states": "states", "width": "neurons of a hidden layer", "periods": "periods"}


@dataclass(frozen=True)
class Series:
    """``sizes`` of one quantity (``panel``); ``build`` writes the problem of one size into a folder."""

    name: str
    panel: str
    sizes: tuple[int, ...]
    build: Callable[[Path, int], Path]


@dataclass(frozen=True)
class Point:
    """``seconds``: processor time of the tube; ``reached``: share of the horizon; ``loose``: largest width at the end over that at the start."""

    series: str
    size: int
    seconds: float
    reached: float
    loose: float


def network(path: Path, width: int, gains: Sequence[float], activation: Activation, seed: int = 0) -> None:
    """An ONNX file of a network that computes about -gains @ z on |z_i| <= 1: random hidden layers, the last one fitted."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    count = len(gains)
    layers = [(rng.normal(size=(count, width)) / math.sqrt(count), 0.3 * rng.normal(size=width))]
    layers.append((rng.normal(size=(width, width)) / math.sqrt(width), 0.3 * rng.normal(size=width)))
    samples = rng.uniform(-1.0, 1.0, (max(2000, 4 * width), count))
    y = samples
    for W, b in layers:
        y = np.tanh(y @ W + b) if activation == "tanh" else np.maximum(y @ W + b, 0.0)
    A = np.concatenate([y, np.ones((len(y), 1))], axis=1)
    ridge = 1e-3 * len(y) * np.eye(width + 1)
    last = np.linalg.solve(A.T @ A + ridge, A.T @ (-samples @ np.asarray(gains)))
    last[-1] -= float(
        _forward(layers, activation, np.zeros((1, count)))[0] @ last[:-1] + last[-1]
    )  # rest stays at rest
    layers.append((last[:-1, None], last[-1:]))
    nodes, constants, name = [], [], "z"
    for i, (W, b) in enumerate(layers):
        constants += [numpy_helper.from_array(v.astype(np.float32), f"{k}{i}") for k, v in (("W", W), ("b", b))]
        nodes.append(helper.make_node("Gemm", [name, f"W{i}", f"b{i}"], [f"a{i}"]))
        name = f"a{i}"
        if i < 2:
            nodes.append(helper.make_node(activation.capitalize(), [name], [f"h{i}"]))
            name = f"h{i}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, k]) for n, k in (("z", count), (name, 1))]
    graph = helper.make_graph(nodes, "controller", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def _forward(layers: Sequence[tuple[np.ndarray, np.ndarray]], activation: Activation, y: np.ndarray) -> np.ndarray:
    for W, b in layers:
        y = np.tanh(y @ W + b) if activation == "tanh" else np.maximum(y @ W + b, 0.0)
    return y


def problem(
    folder: Path, states: Sequence[str], rates: Sequence[str], fed: Sequence[str], box: Sequence[tuple[float, float]],
    periods: int, width: int = 20, activation: Activation = "tanh",
) -> Path:  # fmt: skip
    """Writes a problem file and its network, which reads the states ``fed`` (positions and speeds in turn)."""
    network(folder / "controller.onnx", width, [1.0, 1.5] * (len(fed) // 2), activation)
    lines = [
        'format = "holdfast-problem/1"\ntitle = "growth"\n\n[plant]\nkind = "ode"',
        f"states = [{', '.join(map(_quoted, states))}]",
        'inputs = ["u"]\n\n[plant.derivative]',
        *(f"{x} = {_quoted(rate)}" for x, rate in zip(states, rates, strict=True)),
        f'\n[controller]\nnetwork = "controller.onnx"\nfeedback = "sampled"\nperiod = {PERIOD}',
        f"network_inputs = [{', '.join(map(_quoted, fed))}]",
        'plant_inputs = { u = "y0" }\n\n[initial]',
        *(f"{x} = [{low!r}, {high!r}]" for x, (low, high) in zip(states, box, strict=True)),
        f"\n[horizon]\nsteps = {periods}\n",
    ]
    path = folder / "problem.toml"
    path.write_text("\n".join(lines))
    return path


def _quoted(text: str) -> str:
    return f'"{text}"'


def springs(folder: Path, n: int, wide: int, periods: int = 10, width: int = 20, activation: Activation = "tanh") -> Path:  # fmt: skip
    """n / 2 masses between springs, damped, a wall at both ends; the force on the first one is controlled."""
    masses = n // 2
    states = [f"{kind}{i}" for i in range(masses) for kind in ("x", "v")]
    rates = []
    for i in range(masses):
        left, right = ("0" if i == 0 else f"x{i - 1}"), ("0" if i == masses - 1 else f"x{i + 1}")
        rates += [f"v{i}", f"{left} - 2*x{i} + {right} - 0.4*v{i}" + (" + u" if i == 0 else "")]
    return problem(folder, states, rates, ["x0", "v0"], _box(n, wide, 0.0), periods, width, activation)


def oscillators(folder: Path, n: int, wide: int) -> Path:
    """n / 2 van der Pol oscillators, each coupled to its neighbours; the force on the first one is controlled."""
    count = n // 2
    states = [f"{kind}{i}" for i in range(count) for kind in ("x", "v")]
    rates = []
    for i in range(count):
        near = [f"0.2*(x{j} - x{i})" for j in (i - 1, i + 1) if 0 <= j < count]
        rates += [f"v{i}", " + ".join([f"0.5*(1 - x{i}^2)*v{i} - x{i}", *near]) + (" + u" if i == 0 else "")]
    return problem(folder, states, rates, ["x0", "v0"], _box(n, wide, 0.5), 10)


def _box(n: int, wide: int, middle: float) -> list[tuple[float, float]]:
    radii = [WIDE if i < wide else THIN for i in range(n)]
    return [(middle - r, middle + r) for r in radii]


def all_series() -> list[Series]:
    """What is measured."""
    return [
        Series("springs, two wide intervals", "states", STATES, lambda d, n: springs(d, n, 2)),
        Series("springs, all wide", "states", STATES, lambda d, n: springs(d, n, n)),
        Series("oscillators, two wide intervals", "states", STATES, lambda d, n: oscillators(d, n, 2)),
        Series("oscillators, all wide", "states", STATES, lambda d, n: oscillators(d, n, n)),
        Series("tanh", "width", WIDTHS, lambda d, n: springs(d, 2, 2, width=n)),
        Series("relu", "width", WIDTHS, lambda d, n: springs(d, 2, 2, width=n, activation="relu")),
        Series("tanh, 2 states", "periods", PERIODS, lambda d, n: springs(d, 2, 2, periods=n)),
        Series("tanh, 8 states", "periods", PERIODS, lambda d, n: springs(d, 8, 2, periods=n)),
    ]  # fmt: skip


def measured(name: str, size: int, instance: Instance, timeout: float, repeat: int) -> Point:
    """One tube, best of ``repeat``."""
    assert instance.initial is not None
    best = math.inf
    for _ in range(repeat):
        begin = time.process_time()
        tube = reach_tube(instance.loop, [instance.initial], horizon_of(instance), timeout=timeout)
        best = min(best, time.process_time() - begin)
    width = tube.at(tube.end).width
    share = float(tube.end / tube.horizon)
    return Point(name, size, best, share, float(width.max() / (2 * WIDE)))


def points(series: Series, timeout: float, repeat: int) -> Iterator[Point]:
    """One size after the other, until one does not end in time."""
    for size in series.sizes:
        with tempfile.TemporaryDirectory() as folder:
            (instance,) = load_problem(series.build(Path(folder), size)).instances
            found = measured(series.name, size, instance, timeout, repeat)
        yield found
        if found.seconds > timeout:
            return


def exponent(found: Sequence[Point]) -> float:
    """The slope of the least-squares line through the logarithms, over the largest sizes (from a quarter of the largest on): there the
    cost of a step that does not depend on the size no longer hides it."""
    upper = [p for p in found if 4 * p.size >= found[-1].size]
    x, y = np.log([p.size for p in upper]), np.log([p.seconds for p in upper])
    return float(np.polyfit(x, y, 1)[0])


def draw(found: dict[str, list[Point]], chosen: Sequence[Series], path: Path) -> None:
    """Three panels, all axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text as text: a tenth of the size
    from matplotlib import pyplot

    figure, all_axes = pyplot.subplots(1, 3, figsize=(11, 3.8), layout="constrained", sharey=True)
    for axes, (panel, label) in zip(all_axes, PANELS.items(), strict=True):
        for series in chosen:
            own = found.get(series.name, [])
            if series.panel != panel or len(own) < 2:
                continue
            text = f"{series.name}: exponent {exponent(own):.1f}"
            axes.loglog([p.size for p in own], [p.seconds for p in own], "o-", ms=4, label=text)
        axes.set_xlabel(label)
        axes.grid(True, which="major", alpha=0.3)
        axes.legend(fontsize=7)
    all_axes[0].set_ylabel("processor seconds of a tube")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Prints a row as each tube is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="", help="part of the names of series")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--csv", type=Path)
    asked = parser.parse_args()
    chosen = [s for s in all_series() if asked.only in f"{s.panel}: {s.name}"]
    found: dict[str, list[Point]] = {}
    for series in chosen:
        for point in points(series, asked.timeout, asked.repeat):
            found.setdefault(series.name, []).append(point)
            print(f"{series.panel:8} {point.series:32} {point.size:5} {point.seconds:9.3f} s  reached {100 * point.reached:.0f} %  width {point.loose:.3g}", flush=True)  # fmt: skip
    print(table(("series", "against", "exponent"), [(s.name, s.panel, f"{exponent(found[s.name]):.2f}") for s in chosen if len(found[s.name]) > 1]))  # fmt: skip
    if asked.csv is not None:
        with asked.csv.open("w", newline="") as target:
            writer = csv.writer(target)
            writer.writerow(("series", "size", "seconds", "reached", "width"))
            writer.writerows([p.series, p.size, f"{p.seconds:.4f}", p.reached, p.loose] for own in found.values() for p in own)  # fmt: skip
    if asked.plot is not None:
        draw(found, chosen, asked.plot)


if __name__ == "__main__":
    main()
