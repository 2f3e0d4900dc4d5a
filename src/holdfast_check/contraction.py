"""Contraction to an equilibrium (section 5 of the format of certificates of loops).

Bounds of the Jacobian of f over a box, piece by piece, make an interval matrix; that its flow shrinks all differences in the norm of P is
decided in exact rational numbers. With v = f(c)' P f(c) the ellipsoid of level r is kept if v <= lambda^2 r, so that the least such lambda
is tried (a map: mu = 1 - sqrt(v / r)). Both inequalities are linear in J after a Schur complement:

    ode: -(P J + J' P) - 2 lambda P > 0;     map: J' P J < mu^2 P, which is [[mu P, J' P], [P J, mu P]] > 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, product
from typing import Any

import numpy as np

from holdfast_check.arithmetic import Invalid
from holdfast_check.bounds import enclose
from holdfast_check.conditions import Space, pruned, singular
from holdfast_check.derivative import Derivatives
from holdfast_check.formula import number
from holdfast_check.matrices import (
    Matrix,
    all_positive_definite,
    combined,
    inverse,
    normalising,
    positive_definite,
    root_above,
    times,
    transposed,
)
from holdfast_check.problem import Pair, Problem
from holdfast_check.property import enclosing

MOST = 2**16  # pieces
Interval = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Contraction:
    problem: Problem
    center: list[Fraction]
    P: list[list[Fraction]]
    level: Fraction
    widths: list[Fraction]
    parts: Any

    def check(self, tick: Callable[[], None]) -> None:
        """Raises `Invalid` unless the ellipsoid is kept and shrinks to one equilibrium."""
        n, P, r = len(self.center), self.P, self.level
        counts = (
            isinstance(self.parts, list) and len(self.parts) == n and all(type(k) is int and k > 0 for k in self.parts)
        )
        if not counts or min(self.widths) <= 0 or r <= 0 or np.prod(self.parts, dtype=float) > MOST:
            raise Invalid(
                f"the box, its parts (more than {MOST}?) or the level of an equilibrium are not positive numbers"
            )
        if transposed(P) != P or not positive_definite(P):
            raise Invalid("P is not symmetric and positive definite")
        if any(r * row[i] > d * d for i, (row, d) in enumerate(zip(inverse(P), self.widths, strict=True))):
            raise Invalid("the ellipsoid about the equilibrium does not lie in its box")
        low, high = self.rates([(c, c) for c in self.center], tick)
        # of f(c) (or f(c) - c): more than sqrt(v / r)
        off = [
            (a - c, b - c) if self.problem.kind == "map" else (a, b)
            for a, b, c in zip(low, high, self.center, strict=True)
        ]
        least = root_above(largest(P, off) / r)
        lower, upper = self.jacobian(tick)
        middle = [[(a + b) / 2 for a, b in zip(p, q, strict=True)] for p, q in zip(lower, upper, strict=True)]
        radii = [[(b - a) / 2 for a, b in zip(p, q, strict=True)] for p, q in zip(lower, upper, strict=True)]
        if not self.shrinks(middle, radii, least):
            raise Invalid(
                f"the Jacobian on the box about the equilibrium is not known to contract (at least {float(least):.3g} is asked for)"
            )

    def shrinks(self, middle: Matrix, radii: Matrix, least: Fraction) -> bool:
        """In coordinates z with x = T z, P becomes near to the identity."""
        n, P, zero = len(self.P), self.P, [[Fraction(0)] * len(self.P)] * len(self.P)
        T = normalising(P)
        if self.problem.kind == "map":
            factor = 1 - least
            if factor <= 0:
                return False
            T = [[*row, *[Fraction(0)] * n] for row in T] + [[*[Fraction(0)] * n, *row] for row in T]

            def block(diagonal: Matrix, corner: Matrix) -> Matrix:
                turned = transposed(corner)
                return [[*a, *b] for a, b in zip(diagonal, turned, strict=True)] + [
                    [*a, *b] for a, b in zip(corner, diagonal, strict=True)
                ]

            def linear(J: Matrix) -> Matrix:
                return congruent(block(zero, times(P, J)), T)

            constant = congruent(block([[factor * v for v in row] for row in P], zero), T)
        else:

            def linear(J: Matrix) -> Matrix:
                PJ = times(P, J)
                return congruent([[-v for v in row] for row in combined(PJ, transposed(PJ))], T)

            rate = max(least, Fraction(1, 2**60))  # any lambda > 0
            constant = congruent([[-2 * rate * v for v in row] for row in P], T)
        changes = []
        for i in range(n):
            for j in range(n):
                if radii[i][j]:
                    single = [[radii[i][j] * (p == i and q == j) for q in range(n)] for p in range(n)]
                    changes.append(linear(single))
        return all_positive_definite(combined(linear(middle), constant), changes)

    def rates(self, box: Sequence[Pair], tick: Callable[[], None]) -> tuple[list[Fraction], list[Fraction]]:
        s = Space(self.problem)
        nodes, output = pruned(s.f.nodes, s.f.emit(s.rates()).place)
        return exact(*enclose(nodes, output, ends([[*box, *s.box]]), tick))

    def jacobian(self, tick: Callable[[], None]) -> tuple[list[list[Fraction]], list[list[Fraction]]]:
        """Lower and upper ends, over all pieces."""
        s, n = Space(self.problem), len(self.center)
        f, rates = s.f, s.f.emit(s.rates()).place
        made, columns = Derivatives(f), []
        for j in range(n):
            seed = f.gather([None] * (n + len(s.free)), bias=np.eye(n + len(s.free))[j]).place
            column = made.along(rates, {s.input: seed})
            columns.append([number(0)] * n if column is None else f.elements(f.nodes[column]))
        entries = [columns[j][i] for i in range(n) for j in range(n)]
        smooth = singular(f)
        nodes, output = pruned(f.nodes, f.emit([*entries, *smooth]).place)
        low, high, pieces = np.full(n * n, np.inf), np.full(n * n, -np.inf), self.pieces(s.box)
        while boxes := list(islice(pieces, 32)):
            lower, upper = enclose(nodes, output, ends(boxes), tick)
            if not np.all(lower[:, n * n :] > 0):
                raise Invalid("near the equilibrium the formulas are not known to be smooth")
            low, high = np.minimum(low, lower[:, : n * n].min(axis=0)), np.maximum(high, upper[:, : n * n].max(axis=0))
        a, b = exact(low[None], high[None])
        return [a[i * n : i * n + n] for i in range(n)], [b[i * n : i * n + n] for i in range(n)]

    def pieces(self, free: Sequence[Pair]) -> Iterator[list[Pair]]:
        axes = [
            [(c - d + 2 * d * k / m, c - d + 2 * d * (k + 1) / m) for k in range(m)]
            for c, d, m in zip(self.center, self.widths, self.parts, strict=True)
        ]
        return ([*piece, *free] for piece in product(*axes))


def congruent(matrix: Matrix, T: Matrix) -> Matrix:
    return times(transposed(T), times(matrix, T))


def ends(boxes: Sequence[Sequence[Pair]]) -> Interval:
    """Boxes as arrays (B, inputs), rounded outward."""
    low, high = ([enclosing([pair[k] for pair in box], bool(k)) for box in boxes] for k in (0, 1))
    return np.array(low), np.array(high)


def exact(lower: np.ndarray, upper: np.ndarray) -> tuple[list[Fraction], list[Fraction]]:
    """Of one box: finite ends as fractions."""
    if not (np.isfinite(lower).all() and np.isfinite(upper).all() and np.all(lower <= upper)):
        raise Invalid("near the equilibrium the formulas have no bounds")
    return [Fraction(v) for v in lower[0].tolist()], [Fraction(v) for v in upper[0].tolist()]


def largest(P: Matrix, box: Sequence[Pair]) -> Fraction:
    """At least v' P v for all v of a box."""
    total = Fraction(0)
    for i, row in enumerate(P):
        for j, weight in enumerate(row):
            total += max(weight * a * b for a in box[i] for b in box[j])
    return max(total, Fraction(0))
