"""Why a tube ends before its horizon: when, which state, and which error did it.

What is made anew in every period is told apart: the remainder of the steps in time, the controller's enclosure, the cut of polynomials,
disturbances. Plain arithmetic: it explains, nothing rests on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np

from holdfast.loop.tube import Front, Segment
from holdfast.sets.taylor_model import TaylorModel

Array = np.ndarray
LARGE = 5.0  # errors in units of what the tube has gone through: too wide to go on
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


def blown(front: Front, extent: Array, before: Array | None = None, limit: float = LARGE) -> Array:
    """Whether (B,) errors are so large that going on makes no sense; ``extent`` (B, n): what the tube has gone through.

    ``limit``: errors in units of that. ``before`` (B, n): what errors may have become since some earlier time, where disturbances are at work (`expected`).
    """
    with np.errstate(invalid="ignore"):
        made = errors(front.states)
        small = made <= limit * scale(extent)
        if before is not None:
            small |= made <= before
        fine: Array = (small & np.isfinite(made)).all(1)
    return ~fine  # NaN is blown up too


def expected(history: Sequence[tuple[Fraction, Array]], time: Fraction) -> Array | None:
    """Errors (B, n) that were made until 4/5 of the time, grown as polynomials in time grow; None where it is too early."""
    known = [(at, made) for at, made in history if 0 < at <= time * 4 / 5]
    if not known:
        return None
    at, made = known[-1]
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
