"""Trains the balancing controller and a Lyapunov network: ``controller.onnx`` (2-16-16-1) and ``V.onnx`` (2-20-20-1, sigmoid).

A pole of half a metre stands on a motor that is too weak to lift it from everywhere. The controller is trained by
differentiating through simulations. The Lyapunov network then learns how far each state is from upright, measured by the
way that is left (a solution of Zubov's equation), and to decrease along the way. Neither is trusted: what holds is proved
afterwards. Everything is seeded and takes seconds; the published files are the truth (another version of a linear-algebra
library may train slightly different weights).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
GRAVITY, LENGTH, FRICTION, TORQUE = 9.81, 0.5, 0.02, 0.6  # SI units; TORQUE: what the motor can do
MASSES, PUSH = (0.19, 0.2, 0.21), 0.05  # kg: lightest, middle, heaviest; N m: a disturbance, at most
ANGLE, RATE = 1.2, 4.0  # half-widths of the domain: rad, rad/s
LAYERS = list[tuple[Any, Any]]


def flow(state: Any, torque: Any, array: Any = np, mass: float = MASSES[1]) -> Any:
    """The pole: derivatives of angle (from upright) and rate."""
    angle, rate = state[..., 0], state[..., 1]
    inertia = mass * LENGTH**2
    return array.stack([rate, GRAVITY / LENGTH * array.sin(angle) + (torque - FRICTION * rate) / inertia], -1)


def network(layers: LAYERS, x: Any, array: Any = np) -> Any:
    """tanh layers and a linear one."""
    for weight, bias in layers[:-1]:
        x = array.tanh(x @ weight + bias)
    return (x @ layers[-1][0] + layers[-1][1])[..., 0]


def closed(layers: LAYERS, state: Any, push: Any = 0.0, mass: float = MASSES[1]) -> Any:
    """The pole under its controller."""
    return flow(state, np.clip(network(layers, state), -TORQUE, TORQUE) + push, np, mass)


def drawn(sizes: tuple[int, ...], rng: np.random.Generator, bias: float) -> LAYERS:
    """Random first weights."""
    pairs = pairwise(sizes)
    return [(rng.normal(size=(a, b)) / np.sqrt(a), bias * rng.normal(size=b)) for a, b in pairs]


def minimise(loss: Callable[[Any, Any], Any], start: Any, batches: Any, rate: float) -> Any:
    """Adam with a rate that goes down to zero, one step for each of the ``batches``."""

    steps = len(batches)

    def step(now: Any, following: Any) -> tuple[Any, None]:
        (x, m, v), (k, batch) = now, following
        g = jax.grad(loss)(x, batch)
        m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
        size = rate * 0.5 * (1 + jnp.cos(jnp.pi * k / steps))

        def moved(a: Any, b: Any, c: Any) -> Any:
            return a - size * (b / (1 - 0.9 ** (k + 1))) / (jnp.sqrt(c / (1 - 0.999 ** (k + 1))) + 1e-8)

        return (jax.tree.map(moved, x, m, v), m, v), None

    x = jax.tree.map(jnp.asarray, start)
    zero = jax.tree.map(jnp.zeros_like, x)
    following = (jnp.arange(steps, dtype=jnp.float32), jnp.asarray(batches))
    (x, _, _), _ = jax.jit(lambda a, b: jax.lax.scan(step, a, b))((x, zero, zero), following)
    return jax.tree.map(np.asarray, x)


def train_controller(rng: np.random.Generator) -> LAYERS:
    """From random states near those that the motor can hold: angle, rate and torque shall be small for the next 1.5 seconds.

    Without biases the network is odd, so upright needs no torque and is exactly an equilibrium.
    """

    def cost(weights: Any, states: Any) -> Any:
        layers = [(w, 0.0) for w in weights]

        def step(x: Any, _: Any) -> tuple[Any, Any]:
            torque = network(layers, x, jnp)
            held = jnp.clip(torque, -TORQUE, TORQUE)
            paid = x[:, 0] ** 2 + 0.1 * x[:, 1] ** 2 + 0.02 * torque**2
            middle = x + 0.015 * flow(x, held, jnp)
            return x + 0.03 * flow(middle, held, jnp), jnp.sqrt(paid).mean()

        return jax.lax.scan(step, states, None, length=50)[1].mean()

    weights = [w for w, _ in drawn((2, 16, 16, 1), rng, 0.0)]

    angle = rng.uniform(-0.8, 0.8, (400, 64))
    states = np.stack([angle, -4.4 * angle + rng.uniform(-2.2, 2.2, angle.shape)], -1)
    return [(w, np.zeros(w.shape[1])) for w in minimise(cost, weights, states, 0.02)]


def way_left(layers: LAYERS, states: np.ndarray, step: float = 0.015, steps: int = 400) -> np.ndarray:
    """The integral of |(angle, rate / 4)| along the way of the heaviest pole, always pushed away from upright; infinite
    where it leaves the domain."""

    def moving(x: np.ndarray) -> np.ndarray:
        return closed(layers, x, PUSH * np.tanh(8 * (4.4 * x[:, 0] + x[:, 1])), MASSES[-1])

    x, total = states.copy(), np.zeros(len(states))
    for _ in range(steps):
        total += step * np.where(np.isfinite(total), np.hypot(x[:, 0], x[:, 1] / 4), 0.0)
        x = x + step * moving(x + 0.5 * step * moving(x))
        gone = (abs(x) > [ANGLE, RATE]).any(1)
        total[gone], x[gone] = np.inf, 0.0
    return total


def train_function(layers: LAYERS, rng: np.random.Generator) -> LAYERS:
    """sigmoid(network) ~ 1 - exp(-2 way left): 0 upright, 1 where the pole is lost, decreasing for all masses and pushes."""
    states = rng.uniform([-ANGLE, -RATE], [ANGLE, RATE], (12000, 2))
    goal = 1 - np.exp(-2 * way_left(layers, states))
    ways = np.stack([closed(layers, states, push, mass) for push in (-PUSH, PUSH) for mass in (MASSES[0], MASSES[-1])])

    def loss(function: Any, at: Any) -> Any:
        x, wanted, dx = states_[at], goal_[at], ways_[:, at]
        value, back = jax.vjp(lambda z: network(function, z, jnp), x)
        change = (
            (back(jnp.ones_like(value))[0] * dx).sum(-1).max(0)
        )  # the rate is linear in push and 1 / mass: corners are enough
        fit = -(wanted * jax.nn.log_sigmoid(value) + (1 - wanted) * jax.nn.log_sigmoid(-value)).mean()
        falls = jnp.where((wanted < 0.99) & (wanted > 0.1), jax.nn.relu(change + 0.5), 0.0).mean()
        return fit + falls

    states_, goal_, ways_ = (jnp.asarray(v) for v in (states, goal, ways))
    return minimise(loss, drawn((2, 20, 20, 1), rng, 0.5), rng.integers(0, len(states), (2000, 512)), 0.02)


def export(layers: LAYERS, names: tuple[str, str], sigmoid: bool, path: Path) -> None:
    """Writes Gemm-Tanh-...-Gemm, and Sigmoid if asked for."""
    nodes, constants, value = [], [], names[0]
    for i, (weight, bias) in enumerate(layers):
        constants.append(numpy_helper.from_array(np.asarray(weight, np.float32), f"W{i}"))
        constants.append(numpy_helper.from_array(np.asarray(bias, np.float32), f"b{i}"))
        last = i == len(layers) - 1
        out = names[1] if last and not sigmoid else f"z{i}"
        nodes.append(helper.make_node("Gemm", [value, f"W{i}", f"b{i}"], [out], name=f"layer{i}"))
        if not last:
            nodes.append(helper.make_node("Tanh", [out], [f"h{i}"], name=f"tanh{i}"))
        value = f"h{i}"
    if sigmoid:
        nodes.append(helper.make_node("Sigmoid", [f"z{len(layers) - 1}"], [names[1]], name="sigmoid"))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", k]) for name, k in zip(names, (2, 1), strict=True)
    ]
    graph = helper.make_graph(nodes, path.stem, ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def main(folder: Path) -> None:
    """Both networks, and what simulation says about them."""
    jax.config.update("jax_platforms", "cpu")
    rng = np.random.default_rng(0)
    layers = train_controller(rng)
    export(layers, ("state", "torque"), False, folder / "controller.onnx")
    function = train_function(layers, rng)
    export(function, ("state", "V"), True, folder / "V.onnx")
    states = rng.uniform([-ANGLE, -RATE], [ANGLE, RATE], (4000, 2))
    caught = np.isfinite(way_left(layers, states)).mean()
    print(
        f"controller.onnx and V.onnx written; in simulations the motor catches the pole from {caught:.0%} of the domain"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
