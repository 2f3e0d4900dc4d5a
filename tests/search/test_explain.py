"""Explanations speak the property's language, and long work ends when its time does."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest

from holdfast.bounds.enclosure import OutOfTime, Problem
from holdfast.bounds.propagate import propagate
from holdfast.operators import GraphBuilder
from holdfast.rigor import FLOAT64
from holdfast.search.explain import constraint_text
from holdfast.spec.property import Constraint


@pytest.mark.parametrize(
    ("terms", "constant", "strict", "text"),
    [
        ({(("Y", 1),): 1, (("Y", 0),): -1}, 0, False, "Y_1 - Y_0 <= 0"),
        ({(("Y", 0),): -1}, Fraction(1, 2), True, "-Y_0 + 0.5 < 0"),
        ({(("X", 0), ("Y", 2)): 3}, -1, False, "3*X_0*Y_2 - 1 <= 0"),
        ({}, 0, False, "0 <= 0"),
    ],
)
def test_constraints_read_as_written(terms: dict, constant: Fraction, strict: bool, text: str) -> None:
    terms = {monomial: Fraction(c) for monomial, c in terms.items()}
    assert constraint_text(Constraint.of({**terms, (): Fraction(constant)}, strict)) == text


def test_a_pass_ends_with_its_time() -> None:
    builder = GraphBuilder()
    value = builder.input((3,))
    for _ in range(3):
        value = builder.add("relu", (builder.add("dense", (value,), (np.eye(3), -0.1 * np.ones(3))),))
    graph, parameters = builder.build([builder.add("dense", (value,), (np.ones((3, 1)),))])
    began = time.monotonic()
    problem = Problem(graph, parameters, {}, FLOAT64, expired=lambda: time.monotonic() >= began)
    with pytest.raises(OutOfTime):
        propagate(problem, -np.ones((1, 3)), np.ones((1, 3)))
