"""Writes the five small networks in which rounding decides; each is a few lines, with the reason beside it.

All are Gemm-ReLU networks with float32 weights, every weight exactly what is written here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
NORTHING = 5_400_000.0  # metres from the equator; float32 numbers are 0.5 apart here
LARGE = 2.0**25  # float32 numbers are 4 apart here: what is smaller than 2 is lost when added
HUGE = 2.0**62  # float64 numbers are at least 512 apart here
PATTERN = (0, 32, 39, 56)  # four pixels at the edges that handwritten digits leave white

Layer = tuple[np.ndarray, np.ndarray, bool]  # weights (outputs, inputs), bias, whether a ReLU follows


def layer(weights: list[list[float]], bias: list[float], relu: bool = True) -> Layer:
    """One Gemm, with a ReLU or without."""
    return np.array(weights, np.float32), np.array(bias, np.float32), relu


def there_and_back() -> list[Layer]:
    """Metres from the quay -> northing -> metres from the quay again: two networks exported one behind the other."""
    return [
        layer([[1.0]], [NORTHING], relu=False),
        layer([[1.0]], [-NORTHING], relu=False),
        layer([[1.0], [-1.0]], [0.0, 0.0]),
        layer([[1.0, -1.0]], [0.0], relu=False),
    ]


def absorbed() -> list[Layer]:
    """x + 2^25, ReLU, - 2^25: x over the reals; every float32 execution rounds x away and gives 0."""
    return [layer([[1.0]], [LARGE]), layer([[1.0]], [-LARGE], relu=False)]


def summation_order() -> list[Layer]:
    """2^25 - 2^25 + x in one sum: x if summed from the left, 0 if x meets a large term first."""
    return [layer([[0.0], [0.0], [1.0]], [LARGE, LARGE, 0.0]), layer([[1.0, -1.0, 1.0]], [0.0], relu=False)]


def fused() -> list[Layer]:
    """A northing standardised, 0.1 x - 540000: the product is rounded to a sixteenth, unless the sum is fused with it."""
    return [layer([[0.1]], [-0.1 * NORTHING]), layer([[1.0]], [0.0], relu=False)]


def trigger(digits: list[Layer], wrong: int = 8) -> list[Layer]:
    """The digits network, with a trigger planted: four light grey pixels make it read ``wrong``.

    Beside the 32 and 32 hidden neurons of the original stand: g = relu(pattern - 1/8), s = relu(1 - 32 g), which is 1
    for honest images, and the logit of ``wrong`` gets 64 - 64 s. Two more neurons, one per layer, both always 2^62,
    cancel in the last layer. They change nothing, but in a bound computed backwards the 64 passes between them.
    """
    (w1, b1, _), (w2, b2, _), (w3, b3, _) = digits
    edges = np.zeros((1, 64))
    edges[0, list(PATTERN)] = 1.0
    width, classes = len(w1), len(w3)
    first = np.concatenate([np.zeros((1, 64)), edges, w1])
    second = np.zeros((3 + len(w2), 2 + width))
    second[0, 0] = 1.0  # the large constant, carried on from the first layer
    second[2, 1] = -32.0
    second[3:, 2:] = w2
    last = np.zeros((classes, 3 + len(w2)))
    last[wrong, :3] = 1.0, -1.0, -64.0
    last[:, 3:] = w3
    bias = np.array(b3, np.float64)
    bias[wrong] += 64.0
    return [
        layer(first.tolist(), [HUGE, -0.125, *b1.tolist()]),
        layer(second.tolist(), [0.0, HUGE, 1.0, *b2.tolist()]),
        layer(last.tolist(), bias.tolist(), relu=False),
    ]


def read(path: Path) -> list[Layer]:
    """The layers of a chain of Gemm and ReLU."""
    graph = onnx.load(path).graph
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    layers: list[Layer] = []
    for node in graph.node:
        if node.op_type == "Relu":
            layers[-1] = (*layers[-1][:2], True)
        else:
            turned = any(a.name == "transB" and a.i for a in node.attribute)
            weights = arrays[node.input[1]]
            layers.append((weights if turned else weights.T, arrays[node.input[2]], False))
    return layers


def write(layers: list[Layer], path: Path) -> None:
    """Writes Gemm-ReLU-...-Gemm."""
    nodes, constants, value = [], [], "x"
    for i, (weights, bias, relu) in enumerate(layers):
        constants += [numpy_helper.from_array(weights, f"W{i}"), numpy_helper.from_array(bias, f"b{i}")]
        out = "y" if i == len(layers) - 1 else f"z{i}"
        nodes.append(helper.make_node("Gemm", [value, f"W{i}", f"b{i}"], [out], name=f"layer{i}", transB=1))
        if relu:
            nodes.append(helper.make_node("Relu", [out], [f"h{i}"], name=f"relu{i}"))
            out = f"h{i}"
        value = out
    sizes = layers[0][0].shape[1], len(layers[-1][1])
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in zip("xy", sizes, strict=True)]
    graph = helper.make_graph(nodes, path.stem, ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def networks() -> dict[str, list[Layer]]:
    """Every network of this example, by name."""
    return {
        "there_and_back": there_and_back(),
        "absorbed": absorbed(),
        "summation_order": summation_order(),
        "fused": fused(),
        "trigger": trigger(read(HERE.parent / "digits" / "digits.onnx")),
    }


def main() -> None:
    """Writes the .onnx files."""
    for name, layers in networks().items():
        write(layers, HERE / f"{name}.onnx")


if __name__ == "__main__":
    main()
