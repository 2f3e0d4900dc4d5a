"""Bounds of first and second derivative graphs hold the derivatives that power series in ball arithmetic give."""

from __future__ import annotations

import flint
import numpy as np
import pytest

from holdfast.bounds.bounder import bound
from holdfast.graph import Model, Tensor
from holdfast.operators import GraphBuilder
from holdfast.transforms import derivative


def _sigmoid(z):
    return 1 / (1 + (-z).exp())


def _tanh(z):
    return 1 - 2 / (1 + (2 * z).exp())


# card, attributes, the function of a power series, where
CASES = [
    ("tanh", {}, _tanh, (-4.0, 4.0)), ("sigmoid", {}, _sigmoid, (-8.0, 8.0)), ("atan", {}, lambda z: z.atan(), (-5.0, 5.0)),
    ("tan", {}, lambda z: z.tan(), (-1.4, 1.4)), ("tan", {}, lambda z: z.tan(), (1.8, 4.5)),
    ("asin", {}, lambda z: z.asin(), (-0.95, 0.95)), ("acos", {}, lambda z: z.acos(), (-0.95, 0.95)),
    ("tanh_derivative", {}, lambda z: 1 - _tanh(z) * _tanh(z), (-4.0, 4.0)),
    ("sigmoid_derivative", {}, lambda z: _sigmoid(z) * (1 - _sigmoid(z)), (-8.0, 8.0)),
    ("atan_derivative", {}, lambda z: 1 / (1 + z * z), (-5.0, 5.0)),
    ("sin", {}, lambda z: z.sin(), (-7.0, 7.0)), ("cos", {}, lambda z: z.cos(), (-7.0, 7.0)),
    ("exp", {}, lambda z: z.exp(), (-5.0, 5.0)), ("log", {}, lambda z: z.log(), (0.1, 5.0)),
    ("sqrt", {}, lambda z: z.sqrt(), (0.1, 5.0)), ("reciprocal", {}, lambda z: 1 / z, (-5.0, -0.1)),
    ("softplus", {}, lambda z: (1 + z.exp()).log(), (-5.0, 5.0)), ("power", {"exponent": 5}, lambda z: z**5, (-2.0, 2.0)),
]  # fmt: skip


def _model(op, attributes):
    builder = GraphBuilder()
    graph, parameters = builder.build([builder.add(op, [builder.input((1,))], **attributes)])
    return Model(graph, parameters, (Tensor("x", (1,)),), (Tensor("y", (1,)),), name=op, radii=dict(builder.radii))


@pytest.mark.parametrize(("op", "attributes", "series", "ends"), CASES, ids=[f"{c[0]}{c[3]}" for c in CASES])
def test_derivatives_are_enclosed(op, attributes, series, ends):
    rng = np.random.default_rng(2)
    lower, upper = np.sort(rng.uniform(*ends, (2, 40)), 0)
    upper[:10] = lower[:10]
    upper[10:20] = np.minimum(upper[10:20], lower[10:20] * (1 + 1e-9) + 1e-9)
    upper = np.maximum(lower, upper)
    model = _model(op, attributes)
    with flint.ctx.workprec(200):
        points = [
            (float(a), float(a + (b - a) * s), float(b)) for a, b, s in zip(lower, upper, rng.random(40), strict=True)
        ]
        exact = [[series(flint.arb_series([z, 1], prec=4)) for z in row] for row in points]
        for order, factor in ((1, 1), (2, 2)):
            model = derivative(model)
            found = bound(model, lower[:, None], upper[:, None])
            low, high = np.asarray(found.lower).reshape(-1), np.asarray(found.upper).reshape(-1)
            for k, row in enumerate(exact):
                for value in row:
                    assert flint.arb(low[k]) <= factor * value[order] <= flint.arb(high[k])
            narrow = upper - lower <= 0
            if op not in ("tan", "asin", "acos"):
                assert (high - low)[narrow].max() < 1e-10


def test_one_relaxation_in_a_jacobian():
    """On an interval around an inflection the card is no looser than 1 - square(tanh), and tighter on most."""
    rng = np.random.default_rng(4)
    centre, width = rng.normal(size=200) * 2, 10 ** rng.uniform(-1, 0.8, 200)
    lower, upper = (centre - width)[:, None], (centre + width)[:, None]
    builder = GraphBuilder()
    squared = builder.add("square", [builder.add("tanh", [builder.input((1,))])])
    graph, parameters = builder.build([builder.add("scale", [squared], [-np.ones(()), np.ones(())])])
    twice = Model(graph, parameters, (Tensor("x", (1,)),), (Tensor("y", (1,)),), name="1 - tanh^2")
    once, old = bound(derivative(_model("tanh", {})), lower, upper), bound(twice, lower, upper)
    gaps = [np.asarray(b.upper).reshape(-1) - np.asarray(b.lower).reshape(-1) for b in (once, old)]
    assert (gaps[0] <= gaps[1] * (1 + 1e-9) + 1e-14).all()
