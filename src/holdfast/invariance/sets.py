"""Sets of states as conjunctions of inequalities g_k(x) <= 0, in the order certificates count them in.

docs/certificates/loops.md, section 2. What is linear stays exact; quadratic functions become sums of squares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import flint
import numpy as np

from holdfast.errors import InputError
from holdfast.graph import Model
from holdfast.invariance.features import linear_forms, sum_of_squares
from holdfast.loop import ClosedLoop
from holdfast.spec.region import Box
from holdfast.spec.row import Row, row
from holdfast.spec.temporal import BoxSet, Conditions, Ellipsoid, Level, SetOfStates

Matrix = Sequence[Sequence[Fraction]]


@dataclass(frozen=True, eq=False)
class Inequalities:
    """{x : sides[k] <= 0 for all k}: rows over the values (K,) of the functions ``functions`` of the states.

    ``hull``: a box that contains the set. ``domain``: whether leaving the hull is leaving the set, so that its sides
    belong to the set as well.
    """

    functions: Model
    sides: tuple[Row, ...]
    hull: Box
    domain: bool = False


def inequalities(states: SetOfStates, loop: ClosedLoop, where: str) -> Inequalities:
    """The set as inequalities. ``where``: how messages call it. Raises InputError where it has no bounded hull."""
    if isinstance(states, Ellipsoid):
        forms, weights = square_root_free(states.P, where)
        h = sum_of_squares(forms, weights, states.center, -states.level)
        return Inequalities(h, (row({0: 1}, 0, f"{where} <= {float(states.level):g}"),), ellipsoid_hull(states))
    if isinstance(states, Level):
        domain = bounded_domain(loop, where)
        h, stripped = loop.function(states.function)
        sides = []
        for end, sign, word in ((states.at_most, 1, "<="), (states.at_least, -1, ">=")):
            if end is not None:
                low, high = level(end, stripped)
                text = f"{states.function} {word} {float(end):g}"
                sides.append(row({0: sign}, -high if sign > 0 else low, text, doubt=high - low))
        return Inequalities(h, tuple(sides), domain, True)
    if isinstance(states, Conditions):
        values = loop.on_states(states.values)
        if any(states.strict):
            raise InputError(f"{where}: a set that is never left must be closed, so `<` and `>` are not accepted here")
        sides = [row({k: 1}, 0, text) for k, text in enumerate(states.texts)]
        return Inequalities(values, tuple(sides), bounded_domain(loop, where), True)
    if isinstance(states, BoxSet):
        n = len(loop.states)
        unit = [[Fraction(int(i == j)) for j in range(n)] for i in range(n)]
        highs = [
            row({i: 1}, -states.ends[i][1], f"{loop.states[i]} <= {float(states.ends[i][1]):g}")
            for i in sorted(states.ends)
        ]
        lows = [
            row({i: -1}, states.ends[i][0], f"{loop.states[i]} >= {float(states.ends[i][0]):g}")
            for i in sorted(states.ends)
        ]
        if len(states.ends) < n:
            missing = next(name for i, name in enumerate(loop.states) if i not in states.ends)
            raise InputError(f"{where}: the box leaves state {missing} open; a bounded set is needed")
        hull = Box.of([states.ends[i][0] for i in range(n)], [states.ends[i][1] for i in range(n)])
        return Inequalities(linear_forms(unit, [Fraction(0)] * n, n), (*highs, *lows), hull)
    raise InputError(f"{where}: a set of this kind is not supported here")


Enclosed = tuple[Fraction, Fraction]  # float64 numbers (or exact ones) around a level


def level(c: Fraction, stripped: bool) -> Enclosed:
    """The level in terms of the function without its sigmoid, between two numbers; c itself where it has none."""
    if not stripped:
        return c, c
    if c >= 1 or c <= 0:  # beyond all values of the function
        far = Fraction(10) ** 300 * (1 if c >= 1 else -1)
        return far, far
    exact = flint.arb(flint.fmpq(c.numerator, c.denominator))
    ball = (exact / (1 - exact)).log()
    low, high = (
        Fraction(math.nextafter(float(end), way)) for end, way in ((ball.lower(), -math.inf), (ball.upper(), math.inf))
    )
    return low, high


def bounded_domain(loop: ClosedLoop, where: str) -> Box:
    """The plant's domain; InputError where some state has no ends in it."""
    plant = loop.data.plant
    if plant.domain is None or not all(plant.bounded or [True] * len(loop.states)):
        free = [s for i, s in enumerate(loop.states) if plant.domain is None or not plant.bounded[i]]
        raise InputError(f"{where}: needs [plant] domain with ends for every state; {', '.join(free)} has none")
    return plant.domain


def square_root_free(P: Matrix, where: str) -> tuple[list[list[Fraction]], list[Fraction]]:
    """P = sum_k weight_k form_k' form_k (Cholesky without square roots), exact; InputError unless P is positive definite."""
    n = len(P)
    left = [[Fraction(v) for v in entries] for entries in P]
    forms, weights = [], []
    for k in range(n):
        pivot = left[k][k]
        if pivot <= 0:
            raise InputError(f"{where}: the matrix P must be positive definite")
        form = [left[k][j] / pivot if j >= k else Fraction(0) for j in range(n)]
        for i in range(k, n):
            for j in range(k, n):
                left[i][j] -= pivot * form[i] * form[j]
        forms.append(form)
        weights.append(pivot)
    return forms, weights


def rational_matrix(rows: Matrix) -> flint.fmpq_mat:
    """The matrix for exact linear algebra."""
    return flint.fmpq_mat(
        len(rows), len(rows[0]), [flint.fmpq(v.numerator, v.denominator) for entries in rows for v in entries]
    )


def inverse(rows: Matrix) -> list[list[Fraction]] | None:
    """The exact inverse, None where there is none."""
    try:
        found = rational_matrix(rows).inv()
    except ZeroDivisionError:
        return None
    n = len(rows)
    return [[Fraction(int(found[i, j].p), int(found[i, j].q)) for j in range(n)] for i in range(n)]


def ellipsoid_hull(states: Ellipsoid) -> Box:
    """center +- sqrt(level (P^-1)_ii), outward."""
    turned = inverse(states.P)
    assert turned is not None  # positive definite
    reach = [root_above(states.level * turned[i][i]) for i in range(len(turned))]
    return Box.of(
        [c - r for c, r in zip(states.center, reach, strict=True)],
        [c + r for c, r in zip(states.center, reach, strict=True)],
    )


def root_above(square: Fraction) -> Fraction:
    """A float64 number not below the square root."""
    near = math.sqrt(float(square))
    while Fraction(near) ** 2 < square:
        near = float(np.nextafter(near, np.inf))
    return Fraction(near)
