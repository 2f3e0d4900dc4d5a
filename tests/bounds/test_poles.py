"""A pole in reach: the range is infinite, and the node is named."""

from __future__ import annotations

import numpy as np
import pytest

from holdfast.bounds.enclosure import Problem
from holdfast.bounds.poles import poles
from holdfast.bounds.propagate import propagate
from holdfast.operators import GraphBuilder
from holdfast.rigor import FLOAT64


def _pass(op, lower, upper):
    builder = GraphBuilder()
    graph, parameters = builder.build([builder.add(op, [builder.input((1,))], name="Quotient")])
    problem = Problem.make(graph, parameters, builder.radii, FLOAT64)
    return propagate(problem, np.array([[lower]]), np.array([[upper]]))


@pytest.mark.parametrize(
    ("op", "lower", "upper"),
    [("reciprocal", -1.0, 2.0), ("reciprocal", 0.0, 2.0), ("tan", 1.0, 2.0), ("tan", -9.0, 9.0), ("tan", 1e9, 1e9)],
)
def test_the_node_is_named(op, lower, upper):
    state = _pass(op, lower, upper)
    (reason,) = poles(state)
    assert reason.startswith(f"node Quotient: {op} may have a pole in [{lower:g}, {upper:g}]")
    assert state.lower[-1] == -np.inf and state.upper[-1] == np.inf


@pytest.mark.parametrize(
    ("op", "lower", "upper"),
    [("reciprocal", 1e-9, 2.0), ("reciprocal", -3.0, -1e-9), ("tan", -1.5, 1.5), ("tan", 2.0, 4.0), ("exp", 0.0, 1.0)],
)
def test_no_pole(op, lower, upper):
    state = _pass(op, lower, upper)
    assert poles(state) == ()
    assert np.isfinite(state.lower[-1]).all() and np.isfinite(state.upper[-1]).all()
