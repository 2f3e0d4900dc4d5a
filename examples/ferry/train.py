"""Trains the ferry's pilot: ``pilot.onnx`` (2-20-20-2, tanh): from where the ferry is to throttle and heading.

By differentiating through simulated crossings, with a current that the pilot does not know. Training promises nothing; what holds is proved
afterwards. Everything is seeded and takes seconds; the published file is the truth (another version of a linear-algebra
library may train slightly different weights).

Usage: python train.py [FOLDER]
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
WIDTH, SPEED, PERIOD, PERIODS = 60.0, 2.0, 2.0, 24  # m across, m/s at full throttle, s between two looks, how many
PIER, RADIUS = np.array([30.0, -1.0]), 4.0  # m
CURRENTS = (0.5, 1.0)  # m/s in the middle of the river


def network(layers: Any, x: Any) -> Any:
    """tanh layers and a linear one: throttle and heading."""
    for weight, bias in layers[:-1]:
        x = jnp.tanh(x @ weight + bias)
    return x @ layers[-1][0] + layers[-1][1]


def flow(x: Any, throttle: Any, heading: Any, current: Any) -> Any:
    """Over ground: the ferry's own speed, and the river's, fastest in the middle."""
    drift = current * 4 * x[..., 0] * (WIDTH - x[..., 0]) / WIDTH**2
    return jnp.stack([throttle * jnp.cos(heading), throttle * jnp.sin(heading) + drift], -1)


def crossing(layers: Any, x: Any, current: Any, parts: int = 4) -> Any:
    """Ways (PERIODS, parts, K, 2) from states (K, 2)."""

    def period(x: Any, _: Any) -> tuple[Any, Any]:
        y = network(layers, x / jnp.array([30.0, 10.0]) - jnp.array([1.0, 0.0]))
        throttle, heading = jnp.clip(y[:, 0], 0.0, SPEED), y[:, 1]

        def part(x: Any, _: Any) -> tuple[Any, Any]:
            h = PERIOD / parts
            middle = x + 0.5 * h * flow(x, throttle, heading, current)
            x = x + h * flow(middle, throttle, heading, current)
            return x, x

        return jax.lax.scan(part, x, None, length=parts)

    return jax.lax.scan(period, x, None, length=PERIODS)[1]


def cost(layers: Any, batch: Any) -> Any:
    """Far from the dock at the end, near the pier on the way, steering hard."""
    x, current = batch[:, :2], batch[:, 2]
    way = crossing(layers, x, current)
    dock = jnp.array([WIDTH, 0.0])
    late = way[-2:].reshape(-1, len(x), 2)
    missed = (jax.nn.relu(jnp.sqrt(((late - dock) ** 2).sum(-1) + 0.01) - 0.5) ** 2).mean()
    away = jnp.sqrt(((way - PIER) ** 2).sum(-1))
    near = (jax.nn.relu(RADIUS + 3.0 - away) ** 2).mean() * 6
    aground = (jax.nn.relu(-way[..., 0] - 0.5) + jax.nn.relu(way[..., 0] - WIDTH - 1)).mean() * 5
    size = sum((w**2).sum() for w, _ in layers)
    return missed + near + aground + 0.03 * size


def train(rng: np.random.Generator, steps: int = 1500, rate: float = 0.01) -> Any:
    """Adam with a rate that goes down to zero."""
    sizes = (2, 20, 20, 2)
    layers = [(rng.normal(size=(a, b)) / np.sqrt(a), np.zeros(b)) for a, b in pairwise(sizes)]
    layers[-1] = (0.1 * layers[-1][0], np.array([1.5, 0.0]))
    low, high = [-1.0, -5.0, CURRENTS[0]], [5.0, 5.0, CURRENTS[1]]
    batches = rng.uniform(low, high, (steps, 64, 3))

    def step(now: Any, following: Any) -> tuple[Any, None]:
        (x, m, v), (k, batch) = now, following
        g = jax.grad(cost)(x, batch)
        norm = jnp.sqrt(sum((a**2).sum() for a in jax.tree.leaves(g)))
        g = jax.tree.map(lambda a: a * jnp.minimum(1.0, 1.0 / norm), g)
        m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
        size = rate * 0.5 * (1 + jnp.cos(jnp.pi * k / steps))

        def moved(a: Any, b: Any, c: Any) -> Any:
            return a - size * (b / (1 - 0.9 ** (k + 1))) / (jnp.sqrt(c / (1 - 0.999 ** (k + 1))) + 1e-8)

        return (jax.tree.map(moved, x, m, v), m, v), None

    x = jax.tree.map(jnp.asarray, layers)
    zero = jax.tree.map(jnp.zeros_like, x)
    following = (jnp.arange(steps, dtype=jnp.float32), jnp.asarray(batches))
    (x, _, _), _ = jax.jit(lambda a, b: jax.lax.scan(step, a, b))((x, zero, zero), following)
    return jax.tree.map(np.asarray, x)


def export(layers: Any, path: Path) -> None:
    """Writes Gemm-Tanh-...-Gemm."""
    nodes, constants, value = [], [], "place"
    for i, (weight, bias) in enumerate(layers):
        constants.append(numpy_helper.from_array(np.asarray(weight, np.float32), f"W{i}"))
        constants.append(numpy_helper.from_array(np.asarray(bias, np.float32), f"b{i}"))
        last = i == len(layers) - 1
        out = "command" if last else f"z{i}"
        nodes.append(helper.make_node("Gemm", [value, f"W{i}", f"b{i}"], [out], name=f"layer{i}"))
        if not last:
            nodes.append(helper.make_node("Tanh", [out], [f"h{i}"], name=f"tanh{i}"))
        value = f"h{i}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("place", "command")]
    graph = helper.make_graph(nodes, path.stem, ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def main(folder: Path) -> None:
    """The network, and what simulation says about it."""
    jax.config.update("jax_platforms", "cpu")
    rng = np.random.default_rng(0)
    layers = train(rng)
    export(layers, folder / "pilot.onnx")
    starts = rng.uniform([0.0, -2.0, 0.7], [3.0, 2.0, 0.9], (1000, 3))
    way = np.asarray(crossing(layers, jnp.asarray(starts[:, :2]), jnp.asarray(starts[:, 2])))
    end, away = way[-1, -1], np.hypot(*(way - PIER).T).T
    print(
        f"pilot.onnx written; simulated ferries end between {end.min(0).round(1)} and {end.max(0).round(1)} (dock at {WIDTH:g}, 0)"
        f" and pass the pier at {away.min() - RADIUS:.1f} m"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
