"""Contraction to an equilibrium (section 5 of the format of certificates of loops).

Bounds of the Jacobian of f on a piece of the ellipsoid make an interval matrix; that its flow shrinks all differences in the norm of P is
decided with outward rounding. With v = f(c)' P f(c) the ellipsoid of level r is kept if v <= lambda^2 r, so that the least such lambda
is tried (a map: mu = 1 - sqrt(v / r)). Both inequalities are linear in J after a Schur complement:

    ode: -(P J + J' P) - 2 lambda P > 0;     map: J' P J < mu^2 P, which is [[mu P, J' P], [P J, mu P]] > 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast_check.arithmetic import Invalid
from holdfast_check.bounds import enclose
from holdfast_check.conditions import Space, singular
from holdfast_check.derivative import Derivatives
from holdfast_check.formula import number
from holdfast_check.matrices import (
    Matrix,
    family,
    inverse,
    normalising,
    positive_definite,
    root_above,
    times,
    transposed,
)
from holdfast_check.network import Node
from holdfast_check.problem import Pair, Problem, quadratic
from holdfast_check.property import enclosing
from holdfast_check.slicing import sliced

MOST = 2**14  # pieces
Interval = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Contraction:
    problem: Problem
    center: list[Fraction]
    P: list[list[Fraction]]
    level: Fraction

    def check(self, tick: Callable[[], None]) -> None:
        """Raises `Invalid` unless the ellipsoid is kept and shrinks to one equilibrium."""
        P, r = self.P, self.level
        if r <= 0 or transposed(P) != P or not positive_definite(P):
            raise Invalid("P is not symmetric and positive definite, or the level of an equilibrium is not positive")
        low, high = self.rates([(c, c) for c in self.center], tick)
        # of f(c) (or f(c) - c): more than sqrt(v / r)
        shift = self.center if self.problem.kind == "map" else [Fraction(0)] * len(P)
        least = root_above(largest(P, [(a - c, b - c) for a, b, c in zip(low, high, shift, strict=True)]) / r)
        reach = [root_above(r * row[i]) for i, row in enumerate(inverse(P))]
        nodes, output, free = self.jacobian()
        # the centre alone comes first: where it fails no piece about it succeeds
        stack, count, shrinks = [[(c - d, c + d) for c, d in zip(self.center, reach, strict=True)]], 0, self.test(least)
        while stack:
            boxes, stack = [*stack[-32:], *([] if count else [[(c, c) for c in self.center]])], stack[:-32]
            lower, upper = enclose(nodes, output, ends([[*box, *free] for box in boxes]), tick)
            good = (lower[:, -1] > 0) | (np.all(lower[:, len(P) ** 2 : -1] > 0, axis=1) & shrinks(lower, upper))
            count += len(boxes)
            for box in (box for box, fine in zip(boxes, good.tolist(), strict=True) if not fine):
                i = max(range(len(box)), key=lambda i: (box[i][1] - box[i][0]) / reach[i])
                middle = (box[i][0] + box[i][1]) / 2
                if count + len(stack) > MOST or box[i][1] - box[i][0] < reach[i] / 2**12:
                    what = f"not known to contract (at least {float(least):.3g} is asked for)"
                    raise Invalid(f"the Jacobian near {[float(a) for a, _ in box]} is {what}")
                stack += [[*box[:i], half, *box[i + 1 :]] for half in ((box[i][0], middle), (middle, box[i][1]))]

    def test(self, least: Fraction) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """On which boxes all matrices between ends of the Jacobian (B, n n, ...) shrink differences. In coordinates z with x = T z, so that P
        becomes near to the identity; N = T' P T."""
        n, T = len(self.P), normalising(self.P)
        A, N, t = (np.array(m, dtype=float) for m in (times(transposed(T), self.P), congruent(self.P, T), T))
        ode, zero = self.problem.kind == "ode", np.zeros((n, n))
        if not ode:
            rate = np.nextafter(float(1 - least), -np.inf)
            constant, left, right = (
                np.block([[rate * N, zero], [zero, rate * N]]),
                np.vstack([zero, A]),
                np.hstack([t, zero]),
            )
            return lambda lower, upper: family(constant, left, right, lower, upper) & (rate > 0)
        rate = np.nextafter(float(max(least, Fraction(1, 2**60))), np.inf)  # any lambda > 0
        return lambda lower, upper: family(-2 * rate * N, -A, t, lower, upper)

    def rates(self, box: Sequence[Pair], tick: Callable[[], None]) -> tuple[list[Fraction], list[Fraction]]:
        s = Space(self.problem)
        nodes, output = sliced(s.f.nodes, s.f.emit(s.rates()).place)
        return exact(*enclose(nodes, output, ends([[*box, *s.box]]), tick))

    def jacobian(self) -> tuple[tuple[Node, ...], int, list[Pair]]:
        """Nodes of its entries, of what is positive where the formulas are smooth, and of (x - c)' P (x - c) - r; the box of parameters."""
        s, n = Space(self.problem), len(self.center)
        f, rates = s.f, s.f.emit(s.rates()).place
        made, columns = Derivatives(f), []
        for j in range(n):
            seed = f.gather([None] * (n + len(s.free)), bias=np.eye(n + len(s.free))[j]).place
            column = made.along(rates, {s.input: seed})
            columns.append([number(0)] * n if column is None else f.elements(f.nodes[column]))
        entries = [columns[j][i] for i in range(n) for j in range(n)]
        distance = quadratic(f, self.P, self.center, s.x, self.level)
        return (*sliced(f.nodes, f.emit([*entries, *singular(f), distance]).place), s.box)


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
