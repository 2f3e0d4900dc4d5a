"""A simplified model is the same function over the reals, its radii cover what float64 lost, and it is smaller."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from holdfast.graph import Model, Tensor
from holdfast.operators import INPUT, OPERATORS, GraphBuilder
from holdfast.transforms import evaluate, simplify


def _points(model, seed):
    rng = np.random.default_rng(seed)
    return [[np.round(rng.normal(size=t.shape) * 8) / 4 for t in model.inputs] for _ in range(2)]


def _ops(model):
    return [node.op for node in model.graph.nodes]


def _model(builder, outputs):
    graph, parameters = builder.build(outputs)
    inputs = tuple(Tensor(f"x{k}", graph[i].shape) for k, i in enumerate(graph.inputs))
    return Model(
        graph, parameters, inputs, tuple(Tensor("y", graph[i].shape) for i in outputs), radii=dict(builder.radii)
    )


def test_exact_where_the_constants_are(network, integers, exact):
    model = network(integers(1))
    small = simplify(model).model
    assert not small.radii
    for x in _points(model, 2):
        for before, after in zip(exact(model, x), exact(small, x), strict=True):
            assert before.shape == after.shape
            assert (before == after).all()


def test_close_to_rounding_with_any_constants(network, weights, exact):
    """Not a bound, a check of translation: the difference is that of a few roundings of the constants."""
    model = network(weights(3))
    small = simplify(model).model
    assert len(small.graph) < len(model.graph)
    for x in _points(model, 4):
        for before, after in zip(exact(model, x), exact(small, x), strict=True):
            scale = 1 + max(abs(v) for v in before.flat)
            assert all(abs(v) <= scale * Fraction(2) ** -40 for v in (before - after).flat)


def test_inputs_outputs_and_origins(network, float32s):
    model = network(float32s(5))
    simplified = simplify(model)
    small = simplified.model
    assert small.inputs == model.inputs
    assert small.outputs == model.outputs
    assert [small.graph[i].shape for i in small.graph.outputs] == [model.graph[i].shape for i in model.graph.outputs]
    (x, _) = _points(model, 6)
    assert all(a is b for a, b in zip(simplified.invert(x), x, strict=True))
    before, after = evaluate(model.graph, model.parameters, x), evaluate(small.graph, small.parameters, x)
    assert len(simplified.origin) == len(small.graph)
    for value, origin in zip(after, simplified.origin, strict=True):
        if origin is not None:
            np.testing.assert_allclose(value.ravel(), before[origin].ravel(), rtol=1e-9, atol=1e-9)


def test_one_graph_for_all_weights(network, float32s):
    first, second = (simplify(network(float32s(seed))).model for seed in (7, 8))
    assert first.graph == second.graph
    assert hash(first.graph) == hash(second.graph)


def test_simplifying_twice_changes_nothing(network, float32s):
    once = simplify(network(float32s(9))).model
    twice = simplify(once).model
    assert twice.graph == once.graph
    assert all(twice.parameters[k] is once.parameters[k] for k in once.parameters)


def test_acas_layers_become_dense_with_bias(named, float32s):
    model = named("acas")(float32s(10))
    small = simplify(model).model
    assert _ops(small) == [INPUT, "reshape", "dense", "relu", "dense", "relu", "dense"]
    assert all(len(node.parameters) == 2 for node in small.graph.nodes if node.op == "dense")
    matrices = {id(model.parameters[k]) for node in model.graph.nodes if node.op == "dense" for k in node.parameters}
    kept = {id(small.parameters[node.parameters[0]]) for node in small.graph.nodes if node.op == "dense"}
    assert kept == matrices  # shared, not copied


def test_property_rows_are_merged_into_the_last_layer(named, float32s):
    assert _ops(simplify(named("margins")(float32s(11))).model) == [
        INPUT,
        "reshape",
        "dense",
        "relu",
        "dense",
        "reshape",
    ]


def _linear_cases():
    def dense_normalised(b, x, w, r):
        y = b.add("dense", [x], [w(5, 3), w(3)], radii=[r(5, 3), r(3)])
        return b.add("scale", [y], [w(3), w(1, 3)], radii=[r(3), r(1, 3)])

    def normalised_dense(b, x, w, r):
        y = b.add("scale", [x], [w(1, 5), w(5)], radii=[r(1, 5), r(5)])
        return b.add("dense", [y], [w(5, 3)], radii=[r(5, 3)])

    def dense_dense(b, x, w, r):
        y = b.add("dense", [x], [w(5, 6), w(6)], radii=[r(5, 6), r(6)])
        return b.add("dense", [y], [w(6, 2), w(2)], radii=[r(6, 2), r(2)])

    def scale_scale(b, x, w, r):
        y = b.add("scale", [x], [w(5), w(())], radii=[r(5), None])
        return b.add("scale", [y], [w(1, 5), w(1, 5)], radii=[r(1, 5), r(1, 5)])

    def convolution(b, x, w, r):
        y = b.add("reshape", [b.add("dense", [x], [np.eye(5)[:, :4]])], shape=(1, 2, 2, 1))
        y = b.add("clip", [y], low=-9.0, high=9.0)  # keeps the convolution apart from the matrix
        y = b.add("scale", [y], [w(2, 1, 1), w(2, 1, 1)], radii=[r(2, 1, 1), r(2, 1, 1)])
        attributes = {"strides": (1, 1), "pads": ((0, 0), (0, 0)), "dilations": (1, 1), "groups": 2}
        y = b.add("conv", [y], [w(4, 1, 2, 1), w(4)], radii=[r(4, 1, 2, 1), r(4)], **attributes)
        y = b.add("scale", [y], [w(4, 1, 1), w(4, 1, 1)], radii=[r(4, 1, 1), None])
        return y

    return [dense_normalised, normalised_dense, dense_dense, scale_scale, convolution]


@pytest.mark.parametrize("build", _linear_cases(), ids=lambda f: f.__name__)
@pytest.mark.parametrize("uncertain", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_radii_cover_the_real_constants(build, uncertain, seed, exact):
    """Zero tolerance: the exact coefficients, for any real constants within their radii, lie within the merged radii."""
    rng = np.random.default_rng(seed)
    radius = (lambda *shape: np.abs(rng.normal(size=shape)) * 2.0**-62) if uncertain else (lambda *shape: None)

    def weight(*shape):
        shape = () if shape == ((),) else shape
        return np.asarray(rng.normal(size=shape) * 2.0 ** rng.integers(0, 30, shape))

    b = GraphBuilder()
    model = _model(b, [build(b, b.input((1, 5)), weight, radius)])
    small = simplify(model).model
    assert len(small.graph) < len(model.graph)
    # the corners of the uncertainty, a few of them, as exact rationals
    for _ in range(3 if uncertain else 1):
        signs = {k: rng.choice([-1.0, 1.0], v.shape) for k, v in model.radii.items()}
        _check_coefficients(model, small, signs)


def _check_coefficients(model, small, signs):
    def rational(x):
        return np.array([Fraction(float(v)) for v in x.flat], object).reshape(x.shape)

    real = {k: rational(v) for k, v in model.parameters.items()}
    for k, sign in signs.items():
        real[k] = real[k] + rational(model.radii[k]) * rational(sign)
    stored = {k: rational(v) for k, v in small.parameters.items()}
    slack = {k: rational(np.broadcast_to(v, small.parameters[k].shape)) for k, v in small.radii.items()}
    # at basis vectors the merged model differs from the real one by no more than the radii it read times |x|
    for x in np.vstack([np.eye(5), np.zeros((1, 5)), np.ones((1, 5))]):
        x = rational(x[None])
        expected = evaluate(model.graph, real, [x])[model.graph.outputs[0]]
        values = evaluate(small.graph, stored, [x])
        node = small.graph[small.graph.outputs[0]]
        magnitude = abs(values[node.inputs[0]])
        zeros = [np.full(small.parameters[k].shape, Fraction(0), object) for k in node.parameters]
        radii = [slack.get(k, zero) for k, zero in zip(node.parameters, zeros, strict=True)]
        allowed = OPERATORS[node.op].evaluate(np, node, radii, [magnitude])
        difference = abs(expected - values[small.graph.outputs[0]])
        assert (difference <= allowed).all()


def test_large_matrices_are_shared():
    b = GraphBuilder()
    big = np.zeros((2100, 2100))
    big[0, 0] = 3.0
    y = b.add("dense", [b.add("scale", [b.input((1, 2100))], [np.full((), 3.0), np.ones(2100)])], [big])
    y = b.add(
        "scale", [b.add("relu", [b.add("scale", [y], [np.ones(()), np.ones(2100)])])], [np.full((), 2.0), np.zeros(())]
    )
    small = simplify(_model(b, [b.add("dense", [y], [big])])).model
    matrices = [p for p in small.parameters.values() if p.ndim == 2]
    assert matrices
    assert all(p is big for p in matrices)
    assert _ops(small) == [INPUT, "scale", "dense", "relu", "scale", "dense"]


def test_a_shift_before_a_padded_convolution_stays():
    b = GraphBuilder()
    x = b.add("scale", [b.input((1, 1, 4))], [np.ones(()), np.ones(())])
    y = b.add("conv", [x], [np.ones((1, 1, 3))], strides=(1,), pads=((1, 1),), dilations=(1,), groups=1)
    assert _ops(simplify(_model(b, [y])).model) == [INPUT, "scale", "conv"]


def test_shared_values_are_not_computed_twice():
    b = GraphBuilder()
    x = b.input((1, 3))
    h = b.add("dense", [x], [np.eye(3)])
    outputs = [b.add("scale", [h], [np.full((), 2.0), np.ones(())]), b.add("relu", [h]), b.add("relu", [h])]
    small = simplify(_model(b, outputs)).model
    assert _ops(small) == [INPUT, "dense", "scale", "relu"]
    assert small.graph.outputs[1] == small.graph.outputs[2]


def test_out_of_range_constants_are_left_alone():
    b = GraphBuilder()
    y = b.add("dense", [b.input((1, 1))], [np.array([[1e-200]])])
    y = b.add("scale", [y], [np.array(1e-200), np.zeros(())])
    assert _ops(simplify(_model(b, [y])).model) == [INPUT, "dense", "scale"]


def test_identity_network_and_unused_input():
    b = GraphBuilder()
    x, unused = b.input((2,)), b.input((3,))
    b.add("relu", [unused])
    small = simplify(_model(b, [b.add("reshape", [x], shape=(2,))])).model
    assert _ops(small) == [INPUT, INPUT]
    assert small.graph.outputs == (0,)


def test_a_large_selection_is_merged_where_that_saves_parameters():
    b = GraphBuilder()
    rng = np.random.default_rng(0)
    big = np.zeros((5000, 5000))
    big[rng.integers(0, 5000, 5000), np.arange(5000)] = 1.0
    first, bias = rng.normal(size=(2, 5000)), rng.normal(size=5000)
    y = b.add("dense", [b.add("dense", [b.input((1, 2))], [first, bias])], [big])
    small = simplify(_model(b, [y])).model
    assert _ops(small) == [INPUT, "dense"]
    assert not small.radii
    assert (small.parameters["p0"] == first @ big).all()
    assert (small.parameters["p1"] == bias @ big).all()
