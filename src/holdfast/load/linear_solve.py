"""Small linear systems inside a traced function (a mass matrix): solved by cofactors, so that bounds can follow.

Called by `load.jaxpr` for what `jnp.linalg.solve` and `jnp.linalg.inv` become. Where the determinant may vanish its
reciprocal has no bounds, and whoever asks is told so. Horn, Johnson, Matrix Analysis, section 0.8.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from holdfast.load.elements import Elements, NoTranslation, Translation, Value

_LARGEST = 4  # cofactors of larger matrices would be hundreds of products

Scalars = Sequence[Sequence[Value]]


def solve(t: Translation, matrix: np.ndarray, right: np.ndarray) -> Elements:
    """x with matrix x_k = right_k; ``matrix`` (n, n), ``right`` and the result (k, n), all numbers of elements."""
    n = matrix.shape[0]
    if n > _LARGEST:
        raise NoTranslation(f"of {n} unknowns, at most {_LARGEST} are accepted")
    a: Scalars = [[Elements(matrix[i, j]) for j in range(n)] for i in range(n)]
    if n == 1:
        inverse = t.unary("reciprocal", a[0][0])
        return Elements(np.array([[t.elements(t.multiply(Elements(b[0]), inverse)).ids] for b in right]))
    cofactors = [[_determinant(t, _minor(a, i, j)) for j in range(n)] for i in range(n)]
    inverse = t.unary("reciprocal", _sum(t, [(t.multiply(a[0][j], cofactors[0][j]), (-1) ** j) for j in range(n)]))
    rows = []
    for b in right:
        row = []
        for i in range(n):  # Cramer's rule: cofactors of column i against the right side
            terms = [(t.multiply(Elements(b[j]), cofactors[j][i]), (-1) ** (i + j)) for j in range(n)]
            row.append(t.elements(t.multiply(_sum(t, terms), inverse)).ids)
        rows.append(row)
    return Elements(np.array(rows))


def _minor(a: Scalars, row: int, column: int) -> Scalars:
    return [[v for j, v in enumerate(line) if j != column] for i, line in enumerate(a) if i != row]


def _determinant(t: Translation, a: Scalars) -> Value:
    """Expansion along the first row; equal products are one node."""
    if len(a) == 1:
        return a[0][0]
    return _sum(t, [(t.multiply(v, _determinant(t, _minor(a, 0, j))), (-1) ** j) for j, v in enumerate(a[0])])


def _sum(t: Translation, terms: Sequence[tuple[Value, int]]) -> Value:
    (total, sign), *others = terms
    total = total if sign > 0 else t.scale(total, -1.0)
    for term, sign in others:
        total = t.add(total, term, sign)
    return total
