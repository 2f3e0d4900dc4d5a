"""Affine forms enclose every node of a graph at every sample, zero tolerance, and are tight to first order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from holdfast.bounds.enclosure import Problem
from holdfast.bounds.propagate import propagate
from holdfast.invariance.level_set import Sublevel, decrease
from holdfast.load.formula_graph import compile_formulas
from holdfast.load.problem import load_problem
from holdfast.loop import close
from holdfast.rigor import FLOAT64
from holdfast.spec.region import Box
from holdfast.transforms import evaluate

PLANT = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x", "y"]
parameters = { k = [0.9, 1.1] }
derivative = { x = "y + x*tanh(2*x - y) - abs(x)", y = "-k*sin(x)/(3 + cos(y)) + exp(-x^2)*y^3 - max(x, y)" }
"""


@pytest.mark.parametrize("width", [1.0, 1e-2, 1e-5])
def test_forms_enclose_every_node(width: float, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(PLANT)
    loop = close(load_problem(tmp_path / "p.toml").instances[0].loop)
    h = loop.on_states(compile_formulas({"V": "log(1 + x^2 + y^2) + tanh(x*y)"}, loop.data.plant.signals.names))
    query = decrease(loop, Sublevel(h, (1, 1), Box.of([-2, -2], [2, 2]), "V"), (0, 0)).query()
    problem = Problem.make(query.graph, query.parameters, query.radii, FLOAT64)
    rng = np.random.default_rng(0)
    low = rng.uniform(-1.5, 1.0, (30, 3))
    low[:, 2] = 0.9
    high = low + width * rng.random((30, 3))
    high[:10, 1] = low[:10, 1]
    with np.errstate(all="ignore"):
        state = propagate(problem, low, high, forward=np.arange(3), reach=np.arange(3))
        plain = propagate(problem, low, high, narrow=False)
    output = query.graph.outputs[0]
    assert ((state.upper[output] - state.lower[output]) <= (plain.upper[output] - plain.lower[output])).all()
    for k in range(200):
        share = rng.integers(0, 2, (30, 3)) if k % 2 else rng.random((30, 3))
        x = np.clip(low + share * (high - low), low, high)
        values = evaluate(query.graph, query.parameters, [x])
        for position in range(len(query.graph)):
            slack = 1e-14 * (1 + abs(values[position])) if width < 1e-3 else 0.0  # of the samples themselves
            assert (values[position] >= state.lower[position] - slack).all()
            assert (values[position] <= state.upper[position] + slack).all()
