"""Growth of a norm is bounded for every matrix of an interval matrix, ellipsoids that do not contract are refused, zero tolerance."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from holdfast.invariance.contraction import _Norm, _patterns, contraction
from holdfast.invariance.equilibrium import largest_contraction
from holdfast.load.problem import load_problem
from holdfast.loop import ClosedLoop, close

HEAD = 'format = "holdfast-problem/1"\n[plant]\n'


def loop_of(folder: Path, text: str) -> ClosedLoop:
    path = folder / "p.toml"
    path.write_text(HEAD + text)
    return close(load_problem(path).instances[0].loop)


@pytest.mark.parametrize("kind", ["ode", "map"])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_growth_holds_for_all_matrices(kind: str, n: int) -> None:
    """Vertices and random members; growth itself by exact maximisation over the sphere (eigenvalues in another way)."""
    rng = np.random.default_rng(n)
    for trial in range(10):
        root = rng.normal(size=(n, n)) + 2 * np.eye(n)
        P = tuple(tuple(Fraction(float((root.T @ root)[max(i, j), min(i, j)])) for j in range(n)) for i in range(n))
        norm = _Norm.of(P)
        assert norm is not None
        middle = rng.normal(size=(3, n, n))
        spread = rng.random((3, n, n)) * 10.0 ** -rng.integers(0, 8) * (rng.random((n, n)) < 0.6)
        low, high = middle - spread, middle + spread
        bound = norm.growth(kind, low, high)
        plain = np.array([[float(v) for v in entries] for entries in P])
        for k in range(60):
            share = rng.integers(0, 2, (3, n, n)) if k % 2 else rng.random((3, n, n))
            J = np.clip(low + share * (high - low), low, high)
            x = rng.normal(size=(3, 200, n))
            size = np.einsum("kpi,ij,kpj->kp", x, plain, x)
            moved = np.einsum("kij,kpj->kpi", J, x)
            if kind == "ode":
                rate = np.einsum("kpi,ij,kpj->kp", x, plain, moved) / size
            else:
                rate = np.sqrt(np.einsum("kpi,ij,kpj->kp", moved, plain, moved) / size)
            assert (rate.max(1) <= bound).all(), trial


def test_growth_is_nearly_exact_for_points_and_patterns() -> None:
    norm = _Norm.of(((Fraction(1), Fraction(0)), (Fraction(0), Fraction(1))))
    assert norm is not None
    A = np.array([[[-1.0, 0.0], [0.0, -50.0]]])
    assert -1.0 <= norm.growth("ode", A, A)[0] <= -1.0 + 1e-9
    off = np.array([[0, 1.0], [0, 0]])
    wide = norm.growth("ode", A - off, A + off)[0]
    exact = np.linalg.eigvalsh(np.array([[-1.0, 0.5], [0.5, -50.0]]))[-1]
    assert exact <= wide <= exact + 1e-6  # the small eigenvalue is not blurred by the large one
    patterns = _patterns(np.array([[False, False], [True, True]]))
    assert patterns is not None and len(patterns) == 4


def test_what_does_not_contract_is_refused(tmp_path: Path) -> None:
    """x' = x^3 - x contracts exactly where |x| < 1 / sqrt 3."""
    loop = loop_of(tmp_path, 'kind = "ode"\nstates = ["x"]\nderivative = { x = "x^3 - x" }\ndomain = { x = [-2, 2] }\n')
    P = ((Fraction(1),),)
    assert contraction(loop, np.zeros(1), P, Fraction(33, 100)) is not None
    for level in (Fraction(34, 100), Fraction(1), Fraction(2)):
        assert contraction(loop, np.zeros(1), P, level, largest=500) is None
    found = largest_contraction(loop, np.zeros(1), np.array([2.0]))
    assert found is not None and Fraction(1, 5) < found.level / found.P[0][0] < Fraction(1, 3)


def test_the_ellipsoid_must_be_kept_although_its_centre_is_off(tmp_path: Path) -> None:
    """x' = -(x - 1): from centre 0 a ball of radius above 1 is kept, one below is not."""
    loop = loop_of(tmp_path, 'kind = "ode"\nstates = ["x"]\nderivative = { x = "1 - x" }\n')
    P = ((Fraction(1),),)
    assert contraction(loop, np.zeros(1), P, Fraction(101, 100)) is not None
    assert contraction(loop, np.zeros(1), P, Fraction(1), largest=500) is None
    assert contraction(loop, np.zeros(1), P, Fraction(1, 2), largest=500) is None


@pytest.mark.parametrize(("factor", "holds"), [("0.999", True), ("-0.999", True), ("1", False), ("1.001", False)])
def test_maps(factor: str, holds: bool, tmp_path: Path) -> None:
    loop = loop_of(tmp_path, f'kind = "map"\nstates = ["x"]\nnext = {{ x = "{factor}*x" }}\n')
    assert (contraction(loop, np.zeros(1), ((Fraction(1),),), Fraction(1), largest=200) is not None) == holds


def test_parameters_and_kinks_count(tmp_path: Path) -> None:
    """abs(x) has any slope of [-1, 1] at 0; a parameter takes its worst value."""
    text = 'kind = "ode"\nstates = ["x"]\nparameters = {{ k = [0.5, {top}] }}\nderivative = {{ x = "-x + k*abs(x)" }}\n'
    for top, holds in ((0.99, True), (1.0, False)):
        loop = loop_of(tmp_path, text.format(top=top))
        assert (contraction(loop, np.zeros(1), ((Fraction(1),),), Fraction(1), largest=200) is not None) == holds


def test_matrices_that_are_not_positive_definite_are_refused(tmp_path: Path) -> None:
    for P in (((1, 2), (2, 1)), ((1, 0), (0, 0))):
        assert _Norm.of(tuple(tuple(Fraction(v) for v in row) for row in P)) is None
