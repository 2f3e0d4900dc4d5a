"""Monomials of V variables up to a total degree d, as one table that all polynomials over them share.

Products of polynomials are a gather, a product and a segmented sum over the table's pairs: nothing is unrolled, so that the
same few array operations serve one polynomial and a batch of thousands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Monomials:
    """All monomials xi^a with |a| <= degree, graded: the constant first, then the variables in order, then degree 2, ...

    ``exponents`` (K, V). ``degrees`` (degree + 2,): where each degree begins. ``even`` (K,): all exponents even, so that the
    monomial lies in [0, 1] on [-1, 1]^V. ``squares`` (V,): places of xi_i^2 (degree >= 2). ``left``, ``right`` (P,): pairs whose product has degree <=
    ``degree``, sorted by that product, which is monomial k for the pairs from ``pairs[k]`` on; ``most``: pairs of one product at the most.
    """

    variables: int
    degree: int
    exponents: Array
    degrees: Array
    even: Array
    squares: Array
    left: Array
    right: Array
    pairs: Array
    most: int

    def __len__(self) -> int:
        return len(self.exponents)


@lru_cache(maxsize=128)
def monomials(variables: int, degree: int) -> Monomials:
    """The table; ``variables`` >= 0, ``degree`` >= 0 (both 0: constants)."""
    rows: list[tuple[int, ...]] = []
    degrees = [0]
    for d in range(degree + 1 if variables else 1):
        for chosen in combinations_with_replacement(range(variables), d):
            exponents = [0] * variables
            for i in chosen:
                exponents[i] += 1
            rows.append(tuple(exponents))
        degrees.append(len(rows))
    degrees += [len(rows)] * (degree + 2 - len(degrees))
    table = np.array(rows, np.int64).reshape(len(rows), variables)
    place = {row: k for k, row in enumerate(rows)}
    pairs: list[list[tuple[int, int]]] = [[] for _ in rows]
    totals = table.sum(1)
    for i in range(len(rows)):
        for j in range(len(rows)):
            if totals[i] + totals[j] <= degree:
                pairs[place[tuple(table[i] + table[j])]].append((i, j))
    joined = np.array([p for ps in pairs for p in ps], np.int64)
    counts = np.array([len(ps) for ps in pairs])
    squares = [place[tuple(2 * int(i == j) for j in range(variables))] for i in range(variables)] if degree >= 2 else []
    return Monomials(
        variables, degree, table, np.array(degrees), (table % 2 == 0).all(1), np.array(squares, np.int64),
        joined[:, 0], joined[:, 1], np.concatenate([[0], np.cumsum(counts)[:-1]]), int(counts.max()),
    )  # fmt: skip
