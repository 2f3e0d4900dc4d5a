"""What is left of a model for some elements of its output has the same values, and reads only what it must."""

from __future__ import annotations

import numpy as np
import pytest

from holdfast.errors import MismatchError
from holdfast.graph import Model, Tensor
from holdfast.operators import GraphBuilder
from holdfast.transforms import evaluate
from holdfast.transforms.compose import finish
from holdfast.transforms.live_elements import live_elements


def _vehicles(rng: np.random.Generator) -> Model:
    """Three units with a shared network, as platoons are: unit i reads inputs 2 i, 2 i + 1 and disturbance 6 + i."""
    builder = GraphBuilder()
    v = builder.input((9,), "v")
    x = builder.add("slice", [v], slices=((0, 6, 1),))
    w = builder.add("slice", [v], slices=((6, 3, 1),))
    z = builder.add("reshape", [x], shape=(1, 3, 2))
    z = builder.add("relu", [builder.add("dense", [z], [rng.normal(size=(2, 5)), rng.normal(size=5)])])
    y = builder.add("reshape", [builder.add("dense", [z], [rng.normal(size=(5, 1))])], shape=(3,))
    y = builder.add("product", [builder.add("tanh", [y]), builder.add("scale", [w], [np.ones(3), np.full(3, 2.0)])])
    speeds = builder.add("gather", [x], axis=0, indices=(1, 3, 5))
    joined = builder.add("concat", [speeds, builder.add("constant", [], [np.full(2, 7.0)]), y], axis=0)
    return finish(builder, [joined], (Tensor("v", (9,)),), (Tensor("y", (8,)),), "three units")


@pytest.mark.parametrize("chosen", [(0,), (2,), (3, 4), (5,), (1, 6), (0, 1, 2, 3, 4, 5, 6, 7)])
def test_values_are_the_same_and_inputs_are_few(chosen: tuple[int, ...]) -> None:
    """Every choice of outputs, against the whole model."""
    rng = np.random.default_rng(0)
    model = _vehicles(rng)
    live = live_elements(model, chosen)
    points = rng.normal(size=(20, 9))
    whole = evaluate(model.graph, model.parameters, [points])[model.graph.outputs[0]][:, list(chosen)]
    part = evaluate(live.model.graph, live.model.parameters, [points[:, live.inputs]])[live.model.graph.outputs[0]]
    assert np.abs(whole - part).max() <= 1e-14 * np.abs(whole).max()
    depends = np.zeros(9, bool)
    for k in range(9):
        moved = points.copy()
        moved[:, k] += 1.0
        depends[k] = (
            evaluate(model.graph, model.parameters, [moved])[model.graph.outputs[0]][:, list(chosen)] != whole
        ).any()
    assert set(np.flatnonzero(depends)) <= set(live.inputs)
    assert len(live.inputs) == max(1, depends.sum())


def test_several_outputs_are_refused() -> None:
    """One flat input, one flat output."""
    builder = GraphBuilder()
    x = builder.input((2, 2), "x")
    model = finish(builder, [x], (Tensor("x", (2, 2)),), (Tensor("x", (2, 2)),), "square")
    with pytest.raises(MismatchError, match="one flat output"):
        live_elements(model, [0])
