"""The graph of a derivative computes what forward-mode differentiation by JAX computes, away from kinks."""

from __future__ import annotations

import numpy as np
import pytest

from holdfast.errors import ModelError
from holdfast.graph import Model, Tensor
from holdfast.operators import OPERATORS, GraphBuilder
from holdfast.transforms import compose, derivative, directional_derivative, embed, evaluate, simplify

ELEMENTS = [
    ("relu", {}, 1.0, 0.0), ("leaky_relu", {"alpha": 0.1}, 1.0, 0.0), ("leaky_relu", {"alpha": 3.0}, 1.0, 0.0),
    ("abs", {}, 1.0, 0.0), ("clip", {"low": -0.5, "high": 1.0}, 1.0, 0.0), ("clip", {"low": 0.5, "high": 0.5}, 1.0, 0.0),
    ("sigmoid", {}, 1.0, 0.0), ("tanh", {}, 1.0, 0.0), ("exp", {}, 1.0, 0.0), ("log", {}, 0.1, 3.0),
    ("softplus", {}, 1.0, 0.0), ("sqrt", {}, 0.1, 3.0), ("reciprocal", {}, 0.1, 3.0), ("square", {}, 1.0, 0.0),
    ("power", {"exponent": 3}, 1.0, 0.0), ("power", {"exponent": 5}, 1.0, 0.0), ("sin", {}, 1.0, 0.0), ("cos", {}, 1.0, 0.0),
    ("tan", {}, 0.1, 0.5), ("asin", {}, 0.1, 0.2), ("acos", {}, 0.1, 0.2), ("atan", {}, 1.0, 0.0),
    ("tanh_derivative", {}, 1.0, 0.0), ("sigmoid_derivative", {}, 1.0, 0.0), ("atan_derivative", {}, 1.0, 0.0),
]  # fmt: skip


@pytest.fixture(autouse=True)
def double_precision():
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def _model(builder, outputs, name="test"):
    graph, parameters = builder.build(outputs)
    inputs = tuple(Tensor(f"x{k}", graph[i].shape) for k, i in enumerate(graph.inputs))
    named = tuple(Tensor("y", graph[i].shape) for i in outputs)
    return Model(graph, parameters, inputs, named, name=name, radii=dict(builder.radii))


def _outputs(model, inputs):
    values = evaluate(model.graph, model.parameters, inputs)
    return [values[i] for i in model.graph.outputs]


def _jacobian(model):
    import jax
    import jax.numpy as jnp

    shapes = [t.shape for t in model.inputs]
    sizes = np.cumsum([np.prod(s) for s in shapes])[:-1]

    def flat(z):
        parts = [p.reshape(shape) for p, shape in zip(jnp.split(z, sizes), shapes, strict=True)]
        values = evaluate(model.graph, {k: jnp.asarray(v) for k, v in model.parameters.items()}, parts, jnp)
        return jnp.concatenate([values[i].reshape(-1) for i in model.graph.outputs])

    compiled = jax.jit(jax.jacfwd(flat))
    return lambda inputs: np.asarray(compiled(np.concatenate([x.ravel() for x in inputs])))


def _check(model, seed, count=2):
    rng = np.random.default_rng(seed)
    jacobian = _jacobian(model)
    by_matrix, by_direction = derivative(model), directional_derivative(model)
    assert by_matrix.inputs == model.inputs
    assert not by_matrix.replayable
    for _ in range(count):
        inputs = [rng.normal(size=t.shape) for t in model.inputs]
        expected = jacobian(inputs)
        scale = 1 + np.abs(expected).max()
        (found,) = _outputs(by_matrix, inputs)
        assert found.shape == by_matrix.outputs[0].shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12 * scale)
        (small,) = _outputs(simplify(by_matrix).model, inputs)
        np.testing.assert_allclose(small, expected, rtol=1e-10, atol=1e-12 * scale)
        directions = [rng.normal(size=t.shape) for t in model.inputs]
        along = _outputs(by_direction, inputs + directions)
        assert [a.shape for a in along] == [t.shape for t in model.outputs]
        flat = np.concatenate([v.ravel() for v in directions])
        np.testing.assert_allclose(
            np.concatenate([a.ravel() for a in along]), expected @ flat, rtol=1e-9, atol=1e-11 * scale
        )


def test_against_forward_mode(network, float32s):
    _check(network(float32s(1)), 2)


@pytest.mark.parametrize(("op", "attributes", "factor", "shift"), ELEMENTS)
def test_element_wise_cards(op, attributes, factor, shift):
    if op not in OPERATORS:
        pytest.skip(f"no card {op}")
    rng = np.random.default_rng(3)
    b = GraphBuilder()
    y = b.add("dense", [b.input((1, 3))], [rng.normal(size=(3, 4)) * factor, rng.normal(size=4) * factor + shift])
    y = b.add(op, [y], **attributes)
    y = b.add("dense", [y], [rng.normal(size=(4, 3)) * factor, rng.normal(size=3) * factor + shift])
    model = _model(b, [b.add("dense", [b.add("tanh", [y])], [rng.normal(size=(3, 2))])])
    _check(model, 4)


def test_first_layer_becomes_a_scaling_by_its_matrix():
    """diag(f'(W x + b)) W is linear in f': no product of variables, no constant node, the matrix itself."""
    b = GraphBuilder()
    matrix = np.random.default_rng(5).normal(size=(3, 4))
    x = b.add("relu", [b.add("dense", [b.input((3,))], [matrix])])
    jacobian = derivative(_model(b, [b.add("dense", [x], [np.ones((4, 2))])]))
    ops = [node.op for node in jacobian.graph.nodes]
    assert "product" not in ops
    assert "constant" not in ops
    (scaling,) = [node for node in jacobian.graph.nodes if node.op == "scale"]
    assert (jacobian.parameters[scaling.parameters[0]] == matrix).all()


def test_affine_model_has_a_constant_jacobian():
    b = GraphBuilder()
    matrix = np.random.default_rng(6).normal(size=(3, 2))
    model = _model(b, [b.add("dense", [b.add("reshape", [b.input((1, 3))], shape=(3,))], [matrix, np.ones(2)])])
    assert (_outputs(derivative(model), [np.zeros((1, 3))])[0] == matrix.T).all()


def test_radii_of_constants_reach_the_derivative():
    b = GraphBuilder()
    x = b.add("dense", [b.input((2,))], [np.eye(2)], radii=[np.full((2, 2), 0.25)])
    model = _model(b, [b.add("dense", [b.add("square", [x])], [np.ones((2, 1))], radii=[np.full((2, 1), 0.125)])])
    jacobian = derivative(model)
    radii = {float(r.max()) for r in jacobian.radii.values()}
    assert radii == {0.25, 0.125}
    (scaling,) = [
        n for n in jacobian.graph.nodes if n.op == "scale" and np.shape(jacobian.parameters[n.parameters[0]]) == (2, 2)
    ]
    assert (jacobian.radii[scaling.parameters[0]] == 0.25).all()


def test_lie_derivative():
    """dV/dt of V = |x|^2 along x' = A x is 2 x' A x."""
    matrix = np.array([[0.0, 1.0], [-2.0, -0.5]])
    b = GraphBuilder()
    energy = _model(b, [b.add("reduce_sum", [b.add("square", [b.input((2,))])], axes=(0,))], "V")
    b = GraphBuilder()
    x = b.input((2,))
    field = b.add("dense", [x], [matrix.T])
    rate = _model(b, embed(b, directional_derivative(energy), [x, field]))
    z = np.array([0.75, -1.25])
    assert _outputs(rate, [z])[0] == 2 * z @ (matrix @ z)


def test_chain_rule_of_a_composition(named, float32s):
    inner, outer = named("acas")(float32s(7)), named("margins")(float32s(8))
    both = compose(outer, inner)
    x = np.random.default_rng(9).normal(size=(1, 1, 1, 5))
    (middle,) = _outputs(inner, [x])
    chained = _outputs(derivative(outer), [middle.reshape(5)])[0] @ _outputs(derivative(inner), [x])[0]
    np.testing.assert_allclose(_outputs(derivative(both), [x])[0], chained, rtol=1e-11, atol=1e-11)


def test_leading_axes(named, float32s):
    model = derivative(named("acas")(float32s(10)))
    x = np.random.default_rng(11).normal(size=(7, 1, 1, 1, 5))
    together = _outputs(model, [x])[0]
    assert together.shape == (7, 5, 5)
    for k in range(7):
        np.testing.assert_allclose(together[k], _outputs(model, [x[k]])[0], rtol=1e-12)


def test_one_graph_for_all_weights(network, float32s):
    for transform in (derivative, directional_derivative):
        first, second = (transform(network(float32s(seed))) for seed in (12, 13))
        assert first.graph == second.graph


def test_no_second_derivative_at_a_jump():
    b = GraphBuilder()
    model = _model(b, [b.add("relu", [b.add("square", [b.input((2,))])], name="Relu_7")])
    with pytest.raises(ModelError, match=r"Relu_7: operator heaviside has no derivative"):
        derivative(derivative(model))
