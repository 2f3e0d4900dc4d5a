"""Proof of an escape: from a state of the set the loop certainly is outside a moment later (maps: after one step).

As long as a trajectory stays within state +- radius it moves by at most |f_i| T in time T, so it stays there if that is at most the
radius (a first-order a priori enclosure: Nedialkov, Jackson, Corliss, Validated solutions of initial value problems, 1999, section 5).
There a side g of the set rises by at least delta per unit of time. docs/certificates/loops.md, section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from holdfast.bounds.bounder import bounds_of_rows, flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.graph import Model
from holdfast.invariance.features import features, linear_forms
from holdfast.invariance.level_set import side_by_side
from holdfast.invariance.sets import Inequalities
from holdfast.loop import ClosedLoop
from holdfast.operators import INPUT
from holdfast.rigor import FLOAT64
from holdfast.spec.row import Row, row
from holdfast.transforms import evaluate
from holdfast.verdict import Escape

TIMES = 22  # tried, each a quarter of the one before
FIRST = 8  # of them at once: most escapes are coarse
FAITHFUL = 0.6  # of the rate at the start is left on the box: then the box is small enough for weaker bounds as well

Ends = tuple[Fraction, Fraction]


def all_sides(states: Inequalities, names: Sequence[str]) -> Inequalities:
    """The set with the sides of the domain, where leaving it counts, behind its own: states in order, upper, then lower."""
    if not states.domain:
        return states
    n = len(states.hull)
    width = states.functions.outputs[0].shape[0]
    unit = [[Fraction(int(i == j)) for j in range(n)] for i in range(n)]
    functions = side_by_side([states.functions, linear_forms(unit, [Fraction(0)] * n, n)], n)
    sides = list(states.sides)
    for i in range(n):
        low, high = states.hull.exact_lower(i), states.hull.exact_upper(i)
        sides.append(row({width + i: 1}, -high, f"{names[i]} <= {float(high):g}"))
        sides.append(row({width + i: -1}, low, f"{names[i]} >= {float(low):g}"))
    return Inequalities(functions, tuple(sides), states.hull, False)


class Prover:
    """Proofs of escapes from one set; graphs are made once."""

    def __init__(self, loop: ClosedLoop, states: Inequalities, property_number: int):
        self._loop, self._number = loop, property_number
        self._own, self._complete = states, all_sides(states, loop.states)
        f = features(loop, self._complete.functions, change=True, flow=True, value=False)
        assert f.change is not None and f.flow is not None
        self._change, self._flow = f.change, f.flow
        self._moving = flat_problem(f.model, FLOAT64)
        self._values = flat_problem(states.functions, FLOAT64)
        self._linear = affine(states.functions)
        self._singular = None if loop.singular is None else flat_problem(loop.singular, FLOAT64)

    @property
    def sides(self) -> tuple[Row, ...]:
        """Those of the set, and behind them those of the domain where they count."""
        return self._complete.sides

    def inside(self, x: np.ndarray) -> list[Fraction] | None:
        """Lower bounds of all sides at the point x (n,), which is proved to lie in the set; None: it is not."""
        if self._own.domain and not self._own.hull.contains(np.asarray(x, np.float64)):
            return None
        values = self._at(x)
        if values is None:
            return None
        found = [combined(g, values) for g in self._own.sides]
        if any(high > 0 for _, high in found):
            return None
        point = [Fraction(float(v)) for v in x]
        width = len(values)
        exact = [*values, *((v, v) for v in point)]
        assert all(i < width for g in self._own.sides for i, _ in g.terms)
        return [low for low, _ in found] + [combined(g, exact)[0] for g in self.sides[len(found) :]]

    def prove(self, x0: np.ndarray, w: np.ndarray, p: np.ndarray, side: int) -> Escape | None:
        """The escape through ``side`` from ``x0`` with constant disturbances and parameters, if it can be proved."""
        x0 = np.array(x0, np.float64)
        others = np.concatenate([np.asarray(w, np.float64), np.asarray(p, np.float64)])
        if not np.isfinite(x0).all() or not self._loop.others.contains(others):
            return None
        here = self.inside(x0)
        if here is None:
            return None
        empty = Escape(
            self._number, side, self.sides[side].text, tuple(x0.tolist()), tuple(np.asarray(w, float).tolist()),
            tuple(np.asarray(p, float).tolist()), 0.0, (), (), (), 0.0,
        )  # fmt: skip
        if self._loop.kind == "map":
            return self._step(empty, x0, others)
        return self._moment(empty, x0, others, here[side])

    def _step(self, escape: Escape, x0: np.ndarray, others: np.ndarray) -> Escape | None:
        v = np.concatenate([x0, others])[None]
        terms, n = self.sides[escape.side].terms, len(x0)
        low, high = self._bounds(v, v, [i for i, _ in terms])
        if not (np.isfinite(low).all() and np.isfinite(high).all()) or not self._regular(v, v)[0]:
            return None
        beyond = self._combined_change(escape.side, low[0, n:], high[0, n:])[0] + self.sides[escape.side].constant
        if beyond <= 0:
            return None
        return replace(
            escape, time=1.0, low=tuple(low[0, :n].tolist()), high=tuple(high[0, :n].tolist()), margin=below(beyond)
        )

    def _moment(self, escape: Escape, x0: np.ndarray, others: np.ndarray, here: Fraction) -> Escape | None:
        """The longest of the times that are good enough."""
        n, side = len(x0), escape.side
        hull = self._own.hull
        width = np.maximum(hull.upper - hull.lower, 1e-300)
        now = plain(self._moving, np.concatenate([x0, others])[None])[0]
        flow = now[self._flow : self._flow + n]
        rate = sum(float(c) * now[self._change + i] for i, c in self.sides[side].terms)
        if not np.isfinite(now).all() or rate <= 0:
            return None
        speed = float((abs(flow) / width).max())
        pace = 1.25 * abs(flow) + 0.05 * speed * width
        times = 0.1 / speed * 0.25 ** np.arange(TIMES)
        best: Escape | None = None
        for part in (times[:FIRST], times[FIRST:]):
            for found, faithful in self._tried(escape, x0, others, here, part, pace, rate):
                if faithful:
                    return found
                if best is None or found.margin > best.margin:
                    best = found
        return best

    def _tried(
        self, escape: Escape, x0: np.ndarray, others: np.ndarray, here: Fraction, times: np.ndarray, pace: np.ndarray, rate: float
    ) -> list[tuple[Escape, bool]]:  # fmt: skip
        """Escapes proved with some of the times, long ones first, and whether the rate is nearly as at the start."""
        n, side = len(x0), escape.side
        radius = times[:, None] * pace
        terms = [i for i, _ in self.sides[side].terms]
        found: list[tuple[Escape, bool]] = []
        for attempt in range(2):
            low = np.concatenate(
                [np.nextafter(x0 - radius, -np.inf), np.broadcast_to(others, (len(times), len(others)))], axis=1
            )
            high = np.concatenate(
                [np.nextafter(x0 + radius, np.inf), np.broadcast_to(others, (len(times), len(others)))], axis=1
            )
            lower, upper = self._bounds(low, high, terms)
            regular = self._regular(low, high)
            finite = np.isfinite(lower).all(1) & np.isfinite(upper).all(1) & regular
            fastest = np.maximum(abs(lower[:, :n]), abs(upper[:, :n]))
            found = []
            for k in np.flatnonzero(finite):
                time = Fraction(float(times[k]))
                stays = all(
                    Fraction(float(f)) * time <= Fraction(float(r)) for f, r in zip(fastest[k], radius[k], strict=True)
                )
                delta = self._combined_change(side, lower[k, n:], upper[k, n:])[0]
                end = here + time * delta
                if not stays or delta <= 0 or end <= 0:
                    continue
                ends = [
                    (x + time * Fraction(float(a)), x + time * Fraction(float(b)))
                    for x, a, b in zip(map(Fraction, x0.tolist()), lower[k, :n], upper[k, :n], strict=True)
                ]
                proved = replace(
                    escape, time=float(times[k]), radius=tuple(radius[k].tolist()), low=tuple(below(a) for a, _ in ends),
                    high=tuple(-below(-b) for _, b in ends), margin=below(end),
                )  # fmt: skip
                found.append((proved, float(delta) >= FAITHFUL * rate))
            if found or attempt:
                break
            grown = 1.1 * times[:, None] * np.where(np.isfinite(fastest), fastest, 0.0)
            radius = np.maximum(radius, grown)
        return found

    def _bounds(self, low: np.ndarray, high: np.ndarray, changes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of f, and of the changes of some functions behind it."""
        n = len(self._loop.states)
        rows = np.zeros((n + len(changes), self._moving.graph[self._moving.graph.outputs[0]].shape[0]))
        rows[np.arange(n), self._flow + np.arange(n)] = 1.0
        rows[n + np.arange(len(changes)), self._change + np.array(changes, int)] = 1.0
        return bounds_of_rows(self._moving, low, high, rows, "backward")

    def _combined_change(self, side: int, low: np.ndarray, high: np.ndarray) -> Ends:
        """The side's own combination of changes: its coefficients are exact."""
        terms = self.sides[side].terms
        ends = [(Fraction(float(a)), Fraction(float(b))) for a, b in zip(low, high, strict=True)]
        return (
            sum((min(c * a, c * b) for (_, c), (a, b) in zip(terms, ends, strict=True)), Fraction(0)),
            sum((max(c * a, c * b) for (_, c), (a, b) in zip(terms, ends, strict=True)), Fraction(0)),
        )

    def _regular(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """On which of the boxes a mass matrix is certainly invertible."""
        if self._singular is None:
            return np.ones(len(low), bool)
        least, most = bounds_of_rows(self._singular, low, high, np.eye(1), "backward")
        return (least[:, 0] > 0) | (most[:, 0] < 0)

    def _at(self, x: np.ndarray) -> list[Ends] | None:
        """The set's functions at a point: in rational numbers where they are linear, else bounds."""
        if self._linear is not None:
            weights, lost, shift, shift_lost = self._linear
            point = [Fraction(float(v)) for v in x]
            ends = []
            for k in range(weights.shape[1]):
                used = [i for i in range(len(point)) if weights[i, k] or lost[i, k]]
                middle = sum((Fraction(float(weights[i, k])) * point[i] for i in used), Fraction(float(shift[k])))
                doubt = sum((Fraction(float(lost[i, k])) * abs(point[i]) for i in used), Fraction(float(shift_lost[k])))
                ends.append((middle - doubt, middle + doubt))
            return ends
        width = self._values.graph[self._values.graph.outputs[0]].shape[0]
        low, high = bounds_of_rows(self._values, x[None], x[None], np.eye(width), "backward")
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return None
        return [(Fraction(float(a)), Fraction(float(b))) for a, b in zip(low[0], high[0], strict=True)]


def prove(
    loop: ClosedLoop, states: Inequalities, property_number: int, x0: np.ndarray, w: np.ndarray, p: np.ndarray, side: int
) -> Escape | None:  # fmt: skip
    """One proof: see `Prover.prove`."""
    return Prover(loop, states, property_number).prove(x0, w, p, side)


def plain(problem: Problem, v: np.ndarray) -> np.ndarray:
    """Outputs at points (P, N), not proved; what is constant comes without the axis of points."""
    output = problem.graph.outputs[0]
    with np.errstate(all="ignore"):
        out = evaluate(problem.graph, problem.parameters, [v])[output]
    return np.broadcast_to(out, (len(v), *problem.graph[output].shape))


def combined(g: Row, values: Sequence[Ends]) -> Ends:
    """The row's range, the doubt about its constant included."""
    low = g.constant + sum((min(c * values[i][0], c * values[i][1]) for i, c in g.terms), Fraction(0))
    high = g.constant + g.doubt + sum((max(c * values[i][0], c * values[i][1]) for i, c in g.terms), Fraction(0))
    return low, high


def affine(functions: Model) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """x -> x W + b as (W, what it is off, b, what that is off), where the model is just that."""
    graph = functions.graph
    nodes = [node for node in graph.nodes if node.op != INPUT]
    if len(nodes) != 1 or nodes[0].op != "dense" or graph[graph.outputs[0]] is not nodes[0]:
        return None
    found = []
    for key in nodes[0].parameters:
        value = np.asarray(functions.parameters[key], np.float64)
        found += [value, np.broadcast_to(functions.radii.get(key, np.zeros(())), value.shape)]
    return (found[0], found[1], found[2], found[3]) if len(found) == 4 else None


def below(exact: Fraction) -> float:
    """A float64 number not above."""
    near = float(exact)
    return near if Fraction(near) <= exact else float(np.nextafter(near, -np.inf))
