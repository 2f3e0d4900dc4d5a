"""Sampled feedback (section 7 of the format of certificates of loops): a set that is never left, though the inputs are held for a period.

Between samples the state is a polynomial of the time since, plus a remainder. The certificate names a box that no trajectory leaves within a
period, and a box of remainders; both are proved here by conditions of the checker's own. The numbered condition says that the flow points inwards
wherever such a trajectory meets the boundary of the set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice, pairwise
from math import factorial
from typing import Any

import numpy as np

from holdfast_check.arithmetic import Invalid, Unreadable
from holdfast_check.bounds import enclose
from holdfast_check.conditions import MINUS, Case, queried, singular
from holdfast_check.contraction import congruent
from holdfast_check.derivative import Derivatives
from holdfast_check.flow import along, jacobian
from holdfast_check.formula import Formulas, Sum, number, plus, scale
from holdfast_check.matrices import Matrix, inverse, times
from holdfast_check.problem import Inequality, Pair, Problem, affine
from holdfast_check.property import enclosing
from holdfast_check.query import Query
from holdfast_check.slicing import sliced

HIGHEST = 12  # order
PIECES = 64  # (a power of two) boxes over which the bounds of controllers and Jacobians are joined
WIDER = Fraction(1, 2**36)
Box = list[Pair]
Tick = Callable[[], None]


@dataclass(frozen=True)
class Hold:
    """The choices of the certificate: order, a box that is not left within a period, a box of remainders."""

    order: int
    states: Box
    remainder: Box


@dataclass
class Turned(Problem):
    """The same loop in coordinates z = Y (x - center)."""

    rows: Matrix = ()
    center: Sequence[Fraction] = ()

    def variables(self, x: Sequence[Sum], free: Sequence[Sum]) -> dict[str, Sum]:
        shift = [Fraction(0)] * len(x)
        back = [plus(affine(row, x, shift), number(c)) for row, c in zip(inverse(self.rows), self.center, strict=True)]
        return super().variables(back, free)

    def plant_rates(self, f: Formulas, x: Sequence[Sum], free: Sequence[Sum], inputs: Mapping[str, Sum]) -> list[Sum]:
        rates = super().plant_rates(f, x, free, inputs)
        return [affine(row, rates, [Fraction(0)] * len(row)) for row in self.rows]


def turned(problem: Problem, given: Mapping[str, Any], Y: Matrix) -> tuple[Problem, Mapping[str, Any]]:
    """The loop, and an ellipsoid, in such coordinates."""
    center, P, level = problem.ellipsoid(given["ellipsoid"])
    ellipsoid = {"P": congruent(P, inverse(Y)), "level": level}  # about 0
    return Turned(**vars(problem), rows=Y, center=center), {"ellipsoid": ellipsoid}


def held(problem: Problem, given: Mapping[str, Any], X: Box, hold: Hold, tick: Tick) -> tuple[Query, list[Query]]:
    """The condition that a set is not left, and what must be proved before; X: a box that contains the set."""
    if problem.period is None or not 1 <= hold.order <= HIGHEST:
        raise Invalid("the loop is not a sampled one, or the order is not from 1 to 12")
    hold = Hold(hold.order, wider(hold.states, WIDER), wider(hold.remainder, WIDER))
    try:
        U, smooth = controls(problem, X, tick)
        d = deviation(problem, hold, U, tick)
        own = [smooth, meant(problem, given, hold), remainder(problem, hold, U, d), stays(problem, hold, X)]
        return outward(problem, given, hold, X, not any(d)), own
    except Unreadable as error:
        raise Invalid(f"the sampled loop: {error}") from None


def wider(box: Box, share: Fraction) -> Box:
    """What is proved of a larger box holds of the one named, whose ends may owe all their room to rounding of another kind."""
    return [(low - share * more, high + share * more) for low, high in box for more in [max(abs(low), abs(high))]]


# ---- formulas


def variables(*counts: int) -> tuple[Formulas, list[list[Sum]]]:
    """Free variables, in groups."""
    f = Formulas([])
    whole = f.elements(f.append("input", (), sum(counts)))
    ends = np.cumsum([0, *counts]).tolist()
    return f, [whole[a:b] for a, b in pairwise(ends)]


def sizes(problem: Problem) -> tuple[int, int, int, int]:
    return len(problem.states), len(problem.inputs), len(problem.disturbances), len(problem.parameters)


def inputs(problem: Problem, f: Formulas, x: Sequence[Sum], free: Sequence[Sum]) -> dict[str, Sum]:
    """What the controller holds: variables, which do not move with what they are made of."""
    made = problem.controls(f, x, free)
    values = f.elements(f.emit([made[u] for u in problem.inputs])) if problem.inputs else []
    return dict(zip(problem.inputs, values, strict=True))


def nominal(problem: Problem) -> list[Fraction]:
    """w0, float64 numbers."""
    found = []
    for pair in problem.disturbances.values():
        low, high = (enclosing([end], upper)[0] for end, upper in zip(pair, (False, True), strict=True))
        found.append(Fraction(float(np.clip(0.5 * low + 0.5 * high, low, high))))
    return found


def nominal_rates(problem: Problem, f: Formulas, x: Sequence[Sum], p: Sequence[Sum], u: Mapping[str, Sum]) -> list[Sum]:
    return problem.plant_rates(f, x, [*map(number, nominal(problem)), *p], u)


def polynomial(
    f: Formulas, x: Sequence[Sum], lies: Sequence[Sequence[Sum]], share: Sum, h: Fraction, last: Sequence[Sum], e: int
) -> list[Sum]:
    """T + share^e last, share = s / h, by Horner's rule; `lies` are L^1 x, ..., L^(q-1) x."""
    found = []
    for i, state in enumerate(x):
        total = number(0)
        for j in range(max(len(lies), e), 0, -1):
            if j <= len(lies):
                total = plus(total, lies[j - 1][i], h**j / factorial(j))
            total = f.product(plus(total, last[i]) if j == e else total, share)
        found.append(plus(state, total))
    return found


# ---- what is proved before


def controls(problem: Problem, X: Box, tick: Tick) -> tuple[Box, Query]:
    """U: bounds of what the controller sets on X; and the query whether the controller is smooth there."""
    n, _, k, m = sizes(problem)
    f, (x, w, p) = variables(n, k, m)
    made = problem.controls(f, x, [*w, *p])
    box = [*X, *problem.free]
    place = f.emit([made[u] for u in problem.inputs]).place if problem.inputs else None
    rough = [[(value, False)] for value in singular(f)]
    bounds = [] if place is None else joined(f, place, box, tick)
    return bounds, queried(f, [(box, rough)])


def meant(problem: Problem, given: Mapping[str, Any], hold: Hold) -> Query:
    """Whether what describes the set is smooth on it."""
    f, (x,) = variables(len(problem.states))
    rows: Case = [(one.value, False) for one in problem.inequalities(f, given, x)]
    f.emit([value for value, _ in rows])
    return queried(f, [(hold.states, [[*rows, (value, False)] for value in singular(f)])])


def deviation(problem: Problem, hold: Hold, U: Box, tick: Tick) -> list[Fraction]:
    """d: how far disturbances may move the state from where it is without, within a period."""
    n, m, k, _ = sizes(problem)
    far = [
        max(abs(a - w), abs(b - w)) for (a, b), w in zip(problem.disturbances.values(), nominal(problem), strict=True)
    ]
    if not any(far):
        return [Fraction(0)] * n
    f, (x, u, w, p) = variables(n, m, k, len(problem.parameters))
    rates = problem.plant_rates(f, x, [*w, *p], dict(zip(problem.inputs, u, strict=True)))
    rows = jacobian(f, [*x, *w], rates)
    ends = joined(f, f.emit([v for row in rows for v in row]).place, [*hold.states, *U, *problem.free], tick)
    table = [ends[i * (n + k) : (i + 1) * (n + k)] for i in range(n)]
    M = [[max(Fraction(0) if i == j else -row[j][0], row[j][1]) for j in range(n)] for i, row in enumerate(table)]
    c = [sum((max(-low, high) * r for (low, high), r in zip(row[n:], far, strict=True)), Fraction(0)) for row in table]
    return series(M, c, problem.period or Fraction(0))


def series(M: Sequence[Sequence[Fraction]], c: Sequence[Fraction], h: Fraction) -> list[Fraction]:
    """At least sum_k h^(k+1) / (k+1)! M^k c, for M, c >= 0: beyond a term whose successor is below half of it in norm, all others together are
    at most that term's norm."""
    rate, total, term = h * max(sum(row, Fraction(0)) for row in M), [Fraction(0)] * len(c), [h * v for v in c]
    for k in range(1, 300):
        total = [a + b for a, b in zip(total, term, strict=True)]
        if 2 * rate <= k + 1 and (k > 2 * rate + 24 or not any(term)):
            rest = max(term)
            return [v + rest if any(c) else v for v in total]
        term = [Fraction(-(-v * h * 2**200 // (k + 1)), 2**200) for (v,) in times(M, [[v] for v in term])]  # upward
    raise Invalid("disturbances move the state too fast within a period")


def remainder(problem: Problem, hold: Hold, U: Box, d: Sequence[Fraction]) -> Query:
    """On B x U x P: h^q / q! L^q x lies where the box of remainders leaves room for d; and on B x U x P x W the plant is smooth."""
    n, m, k, more = sizes(problem)
    f, (x, u, p, w) = variables(n, m, more, k)
    named = dict(zip(problem.inputs, u, strict=True))
    problem_rates = problem.plant_rates(f, x, [*w, *p], named)
    f.emit(problem_rates)
    last = along(f, x, nominal_rates(problem, f, x, p, named), hold.order)[-1]
    factor = (problem.period or Fraction(0)) ** hold.order / factorial(hold.order)
    cases: list[Case] = []
    for value, (low, high), more_ in zip(last, hold.remainder, d, strict=True):
        bottom, top = low + more_, high - more_
        if any(d) and not bottom <= 0 <= top:  # of all states: (s/h)^q t is s/h times a point of the hull of t and 0
            raise Invalid("the box of remainders has no room for what disturbances can do")
        term = scale(value, factor)
        cases += [[(plus(number(top), term, MINUS), True)], [(plus(term, number(-bottom)), True)]]
    free = [*problem.parameters.values(), *problem.disturbances.values()]
    f.emit([row[0][0] for row in cases])
    cases += [[(value, False)] for value in singular(f)]
    return queried(f, [([*hold.states, *U, *free], cases)])


def stays(problem: Problem, hold: Hold, X: Box) -> Query:
    """T and the remainder lie in the interior of B, at all times of a period."""
    n, _, k, more = sizes(problem)
    f, (x, w, p, (share,)) = variables(n, k, more, 1)
    u = inputs(problem, f, x, [*w, *p])
    lies = along(f, x, nominal_rates(problem, f, x, p, u), hold.order - 1) if hold.order > 1 else []
    T = polynomial(f, x, lies, share, problem.period or Fraction(0), [number(0)] * n, 1)
    cases: list[Case] = []
    for value, (low, high), (bottom, top) in zip(T, hold.states, hold.remainder, strict=True):
        room = high - max(top, Fraction(0)), low - min(bottom, Fraction(0))
        cases += [[(plus(number(room[0]), value, MINUS), False)], [(plus(value, number(-room[1])), False)]]
    return queried(f, [([*X, *problem.free, (Fraction(0), Fraction(1))], cases)])


# ---- the condition


def outward(problem: Problem, given: Mapping[str, Any], hold: Hold, X: Box, undisturbed: bool) -> Query:
    n, _, k, more = sizes(problem)
    f, (x, w, (share,), r, p, v) = variables(n, k, 1, n, more, k)
    u = inputs(problem, f, x, [*w, *p])
    lies = along(f, x, nominal_rates(problem, f, x, p, u), hold.order - 1) if hold.order > 1 else []
    y = polynomial(f, x, lies, share, problem.period or Fraction(0), r, hold.order if undisturbed else 1)
    place = f.emit(y)
    Y = f.elements(place)
    now = [(one.value, False) for one in problem.inequalities(f, given, x) if not one.side]
    found = ordered(problem.inequalities(f, given, Y))
    then: Case = [(one.value, False) for one in found]
    flow, values = f.emit(problem.plant_rates(f, Y, [*v, *p], u)), f.emit([one.value for one in found])
    made = Derivatives(f).along(values.place, {place.place: flow.place})
    moved = [number(0)] * len(found) if made is None else f.elements(f.nodes[made])
    cases: list[Case] = []
    for j, rate in enumerate(moved):
        rest = [row for i, row in enumerate(then) if i != j]
        cases.append([*now, *rest, then[j], (scale(then[j][0], MINUS), False), (scale(rate, MINUS), False)])
    W, P = list(problem.disturbances.values()), list(problem.parameters.values())
    return queried(f, [([*X, *W, (Fraction(0), Fraction(1)), *hold.remainder, *P, *W], cases)])


def ordered(found: Sequence[Inequality]) -> list[Inequality]:
    """Sides of the domain last, first all upper, then all lower ones."""
    own, sides = [one for one in found if not one.side], [one for one in found if one.side]
    return [*own, *sides[::2], *sides[1::2]]


# ---- bounds


def joined(f: Formulas, place: int, box: Box, tick: Tick) -> Box:
    """Bounds of the elements of a node on a box, from pieces of it."""
    nodes, output = sliced(f.nodes, place)
    low, high = (enclosing([pair[upper] for pair in box], bool(upper)) for upper in (0, 1))
    boxes = [(low, high)]
    wide = [i for i in range(len(box)) if high[i] > low[i]]
    for i in islice(cycle(wide), PIECES.bit_length() - 1):
        boxes = [half for piece in boxes for half in halves(*piece, i)]
    below, above_ = enclose(nodes, output, (np.array([a for a, _ in boxes]), np.array([b for _, b in boxes])), tick)
    if not (np.isfinite(below).all() and np.isfinite(above_).all()):
        raise Invalid("a sampled loop has no bounds on the box of its states")
    ends = zip(below.min(axis=0).tolist(), above_.max(axis=0).tolist(), strict=True)
    return [(Fraction(a), Fraction(b)) for a, b in ends]


def halves(low: np.ndarray, high: np.ndarray, i: int) -> list[tuple[np.ndarray, np.ndarray]]:
    middle, left, right = 0.5 * low[i] + 0.5 * high[i], high.copy(), low.copy()
    left[i] = right[i] = middle
    return [(low, left), (right, high)]
