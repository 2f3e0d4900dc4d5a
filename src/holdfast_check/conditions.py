"""Conditions: what must hold of no point of a region (section 3 of the format of certificates of loops).

A condition becomes a `Query`, as a property of a network does: nodes, regions (boxes), and cases, which are conjunctions of rows.
Where a formula divides, or takes a root, a logarithm, ..., each set asked about gets further cases, which the certificate does not
count: on no point of the set may the argument lie where the function is not smooth. So the closed loop is defined and Lipschitz there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from holdfast_check.derivative import Derivatives
from holdfast_check.formula import Formulas, Number, Sum, number, plus, scale
from holdfast_check.matrices import Matrix, inverse
from holdfast_check.problem import Inequality, Pair, Problem, affine, beyond
from holdfast_check.property import Region, enclosing
from holdfast_check.query import Query
from holdfast_check.slicing import sliced

Row = tuple[Sum, bool]
Case = list[Row]
MINUS = Fraction(-1)


@dataclass(frozen=True)
class Function:
    """h, as a formula of the states, and what a level that h is compared with becomes."""

    value: Callable[[Formulas, Sequence[Sum]], Sum]
    level: Callable[[Fraction], Number | float] = lambda c: c


def singular(f: Formulas) -> list[Sum]:
    """Of all nodes so far: sums that are positive where each function is smooth."""
    found: list[Sum] = []
    for node in list(f.nodes):
        if node.kind in ("reciprocal", "log", "sqrt", "tan", "asin"):
            for z in f.elements(f.nodes[node.inputs[0]]):
                limit = {"tan": Fraction("1.57") ** 2, "asin": Fraction(1)}.get(node.kind, Fraction(0))
                square = f.product(z, z)
                found.append(
                    z if node.kind in ("log", "sqrt") else square if not limit else plus(number(limit), square, MINUS)
                )
    return found


@dataclass
class Space:
    """The free variables of a condition: coordinates of the state, then (`moving`) disturbances and parameters.

    `matrix`: Y, where the coordinates are y = Y x; regions are given as boxes of x all the same."""

    problem: Problem
    moving: bool = True
    matrix: Matrix | None = None
    f: Formulas = field(default_factory=lambda: Formulas([]))
    x: list[Sum] = field(default_factory=list)

    def __post_init__(self) -> None:
        n, free = len(self.problem.states), self.problem.free if self.moving else []
        self.input = self.f.append("input", (), n + len(free)).place
        variables = self.f.elements(self.f.nodes[0])
        self.x, self.free = variables[:n], variables[n:]
        self.box = free
        if self.matrix is not None:  # derivatives are those by x, a node of its own
            back = [affine(row, self.x, [Fraction(0)] * n) for row in inverse(self.matrix)]
            node = self.f.emit(back)
            self.input, self.x = node.place, self.f.elements(node)

    def rates(self) -> list[Sum]:
        return self.problem.dynamics(self.f, self.x, self.free)

    def moved(self, sums: Sequence[Sum], rates: Sequence[Sum]) -> list[Sum]:
        """The derivatives of sums along the flow; the coordinates are the states, or made from them by the matrix."""
        f, n = self.f, len(self.x)
        place, values = f.emit(rates).place, f.emit(sums)
        seed = f.gather([(place, k) for k in range(n)] + [None] * (f.nodes[self.input].size - n)).place
        made = Derivatives(f).along(values.place, {self.input: seed})
        return [number(0)] * len(sums) if made is None else f.elements(f.nodes[made])

    def query(
        self, regions: Sequence[tuple[Sequence[Pair], Sequence[Case]]], members: Sequence[Row] | None = None
    ) -> Query:
        """`members` are rows that a set asked about satisfies, in the first region: it gets the cases of `singular`."""
        f = self.f
        if self.matrix is not None:
            within = [self.within(box) for box, _ in regions]
            members = None if members is None else [*members, *within[0]]
            regions = [
                (images(self.matrix, box), [[*case, *rows] for case in cases])
                for rows, (box, cases) in zip(within, regions, strict=True)
            ]
        f.emit([value for _, cases in regions for case in cases for value, _ in case] or [number(0)])
        more = [] if members is None else [[*members, (value, False)] for value in singular(f)]
        full = [([*box, *self.box], [*cases, *(more if k == 0 else [])]) for k, (box, cases) in enumerate(regions)]
        return queried(f, full)

    def within(self, box: Sequence[Pair]) -> Case:
        """That x is in a box, as far as the box of images does not say so."""
        assert self.matrix is not None
        skew = [i for i, row in enumerate(self.matrix) if any(v != (i == j) for j, v in enumerate(row))]
        return [(one.value, False) for one in self.problem.sides(self.x, {i: box[i] for i in skew})]


def images(matrix: Matrix, box: Sequence[Pair]) -> list[Pair]:
    """The smallest box that contains matrix x for all x in a box."""
    ends = [[sorted((a * low, a * high)) for a, (low, high) in zip(row, box, strict=True)] for row in matrix]
    return [(sum((e[0] for e in row), Fraction(0)), sum((e[1] for e in row), Fraction(0))) for row in ends]


def queried(f: Formulas, regions: Sequence[tuple[Sequence[Pair], Sequence[Case]]]) -> Query:
    """Regions, boxes of all free variables, and their cases."""
    rows = list(
        {
            (id(value), strict): (value, strict) for _, cases in regions for case in cases for value, strict in case
        }.values()
    )
    place = {(id(value), strict): k for k, (value, strict) in enumerate(rows)}
    nodes, output = sliced(f.nodes, f.emit([value for value, _ in rows] or [number(0)]).place)
    found = []
    for box, cases in regions:
        ends = [low for low, _ in box], [high for _, high in box]
        numbers = tuple(tuple(place[id(value), strict] for value, strict in case) for case in cases)
        found.append(
            Region(enclosing(ends[0], False), enclosing(ends[1], True), tuple(ends[0]), tuple(ends[1]), numbers)
        )
    return Query(nodes, output, f.nodes[0].size, np.array([s for _, s in rows], bool), tuple(found), ())


def flow_out(rates: Sequence[Sum], box: Sequence[Pair], rows: Case) -> list[tuple[list[Pair], list[Case]]]:
    """For each side of a box, upper before lower: it as a region, and the case that the flow leaves the box there."""
    found = []
    for i, ends in enumerate(box):
        for e, sign in ((ends[1], MINUS), (ends[0], -MINUS)):
            face = [*box[:i], (e, e), *box[i + 1 :]]
            found.append((face, [[*rows, (scale(rates[i], sign), True)]]))
    return found


def decrease(
    problem: Problem, h: Function, box: list[Pair], a: Fraction, b: Fraction, matrix: Matrix | None = None
) -> Query:
    s = Space(problem, matrix=matrix)
    value, rates = h.value(s.f, s.x), s.rates()
    below: Row = (beyond(value, h.level(b), 1), False)
    (rate,) = s.moved([value], rates)
    case = [below, (beyond(value, h.level(a), -1), False), (scale(rate, MINUS), False)]
    return s.query([(box, [case])], [below])


def stay(problem: Problem, h: Function, box: list[Pair], b: Fraction) -> Query:
    s = Space(problem)
    below = (beyond(h.value(s.f, s.x), h.level(b), 1), False)
    return s.query(flow_out(s.rates(), box, [below]))


def step(
    problem: Problem, h: Function, box: list[Pair], a: Fraction, b: Fraction, matrix: Matrix | None = None
) -> Query:
    s = Space(problem, matrix=matrix)
    rates = s.rates()
    now, then = h.value(s.f, s.x), h.value(s.f, rates)
    below: Row = (beyond(now, h.level(b), 1), False)
    cases: list[Case] = [[below, (beyond(then, h.level(b), -1), True)]]
    if a < b:
        cases.append([below, (beyond(now, h.level(a), -1), False), (plus(now, then, MINUS), False)])
        cases.append([(beyond(now, h.level(a), 1), False), (beyond(then, h.level(a), -1), True)])
    cases += [[below, violated(side)] for side in problem.sides(rates, dict(enumerate(box)))]
    return s.query([(box, cases)], [below])


def violated(one: Inequality) -> Row:
    """That an inequality does not hold."""
    return scale(one.value, MINUS), not one.strict


def reached_rows(s: Space, reached: Sequence[tuple[Function, Fraction]]) -> Case:
    """h_j - a_j <= 0 for all stages."""
    return [(beyond(h.value(s.f, s.x), h.level(a), 1), False) for h, a in reached]


def later(
    problem: Problem, box: list[Pair], stages: Sequence[tuple[Function, Fraction]], matrix: Matrix | None = None
) -> Query:
    """The last function falls where it is at least its level, in what the stages before it keep; a map keeps what is below, too."""
    s, (h, a) = Space(problem, matrix=matrix), stages[-1]
    before, rates, value = reached_rows(s, stages[:-1]), s.rates(), h.value(s.f, s.x)
    above: Row = (beyond(value, h.level(a), -1), False)
    if problem.kind == "ode":
        return s.query([(box, [[*before, above, (scale(s.moved([value], rates)[0], MINUS), False)]])], before)
    then = h.value(s.f, rates)
    falls: Case = [*before, above, (plus(value, then, MINUS), False)]
    stays: Case = [*before, (beyond(value, h.level(a), 1), False), (beyond(then, h.level(a), -1), True)]
    return s.query([(box, [falls, stays])], before)


def inside(
    problem: Problem,
    reached: Sequence[tuple[Function, Fraction]],
    box: list[Pair],
    target: Callable[[Space], list[Inequality]],
    moving: bool = True,
    matrix: Matrix | None = None,
) -> Query:
    s = Space(problem, moving, matrix)
    rows = reached_rows(s, reached)
    return s.query([(box, [[*rows, violated(one)] for one in target(s)])], rows)
