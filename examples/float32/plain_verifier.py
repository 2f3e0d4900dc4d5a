"""A verifier as one would write it without thinking of rounding: linear bounds, interval bounds, splitting.

Backward substitution (CROWN: Zhang et al., NeurIPS 2018) and branch and bound over the inputs, in ordinary floating
point. Every formula is right over the reals; the answer "proved" is not, because no error term is carried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from networks import Layer

Array = np.ndarray[Any, Any]
Bounds = list[tuple[Array, Array]]  # of every layer before its ReLU


def interval(layer: Layer, low: Array, high: Array) -> tuple[Array, Array]:
    """Bounds of weights x + bias for low <= x <= high."""
    weights, bias, _ = layer
    above, below = np.maximum(weights, 0), np.minimum(weights, 0)
    return above @ low + below @ high + bias, above @ high + below @ low + bias


def backward(rows: Array, constant: Array, layers: Sequence[Layer], known: Bounds, low: Array, high: Array) -> Array:
    """A lower bound of rows . y + constant, y the output of ``layers``, substituting layer by layer to the input."""
    for (weights, bias, relu), (below, above) in zip(layers[::-1], known[::-1], strict=True):
        if relu:
            crossing = (below < 0) & (above > 0)
            slope = np.where(crossing, above / np.where(crossing, above - below, 1), below >= 0).astype(rows.dtype)
            lower = np.where(crossing, above > -below, slope).astype(rows.dtype)
            constant = constant + np.minimum(rows, 0) @ np.where(crossing, -slope * below, 0).astype(rows.dtype)
            rows = np.maximum(rows, 0) * lower + np.minimum(rows, 0) * slope
        constant = constant + rows @ bias
        rows = rows @ weights
    return np.maximum(rows, 0) @ low + np.minimum(rows, 0) @ high + constant


def margins(layers: Sequence[Layer], rows: Array, constant: Array, low: Array, high: Array) -> Array:
    """Lower bounds of the rows on a box: the better of backward substitution and intervals."""
    known: Bounds = []
    below, above = low, high
    for i, layer in enumerate(layers):
        bounds = interval(layer, below, above)
        one, nothing = np.eye(len(layer[1]), dtype=low.dtype), np.zeros(len(layer[1]), low.dtype)
        so_far = [*layers[:i], (layer[0], layer[1], False)]
        known.append(bounds)
        lower = np.maximum(bounds[0], backward(one, nothing, so_far, known, low, high))
        upper = np.minimum(bounds[1], -backward(-one, nothing, so_far, known, low, high))
        known[-1] = lower, upper
        below, above = (np.maximum(b, 0) if layer[2] else b for b in known[-1])
    from_intervals = np.maximum(rows, 0) @ below + np.minimum(rows, 0) @ above + constant
    return np.maximum(from_intervals, backward(rows, constant, layers, known, low, high))


def proved(
    layers: Sequence[Layer], rows: Array, constant: Array, low: Array, high: Array, dtype: str, boxes: int = 200
) -> bool:
    """Whether all rows are positive on the box, by halving the widest input until they are; at most ``boxes`` boxes."""
    layers = [(w.astype(dtype), b.astype(dtype), relu) for w, b, relu in layers]
    rows, constant = rows.astype(dtype), constant.astype(dtype)
    todo = [(low.astype(dtype), high.astype(dtype))]
    for _ in range(boxes):
        if not todo:
            return True
        low, high = todo.pop()
        if (margins(layers, rows, constant, low, high) > 0).all():
            continue
        axis = int(np.argmax(high - low))
        middle = (low[axis] + high[axis]) / 2
        left, right = high.copy(), low.copy()
        left[axis] = right[axis] = middle
        todo += [(low, left), (right, high)]
    return not todo
