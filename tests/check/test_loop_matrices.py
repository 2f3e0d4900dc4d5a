"""Families of matrices, against their members; slices of conditions, against the whole."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from evaluation import evaluate
from loops import network

from holdfast_check.formula import Formulas
from holdfast_check.matrices import family, independent, positive_definite, surely_positive
from holdfast_check.network import read_network
from holdfast_check.slicing import sliced

RNG = np.random.default_rng(11)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_factorisation_agrees_with_exact_elimination(n):
    for _ in range(40):
        root = RNG.normal(size=(n, n))
        matrix = root @ root.T - RNG.uniform(0, 1) * np.eye(n)
        matrix = np.tril(matrix) + np.tril(matrix, -1).T
        exact = positive_definite([[Fraction(v) for v in row] for row in matrix.tolist()])
        found = bool(surely_positive(matrix, np.zeros(())))
        assert exact or not found
        assert found == exact or abs(np.linalg.eigvalsh(matrix)).min() < 1e-10


def test_not_quite_positive_definite():
    """Matrices that are singular, or less, by one unit in the last place."""
    for n in (2, 3, 5):
        for _ in range(50):
            v = RNG.integers(-8, 9, size=(n - 1, n)).astype(float)
            assert not surely_positive(v.T @ v, np.zeros(()))
    assert not surely_positive(np.eye(2), np.array(0.5)) and surely_positive(np.eye(2), np.array(0.3))
    assert not surely_positive(np.array([[np.nan, 0], [0, 1]]), np.zeros(()))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_families_hold_their_members(n):
    """Accepted only if all corners and random members are positive definite; where there are few entries that vary, the corners decide."""
    accepted = 0
    for _ in range(60):
        left, right = RNG.normal(size=(n, n)), RNG.normal(size=(n, n))
        constant = RNG.uniform(0.5, 12) * np.eye(n)
        middle = RNG.normal(size=(1, n * n)) * 0.2
        radius = np.where(RNG.random((1, n * n)) < 4 / n**2, RNG.uniform(0, 1.0), 0.0)
        (found,) = family(constant, left, right, middle - radius, middle + radius)
        few = np.flatnonzero(radius)
        corners = list(product((-1, 1), repeat=len(few))) if len(few) <= 8 else RNG.choice((-1, 1), (200, len(few)))
        worst = np.inf
        for signs in [*corners, *RNG.uniform(-1, 1, (20, len(few)))]:
            J = middle[0].copy()
            J[few] += np.array(signs) * radius[0, few]
            term = left @ J.reshape(n, n) @ right
            worst = min(worst, np.linalg.eigvalsh(constant + term + term.T).min())
        assert worst > 0 or not found
        if len(few) <= 8:
            assert found == (worst > 0) or abs(worst) < 1e-9
        accepted += bool(found)
    assert 5 < accepted < 60


def test_unbounded_boxes_prove_nothing():
    low = np.array([[-np.inf, 0, 0, 0], [np.nan, 0, 0, 0], [0.0, 0, 0, 0]])
    assert family(np.eye(2), np.eye(2), np.eye(2), low, np.zeros((3, 4))).tolist() == [False, False, True]


def test_independent_rows():
    one = [Fraction(1), Fraction(2)]
    assert independent([], one) and not independent([], [Fraction(0)] * 2)
    assert not independent([one], [Fraction(2), Fraction(4)]) and independent([one], [Fraction(0), Fraction(1)])


def test_slices_have_the_values_of_the_whole():
    data = network((RNG.normal(size=(4, 3)), RNG.normal(size=4)), (RNG.normal(size=(3, 4)), RNG.normal(size=3)))
    f = Formulas([])
    x = f.elements(f.append("input", (), 6))
    names = {f"x{k}": v for k, v in enumerate(x)}
    first = f.attach(lambda nodes: read_network(data, "one", nodes, 0), x[:3], "one")[0]
    second = f.attach(lambda nodes: read_network(data, "two", nodes, 0), x[3:], "two")[0]
    made = f.read("x0*sin(x1) - x5^3", names), f.read("cos(x4)*x2", names)
    output = f.emit([*first, *second, *made, f.product(first[0], second[2]), f.read("3", names)]).place
    points = RNG.normal(size=(7, 6))
    whole = evaluate(f.nodes, points)[output]
    total = sum(node.size for node in f.nodes)
    for mask in [np.eye(len(whole[0]), dtype=bool)[k] for k in range(len(whole[0]))] + [
        RNG.random(len(whole[0])) < 0.4
    ]:
        if mask.any():
            nodes, place = sliced(f.nodes, output, mask)
            assert np.allclose(evaluate(list(nodes), points)[place], whole[:, mask], rtol=1e-13, atol=1e-13)
            assert sum(node.size for node in nodes) < total
    nodes, place = sliced(f.nodes, output)
    assert np.allclose(evaluate(list(nodes), points)[place], whole, rtol=1e-13, atol=1e-13)


def test_slices_of_blocks():
    """One matrix for several blocks: only the blocks that are needed are left."""
    from evaluation import model

    weights = RNG.normal(size=(3, 2)).astype(np.float32)
    data = model([("MatMul", ["x", "w"], ["h"], {}), ("Relu", ["h"], ["y"], {})], {"x": [4, 2]}, {"w": weights.T})
    f = Formulas([])
    x = f.elements(f.append("input", (), 8))
    outputs, _ = f.attach(lambda nodes: read_network(data, "one", nodes, 0), x, "one")
    output = f.emit([outputs[7], outputs[2]]).place
    nodes, place = sliced(f.nodes, output)
    points = RNG.normal(size=(5, 8))
    assert np.array_equal(evaluate(list(nodes), points)[place], evaluate(f.nodes, points)[output])
    assert max(node.size for node in nodes[1:]) <= 6
