"""Flow tubes from initial boxes over a horizon: followed period by period, halved where the enclosure blows up.

Stands on `holdfast.loop.tube` and makes a `Tube`. Nothing is asked of the tube here, so a box is split only when it does not get to the
horizon whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from threadpoolctl import threadpool_limits

from holdfast.errors import InputError
from holdfast.loop.tube import ORDER, Front, Segment, System
from holdfast.reachability.limits import Course, Stopped, shares, spreads, widest
from holdfast.reachability.tube import Tube
from holdfast.spec.plant import LoopData
from holdfast.spec.region import Box

Array = np.ndarray
MOST = 256  # boxes
BATCH = 64  # boxes that are followed together
GENERATIONS = 4  # after so many halvings a tube has to get further, or halving is given up
FURTHER = 1.02
HIGHEST = 6  # degree of polynomials
GAIN = 1.15  # a higher degree has to get further by this factor
WIDE = 20.0  # errors in units of what the tube has gone through: nothing is asked of it, so it may be wider than for a proof
RECENT = 20  # periods that tell where errors come from
TOGETHER = 4096  # MiB of tubes


@dataclass(eq=False)
class _Part:
    """An initial box, the values of unknown constants that go with it, its tube, and its halves where it was split."""

    states: Box
    parameters: Box
    times: tuple[Fraction, ...] = ()  # how far the boxes got that it is a part of
    reached: Fraction = Fraction(0)
    stopped: Stopped | None = None
    segments: list[Segment] = field(default_factory=list)
    weights: Array | None = None  # of the variables: which one to halve
    halves: list[_Part] = field(default_factory=list)

    def leaves(self) -> list[_Part]:
        """The halves, unless they got less far than the whole."""
        if not self.halves:
            return [self]
        found = [leaf for half in self.halves for leaf in half.leaves()]
        return found if min(leaf.reached for leaf in found) >= self.reached else [self]


@threadpool_limits.wrap(1, user_api="blas")  # small products are not worth threads
def reach_tube(
    data: LoopData,
    initial: Sequence[Box],
    horizon: Fraction,
    *,
    timeout: float | None = None,
    memory_mib: int = TOGETHER,
    tell: Callable[[str], None] = lambda _: None,
    where: str = "reach",
) -> Tube:
    """The tube of a loop from boxes of initial states until ``horizon`` (seconds; maps: steps).

    ``timeout`` in seconds; ``where``: what messages name. Raises InputError for what has no tube.
    """
    begin = time.monotonic()
    deadline = None if timeout is None else begin + timeout
    check_horizon(data, horizon, where)
    system = System(data, _around(initial))
    whole = [_Part(box, data.plant.parameters) for box in initial]
    waiting = list(whole)
    count = len(whole)
    while waiting:
        batch, waiting = waiting[:BATCH], waiting[BATCH:]
        _follow(system, batch, horizon, deadline, memory_mib, tell)
        if batch == whole[:1]:
            system = _higher(system, data, batch[0], horizon, deadline, memory_mib, tell)
        if deadline is not None and time.monotonic() > deadline:
            break
        used = _mebibytes([s for part in whole for leaf in part.leaves() for s in leaf.segments])
        for part in batch:
            if part.stopped is None or part.stopped.why != "blow-up" or count >= MOST or used > memory_mib:
                continue
            if len(part.times) >= GENERATIONS and part.reached <= part.times[-GENERATIONS] * Fraction(FURTHER):
                continue
            part.halves = _halved(system, part)
            count += max(0, len(part.halves) - 1)
            waiting += part.halves
    leaves = [leaf for part in whole for leaf in part.leaves()]
    return _tube(system, leaves, horizon, time.monotonic() - begin)


def _higher(
    system: System, data: LoopData, part: _Part, horizon: Fraction, deadline: float | None, memory_mib: int, tell: Callable[[str], None]
) -> System:  # fmt: skip
    """The system with polynomials of the degree that gets the box furthest: that often replaces hundreds of halves."""
    best = system
    while (
        part.stopped is not None and part.stopped.why == "blow-up" and system.basis.variables and best.degree < HIGHEST
    ):
        now = time.monotonic()
        if deadline is not None and now > deadline:
            break
        higher, other = System(data, part.states, best.degree + 1), _Part(part.states, part.parameters)
        share = None if deadline is None else now + 0.5 * (deadline - now)
        _follow(higher, [other], horizon, share, memory_mib, tell)
        if other.stopped is not None and other.reached <= part.reached * Fraction(GAIN):
            break
        best = higher
        part.reached, part.stopped, part.segments, part.weights = (
            other.reached,
            other.stopped,
            other.segments,
            other.weights,
        )
    return best


def check_horizon(data: LoopData, horizon: Fraction, where: str) -> None:
    """Raises InputError for horizons that end before they begin or between two samples."""
    if horizon <= 0:
        raise InputError(f"{where}: found the horizon {float(horizon):g}, accepted is a positive number")
    controller = data.controller
    if data.plant.kind == "map":
        if horizon.denominator != 1:
            raise InputError(f"{where}: found the horizon {float(horizon):g}, accepted is a whole number of steps")
    elif controller is not None and controller.period is not None and (horizon / controller.period).denominator != 1:
        raise InputError(
            f"{where}: found the horizon {float(horizon):g} s, accepted is a whole number of periods of {float(controller.period):g} s"
        )


def _around(boxes: Sequence[Box]) -> Box:
    """A box around all of them."""
    if len(boxes) == 1:
        return boxes[0]
    return Box.of(np.min([b.lower for b in boxes], axis=0).tolist(), np.max([b.upper for b in boxes], axis=0).tolist())


def _follow(
    system: System, parts: Sequence[_Part], horizon: Fraction, deadline: float | None, memory_mib: int, tell: Callable[[str], None]
) -> None:  # fmt: skip
    """Fills in how far each part gets, together."""
    front = system.start([p.states for p in parts], horizon, [p.parameters for p in parts])
    course = Course(front, horizon)
    periods: list[list[Segment]] = []
    used = 0.0

    def late() -> bool:
        return deadline is not None and time.monotonic() > deadline

    def go_on(front: Front) -> bool:
        return not late() and not course.blown(front, WIDE).all()

    while front.time < horizon and len(front.origin):
        before = front
        front, made = system.advance(front, horizon, go_on)
        periods = [*periods[-RECENT:], made]
        used += _mebibytes(made)
        for segment in made:
            for k in np.unique(segment.origin).tolist():
                parts[k].segments.append(_only(segment, k))
                parts[k].reached = segment.end
        course.update(front)
        gone = set(before.origin.tolist()) - set(front.origin.tolist())
        with np.errstate(invalid="ignore"):
            wide = course.blown(front, WIDE) if front.time < horizon else ~np.isfinite(front.states.size).all(1)
        gone |= set(front.origin[wide].tolist())
        for part, k in _members(parts, before):
            if k in gone:
                last = before if k not in front.origin else front
                part.stopped = _stopped(system, last, k, course.extent(front), "blow-up", periods)
                part.weights = _weights(last, k)
        front = front[~np.isin(front.origin, list(gone))]
        tell(_progress(front, horizon, course.extent(front), system, len(parts)))
        if front.time < horizon and (late() or used > memory_mib):
            for part, k in _members(parts, front):
                part.stopped = _stopped(system, front, k, course.extent(front), "time" if late() else "memory", periods)
            return
    for part, k in _members(parts, front):
        if part.stopped is None:
            part.reached = horizon
            if system.kind == "map":
                own = front[front.origin == k]
                part.segments.append(Segment(horizon, horizon, own.origin, own.states, None, None))


def _members(parts: Sequence[_Part], front: Front) -> list[tuple[_Part, int]]:
    return [(parts[k], k) for k in np.unique(front.origin).tolist()]


def _only(segment: Segment, origin: int) -> Segment:
    """The part of a segment that belongs to one initial box."""
    chosen = segment.origin == origin
    if chosen.all():
        return segment
    return replace(
        segment, origin=segment.origin[chosen], states=segment.states[chosen],
        rest=None if segment.rest is None else segment.rest[chosen], step=None if segment.step is None else segment.step[chosen],
    )  # fmt: skip


def _stopped(
    system: System, front: Front, k: int, extent: Array, why: str, periods: Sequence[Sequence[Segment]]
) -> Stopped:
    members = np.flatnonzero(front.origin == k)
    spread = front.states.spread()[members]
    b = int(members[int(np.argmax(np.nan_to_num((spread / (extent[k] + 1e-300)).max(1), nan=np.inf)))])
    i = widest(front, extent[front.origin], b)
    names = system.data.plant.signals.states
    with np.errstate(all="ignore"):
        low, high = front.states.range()
    held = len(system.data.plant.signals.inputs) if system.control is not None else 0
    found = {"polynomial": 1.0} if spreads(front.states, b, i) else shares(periods, k, i, held)
    assert why in ("blow-up", "time", "memory")
    return Stopped(why, front.time, k, names[i], float(high[b, i] - low[b, i]), found)  # type: ignore[arg-type]


def _weights(front: Front, k: int) -> Array:
    """How much each variable has to do with errors: of the controller so far, and of what is not linear in it."""
    b = int(np.flatnonzero(front.origin == k)[0])
    basis = front.states.basis
    terms = abs(np.nan_to_num(front.states.terms[: len(basis), b]))
    width = np.maximum(np.nan_to_num(front.states.spread()[b]), 1e-300)
    share = (terms / width).max(1)
    degree = basis.exponents.sum(1)
    bent = ((basis.exponents > 0) * np.where(degree >= 2, share, 1e-3 * share)[:, None]).sum(0)
    blame = np.nan_to_num(front.blame[b])
    total: Array = blame / max(float(blame.max(initial=0.0)), 1e-300) + bent
    return total


def _halved(system: System, part: _Part) -> list[_Part]:
    """Both halves along the variable that matters most; none where numbers are too close."""
    if part.weights is None or not len(part.weights):
        return []
    variable = int(np.argmax(part.weights))
    place = system.variables.index(variable)
    n = len(part.states)
    box, k = (part.states, place) if place < n else (part.parameters, place - n)
    middle = 0.5 * float(box.lower[k]) + 0.5 * float(box.upper[k])
    if not box.lower[k] < middle < box.upper[k]:
        return []
    found = []
    for side in (0, 1):
        ends = [[Fraction(t) for t in texts] for texts in (box.lower_text, box.upper_text)]
        ends[1 - side][k] = Fraction(middle)
        half = Box.of(*ends)
        states, parameters = (half, part.parameters) if place < n else (part.states, half)
        found.append(_Part(states, parameters, (*part.times, part.reached)))
    return found


def _mebibytes(segments: Sequence[Segment]) -> float:
    return sum(s.states.terms.nbytes + (0 if s.step is None else s.step.nbytes) for s in segments) / 2**20


def _progress(front: Front, horizon: Fraction, extent: Array, system: System, boxes: int) -> str:
    where = f"t = {float(front.time):.4g} of {float(horizon):.4g}  boxes {len(np.unique(front.origin))} of {boxes}"
    if not len(front.origin):
        return where
    i = widest(front, extent[front.origin], 0)
    return f"{where}  widest {system.data.plant.signals.states[i]}: {2 * float(front.states.spread()[:, i].max()):.3g}"


def _tube(system: System, leaves: Sequence[_Part], horizon: Fraction, seconds: float) -> Tube:
    segments = [replace(s, origin=np.full(len(s.origin), k)) for k, leaf in enumerate(leaves) for s in leaf.segments]
    worst = [
        replace(leaf.stopped, box=k, time=leaf.reached) for k, leaf in enumerate(leaves) if leaf.stopped is not None
    ]
    return Tube(
        system.data.plant.signals.states, system.kind, tuple(leaf.states for leaf in leaves), horizon,
        tuple(leaf.reached for leaf in leaves), tuple(segments), min(worst, key=lambda s: s.time) if worst else None,
        system.degree, 0 if system.kind == "map" or system.linear is not None else ORDER, seconds,
    )  # fmt: skip
