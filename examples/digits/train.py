"""Trains the digits classifier and writes ``digits.onnx``: 64-32-32-10, ReLU, pixels scaled to [0, 1].

Data: the 1,797 8 x 8 images bundled with scikit-learn. Everything is seeded; the published file is the truth (another
version of a linear-algebra library may train slightly different weights).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = Path(__file__).parent


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images, test images, training labels, test labels; pixels are multiples of 1/16 in [0, 1]."""
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images / 16.0, labels, test_size=0.25, random_state=0, stratify=labels)
    return split[0], split[1], split[2], split[3]


def export(weights: list[np.ndarray], biases: list[np.ndarray], path: Path) -> None:
    """Writes Gemm-ReLU-...-Gemm; the logits are the output (softmax keeps their order)."""
    nodes, constants, value = [], [], "pixels"
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"W{i}"))
        constants.append(numpy_helper.from_array(bias.astype(np.float32), f"b{i}"))
        last = i == len(weights) - 1
        out = "logits" if last else f"z{i}"
        nodes.append(helper.make_node("Gemm", [value, f"W{i}", f"b{i}"], [out], name=f"layer{i}"))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"h{i}"], name=f"relu{i}"))
        value = f"h{i}"
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, weights[0].shape[0]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, weights[-1].shape[1]])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def main() -> None:
    """Trains with weight decay and noisy copies of the images, which makes room for proofs around test images."""
    train_x, test_x, train_y, test_y = data()
    noise = np.random.default_rng(0)
    copies = [np.clip(train_x + noise.uniform(-0.1, 0.1, train_x.shape), 0.0, 1.0) for _ in range(3)]
    classifier = MLPClassifier(
        hidden_layer_sizes=(32, 32), alpha=0.05, learning_rate_init=0.003, max_iter=60, random_state=0
    )
    classifier.fit(np.concatenate([train_x, *copies]), np.tile(train_y, 4))
    export(classifier.coefs_, classifier.intercepts_, HERE / "digits.onnx")
    print(f"test accuracy {classifier.score(test_x, test_y):.4f}, {(HERE / 'digits.onnx').stat().st_size} bytes")


if __name__ == "__main__":
    main()
