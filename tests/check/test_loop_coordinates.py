"""Proofs of loops in oblique coordinates: true claims stay valid whatever the matrix, false ones are refused, a matrix must have an inverse."""

from __future__ import annotations

import copy
from fractions import Fraction

import numpy as np
import pytest
from loops import FILES, REFUSED, check
from test_loop_proofs import FALSE, TRUE

from holdfast_check.arithmetic import Invalid
from holdfast_check.conditions import images
from holdfast_check.loop import obligations
from holdfast_check.problem_file import read_problem

MATRICES = {
    "turned": [["0.5", "-1"], ["1", "0.5"]],
    "one axis oblique": [["1", "0"], ["1/3", "1"]],
    "not to scale": [["0x1.8p-3", "2"], ["5", "0.75"]],
}


def skewed(proofs, matrix):
    """The same proofs in other coordinates; None where they have none."""
    (proof,) = copy.deepcopy(proofs)
    if "stages" in proof:
        proof["stages"] = [stage | {"coordinates": matrix} for stage in proof["stages"]]
    elif proof["method"] not in ("boundary", "image") or "basis" in proof:
        return None
    return [proof | {"coordinates": matrix}]


def cases(table):
    return [name for name, (_, proofs) in table.items() if skewed(proofs, []) is not None]


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("name", cases(TRUE))
def test_true_claims_are_valid(name, matrix):
    text, proofs = TRUE[name]
    assert check(text, skewed(proofs, MATRICES[matrix])).startswith("verified")


@pytest.mark.parametrize("name", cases(FALSE))
def test_false_claims_are_refused(name):
    text, proofs = FALSE[name]
    with pytest.raises(REFUSED):
        check(text, skewed(proofs, MATRICES["turned"]), count=None)


@pytest.mark.parametrize("matrix", [
    [["1", "2"], ["0.5", "1"]],
    [["0", "0"], ["0", "1"]],
    [["1", "0"]],
    [["1", "0", "0"], ["0", "1", "0"]],
    [["1", "0"], ["0"]],
    [["1", "nan"], ["0", "1"]],
    [[1, 0], [0, 1]],
    "identity",
    None,
])  # fmt: skip
@pytest.mark.parametrize("name", ["level", "attracts", "image of a level set", "attracts, two stages"])
def test_what_is_no_matrix_with_an_inverse_is_refused(name, matrix):
    text, proofs = TRUE[name]
    with pytest.raises(REFUSED):
        check(text, skewed(proofs, matrix), count=9)


def test_proofs_of_other_kinds_have_no_coordinates():
    for name in ("box", "polytope", "image of a box", "barrier"):
        text, (proof,) = TRUE[name]
        with pytest.raises(Invalid, match="keys"):
            check(text, [proof | {"coordinates": MATRICES["turned"]}], count=9)


def test_regions_contain_the_images_of_all_points_of_the_box():
    rng = np.random.default_rng(0)
    for _ in range(50):
        n = int(rng.integers(1, 5))
        matrix = [[Fraction(int(v), 8) for v in row] for row in rng.integers(-20, 20, (n, n))]
        low = [Fraction(int(v), 8) for v in rng.integers(-20, 20, n)]
        box = [(a, a + Fraction(int(w), 8)) for a, w in zip(low, rng.integers(0, 9, n), strict=True)]
        hull = images(matrix, box)
        met = [[False, False] for _ in hull]
        for share in [*np.ndindex(*(2,) * n), *rng.random((5, n)).tolist()]:
            x = [a + Fraction(s) * (b - a) for s, (a, b) in zip(share, box, strict=True)]
            for k, row in enumerate(matrix):
                y = sum(a * v for a, v in zip(row, x, strict=True))
                assert hull[k][0] <= y <= hull[k][1]
                met[k][0] |= y == hull[k][0]
                met[k][1] |= y == hull[k][1]
        assert all(low and high for low, high in met)


def test_points_outside_of_the_domain_do_not_count():
    """The box of images is larger than the domain; the function below zero there must not matter, but inside it does."""
    text, proofs = TRUE["attracts"]
    problem = read_problem(text.encode(), "", FILES.__getitem__)
    plain, skew = (obligations(problem, p).numbered[0] for p in (proofs, skewed(proofs, MATRICES["turned"])))
    assert len(skew.regions[0].cases[0]) == len(plain.regions[0].cases[0]) + 4
    assert (skew.regions[0].upper[:2] == [3.0, 3.0]).all() and (plain.regions[0].upper[:2] == [2.0, 2.0]).all()
