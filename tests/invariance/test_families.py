"""Families of invariant boxes: nested, each invariant, each leading into the next; simulated trajectories agree."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from holdfast.errors import InputError
from holdfast.invariance.embedding import embedding
from holdfast.invariance.families import family
from holdfast.invariance.find import holds
from holdfast.load.problem import load_problem
from holdfast.loop import close
from holdfast.transforms import evaluate

from .test_embedding import loop_of

UNIT = ((Fraction(1), Fraction(0)), (Fraction(0), Fraction(1)))
ORIGIN = (Fraction(0), Fraction(0))


def test_members_are_nested_and_proved(tmp_path: Path) -> None:
    """Every member again, and as a polytope by branch and bound where it is an end of the family."""
    loop = loop_of(tmp_path, "ode")
    flow = embedding(loop, UNIT, ORIGIN)
    found = family(flow, -0.5 * np.ones(2), 0.5 * np.ones(2))
    assert len(found) > 5 and 0 < found.given < len(found) - 1
    assert (np.diff(found.lower, axis=0) >= 0).all() and (np.diff(found.upper, axis=0) <= 0).all()
    assert flow.invariant(found.lower, found.upper).all()
    for k in range(len(found) - 1):
        assert flow.attracted(found.lower[k], found.upper[k], found.lower[k + 1], found.upper[k + 1])
    for member in (0, -1):
        assert holds(loop, found.polytope(member, UNIT, ORIGIN), 10.0)
    volumes = found.log_volumes(np.eye(2))
    assert (np.diff(volumes) < 0).all() and volumes[0] > volumes[-1] + 2


def test_trajectories_reach_the_smallest(tmp_path: Path) -> None:
    """From corners of the largest, with random constant disturbances."""
    loop = loop_of(tmp_path, "ode")
    found = family(embedding(loop, UNIT, ORIGIN), -0.5 * np.ones(2), 0.5 * np.ones(2))
    rng = np.random.default_rng(0)
    x = np.where(rng.integers(0, 2, size=(100, 2)) == 1, found.upper[0], found.lower[0])
    others = np.where(rng.integers(0, 2, size=(100, 2)) == 1, loop.others.upper, loop.others.lower)
    graph = loop.dynamics.graph
    for _ in range(4000):
        v = np.concatenate([x, others], axis=1)
        x = x + 0.005 * evaluate(graph, loop.dynamics.parameters, [v])[graph.outputs[0]]
    assert ((x >= found.lower[-1]) & (x <= found.upper[-1])).all()


def test_maps(tmp_path: Path) -> None:
    """Each member is mapped into the next."""
    path = tmp_path / "map.toml"
    formulas = 'next = { x = "0.7*x + 0.2*y", y = "0.8*y - 0.1*x^3" }'
    path.write_text(f'format = "holdfast-problem/1"\n[plant]\nkind = "map"\nstates = ["x", "y"]\n{formulas}\n')
    loop = close(load_problem(path).instances[0].loop)
    found = family(embedding(loop, UNIT, ORIGIN), -0.5 * np.ones(2), 0.5 * np.ones(2))
    assert len(found) > found.given + 5
    rng = np.random.default_rng(0)
    graph = loop.dynamics.graph
    for k in range(len(found) - 1):
        x = found.lower[k] + (found.upper[k] - found.lower[k]) * rng.integers(0, 2, size=(20, 2))
        after = evaluate(graph, loop.dynamics.parameters, [x])[graph.outputs[0]]
        assert ((after >= found.lower[k + 1]) & (after <= found.upper[k + 1])).all()
    assert holds(loop, found.polytope(0, UNIT, ORIGIN), 10.0)


def test_a_box_that_fails_is_refused(tmp_path: Path) -> None:
    """One sentence with advice."""
    flow = embedding(loop_of(tmp_path, "ode"), UNIT, ORIGIN)
    with pytest.raises(InputError, match="does not pass the one-shot test"):
        family(flow, -5 * np.ones(2), 5 * np.ones(2))
