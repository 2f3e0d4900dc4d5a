"""Exact evaluation at one point, over the rationals: for small networks whose rounding error bounds say nothing.

Used by `holdfast.search.replay` where large weights cancel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from holdfast.graph import Model
from holdfast.spec.query import Query
from holdfast.transforms.evaluate import evaluate

RATIONAL = {
    *("input", "dense", "scale", "add", "constant", "reduce_sum", "relu", "abs", "product", "square"),
    *("reshape", "transpose", "slice", "gather", "concat", "expand"),
}  # operators that take fractions to fractions
MAX_WEIGHTS = 200_000  # about a second


def violated(query: Query, point: Sequence[Fraction | float]) -> bool | None:
    """Whether the property is violated at a point, with zero error; None where the networks are too large for that."""
    small = sum(a.size for model in query.models.values() for a in model.parameters.values()) <= MAX_WEIGHTS
    if not small or not all(map(_rational, query.models.values())):
        return None
    exact = np.array([Fraction(v) for v in point], object)
    values: dict[str, Mapping[str, np.ndarray]] = {}
    for name, model in query.models.items():
        ports = {p.onnx_name: p for p in query.inputs if p.network == name}
        feeds = [exact[(p := ports[t.name]).start : p.start + p.size].reshape(t.shape) for t in model.inputs]
        weights = {key: _fractions(array) for key, array in model.parameters.items()}
        results = evaluate(model.graph, weights, feeds)
        values[name] = {t.name: results[i] for t, i in zip(model.outputs, model.graph.outputs, strict=True)}
    outputs = [y for p in query.outputs for y in np.ravel(values[p.network][p.onnx_name])]
    return query.property.violated(list(exact), outputs)


def _rational(model: Model) -> bool:
    return not model.radii and all(node.op in RATIONAL for node in model.graph.nodes)


def _fractions(array: np.ndarray) -> np.ndarray:
    return np.array([Fraction(float(v)) for v in array.ravel()], object).reshape(array.shape)
