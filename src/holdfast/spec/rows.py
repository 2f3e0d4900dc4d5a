"""Constraints as the last nodes of a graph: products of variables, then one dense layer whose outputs are the margins.

Part of `bind`. The nodes stand outside the network (a floating-point execution does not round there), and their
coefficients are parameters, so that equal networks with equally many rows give equal graphs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from holdfast.errors import PropertyError
from holdfast.operators import GraphBuilder
from holdfast.spec.property import Constraint, Monomial, Variable
from holdfast.spec.region import number

DENSE_ENTRIES = 1 << 24  # a larger matrix of rows is first reduced to the columns in use
MAX_ENTRIES = 1 << 28


def add_rows(
    builder: GraphBuilder, features: int, columns: Mapping[Variable, int], constraints: Sequence[Constraint], name: str
) -> int:
    """Append the margins of the constraints; returns the position of the node of shape (len(constraints),).

    ``features`` is the position of a flat value; ``columns`` says where in it each variable stands.
    """
    monomials = sorted({m for c in constraints for m, _ in c.terms if len(m) > 1}, key=lambda m: (-len(m), m))
    index: dict[Monomial, int] = {}
    if monomials:
        features, index = _products(builder, features, columns, monomials)
    for constraint in constraints:
        for monomial, _ in constraint.terms:
            if len(monomial) == 1:
                index[monomial] = columns[monomial[0]]
    (width,) = builder.shape(features)
    if width * len(constraints) > DENSE_ENTRIES:
        used = sorted(set(index.values()))
        if used and len(used) < width:
            compact = {column: i for i, column in enumerate(used)}
            index = {monomial: compact[column] for monomial, column in index.items()}
            features = builder.add("gather", (features,), rounds=False, axis=0, indices=tuple(used))
            width = len(used)
        if width * len(constraints) > MAX_ENTRIES:
            raise PropertyError(f"{name}: {len(constraints)} constraints over {width} terms are too many for one query")
    weight, bias = np.zeros((width, len(constraints))), np.zeros(len(constraints))
    radius = np.zeros_like(weight)
    for row, constraint in enumerate(constraints):
        bias[row] = number(constraint.constant).lower  # a margin may only be too small
        for monomial, coefficient in constraint.terms:
            column = index[monomial]
            weight[column, row], radius[column, row] = nearest(coefficient)
    radii = (radius, None) if radius.any() else ()
    return builder.add("dense", (features,), (weight, bias), radii=radii, name="margins", rounds=False)


def nearest(value: Fraction) -> tuple[float, float]:
    """The nearest float64, and an upper bound on its distance from the exact value."""
    stored = float(value)
    return stored, number(abs(value - Fraction(stored))).upper


def _products(
    builder: GraphBuilder, features: int, columns: Mapping[Variable, int], monomials: Sequence[Monomial]
) -> tuple[int, dict[Monomial, int]]:
    """Append all monomials (sorted by falling degree) behind the features, one factor of all of them at a time."""

    def factor(k: int, group: Sequence[Monomial]) -> int:
        return builder.add("gather", (features,), rounds=False, axis=0, indices=tuple(columns[m[k]] for m in group))

    (start,) = builder.shape(features)
    parts = [features]
    index: dict[Monomial, int] = {}
    # a square has a card of its own, much tighter than a product of two values that might differ
    squares = [m for m in monomials if len(m) == 2 and m[0] == m[1]]
    if squares:
        parts.append(builder.add("square", (factor(0, squares),), rounds=False))
        index.update({m: start + i for i, m in enumerate(squares)})
        start += len(squares)
    group = [m for m in monomials if m not in index]
    value = factor(0, group) if group else features
    for k in range(1, len(group[0]) if group else 0):
        longer = [m for m in group if len(m) > k]
        if len(longer) < len(group):  # the monomials are sorted by falling degree
            value = builder.add("slice", (value,), rounds=False, slices=((0, len(longer), 1),))
        group = longer
        value = builder.add("product", (value, factor(k, group)), rounds=False)
        parts.append(value)
        index.update({m: start + i for i, m in enumerate(group) if len(m) == k + 1})
        start += len(group)
    return builder.add("concat", parts, rounds=False, axis=0), index
