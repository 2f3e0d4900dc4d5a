"""Small networks for the tests of transforms: one function per shape of graph, weights from a seed."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from holdfast.graph import Model, Tensor
from holdfast.operators import GraphBuilder
from holdfast.transforms import evaluate

Weights = Callable[..., np.ndarray]


def _integers(seed: int) -> Weights:
    """Small integers: float64 evaluation is exact."""
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.integers(-3, 4, shape).astype(float)


def _float32s(seed: int) -> Weights:
    """What an ONNX file holds: float32 numbers, exact in float64."""
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.normal(size=shape).astype(np.float32).astype(float)


def _float64s(seed: int) -> Weights:
    """Full float64 numbers: nearly every product rounds."""
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.normal(size=shape)


def _model(builder: GraphBuilder, outputs: list[int]) -> Model:
    graph, parameters = builder.build(outputs)
    inputs = tuple(Tensor(f"x{k}", graph[i].shape) for k, i in enumerate(graph.inputs))
    named = tuple(Tensor(f"y{k}", graph[i].shape) for k, i in enumerate(outputs))
    return Model(graph, parameters, inputs, named, name="test", radii=dict(builder.radii))


def acas(w: Weights) -> Model:
    """Sub(constant), Flatten, MatMul, Add, Relu, ..., as exporters write it."""
    b = GraphBuilder()
    x = b.input((1, 1, 1, 5))
    x = b.add("scale", [x], [np.ones(()), w(1, 1, 1, 5)], name="Sub")
    x = b.add("reshape", [x], shape=(1, 5), name="Flatten")
    for n, m, last in ((5, 6, False), (6, 6, False), (6, 5, True)):
        x = b.add("dense", [x], [w(n, m)], name="MatMul")
        x = b.add("scale", [x], [np.ones(()), w(m)], name="Add")
        x = x if last else b.add("relu", [x], name="Relu")
    return _model(b, [x])


def margins(w: Weights) -> Model:
    """A flat input, a network, and the rows of a property behind it."""
    b = GraphBuilder()
    x = b.input((5,))
    x = b.add("reshape", [x], shape=(1, 5))
    x = b.add("relu", [b.add("dense", [x], [w(5, 7), w(7)])])
    x = b.add("scale", [b.add("dense", [x], [w(7, 4)])], [np.ones(()), w(1, 4)])
    x = b.add("concat", [b.add("reshape", [x], shape=(4,))], axis=0)
    return _model(b, [b.add("dense", [x], [w(4, 3), w(3)])])


def convolutional(w: Weights) -> Model:
    """Normalised input, conv + bias + batch normalisation, transposed convolution, pooled, grouped, flattened."""
    b = GraphBuilder()
    x = b.input((1, 2, 6, 6))
    x = b.add("scale", [x], [w(2, 1, 1), w(1, 2, 1, 1)], name="Normalise")
    x = b.add("conv", [x], [w(3, 2, 3, 3)], strides=(1, 1), pads=((0, 0), (0, 0)), dilations=(1, 1), groups=1)
    x = b.add("scale", [x], [np.ones(()), w(1, 3, 1, 1)], name="Bias")
    x = b.add("relu", [b.add("scale", [x], [w(3, 1, 1), w(3, 1, 1)], name="BatchNormalization")])
    x = b.add("scale", [x], [w(3, 1, 1), np.zeros(())])  # without a shift it passes the padding
    x = b.add("conv", [x], [w(6, 1, 2, 2), w(6)], strides=(2, 2), pads=((1, 1), (1, 1)), dilations=(1, 1), groups=3)
    x = b.add("relu", [b.add("scale", [x], [w(6, 1, 1), w(6, 1, 1)])])
    x = b.add("scale", [x], [w(6, 1, 1), w(6, 1, 1)])  # with a shift it does not
    x = b.add("conv", [x], [w(2, 6, 2, 2)], strides=(1, 1), pads=((1, 0), (0, 1)), dilations=(1, 1), groups=1)
    x = b.add(
        "conv_transpose",
        [x],
        [w(2, 3, 2, 2), w(3)],
        strides=(2, 2),
        pads=((0, 0), (0, 0)),
        dilations=(1, 1),
        groups=1,
        space=(6, 6),
    )
    x = b.add("scale", [x], [w(3, 1, 1), w(3, 1, 1)])
    x = b.add("reshape", [b.add("relu", [x])], shape=(1, 108))
    return _model(b, [b.add("dense", [x], [w(108, 3), w(3)])])


def residual(w: Weights) -> Model:
    """Shared values, concat, slices, gather, pad, expand, sums, transposes that cancel, two outputs."""
    b = GraphBuilder()
    x = b.input((1, 4))
    h = b.add("dense", [x], [w(4, 6), w(6)])
    r = b.add("relu", [h])
    s = b.add("add", [b.add("dense", [r], [w(6, 6)]), h, b.add("constant", [], [w(1, 6)])], signs=(1, -1, 1))
    t = b.add("transpose", [b.add("transpose", [s], permutation=(1, 0))], permutation=(1, 0))
    t = b.add("slice", [b.add("slice", [t], slices=((0, 1, 1), (5, 5, -1)))], slices=((0, 1, 1), (1, 2, 2)))
    c = b.add("concat", [t, b.add("gather", [r], axis=1, indices=(3, 0, 3)), b.add("constant", [], [w(1, 1)])], axis=1)
    p = b.add("pad", [b.add("abs", [c])], pads=((0, 0), (1, 2)))
    e = b.add("expand", [b.add("reshape", [p], shape=(9,))], shape=(2, 9))
    q = b.add("reduce_sum", [b.add("leaky_relu", [b.add("dense", [e], [w(9, 4)])], alpha=0.125)], axes=(0,))
    q = b.add("add", [q, b.add("constant", [], [w(4)])], signs=(-1, 1))
    return _model(b, [q, b.add("clip", [s], low=-2.0, high=3.0)])


def products(w: Weights) -> Model:
    """Two inputs and products of variables, of a variable with itself, and with a constant."""
    b = GraphBuilder()
    x, u = b.input((3,)), b.input((2,))
    xu = b.add("concat", [x, u], axis=0)
    left, right = b.add("dense", [xu], [w(5, 4), w(4)]), b.add("dense", [xu], [w(5, 4)])
    y = b.add("product", [b.add("relu", [left]), right])
    y = b.add("product", [y, y])
    y = b.add("product", [y, b.add("constant", [], [w(4)])])
    return _model(b, [b.add("dense", [y], [w(4, 2), w(2)])])


NETWORKS = (acas, margins, convolutional, residual, products)


@pytest.fixture(params=NETWORKS, ids=lambda f: f.__name__)
def network(request: pytest.FixtureRequest) -> Callable[[Weights], Model]:
    """Each network of the table in turn, as a function of its weights."""
    return request.param


@pytest.fixture
def named() -> Callable[[str], Callable[[Weights], Model]]:
    """One network of the table, by its name."""
    return {f.__name__: f for f in NETWORKS}.__getitem__


@pytest.fixture(params=(_integers, _float32s, _float64s), ids=lambda f: f.__name__.strip("_"))
def weights(request: pytest.FixtureRequest) -> Callable[[int], Weights]:
    """Each kind of weights in turn, as a function of the seed."""
    return request.param


@pytest.fixture
def float32s() -> Callable[[int], Weights]:
    """Weights as files hold them."""
    return _float32s


@pytest.fixture
def integers() -> Callable[[int], Weights]:
    """Weights for exact arithmetic."""
    return _integers


@pytest.fixture(scope="session")
def exact() -> Callable[..., list[np.ndarray]]:
    """Outputs in rational arithmetic, the stored parameters taken as they are."""

    def evaluate_exactly(model: Model, inputs: list[np.ndarray]) -> list[np.ndarray]:
        parameters = {key: _rational(value) for key, value in model.parameters.items()}
        values = evaluate(model.graph, parameters, [_rational(x) for x in inputs])
        return [values[i] for i in model.graph.outputs]

    return evaluate_exactly


def _rational(x: np.ndarray) -> np.ndarray:
    out = np.empty(x.shape, object)
    for index, value in np.ndenumerate(x):
        out[index] = Fraction(float(value))
    return out
