"""Small matrices: of exact rational numbers, and families of float64 ones that are positive definite for certain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from holdfast_check.arithmetic import TINY, Invalid, gamma

Matrix = Sequence[Sequence[Fraction]]


def inverse(matrix: Matrix) -> list[list[Fraction]]:
    n = len(matrix)
    rows = [[*map(Fraction, row), *(Fraction(i == j) for j in range(n))] for i, row in enumerate(matrix)]
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(rows[i][k]))
        if rows[pivot][k] == 0:
            raise Invalid("a matrix has no inverse")
        rows[k], rows[pivot] = rows[pivot], rows[k]
        whole = rows[k][k]
        rows[k] = [v / whole if v else v for v in rows[k]] if whole != 1 else rows[k]
        for i in range(n):
            if i != k and rows[i][k] != 0:
                factor = rows[i][k]
                rows[i] = [a - factor * b if b else a for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[n:] for row in rows]


def independent(rows: Matrix, row: Sequence[Fraction]) -> bool:
    """Whether a further row is no combination of independent ones."""
    left = [list(r) for r in rows] + [list(row)]
    for i in range(len(rows)):
        k = next(c for c, v in enumerate(left[i]) if v)
        for j in range(i + 1, len(left)):
            factor = left[j][k] / left[i][k]
            left[j] = [a - factor * b for a, b in zip(left[j], left[i], strict=True)] if factor else left[j]
    return any(left[-1])


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


@np.errstate(all="ignore")
def surely_positive(matrices: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Which of the symmetric matrices (..., k, k) are positive definite whatever symmetric matrix of entries up to `error` (...) is added:
    Cholesky's factorisation of what is left after more than k error, and than its own errors, is taken off the diagonal succeeds
    (Rump, Verification of positive definiteness, BIT 46, 2006)."""
    k = matrices.shape[-1]
    trace = np.abs(np.diagonal(matrices, axis1=-2, axis2=-1)).sum(axis=-1)
    left = matrices - ((k + 1) * error + gamma(8 * k + 40) * trace + TINY)[..., None, None] * np.eye(k)
    good = np.isfinite(left).all(axis=(-2, -1))
    for i in range(k):
        good &= left[..., i, i] > 0
        column = left[..., i] / np.sqrt(np.where(good, left[..., i, i], 1.0))[..., None]
        left = left - column[..., None, :] * column[..., :, None]
    return good


@np.errstate(all="ignore")
def family(
    constant: np.ndarray, left: np.ndarray, right: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> np.ndarray:
    """For which boxes (B, n n, ...) constant + L J R + (L J R)' is positive definite for all J in them; false may also mean: not known.

    Each entry of J that varies by r adds at most r (a t' + t a'), a a column of L and t a row of R. The largest ones are put at both ends
    (what is affine in J is decided at the corners); others are at most r (x a a' + y t t') with x y >= 1, in either direction."""
    n = left.shape[1]
    lower, upper = (end[:, : n * n].reshape(-1, n, n) for end in (lower, upper))
    middle = 0.5 * lower + 0.5 * upper
    radius = np.nextafter(np.maximum(upper - middle, middle - lower), np.inf) * (upper > lower)
    sizes = np.abs(left).max(axis=0)[:, None] * np.abs(right).max(axis=1)[None]
    terms = np.abs(left) @ (np.abs(middle) + radius) @ np.abs(right)
    one = np.abs(left).sum(axis=0)[:, None] * np.abs(right).sum(axis=1)[None]
    error = gamma(n * n + 100) * (
        np.abs(constant).max()
        + 4 * terms.max(axis=(1, 2))
        + 4 * (radius * one * n).sum(axis=(1, 2))
        + 4 * (radius * sizes).sum(axis=(1, 2))
    )  # of sums of products, each of up to n n + 100 roundings
    start = left @ middle @ right
    start = constant + (start + start.swapaxes(1, 2))
    order = np.argsort(-(radius * one).reshape(len(radius), -1).max(axis=0))
    found = np.zeros(len(start), bool)
    for corners in (0, 4, 8):
        matrices = start[:, None]
        for place in order[: n * n]:
            i, j = divmod(int(place), n)
            r, a, t = radius[:, i, j][:, None, None, None], left[:, i], right[j]
            if not np.any(r):
                continue
            if place in order[:corners]:
                change = r * (np.outer(a, t) + np.outer(t, a))
                matrices = np.concatenate([matrices + change, matrices - change], axis=1)
            elif np.any(a) and np.any(t):
                x = np.sqrt((t @ t) / (a @ a))
                matrices = matrices - r * (x * np.outer(a, a) + np.nextafter(1 / x, np.inf) * np.outer(t, t))
        found |= surely_positive(matrices, error[:, None]).all(axis=1)
        if found.all():
            break
    return found


def normalising(P: Matrix) -> list[list[Fraction]]:
    """T, invertible, with T' P T near to the identity."""
    root = np.linalg.cholesky(np.array(P, dtype=float))
    T = [[Fraction(float(v)) for v in row] for row in np.linalg.inv(root).T]
    inverse(T)  # refuses one that is singular
    return T
