"""Small matrices of exact rational numbers: inverse, positive definite or not, and whole families of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import numpy as np

from holdfast_check.arithmetic import Invalid

Matrix = Sequence[Sequence[Fraction]]


def inverse(matrix: Matrix) -> list[list[Fraction]]:
    n = len(matrix)
    rows = [[*map(Fraction, row), *(Fraction(i == j) for j in range(n))] for i, row in enumerate(matrix)]
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(rows[i][k]))
        if rows[pivot][k] == 0:
            raise Invalid("a matrix has no inverse")
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [v / rows[k][k] for v in rows[k]]
        for i in range(n):
            if i != k and rows[i][k] != 0:
                factor = rows[i][k]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[n:] for row in rows]


def times(a: Matrix, b: Matrix) -> list[list[Fraction]]:
    columns = list(zip(*b, strict=True))
    return [[sum((x * y for x, y in zip(row, column, strict=True)), Fraction(0)) for column in columns] for row in a]


def combined(a: Matrix, b: Matrix, factor: Fraction | int = 1) -> list[list[Fraction]]:
    """a + factor b."""
    return [[x + factor * y for x, y in zip(p, q, strict=True)] for p, q in zip(a, b, strict=True)]


def transposed(a: Matrix) -> list[list[Fraction]]:
    return [list(column) for column in zip(*a, strict=True)]


def root_above(q: Fraction) -> Fraction:
    """A number at least sqrt(q), and close to it."""
    top = Fraction(math.isqrt(q.numerator * q.denominator * 4**60) + 1, q.denominator * 2**60)
    return top if q else q


def positive_definite(matrix: Matrix) -> bool:
    """By elimination: all pivots of a symmetric matrix are positive."""
    rows = [list(row) for row in matrix]
    for k in range(len(rows)):
        if rows[k][k] <= 0:
            return False
        for i in range(k + 1, len(rows)):
            factor = rows[i][k] / rows[k][k]
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    return True


def rounded(matrix: Matrix, bits: int = 60) -> list[list[Fraction]]:
    """Near by, with short numbers."""
    return [[Fraction(round(v * 2**bits), 2**bits) for v in row] for row in matrix]


def all_positive_definite(center: Matrix, changes: Sequence[Matrix]) -> bool:
    """Whether center + sum t_k changes_k is positive definite for all |t_k| <= 1; all are symmetric. False may also mean: not known.

    Affine in t, so that the corners decide; where these are many, sum |changes_k| bounds all entries of the sum, and of a symmetric matrix
    within C +- E it is enough to look at C - S E S for all diagonal S of signs (Rohn, Positive definiteness and stability of interval
    matrices, 1994), or at C - e I with e the largest row sum of E, weighted (Gershgorin).
    """
    if not positive_definite(center):
        return False
    n = len(center)
    if len(changes) <= 10:
        corners = product((-1, 1), repeat=len(changes))
        return all(positive_definite(summed(center, changes, signs)) for signs in corners)
    radius = [[sum((abs(c[i][j]) for c in changes), Fraction(0)) for j in range(n)] for i in range(n)]
    weights = np.abs(np.linalg.eigh(np.array(radius, dtype=float))[1][:, -1]) + 1e-9
    w = [Fraction(float(v)) for v in weights]
    most = max(sum((radius[i][j] * w[j] for j in range(n)), Fraction(0)) / w[i] for i in range(n))
    if positive_definite([[v - most * (i == j) for j, v in enumerate(row)] for i, row in enumerate(center)]):
        return True
    if n > 10:
        return False
    every = ((1, *signs) for signs in product((-1, 1), repeat=n - 1))
    return all(
        positive_definite([[center[i][j] - s[i] * s[j] * radius[i][j] for j in range(n)] for i in range(n)])
        for s in every
    )


def summed(center: Matrix, changes: Sequence[Matrix], signs: Sequence[int]) -> list[list[Fraction]]:
    total = [list(row) for row in center]
    for change, sign in zip(changes, signs, strict=True):
        total = combined(total, change, sign)
    return total


def normalising(P: Matrix) -> list[list[Fraction]]:
    """T, invertible, with T' P T near to the identity."""
    root = np.linalg.cholesky(np.array(P, dtype=float))
    T = [[Fraction(float(v)) for v in row] for row in np.linalg.inv(root).T]
    inverse(T)  # refuses one that is singular
    return T
