"""How robustly simulated trajectories keep a claim: quantitative semantics of signal temporal logic, in plain arithmetic.

Positive: kept, negative: violated, by as much as atoms can move. Donzé, Maler, Robust satisfaction of temporal logic over real-valued
signals, FORMATS 2010. What the falsifier descends on; nothing is proved here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.bounds.bounder import flat_problem
from holdfast.invariance.escape import plain
from holdfast.reachability.claim import Claim
from holdfast.reachability.simulate import Trajectories
from holdfast.rigor import FLOAT64
from holdfast.spec.formula import Formula
from holdfast.spec.plant import LoopData

Array = np.ndarray
MOST = 1 << 22  # numbers of signals at a time


@dataclass(frozen=True)
class Decisive:
    """Where a margin comes from: ``atom`` at ``time``; ``margin`` of the atom there, in its own unit, > 0 where it holds."""

    atom: int
    time: Fraction
    margin: float


class Robustness:
    """Margins of one claim. Atoms count in units of how much each varies over the first trajectories that are measured."""

    def __init__(self, claim: Claim, data: LoopData):
        self.claim, self._plant = claim, data.plant
        self._values = flat_problem(claim.values, FLOAT64)
        self._unit: Array | None = None

    @property
    def instants(self) -> list[Fraction]:
        """Times at which windows begin and end: simulations should show them."""
        return sorted(_ends(self.claim.tree, Fraction(0)))

    def margins(self, trajectories: Trajectories, parameters: Array) -> Array:
        """(P,); NaN where a trajectory is not known."""
        with np.errstate(all="ignore"):
            return _Table(self, trajectories, parameters).value(self.claim.tree, 0, 0)[0]

    def decisive(self, trajectories: Trajectories, parameters: Array, k: int) -> Decisive:
        """What decides trajectory ``k``."""
        with np.errstate(all="ignore"):
            return _Table(self, trajectories[k : k + 1], parameters[k : k + 1]).decisive(self.claim.tree, 0)

    def atoms(self, trajectories: Trajectories, parameters: Array, first: int, last: int) -> Array:
        """Values (times, P, K) of the atoms at times number ``first`` to ``last``, in their units, > 0 where they hold."""
        count = trajectories.states.shape[1]
        signals = self._plant.signals
        chunk = max(1, MOST // max(1, count * max(len(signals), len(self.claim.texts))))
        found = []
        for start in range(first, last + 1, chunk):
            times = trajectories.times[start : min(start + chunk, last + 1)]
            v = np.zeros((len(times), count, len(signals)))
            n, m = len(signals.states), len(signals.inputs)
            v[:, :, :n] = trajectories.states[start : start + len(times)]
            v[:, :, n + m : n + m + len(signals.parameters)] = parameters
            for i, pieces in enumerate(self._plant.schedule):
                at = [float(next(value for begin, value in reversed(pieces) if begin <= t)) for t in times]
                v[:, :, len(signals) - len(signals.schedule) + i] = np.array(at)[:, None]
            found.append(-plain(self._values, v.reshape(-1, len(signals))).reshape(len(times), count, -1))
        values = np.concatenate(found)
        if self._unit is None:
            self._unit = _units(values)
        return values / self._unit

    def unit(self, atom: int) -> float:
        """What an atom is measured in."""
        return 1.0 if self._unit is None else float(self._unit[atom])


def _units(values: Array) -> Array:
    """How much each atom (times, P, K) varies; trajectories that escape must not make it meaningless."""
    known = np.where(np.isfinite(values), np.clip(values, -1e150, 1e150), np.nan)
    spread, size = np.nanstd(known, axis=(0, 1)), np.nanmax(abs(known), axis=(0, 1), initial=0.0)
    unit = np.where(spread > 1e-9 * size, spread, np.where(size > 0, size, 1.0))
    found: Array = np.fmin(unit, 1e3 * (1 + np.nan_to_num(np.nanmax(abs(known[0]), axis=0, initial=0.0))))
    return found


def hanging(formula: Formula, unit: Callable[[int], float], atoms: Array) -> int:
    """The atom that a formula without temporal operators hangs on; ``atoms`` (K,): > 0 where they hold, in their own units."""
    return _hanging(formula, unit, atoms)[0]


def _hanging(formula: Formula, unit: Callable[[int], float], atoms: Array) -> tuple[int, float]:
    if formula.operator == "atom":
        return formula.atom, float(atoms[formula.atom]) / unit(formula.atom)
    found = [_hanging(a, unit, atoms) for a in formula.arguments]
    if formula.operator == "!":
        return found[0][0], -found[0][1]
    return (min if formula.operator == "&" else max)(found, key=lambda one: one[1])


class _Table:
    """Values of formulas at the times of some trajectories; atoms are computed once, where they are needed."""

    def __init__(self, owner: Robustness, trajectories: Trajectories, parameters: Array):
        self._owner = owner
        self._times = list(trajectories.times)
        span = self._span(owner.claim.tree, 0, 0)
        if span is None:
            self._first, self._atoms = 0, np.zeros((1, trajectories.states.shape[1], 0))
        else:
            self._first = span[0]
            self._atoms = owner.atoms(trajectories, parameters, *span)

    def value(self, formula: Formula, first: int, last: int) -> Array:
        """(last - first + 1, P): the formula read at these times."""
        operator, arguments = formula.operator, formula.arguments
        if operator == "atom":
            return self._atoms[first - self._first : last + 1 - self._first, :, formula.atom]
        if operator == "!":
            return -self.value(arguments[0], first, last)
        if operator in "&|":
            values = [self.value(a, first, last) for a in arguments]
            empty = np.inf if operator == "&" else -np.inf
            if not values:
                return np.full((last - first + 1, self._atoms.shape[1]), empty)
            found: Array = (np.fmin if operator == "&" else np.fmax).reduce(values)
            return found
        begin, end = self._window(formula, first)[0], self._window(formula, last)[1]
        if operator == "U":
            held, goal = self.value(arguments[0], first, end), self.value(arguments[1], begin, end)
            return np.stack([self._until(held, goal, formula, i, first, begin) for i in range(first, last + 1)])
        inner = self.value(arguments[0], begin, end)
        join = np.fmin if operator == "G" else np.fmax  # what comes after a trajectory is lost does not count
        rows = []
        for i in range(first, last + 1):
            a, b = self._window(formula, i)
            rows.append(join.reduce(inner[a - begin : b + 1 - begin], axis=0))
        return np.stack(rows)

    def _until(self, held: Array, goal: Array, formula: Formula, i: int, first: int, begin: int) -> Array:
        a, b = self._window(formula, i)
        before = np.fmin.accumulate(held[i - first : b + 1 - first], axis=0)
        before = np.concatenate([np.full_like(before[:1], np.inf), before[:-1]])  # at all times before, not at the last
        best: Array = np.fmax.reduce(np.minimum(goal[a - begin : b + 1 - begin], before[a - i :]))
        return best

    def decisive(self, formula: Formula, i: int) -> Decisive:
        """What the value at time number i, of the only trajectory, comes from."""
        operator, arguments = formula.operator, formula.arguments
        if operator == "atom":
            margin = float(self._atoms[i - self._first, 0, formula.atom]) * self._owner.unit(formula.atom)
            return Decisive(formula.atom, self._times[i], margin)
        if operator == "!":
            return self.decisive(arguments[0], i)
        if operator in "&|":
            values = [float(self.value(a, i, i)[0, 0]) for a in arguments]
            return self.decisive(arguments[_least(values) if operator == "&" else _most(values)], i)
        a, b = self._window(formula, i)
        if operator == "U":
            held, goal = self.value(arguments[0], i, b)[:, 0], self.value(arguments[1], a, b)[:, 0]
            before = np.concatenate([[np.inf], np.fmin.accumulate(held)[:-1]])[a - i :]
            j = _most(np.minimum(goal, before))
            if goal[j] <= before[j]:
                return self.decisive(arguments[1], a + j)
            return self.decisive(arguments[0], i + _least(held[: a + j - i]))
        inner = self.value(arguments[0], a, b)[:, 0]
        return self.decisive(arguments[0], a + (_least(inner) if operator == "G" else _most(inner)))

    def _window(self, formula: Formula, i: int) -> tuple[int, int]:
        """Which times lie in the window of an operator that is read at time number i; the nearest one where none does."""
        assert formula.window is not None
        begin, end = (self._times[i] + t for t in formula.window)
        a, b = bisect_left(self._times, begin), bisect_right(self._times, end) - 1
        a, b = min(a, len(self._times) - 1), min(b, len(self._times) - 1)
        return (a, b) if a <= b else (b, b)

    def _span(self, formula: Formula, first: int, last: int) -> tuple[int, int] | None:
        """From which to which time atoms are needed."""
        if formula.operator == "atom":
            return first, last
        ranges = [(first, last)] * len(formula.arguments)
        if formula.window is not None:
            own = self._window(formula, first)[0], self._window(formula, last)[1]
            ranges = [own] if formula.operator != "U" else [(first, own[1]), own]
        found = [self._span(a, *r) for a, r in zip(formula.arguments, ranges, strict=True)]
        known = [f for f in found if f is not None]
        return (min(a for a, _ in known), max(b for _, b in known)) if known else None


def _least(values: Array | list[float]) -> int:
    return int(np.argmin(np.where(np.isnan(values), np.inf, values)))


def _most(values: Array | list[float]) -> int:
    return int(np.argmax(np.where(np.isnan(values), -np.inf, values)))


def _ends(formula: Formula, start: Fraction) -> set[Fraction]:
    """Times at which windows begin and end when everything is read as early or as late as possible."""
    found = {start}
    ends = {start} if formula.window is None else {start + formula.window[0], start + formula.window[1]}
    for argument in formula.arguments:
        for end in ends:
            found |= _ends(argument, end)
    return found
