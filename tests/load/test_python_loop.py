"""Closed loops given in Python: the same as the problem file that they write, and what is refused."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from holdfast.errors import HoldfastError, InputError
from holdfast.graph import Model
from holdfast.load.function import load_function
from holdfast.load.problem import load_problem
from holdfast.load.problem_writing import write_problem
from holdfast.load.python_loop import Loop
from holdfast.transforms.evaluate import evaluate

WEIGHT = np.array([[1.0, -2.0]])
NETWORK = load_function(lambda x: jnp.tanh(WEIGHT @ x), {"x": 2}, name="controller")


def pendulum(x: Any, u: Any, w: Any, p: Any) -> Any:
    m, length, g = p[0], p[1], p[2]
    return jnp.array([x[1], g / length * jnp.sin(x[0]) + (u[0] + w[0]) / (m * length**2)])


SETTING: dict[str, Any] = {
    "states": ["th", "om"], "inputs": ["T"], "disturbances": {"w": (-0.25, "0.1")},
    "parameters": {"m": ("0.9", "1.1"), "l": "0.5", "g": 10},
}  # fmt: skip


def values(model: Model, *numbers: float) -> list[float]:
    found = evaluate(model.graph, model.parameters, [np.array(numbers)])
    return np.asarray(found[model.graph.outputs[0]]).tolist()


def test_the_plant_has_the_values_of_the_function() -> None:
    plant = Loop(pendulum, NETWORK, **SETTING).loop.plant
    assert plant.signals.names == ("th", "om", "T", "m", "w")  # the numbers l and g are part of the formulas
    assert plant.kind == "ode" and plant.domain is None
    assert plant.parameters.exact_lower(0) == Fraction(9, 10) and plant.disturbances.exact_upper(0) == Fraction(1, 10)
    expected = [0.3, 10 / 0.5 * math.sin(0.2) + (0.7 + 0.05) / (1.05 * 0.25)]
    np.testing.assert_allclose(values(plant.dynamics, 0.2, 0.3, 0.7, 1.05, 0.05), expected, 1e-13)


def test_decimal_numbers_are_decimals_and_floats_are_floats() -> None:
    document = Loop(pendulum, NETWORK, **SETTING).document
    assert document["plant"]["parameters"] == {"m": [Decimal("0.9"), Decimal("1.1")], "l": Decimal("0.5"), "g": 10}
    loop = Loop(lambda x, u, w, p: p[0] * x, states=["x"], parameters={"a": 0.1, "b": Fraction(1, 8)})
    written = loop.document["plant"]["parameters"]
    assert Fraction(written["a"]) == Fraction(0.1) != Fraction(1, 10) and written["b"] == Decimal("0.125")


def test_the_controller_by_default_reads_all_states_and_drives_all_inputs() -> None:
    loop = Loop(pendulum, NETWORK, **SETTING)
    controller = loop.loop.controller
    assert controller is not None and controller.plant_inputs is not None
    assert controller.feedback == "continuous" and controller.period is None and controller.networks == (NETWORK,)
    assert loop.document["controller"] == {
        "network": "controller.onnx", "feedback": "continuous", "network_inputs": ["th", "om"], "plant_inputs": {"T": "y0"},
    }  # fmt: skip
    assert values(controller.network_inputs, 1.0, 2.0, 0.0, 0.0, 0.0) == [1.0, 2.0]
    assert values(controller.plant_inputs, 1.0, 2.0, 0.0, 0.0, 0.0, 7.0) == [7.0]


def test_formulas_around_the_network_and_limits() -> None:
    loop = Loop(
        pendulum, NETWORK, feedback="sampled", period="0.05", saturate={"T": (-2, 2)},
        network_inputs=lambda x, p: [jnp.sin(x[0]) * p[1], jnp.sin(x[0]) + x[1]],
        plant_inputs=lambda y, x: 3 * y - x[1], **SETTING,
    )  # fmt: skip
    controller = loop.loop.controller
    assert controller is not None and controller.plant_inputs is not None and controller.period == Fraction(1, 20)
    found = values(controller.network_inputs, 1.0, 2.0, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(found, [math.sin(1) / 2, math.sin(1) + 2], 1e-15)
    assert values(controller.plant_inputs, 1.0, 2.0, 0.0, 0.0, 0.0, 1.0) == [1.0]
    assert values(controller.plant_inputs, 1.0, 2.0, 0.0, 0.0, 0.0, 9.0) == [2.0]
    assert loop.document["controller"]["plant_inputs"] == {"T": "3*y0 - om"}


def test_a_map_with_an_onnx_file(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr("holdfast.load.python_loop.load_model", lambda path: read.append(path) or NETWORK)
    loop = Loop(lambda x, u: x + u, "net.onnx", kind="map", states=["a", "b"], inputs=["u", "v"],
                plant_inputs=lambda y: [y[0], 0.0], domain={"a": (-1, 1)})  # fmt: skip
    assert read == [Path("net.onnx")] and loop.document["controller"]["network"] == "net.onnx"
    assert loop.document["plant"]["next"] == {"a": "a + u", "b": "b + v"}
    assert loop.loop.plant.kind == "map" and loop.loop.plant.bounded == (True, False)
    controller = loop.loop.controller
    assert controller is not None and controller.feedback == "step"


def test_the_document_is_a_problem_file(tmp_path: Path) -> None:
    def oscillator(x: Any, u: Any, w: Any, p: Any) -> Any:
        s = jnp.sin(x[0]) / 3
        return [x[1], 0.1 * s - p[0] * jnp.clip(x[1], -1, 1) * s + w[0]]

    loop = Loop(oscillator, states=["a", "b"], disturbances={"w": (-0.1, 0.1)}, parameters={"c": "0.3"})
    write_problem(loop, tmp_path / "problem.toml")
    (instance,) = load_problem(tmp_path / "problem.toml").instances
    read, built = instance.loop.plant, loop.loop.plant
    assert read.signals == built.signals and read.dynamics.graph == built.dynamics.graph
    assert [p.tolist() for p in read.dynamics.parameters.values()] == [
        p.tolist() for p in built.dynamics.parameters.values()
    ]
    assert read.disturbances.exact_upper(0) == Fraction(0.1)


def test_many_scalars_become_few_vectors() -> None:
    def chain(x: Any) -> Any:
        return [x[i + 1] - jnp.sin(x[i]) if i < 19 else -jnp.sin(x[i]) for i in range(20)]

    plant = Loop(chain, states=[f"x{i}" for i in range(20)]).loop.plant
    assert sum(node.op == "sin" for node in plant.dynamics.graph.nodes) == 1 and len(plant.dynamics.graph) < 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"states": ["th", "sin"]}, "'sin' cannot be a name"),
        ({"states": ["th", "T"]}, "the name T is given twice"),
        ({"states": "th"}, "a list of names"),
        ({"states": ["th"]}, "gives 2 numbers; accepted are 1 derivatives"),
        ({"parameters": {"m": 1, "l": math.nan, "g": 1}}, "parameters l is nan"),
        ({"parameters": {"m": 1, "l": "1/3", "g": 1}}, "parameters l is '1/3'"),
        ({"parameters": {"m": 1, "l": True, "g": 1}}, "parameters l is True"),
        ({"disturbances": {"w": (1, 0)}}, "interval is empty"),
        ({"domain": {"z": (0, 1)}}, "unknown state z"),
        ({"saturate": {"z": (0, 1)}}, "unknown input z"),
        ({"feedback": "sampled"}, "period is missing"),
        ({"period": 0.1}, "continuous feedback has no period"),
        ({"kind": "flow"}, "found 'flow'"),
        ({"network_inputs": lambda x: x[:1]}, "found 1 formulas, the network takes 2"),
        ({"plant_inputs": lambda y: [y[0], y[0]]}, "gives 2 numbers; accepted are 1 inputs"),
        ({"plant_inputs": lambda: 1}, "takes 0 arguments"),
        ({"plant_inputs": 3}, "accepted is a Python function"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Loop(pendulum, NETWORK, **(SETTING | changes))


def test_inputs_need_a_controller() -> None:
    with pytest.raises(HoldfastError, match="no controller"):
        Loop(pendulum, **SETTING)
