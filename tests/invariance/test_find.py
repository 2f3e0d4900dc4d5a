"""Sets that are found are proved, written, and proved again from the file; sampled trajectories stay inside."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from holdfast.errors import InputError
from holdfast.invariance.find import conditions_of, equilibria, find_invariant, holds, search_box
from holdfast.invariance.shapes import Shape, decimal
from holdfast.load.problem import load_problem
from holdfast.load.problem_writing import write_problem
from holdfast.loop import close
from holdfast.spec.temporal import Ellipsoid, Polytope
from holdfast.transforms import evaluate

HEAD = 'format = "holdfast-problem/1"\n[plant]\n'
PLANTS = {
    "pendulum": 'kind = "ode"\nstates = ["th", "om"]\nderivative = { th = "om", om = "sin(th) - 3*th - om" }\ndomain = { th = [-3, 3], om = [-4, 4] }\n',
    "disturbed": 'kind = "ode"\nstates = ["x", "y"]\ndisturbances = { w = [-0.05, 0.05] }\nparameters = { k = [0.9, 1.1] }\n'
    'derivative = { x = "-k*x + 0.3*y^2 + w", y = "-2*y + x*y" }\ndomain = { x = [-2, 2], y = [-2, 2] }\n',
    "map": 'kind = "map"\nstates = ["x", "y"]\nnext = { x = "0.7*x + 0.2*y", y = "0.8*y - 0.1*x^3" }\ndomain = { x = [-2, 2], y = [-2, 2] }\n',
}


@pytest.mark.parametrize("name", PLANTS)
def test_found_sets_are_proved_again_and_trajectories_stay(name: str, tmp_path: Path) -> None:
    """From the file written, for every form found; random steps from the boundary stay inside (up to rounding of the steps)."""
    path = tmp_path / "problem.toml"
    path.write_text(HEAD + PLANTS[name])
    instance = load_problem(path).instances[0]
    loop = close(instance.loop)
    found = find_invariant(loop, instance, timeout=5.0)
    assert found and found == sorted(found, key=lambda f: -f.volume)
    for one in found:
        assert one.volume > 0.05
        again = tmp_path / f"{one.form}.toml"
        write_problem(one.instance, again, path)
        read = load_problem(again).instances[0]
        assert read.properties[0].states == one.states and read.properties[0].kind == "invariant"
        assert holds(close(read.loop), one.states, 10.0)
        if name != "pendulum":  # which is kept everywhere
            assert not holds(loop, _scaled(one.states, 40), 1.0)


def _scaled(states: Polytope | Ellipsoid, factor: int) -> Polytope | Ellipsoid:
    if isinstance(states, Ellipsoid):
        return Ellipsoid(states.center, states.P, states.level * factor**2)
    ends = tuple(None if v is None else v * factor for v in states.upper)
    return Polytope(states.H, tuple(None if v is None else -v for v in ends), ends, states.center)


def test_an_unstable_loop_has_none(tmp_path: Path) -> None:
    """Nothing is found, and nothing claimed."""
    path = tmp_path / "problem.toml"
    path.write_text(HEAD + 'kind = "ode"\nstates = ["x"]\nderivative = { x = "x + x^3" }\n')
    instance = load_problem(path).instances[0]
    assert find_invariant(close(instance.loop), instance, timeout=3.0) == []


def test_equilibria_are_found_from_several_starts(tmp_path: Path) -> None:
    """x' = x - x^3: the origin by Newton, one of the stable ones by following trajectories from elsewhere."""
    path = tmp_path / "problem.toml"
    path.write_text(HEAD + 'kind = "ode"\nstates = ["x"]\nderivative = { x = "x - x^3" }\ndomain = { x = [-1, 3] }\n')
    instance = load_problem(path).instances[0]
    loop = close(instance.loop)
    values = sorted(round(float(c[0]), 6) for c in equilibria(loop, instance, *search_box(loop)))
    assert 1.0 in values and 0.0 in values


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    """One sentence."""
    path = tmp_path / "problem.toml"
    path.write_text(HEAD + PLANTS["map"])
    instance = load_problem(path).instances[0]
    with pytest.raises(InputError, match="accepted are auto"):
        find_invariant(close(instance.loop), instance, kind="sphere")  # type: ignore[arg-type]


def test_decimals_are_short_and_near() -> None:
    """Digits are counted from the first that is not zero, or from the unit."""
    assert decimal(0.0012345678, 4) == Fraction(1235, 10**6)
    assert decimal(123456.7, 3) == 123000
    assert decimal(1e-9, 4, 1.0) == 0
    assert decimal(-2.0, 5) == -2


def test_shapes_and_their_sets_agree() -> None:
    """Points c + V y of the unit ball or cube lie in the set, and the volume is that of the image."""
    rng = np.random.default_rng(0)
    V, c = rng.normal(size=(3, 3)), rng.normal(size=3)
    ball, cube = Shape("ellipsoid", c, V), Shape("parallelotope", c, V)
    assert np.isclose(np.exp(cube.log_volume), 8 * abs(np.linalg.det(V)))
    assert np.isclose(np.exp(ball.log_volume), 4 / 3 * np.pi * abs(np.linalg.det(V)))
    y = rng.uniform(-1, 1, size=(50, 3))
    inside, polytope = ball.states(), cube.states()
    assert isinstance(inside, Ellipsoid) and isinstance(polytope, Polytope)
    P = np.array([[float(v) for v in row] for row in inside.P])
    z = (y / np.linalg.norm(y, axis=1)[:, None]) @ V.T
    assert np.allclose(np.einsum("ki,ij,kj->k", z, P, z), 1.0, rtol=1e-5)
    H = np.array([[float(v) for v in row] for row in polytope.H])
    ends = np.array([float(v or 0) for v in polytope.upper])
    assert np.allclose(H @ V @ y.T, ends[:, None] * y.T, atol=1e-5 * ends.max())


def test_the_flow_points_into_what_was_found(tmp_path: Path) -> None:
    """At points of the boundary, under extreme disturbances."""
    path = tmp_path / "problem.toml"
    path.write_text(HEAD + PLANTS["disturbed"])
    instance = load_problem(path).instances[0]
    loop = close(instance.loop)
    (one,) = find_invariant(loop, instance, timeout=6.0, kind="ellipsoid")
    assert isinstance(one.states, Ellipsoid) and len(conditions_of(loop, one.states)) == 1
    P = np.array([[float(v) for v in row] for row in one.states.P])
    c = np.array([float(v) for v in one.states.center])
    rng = np.random.default_rng(3)
    y = rng.normal(size=(200, 2))
    x = c + (y / np.linalg.norm(y, axis=1)[:, None]) @ np.linalg.inv(np.linalg.cholesky(P))
    corners = rng.integers(0, 2, size=(200, 2))
    others = np.where(corners == 1, loop.others.upper, loop.others.lower)
    graph = loop.dynamics.graph
    f = evaluate(graph, loop.dynamics.parameters, [np.concatenate([x, others], axis=1)])[graph.outputs[0]]
    assert (np.einsum("ki,ij,kj->k", x - c, P, f) < 0).all()  # the flow points inwards on the boundary
