"""Trains the pendulum controller and writes ``pendulum.onnx``: 2-16-16-1, tanh, torque from angle and angular velocity.

It imitates a stabilising state-feedback law with saturation, u = clip(-(8 angle + 3 velocity), -2, 2) (units: N m, rad,
rad/s), on a box of states. Everything is seeded; the published file is the truth (another version of a linear-algebra
library may train slightly different weights).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.neural_network import MLPRegressor

HERE = Path(__file__).parent
ANGLE, VELOCITY, TORQUE = 1.0, 2.0, 2.0  # half-widths of the training box, saturation


def law(states: np.ndarray) -> np.ndarray:
    """The law to imitate; ``states`` has columns angle and angular velocity."""
    return np.clip(-(8.0 * states[..., 0] + 3.0 * states[..., 1]), -TORQUE, TORQUE)


def export(weights: list[np.ndarray], biases: list[np.ndarray], path: Path) -> None:
    """Writes Gemm-Tanh-...-Gemm."""
    nodes, constants, value = [], [], "state"
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"W{i}"))
        constants.append(numpy_helper.from_array(bias.astype(np.float32), f"b{i}"))
        last = i == len(weights) - 1
        out = "torque" if last else f"z{i}"
        nodes.append(helper.make_node("Gemm", [value, f"W{i}", f"b{i}"], [out], name=f"layer{i}"))
        if not last:
            nodes.append(helper.make_node("Tanh", [out], [f"h{i}"], name=f"tanh{i}"))
        value = f"h{i}"
    graph = helper.make_graph(
        nodes,
        "pendulum",
        [helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("torque", TensorProto.FLOAT, [1, 1])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def main() -> None:
    """Fits 2,500 states with L-BFGS."""
    rng = np.random.default_rng(0)
    states = rng.uniform([-ANGLE, -VELOCITY], [ANGLE, VELOCITY], (2500, 2))
    network = MLPRegressor(
        hidden_layer_sizes=(16, 16),
        activation="tanh",
        solver="lbfgs",
        alpha=1e-3,
        max_iter=2000,
        tol=1e-9,
        random_state=0,
    )
    network.fit(states, law(states))
    export(network.coefs_, network.intercepts_, HERE / "pendulum.onnx")
    error = np.abs(network.predict(states) - law(states))
    size = (HERE / "pendulum.onnx").stat().st_size
    print(f"largest error on the training states {error.max():.3f} N m, mean {error.mean():.4f} N m, {size} bytes")


if __name__ == "__main__":
    main()
