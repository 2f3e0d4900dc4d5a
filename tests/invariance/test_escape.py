"""Proofs of escapes: right where a trajectory leaves, refused where the start, the side or the disturbance is not right."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import flint
import numpy as np
import pytest

from holdfast.invariance.escape import Prover, affine, all_sides, below, combined, prove
from holdfast.invariance.sets import inequalities
from holdfast.load.problem import load_problem
from holdfast.loop import close
from holdfast.spec.row import row


def opened(folder, plant: str, states: str, more: str = ""):
    text = f"""
format = "holdfast-problem/1"
title = "test"
[plant]
{plant}
{more}
[[property]]
id = "kept"
kind = "invariant"
set = {states}
"""
    path = folder / "problem.toml"
    path.write_text(text)
    (instance,) = load_problem(path).instances
    loop = close(instance.loop)
    return loop, inequalities(instance.properties[0].states, loop, "set")


def one_state(derivative: str, more: str = "") -> str:
    return f'kind = "ode"\nstates = ["x"]\nderivative = {{ x = "{derivative}" }}\n{more}'


def two_states(x: str, y: str, more: str = "") -> str:
    return f'kind = "ode"\nstates = ["x", "y"]\nderivative = {{ x = "{x}", y = "{y}" }}\n{more}'


NONE = np.zeros(0)


def test_the_enclosure_holds_the_exact_solution(tmp_path):
    loop, states = opened(tmp_path, one_state("x"), "{ box = { x = [-1, 1] } }")
    found = prove(loop, states, 3, np.ones(1), NONE, NONE, 0)  # starts exactly on the boundary
    assert found is not None and found.property == 3 and found.side == 0 and found.margin > 0
    exact = flint.arb(flint.fmpq(*Fraction(found.time).as_integer_ratio())).exp()
    assert flint.arb(found.low[0]) <= exact <= flint.arb(found.high[0])
    assert flint.arb(found.margin) <= exact - 1
    assert found.low[0] > 1 and found.radius[0] >= found.high[0] - 1


def test_the_start_is_in_the_exact_set(tmp_path):
    loop, states = opened(tmp_path, one_state("1"), "{ box = { x = [-1, 0.1] } }")
    assert Fraction(0.1) > Fraction(1, 10)  # so the float64 number lies outside
    assert prove(loop, states, 0, np.array([0.1]), NONE, NONE, 0) is None
    assert prove(loop, states, 0, np.array([np.nextafter(0.1, 0)]), NONE, NONE, 0) is not None
    assert prove(loop, states, 0, np.array([np.nan]), NONE, NONE, 0) is None


def test_nothing_is_proved_of_sides_that_are_not_left(tmp_path):
    loop, states = opened(tmp_path, two_states("-x", "-y"), "{ box = { x = [-1, 1], y = [-1, 1] } }")
    prover = Prover(loop, states, 0)
    for x in ([1, 1], [-1, 1], [1, 0], [0, 0.5], [0.999999, -1]):
        for side in range(4):
            assert prover.prove(np.array(x, float), NONE, NONE, side) is None


def test_a_side_that_the_flow_is_tangential_to(tmp_path):
    loop, states = opened(tmp_path, two_states("y", "0"), "{ box = { x = [-1, 1], y = [-1, 1] } }")
    assert prove(loop, states, 0, np.array([1.0, 0.0]), NONE, NONE, 0) is None
    assert prove(loop, states, 0, np.array([1.0, 1e-9]), NONE, NONE, 0) is not None


def test_disturbances_and_parameters_lie_in_their_boxes(tmp_path):
    plant = one_state("-x + w + k", "disturbances = { w = [-0.1, 0.1] }\nparameters = { k = [0.5, 1.1] }")
    loop, states = opened(tmp_path, plant, "{ box = { x = [-1, 1] } }")
    most = np.nextafter(0.1, 0)
    assert prove(loop, states, 0, np.ones(1), np.array([0.1]), np.array([1.0]), 0) is None  # 0.1 is above 1/10
    assert prove(loop, states, 0, np.ones(1), np.array([most]), np.array([1.2]), 0) is None
    found = prove(loop, states, 0, np.ones(1), np.array([most]), np.array([1.0]), 0)
    assert found is not None and found.disturbances == (most,) and found.parameters == (1.0,)


@pytest.mark.parametrize("outward", [1e-3, 1.5e-7, 1e-10])
def test_thin_flows(tmp_path, outward):
    loop, states = opened(tmp_path, one_state(f"-x + 1 + {outward:.20f}"), "{ box = { x = [-1, 1] } }")
    found = prove(loop, states, 0, np.ones(1), NONE, NONE, 0)
    assert found is not None
    loop, states = opened(tmp_path, one_state(f"-x + 1 - {outward:.20f}"), "{ box = { x = [-1, 1] } }")
    assert prove(loop, states, 0, np.ones(1), NONE, NONE, 0) is None


def test_maps(tmp_path):
    plant = 'kind = "map"\nstates = ["x"]\nnext = { x = "2*x" }'
    loop, states = opened(tmp_path, plant, "{ box = { x = [-1, 1] } }")
    assert prove(loop, states, 0, np.array([0.5]), NONE, NONE, 0) is None  # exactly onto the boundary
    found = prove(loop, states, 0, np.array([0.5 + 1e-14]), NONE, NONE, 0)
    assert found is not None and found.time == 1 and found.radius == () and found.low[0] > 1
    assert prove(loop, states, 0, np.array([0.75]), NONE, NONE, 1) is None


def test_ellipsoids_are_left_outwards_only(tmp_path):
    spiral = two_states("a*x - y", "x + a*y", "parameters = { a = [-1, 0.01] }")
    loop, states = opened(tmp_path, spiral, "{ ellipsoid = { center = [0, 0], P = [[1, 0], [0, 1]], level = 1 } }")
    x = np.array([0.6, 0.8]) * (1 - 1e-12)
    assert prove(loop, states, 0, x, NONE, np.array([0.0099]), 0) is not None
    assert prove(loop, states, 0, x, NONE, np.array([0.0]), 0) is None
    assert prove(loop, states, 0, x, NONE, np.array([-0.0099]), 0) is None
    assert prove(loop, states, 0, np.array([0.61, 0.8]), NONE, np.array([0.0099]), 0) is None


def test_level_sets_end_at_the_domain(tmp_path):
    plant = two_states("1", "0", "domain = { x = [-1, 0.7], y = [-1, 1] }")
    functions = '[functions]\nV = { expression = "x^2 + y^2" }'
    loop, states = opened(tmp_path, plant, '{ level = { function = "V", at_most = 4 } }', functions)
    prover = Prover(loop, states, 0)
    assert [s.text for s in prover.sides] == ["V <= 4", "x <= 0.7", "x >= -1", "y <= 1", "y >= -1"]
    edge = states.hull.inside("float64")[1][0]
    assert prover.prove(np.array([edge, 0.0]), NONE, NONE, 1) is not None
    assert prover.prove(np.array([np.nextafter(edge, 1), 0.0]), NONE, NONE, 1) is None
    assert prover.prove(np.array([edge, 0.0]), NONE, NONE, 0) is None


def test_an_uncertain_level_is_taken_at_its_worse_end():
    g = row({0: 1}, -1, "g", doubt=Fraction(1, 10))
    assert combined(g, [(Fraction(1, 2), Fraction(19, 20))]) == (Fraction(-1, 2), Fraction(1, 20))


def test_sides_that_are_linear_are_evaluated_exactly(tmp_path):
    states = "{ polytope = { H = [[0.1, 0.2], [0.3, -0.1]], lower = [-1, -1], upper = [1, 1] } }"
    loop, found = opened(tmp_path, two_states("-x", "-y"), states)
    assert affine(found.functions) is not None and all_sides(found, loop.states) is found
    x = np.array([1.7, 0.3])
    low = Prover(loop, found, 0).inside(x)
    assert low is not None
    exact = Fraction(1, 10) * Fraction(1.7) + Fraction(2, 10) * Fraction(0.3) - 1
    assert low[0] <= exact <= low[0] + Fraction(1, 10**15)


def test_where_the_formulas_are_not_defined_nothing_is_proved(tmp_path):
    loop, states = opened(tmp_path, one_state("1/(x - 1)^2"), "{ box = { x = [-1, 1] } }")
    assert prove(loop, states, 0, np.ones(1), NONE, NONE, 0) is None


def test_numbers_are_rounded_downwards():
    third = Fraction(1, 3)
    assert Fraction(below(third)) <= third < Fraction(np.nextafter(below(third), 1))
    assert below(Fraction(1, 2)) == 0.5


def test_the_result_is_plain_data(tmp_path):
    loop, states = opened(tmp_path, one_state("x"), "{ box = { x = [-1, 1] } }")
    found = prove(loop, states, 0, np.ones(1), NONE, NONE, 0)
    assert found is not None and replace(found) == found
    assert all(
        type(v) is float for v in (*found.state, *found.low, *found.high, *found.radius, found.time, found.margin)
    )
