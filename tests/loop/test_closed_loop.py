"""Plant and controller as one graph: its values, its names, the functions on it, and what has no right side."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from holdfast.errors import InputError
from holdfast.graph import Model
from holdfast.load.function import load_function
from holdfast.load.problem import load_problem
from holdfast.load.python_loop import Loop
from holdfast.loop import close
from holdfast.loop.closed_loop import controller_model
from holdfast.spec.plant import Function, LoopData, Signals
from holdfast.transforms.evaluate import evaluate

WEIGHT = np.array([[1.0, -2.0], [0.5, 0.25]])
NETWORK = load_function(lambda x: jnp.tanh(jnp.asarray(WEIGHT) @ x), {"x": 2}, name="controller")


def plant(x: Any, u: Any, w: Any, p: Any) -> Any:
    return jnp.array([x[1] * p[0] + w[0], jnp.sin(x[0]) + u[0] - p[1] * u[1] * w[1]])


def loop(**settings: Any) -> LoopData:
    given = {
        "states": ["a", "b"], "inputs": ["u1", "u2"], "disturbances": {"w1": (-1, 1), "w2": (0, "0.1")},
        "parameters": {"p": (1, 2), "q": ("0.1", "0.3")}, "plant_inputs": lambda y, x: jnp.array([2 * y[0] + x[1], y[1]]),
        "network_inputs": lambda x, p, w: jnp.array([x[0] + w[1], x[1] * p[1]]), "saturate": {"u2": ("-0.25", "0.25")},
    }  # fmt: skip
    return Loop(plant, NETWORK, **(given | settings)).loop


def values(model: Model, v: np.ndarray) -> np.ndarray:
    return np.asarray(evaluate(model.graph, model.parameters, [v])[model.graph.outputs[0]])


def by_hand(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and right side at (a, b, w1, w2, p, q)."""
    a, b, w1, w2, p, q = v.T
    y = np.tanh(np.stack([a + w2, b * q], 1) @ WEIGHT.T)
    u = np.stack([2 * y[:, 0] + b, np.clip(y[:, 1], -0.25, 0.25)], 1)
    return u, np.stack([b * p + w1, np.sin(a) + u[:, 0] - q * u[:, 1] * w2], 1)


def test_values_of_the_loop_and_of_its_controller() -> None:
    data = loop()
    closed = close(data)
    assert closed.kind == "ode" and closed.variables == ("a", "b", "w1", "w2", "p", "q") and closed.singular is None
    assert [closed.others.exact_lower(i) for i in range(4)] == [-1, 0, 1, Fraction("0.1")]
    v = np.random.default_rng(0).normal(size=(200, 6))
    u, f = by_hand(v)
    np.testing.assert_allclose(values(closed.dynamics, v), f, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(values(controller_model(data), v), u, rtol=1e-12, atol=1e-12)


def test_a_plant_without_controller_is_a_loop_of_its_own() -> None:
    data = Loop(lambda x: jnp.array([0.5 * x[0] - x[1], x[0]]), kind="map", states=["a", "b"]).loop
    closed = close(data)
    assert closed.kind == "map" and closed.variables == ("a", "b") and len(closed.others) == 0
    np.testing.assert_allclose(values(closed.dynamics, np.array([1.0, 0.25])), [0.25, 1.0])


def test_functions_of_the_states_lose_their_outer_sigmoid() -> None:
    data = loop()
    width = len(data.plant.signals)

    def value(s: Any) -> Any:
        return jnp.array([3 * s[0] - s[1]])

    plain = load_function(value, {"s": width}, name="value")
    network = load_function(lambda z: jax.nn.sigmoid(z), {"z": 1}, name="V")
    data = replace(data, functions={"W": Function("W", plain), "V": Function("V", plain, network, plain)})
    closed = close(data)
    states = np.random.default_rng(1).normal(size=(50, 2))
    model, stripped = closed.function("W")
    assert not stripped and closed.function("W")[0] is model
    np.testing.assert_allclose(values(model, states), 3 * states[:, :1] - states[:, 1:], rtol=1e-13)
    ends_in_sigmoid = network.graph[network.graph.outputs[0]].op in ("sigmoid", "reshape")
    assert closed.function("V")[1] == ends_in_sigmoid
    if ends_in_sigmoid:
        np.testing.assert_allclose(
            values(closed.function("V")[0], states), 3 * states[:, :1] - states[:, 1:], rtol=1e-12
        )


def test_the_determinant_of_a_mass_matrix_comes_along(tmp_path: Path) -> None:
    text = """
format = "holdfast-problem/1"
title = "Two masses"
[plant]
kind = "implicit-ode"
states = ["x", "v", "w"]
derivative = { x = "v" }
accelerations = ["v", "w"]
mass = [["2", "x"], ["x", "1"]]
forces = ["-x", "-w"]
"""
    path = tmp_path / "problem.toml"
    path.write_text(text)
    closed = close(load_problem(path).instances[0].loop)
    assert closed.singular is not None
    v = np.array([0.5, 1.0, -1.0])
    (determinant,) = values(closed.singular, v)
    assert abs(determinant) == pytest.approx(2 - 0.25)
    expected = np.linalg.solve([[2, 0.5], [0.5, 1]], [-0.5, 1.0])
    np.testing.assert_allclose(values(closed.dynamics, v), [1.0, *expected], rtol=1e-12)


REFUSED = [
    (lambda d: replace(d, controller=replace(d.controller, select="argmax")), "[controller] select"),
    (lambda d: replace(d, controller=replace(d.controller, feedback="sampled")), "a sampled loop has no right side of its own"),
    (lambda d: replace(d, plant=replace(d.plant, signals=Signals(("a", "b"), schedule=("r",)))), "this one has r"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=["select", "sampled", "schedule"])
def test_what_has_no_single_right_side_is_refused(change: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        close(change(loop()))


def test_a_right_side_that_jumps_is_refused_and_a_map_that_jumps_is_not() -> None:
    def jumping(x: Any) -> Any:
        return jnp.array([jnp.sign(x[1]), -x[0]])

    with pytest.raises(InputError, match="the right side jumps there"):
        close(Loop(jumping, states=["a", "b"]).loop)
    assert close(Loop(jumping, kind="map", states=["a", "b"]).loop).kind == "map"
