"""Composition computes nested evaluation, shares constants, and refuses what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from holdfast.errors import MismatchError
from holdfast.operators import GraphBuilder
from holdfast.transforms import compose, embed, evaluate, parallel


def _outputs(model, inputs):
    values = evaluate(model.graph, model.parameters, inputs)
    return [values[i] for i in model.graph.outputs]


def test_nested_evaluation(named, integers):
    inner, outer = named("acas")(integers(1)), named("margins")(integers(2))
    both = compose(outer, inner)
    x = np.random.default_rng(3).integers(-4, 4, (1, 1, 1, 5)).astype(float)
    assert (_outputs(both, [x])[0] == _outputs(outer, [_outputs(inner, [x])[0].reshape(5)])[0]).all()
    assert both.inputs == inner.inputs
    assert both.outputs == outer.outputs
    assert not both.replayable
    assert both.source is None


def test_side_by_side(network, integers):
    first, second = network(integers(4)), network(integers(5))
    both = parallel([first, second])
    rng = np.random.default_rng(6)
    x, z = ([rng.integers(-4, 4, t.shape).astype(float) for t in m.inputs] for m in (first, second))
    expected = _outputs(first, x) + _outputs(second, z)
    for a, b in zip(_outputs(both, x + z), expected, strict=True):
        assert (a == b).all()
    names = [t.name for t in (*both.inputs, *both.outputs)]
    assert len(set(names)) == len(names)


def test_embedding_keeps_constants_radii_and_drops_dead_nodes(named, integers):
    model = named("acas")(integers(7))
    b = GraphBuilder()
    x = b.input((5,))
    b.add("relu", [x])
    outputs = embed(b, model, [x]) + embed(b, model, [x])
    graph, parameters = b.build(outputs)
    kept = {id(p) for p in parameters.values()}
    assert kept == {id(p) for p in model.parameters.values()}
    assert len(graph) == 2 + 2 * len(model.graph)


def test_radii_are_kept():
    b = GraphBuilder()
    radius = np.full((2, 2), 0.5)
    y = b.add("dense", [b.input((2,))], [np.eye(2)], radii=[radius])
    b.add("dense", [y], [np.eye(2)])  # no output depends on it
    graph, parameters = b.build([y])
    from holdfast.graph import Model, Tensor

    model = Model(graph, parameters, (Tensor("x", (2,)),), (Tensor("y", (2,)),), radii=dict(b.radii))
    both = compose(model, model)
    assert len(both.graph) == 3
    assert len(both.parameters) == 1
    assert all(r is radius for r in both.radii.values())


def test_same_architecture_same_graph(named, float32s):
    first, second = (compose(named("margins")(float32s(k)), named("acas")(float32s(k))) for k in (8, 9))
    assert first.graph == second.graph
    assert hash(first.graph) == hash(second.graph)


def test_what_does_not_fit_is_refused(named, integers):
    acas, products = named("acas")(integers(10)), named("products")(integers(11))
    with pytest.raises(MismatchError, match="takes 2 input"):
        compose(products, acas)
    b = GraphBuilder()
    with pytest.raises(
        MismatchError, match=r"input x0 of model test has shape \(1, 1, 1, 5\), a value of shape \(4,\)"
    ):
        embed(b, acas, [b.input((4,))])
    with pytest.raises(MismatchError, match="has 1 input"):
        embed(b, acas, [0, 0])
