"""Three-valued signals that are constant in pieces, and the operators of signal temporal logic on them, exactly.

Second station of reachability: `monitor` makes the signals of predicates from flow tubes. A signal is a sequence of cells, instants and
the open intervals between them in turn. Maler, Nickovic, Monitoring temporal properties of continuous signals, FORMATS 2004.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.spec.formula import Formula, Window

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Signal:
    """``values`` (cells, 2, ...): known to hold; possible, that is not known to fail.

    Dense time: cell 2i is the instant times[i], cell 2i + 1 the open interval behind it, the last without end. ``discrete``: cell i is
    the step times[i], these follow one another, and the last cell is all that come later.
    """

    times: tuple[Fraction, ...]
    values: Array
    discrete: bool

    def cell(self, time: Fraction) -> int:
        """The cell of a time from times[0] on."""
        i = bisect_right(self.times, time) - 1
        if self.times[i] == time:
            return i if self.discrete else 2 * i
        return len(self.times) if self.discrete else 2 * i + 1

    def within(self, times: Sequence[Fraction]) -> Array:
        """The values (cells', 2, ...) on the cells that ``times`` make; each must lie in one cell of this signal."""
        return self.values[[self.cell(t) for t in _inside(times, self.discrete)]]


def evaluate(formula: Formula, predicates: Sequence[Signal], window: Window) -> Signal:
    """The signal of a formula, right at the times of ``window``; atom k of it is the signal of predicate k."""
    if formula.operator == "atom":
        return predicates[formula.atom]
    if formula.operator == "!":
        inner = evaluate(formula.arguments[0], predicates, window)
        return Signal(inner.times, ~inner.values[:, ::-1], inner.discrete)
    if formula.operator in "&|":
        found = [evaluate(a, predicates, window) for a in formula.arguments]
        times = _union(found, predicates)
        values = [s.within(times) for s in found]
        join = np.logical_and if formula.operator == "&" else np.logical_or
        like = predicates[0]
        if not values:
            shape = (2 * len(times) if not like.discrete else len(times) + 1, *like.values.shape[1:])
            return Signal(times, np.full(shape, formula.operator == "&"), like.discrete)
        return Signal(times, join.reduce(values), like.discrete)
    assert formula.window is not None
    first, last = formula.window
    moved = window[0] + first, window[1] + last
    if formula.operator == "U":
        held = evaluate(formula.arguments[0], predicates, (window[0], moved[1]))
        goal = evaluate(formula.arguments[1], predicates, (window[0], moved[1]))
        times = _union([held, goal], predicates)
        held, goal = (Signal(times, s.within(times), s.discrete) for s in (held, goal))
        return _until(held, goal, formula.window, window)
    inner = evaluate(formula.arguments[0], predicates, moved)
    return _quantified(inner, formula.window, window, formula.operator == "G")


def _inside(times: Sequence[Fraction], discrete: bool) -> list[Fraction]:
    """A time in each of the cells; in the last one, behind all."""
    if discrete:
        return [*times, times[-1] + 1]
    found = []
    for i, t in enumerate(times):
        found += [t, (t + times[i + 1]) / 2 if i + 1 < len(times) else t + 1]
    return found


def _union(signals: Sequence[Signal], like: Sequence[Signal]) -> tuple[Fraction, ...]:
    if not signals:
        return like[0].times[:1]
    start = max(s.times[0] for s in signals)
    found = tuple(sorted({start, *(t for s in signals for t in s.times if t >= start)}))
    if not signals[0].discrete:
        return found
    return tuple(start + k for k in range(int(found[-1] - start) + 1))


def _read(signal: Signal, operator: Window, window: Window, until: bool = False) -> tuple[Fraction, ...]:
    """Times that part those at which the operator is read, so that what it sees in between is always the same."""
    if signal.discrete:
        return tuple(window[0] + k for k in range(int(window[1] - window[0]) + 1))
    shifts = (*operator, Fraction(0)) if until else operator
    inner = {t - by for t in signal.times for by in shifts}
    return tuple(sorted({*window, *(t for t in inner if window[0] < t < window[1])}))


def _quantified(signal: Signal, operator: Window, window: Window, every: bool) -> Signal:
    """G (``every``) or F."""
    times = _read(signal, operator, window)
    at = _inside(times, signal.discrete)
    first = np.array([signal.cell(t + operator[0]) for t in at])
    last = np.array([signal.cell(t + operator[1]) for t in at])
    seen = _counts(~signal.values if every else signal.values)
    found = seen[last + 1] - seen[first] > 0
    return Signal(times, ~found if every else found, signal.discrete)


def _until(held: Signal, goal: Signal, operator: Window, window: Window) -> Signal:
    """Both signals have the same times."""
    times = _read(held, operator, window, until=True)
    at = _inside(times, held.discrete)
    here, first, last = (np.array([held.cell(t + by) for t in at]) for by in (Fraction(0), *operator))
    cells = len(held.values)
    number = np.arange(cells).reshape(-1, *([1] * (held.values.ndim - 1)))
    broken = np.minimum.accumulate(np.where(held.values, cells, number)[::-1])[
        ::-1
    ]  # first cell from here on not held in
    end = broken[here]
    instant = np.ones_like(number, bool) if held.discrete else number % 2 == 0
    shape = (-1, *([1] * (held.values.ndim - 1)))
    found = np.zeros((len(at), *held.values.shape[1:]), bool)
    # at an instant the goal may be reached just as holding ends; within an open interval there were times before it
    for kind, limit in ((instant, end), (~instant, end - 1)):
        seen = _counts(goal.values & kind)
        upto = np.minimum(last.reshape(shape), limit) + 1
        upto = np.maximum(upto, first.reshape(shape))
        found |= np.take_along_axis(seen, upto, axis=0) - seen[first] > 0
    if operator[0] == 0:  # at once: nothing needs to hold before
        found |= goal.values[here]
    return Signal(times, found, held.discrete)


def _counts(values: Array) -> Array:
    """How many cells before each one are true (cells + 1, ...)."""
    total = np.cumsum(values, axis=0, dtype=np.int32)
    return np.concatenate([np.zeros_like(total[:1]), total])
