"""Operators with random shapes and settings: what is read computes what onnxruntime computes; what is not is refused."""

import random

import numpy as np
import pytest
from evaluation import agrees, loaded, model, replayed

from holdfast_check.arithmetic import Unreadable

INT = np.int64


def one(operator, inputs, constants, **attributes):
    return model([(operator, [*inputs, *constants], ["y"], attributes)], inputs, constants)


def windows(rng, operator):
    """Convolutions and pools."""
    rank, group = rng.choice([1, 2]), rng.choice([1, 1, 2])
    kernel, attributes = [rng.randint(1, 3) for _ in range(rank)], {}
    if rng.random() < 0.7:
        attributes["strides"] = [rng.randint(1, 3) for _ in range(rank)]
    if rng.random() < 0.5:
        attributes["pads"] = [rng.randint(0, 2) for _ in range(2 * rank)]
    elif rng.random() < 0.4:
        attributes["auto_pad"] = rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])
    if rng.random() < 0.4 and operator != "AveragePool":
        attributes["dilations"] = [rng.randint(1, 2) for _ in range(rank)]
    if operator == "AveragePool":
        attributes["count_include_pad"] = rng.randint(0, 1)
    inside, outside, constants = group * rng.randint(1, 2), group * rng.randint(1, 2), {}
    if operator == "Conv":
        shape = (outside, inside // group)
        constants["w"] = np.random.default_rng(rng.randrange(999)).normal(size=(*shape, *kernel)).astype(np.float32)
        attributes["group"] = group
    else:
        attributes["kernel_shape"] = kernel
    return one(operator, {"x": [1, inside, *(rng.randint(3, 7) for _ in range(rank))]}, constants, **attributes)


def slices(rng, operator):
    shape = [rng.randint(1, 6) for _ in range(3)]
    axes = rng.sample([0, 1, 2], rng.randint(1, 3))
    steps = [rng.choice([-3, -2, -1, 1, 2, 3]) for _ in axes]
    starts, ends = [rng.randint(-8, 8) for _ in axes], [rng.choice([rng.randint(-8, 8), 2**62, -(2**62)]) for _ in axes]
    columns = {"s": starts, "e": ends, "a": axes, "t": steps}
    return one(operator, {"x": shape}, {name: np.array(c, INT) for name, c in columns.items()})


def products(rng, operator):
    shapes = [
        [*rng.choice([[], [2], [3, 2], [1, 2]]), rng.randint(1, 3), 4],
        [*rng.choice([[], [2], [3, 1]]), 4, rng.randint(1, 3)],
    ]
    if rng.random() < 0.5:
        return one(operator, dict(zip("xz", shapes, strict=True)), {})
    return one(operator, {"x": shapes[0]}, {"w": np.random.default_rng(1).normal(size=shapes[1]).astype(np.float32)})


def extrema(rng, operator):
    inputs = {n: rng.choice([[1, 4], [3, 4], [3, 1], [4]]) for n in "xzuvw"[: rng.randint(1, 5)]}
    return one(operator, inputs, {n: np.float32([0.1, -1, 2, 0]) for n in "cd"[: rng.randint(0, 2)]})


KINDS = {
    "Conv": windows,
    "AveragePool": windows,
    "MaxPool": windows,
    "Slice": slices,
    "MatMul": products,
    "Max": extrema,
    "Min": extrema,
}


@pytest.mark.parametrize("operator", KINDS)
def test_random_settings(operator):
    rng, compared = random.Random(len(operator)), 0
    for _ in range(100):
        data = KINDS[operator](rng, operator)
        sizes = [np.prod([d.dim_value for d in i.type.tensor_type.shape.dim]) for i in loaded(data).graph.input]
        x = np.random.default_rng(0).normal(size=(2, int(sum(sizes)))).astype(np.float32)
        try:
            replayed(data, x)
        except Exception:  # onnxruntime has no common class of errors for models that are wrong
            continue
        try:
            agrees(data, x, 1e-4)
        except Unreadable:
            continue
        compared += 1
    assert compared >= 15
