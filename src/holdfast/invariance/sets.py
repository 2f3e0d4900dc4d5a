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
from holdfast.spec.temporal import BoxSet, Conditions, Ellipsoid, Level, Polytope, SetOfStates

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
        return Inequalities(
            h, (row({0: 1}, 0, f"(x - center)' P (x - center) <= {float(states.level):g}"),), ellipsoid_hull(states)
        )
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
        if len(states.ends) < n:
            missing = next(name for i, name in enumerate(loop.states) if i not in states.ends)
            raise InputError(f"{where}: the box leaves state {missing} open; a bounded set is needed")
        sides = [
            row({i: 1}, -high, f"{loop.states[i]} <= {float(high):g}") for i, (_, high) in sorted(states.ends.items())
        ]
        sides += [
            row({i: -1}, low, f"{loop.states[i]} >= {float(low):g}") for i, (low, _) in sorted(states.ends.items())
        ]
        hull = Box.of([states.ends[i][0] for i in range(n)], [states.ends[i][1] for i in range(n)])
        return Inequalities(_identity(n), tuple(sides), hull)
    if isinstance(states, Polytope):
        shift = [-sum((a * c for a, c in zip(form, states.center, strict=True)), Fraction(0)) for form in states.H]
        sides = [
            row({k: 1}, -end, f"row {k + 1} <= {float(end):g}") for k, end in enumerate(states.upper) if end is not None
        ]
        sides += [
            row({k: -1}, end, f"row {k + 1} >= {float(end):g}") for k, end in enumerate(states.lower) if end is not None
        ]
        return Inequalities(
            linear_forms(states.H, shift, len(states.center)), tuple(sides), polytope_hull(states, where)
        )
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


def basis(states: Polytope, first: int | None) -> list[int]:
    """n independent rows with two ends, narrow ones preferred, ``first`` (which may be open on one side) among them.

    Raises InputError where there are not enough: the set is unbounded, or H has not full column rank.
    """
    n = len(states.center)
    H = np.array([[float(v) for v in entries] for entries in states.H])
    width = [
        float(high - low) if high is not None and low is not None else np.inf
        for low, high in zip(states.lower, states.upper, strict=True)
    ]
    score = np.array(width) / np.maximum(np.linalg.norm(H, axis=1), 1e-300)
    order = sorted((k for k in range(len(H)) if np.isfinite(score[k]) and k != first), key=lambda k: score[k])
    if first is not None:
        order.insert(0, first)
    chosen: list[int] = []
    rest = H / np.linalg.norm(H, axis=1, keepdims=True)
    for k in order:  # Gram-Schmidt
        size = float(np.linalg.norm(rest[k]))
        if size > 1e-9:
            chosen.append(k)
            direction = rest[k] / size
            rest = rest - np.outer(rest @ direction, direction)
        if len(chosen) == n:
            return chosen
    raise InputError(f"polytope: {n} independent rows of H with two finite ends are needed, there are {len(chosen)}")


def polytope_hull(states: Polytope, where: str) -> Box:
    """A box around a polytope, from the coordinates of n of its rows: outward, but not the smallest one."""
    rows = basis(states, None)
    turned = inverse([states.H[k] for k in rows])
    if turned is None:
        raise InputError(f"{where}: rows of H are linearly dependent")
    ends = [(states.lower[k], states.upper[k]) for k in rows]
    lows, highs = [], []
    for form, c in zip(turned, states.center, strict=True):
        reach = [
            sorted((a * low, a * high))
            for a, (low, high) in zip(form, ends, strict=True)
            if low is not None and high is not None
        ]
        lows.append(c + sum((r[0] for r in reach), Fraction(0)))
        highs.append(c + sum((r[1] for r in reach), Fraction(0)))
    return Box.of(lows, highs)


def _identity(n: int) -> Model:
    unit = [[Fraction(int(i == j)) for j in range(n)] for i in range(n)]
    return linear_forms(unit, [Fraction(0)] * n, n)


def root_above(square: Fraction) -> Fraction:
    """A float64 number not below the square root."""
    near = math.sqrt(float(square))
    while Fraction(near) ** 2 < square:
        near = float(np.nextafter(near, np.inf))
    return Fraction(near)
