"""Where to split: estimates of how much a lower bound gains, from quantities the bound pass has at hand.

A linear bound loses at a neuron what its relaxation leaves open, weighted by the coefficient there. Halving an input
narrows every pre-activation by its slope to that input, and with it that loss (a first-order form of what Bunel et
al., Branch and Bound for Piecewise Linear Neural Network Verification, JMLR 2020, compute for neurons).
"""

from __future__ import annotations

import numpy as np

from holdfast.bounds.backward import LinearBound, Trace
from holdfast.bounds.enclosure import Enclosures
from holdfast.operators import OPERATORS, UnaryOperator


def input_gain(state: Enclosures, bound: LinearBound, trace: Trace, row: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Estimated gain (B, d) of the bound of functional ``row`` (B,) from splitting each of the inputs ``columns``."""
    points = np.arange(len(row))
    width = np.asarray(state.radius)[:, columns]
    gain = np.abs(bound.coefficients[points, row][:, columns]) * width
    graph = state.problem.graph
    for position, weight in trace.at.items():
        node = graph[position]
        for source in node.inputs:
            if source not in state.reach:
                continue
            low, high = (a.reshape(len(row), -1) for a in (state.lower[source], state.upper[source]))
            a = weight[points, row].reshape(len(row), -1)
            card = OPERATORS[node.op]
            if isinstance(card, UnaryOperator) and card.piecewise_linear:
                crossing = card.crosses_kink(node, low, high)
                span = np.where(crossing, high - low, 1.0)
                # d/dwidth of the chord's shift -l u / (u - l), ends moving alike; half as much for the lower line
                above = (low * low + high * high) / (span * span)
                loss = np.where(crossing, np.maximum(-a, 0.0) * above + 0.5 * np.maximum(a, 0.0), 0.0)
            else:
                loss = np.abs(a)
            gain += np.matmul(loss[:, None], state.reach[source])[:, 0] * width
    return gain


def hopeful_rows(state: Enclosures, rows: np.ndarray, value: np.ndarray, bound: LinearBound) -> np.ndarray:
    """Rows (B, K) that splitting may refute: those that are positive somewhere, as far as known, and not linear on the box.

    What a linear row can exclude is clipped away exactly; following it any further leads nowhere. ``value``: lower bounds.
    """
    upper = np.take_along_axis(state.upper[state.problem.graph.outputs[0]], rows, axis=1)
    top = value + 2 * np.matmul(np.abs(bound.coefficients), np.asarray(state.radius)[:, :, None])[..., 0]
    return (upper > 0) & ~(upper <= top + 1e-9 * (np.abs(upper) + np.abs(value)))
