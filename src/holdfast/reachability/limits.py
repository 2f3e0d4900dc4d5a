"""Why a tube ends before its horizon: when, which state, and which error did it.

What is made anew in every period is told apart: the remainder of the steps in time, the controller's enclosure, the cut of polynomials,
disturbances. Plain arithmetic: it explains, nothing rests on it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np

from holdfast.loop.tube import Front, Segment
from holdfast.sets.taylor_model import TaylorModel

Array = np.ndarray
LARGE = 5.0  # errors in units of what the tube has gone through: too wide to go on
SHORTEST = Fraction(1, 100_000)  # step, as a share of the horizon
GROWTH = 6  # power of the time with which errors may grow: as many integrators in a row

SOURCES = {
    "polynomial": "the initial set itself, which spreads",
    "step": "the remainder of the steps in time",
    "controller": "the enclosure of the controller",
    "order": "the degree of the polynomials",
    "disturbance": "the disturbances",
}


@dataclass(frozen=True)
class Stopped:
    """The end of a tube before its horizon.

    ``why``: the enclosure blew up, or the time or the memory was used up. ``box``: which initial box did not get further than ``time``, ``state``:
    its widest state there (in units of what it has gone through), ``width``: how wide. ``shares``: where that comes from, largest first, in sum 1.
    """

    why: Literal["blow-up", "time", "memory"]
    time: Fraction
    box: int
    state: str
    width: float
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The largest share, in words."""
        return SOURCES[next(iter(self.shares))] if self.shares else "unknown"


def errors(states: TaylorModel) -> Array:
    """Half-widths (B, n) of what is no polynomial: symbols and error."""
    return abs(states.terms[len(states.basis) :]).sum(0) + states.error


def scale(extent: Array) -> Array:
    """What widths are measured by: the way gone through, and for states that do not move a share of the others."""
    return np.maximum(extent, 1e-3 * extent.max(-1, keepdims=True)) + 1e-9


class Course:
    """What the boxes 0 ... B - 1 of one front go through, and how their errors grow: whether it makes sense to go on."""

    def __init__(self, front: Front, horizon: Fraction):
        self._horizon = horizon
        self._size = front.states.spread()
        self._low = self._high = front.states.terms[0]
        self._history: list[tuple[Fraction, Array]] = []  # errors (B, n) at the ends of periods

    def update(self, front: Front) -> None:
        """The front has come so far."""
        self._low, self._high = self._gone(front)
        now = np.zeros_like(self._low)
        np.maximum.at(now, front.origin, errors(front.states))
        self._history.append((front.time, now))

    def extent(self, front: Front) -> Array:
        """What each box has gone through (B, n), up to a front that may be further on than the last update."""
        low, high = self._gone(front)
        return self._size + (high - low)

    def blown(self, front: Front, limit: float = LARGE) -> Array:
        """Whether (members,) errors exceed ``limit`` times what a box has gone through, and grow faster than disturbances make them.

        All of them where steps become so short that solutions escape.
        """
        if front.length < SHORTEST * self._horizon:
            return np.ones(len(front.origin), bool)
        with np.errstate(invalid="ignore"):
            made = errors(front.states)
            small = made <= limit * scale(self.extent(front))[front.origin]
            small |= made <= self._expected(front.time)[front.origin]
            fine: Array = (small & np.isfinite(made)).all(1)
        return ~fine  # NaN is blown up too

    def _gone(self, front: Front) -> tuple[Array, Array]:
        low, high = self._low.copy(), self._high.copy()
        middle = np.nan_to_num(front.states.terms[0])
        np.minimum.at(low, front.origin, middle)
        np.maximum.at(high, front.origin, middle)
        return low, high

    def _expected(self, time: Fraction) -> Array:
        """Errors (B, n) that were made until 4/5 of the time, grown as polynomials in time grow; infinite where it is too early to say."""
        known = bisect_right(self._history, time * 4 / 5, key=lambda entry: entry[0])  # times increase
        if not known or not self._history[known - 1][0]:
            return np.full_like(self._low, np.inf)
        at, made = self._history[known - 1]
        return made * float(time / at) ** GROWTH


def widest(front: Front, extent: Array, b: int) -> int:
    """The state of member b that is widest in units of what it has gone through."""
    return int(np.argmax(np.nan_to_num(front.states.spread()[b] / scale(extent)[b], nan=np.inf)))


def shares(periods: Sequence[Sequence[Segment]], origin: int, state: int, inputs: int) -> dict[str, float]:
    """Which errors made the state of one box wide, over the last periods, largest first, in sum 1.

    ``inputs``: how many inputs are held over a period (0: none, the error of a controller is then one of the steps').
    """
    found = dict.fromkeys(SOURCES, 0.0)
    for segments in periods:
        own = [s for s in segments if s.step is not None and (s.origin == origin).any()]
        if not own:
            continue
        step = own[-1].step
        assert step is not None
        b = int(np.flatnonzero(own[-1].origin == origin)[0])
        with np.errstate(all="ignore"):
            end = step.at_end()
        width = float(end.spread()[b, state])
        if not (0 < width < np.inf):
            continue
        lost = moved = 0.0
        for s in own:
            assert s.step is not None
            k = int(np.flatnonzero(s.origin == origin)[0])
            lost += float(s.step.lost[k, state])
            if s.step.deviation is not None:
                moved += float(s.step.deviation[k, state])
        first = len(end.basis) + own[0].states.symbols
        made = float(abs(end.terms[first : first + inputs, b, state]).sum())
        found["step"] += lost / width
        found["disturbance"] += moved / width
        found["controller"] += made / width
        found["order"] += max(0.0, float(end.error[b, state]) - lost - moved) / width
    total = sum(found.values())
    if not (0 < total < np.inf):
        return {}
    return {k: v / total for k, v in sorted(found.items(), key=lambda item: -item[1]) if v > 0}


def spreads(states: TaylorModel, b: int, state: int) -> bool:
    """Whether more than half of the width is polynomial: the set is that large, errors did not do it."""
    whole = float(states.spread()[b, state])
    return bool(float(errors(states)[b, state]) < 0.5 * whole)
