"""Claims on flow tubes as these grow, per box of initial states: proved, refuted, lost, or open.

Third station of reachability: `observation` says what is known of predicates on each segment, `signals` what follows for the claim.
Maler, Nickovic, Monitoring temporal properties of continuous signals, FORMATS 2004.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from holdfast.errors import InternalError
from holdfast.loop.tube import Front, Segment, System
from holdfast.reachability.claim import Claim
from holdfast.reachability.observation import Causes, Observer, Seen
from holdfast.reachability.signals import Signal, evaluate

Array = np.ndarray
_START = Fraction(0), Fraction(0)


@dataclass(frozen=True, eq=False)
class Status:
    """Per box (B,): ``proved``: the claim holds on all trajectories from it; ``refuted``: on none; ``failed``: it cannot be proved any more,
    whatever comes, unless the box is split. ``predicate`` (-1: the tube ended), and the cause at it: what hindered the proof most."""

    claim: Claim
    proved: Array
    refuted: Array
    failed: Array
    predicate: Array
    causes: Causes  # (1, B)

    @property
    def open(self) -> Array:
        """Not decided yet."""
        return ~(self.proved | self.refuted | self.failed)

    def reason(self, box: int) -> str:
        """Property, time, atom and margin, as a clause."""
        j = int(self.predicate[box])
        if j < 0:
            return "nothing is known of the states any more"
        c = self.causes
        first, last = float(c.first[0, box]), float(c.last[0, box])
        when = f"{first:.6g}" if first == last else f"{first:.6g} to {last:.6g}"
        unit = "step" if self.claim.discrete else "t ="
        name, text = self.claim.predicates[j].property, self.claim.texts[int(c.number[0, box])]
        return f"property {name}: at {unit} {when} it hangs on {text}, undecided by {float(c.margin[0, box]):.3g}"


@dataclass(frozen=True, eq=False)
class Monitor:
    """What is known so far, for boxes 0 ... B - 1 (`Segment.origin`); a value: `observe` gives the next one.

    ``values`` (cells, J, 2, B) on the cells of ``times`` (see `signals`): known to hold, possible. Boxes that a segment lacks are not known
    then. Nothing may be missing between segments.
    """

    observer: Observer
    times: tuple[Fraction, ...]
    values: Array
    causes: Causes

    @staticmethod
    def of(claim: Claim, system: System, boxes: int, instants: Sequence[Fraction] = ()) -> Monitor:
        """Before anything was seen. ``instants``: times that are looked at in any case."""
        observer = Observer(claim, system, instants)
        J = len(claim.predicates)
        causes = Causes.none(J, boxes, system.basis.variables)
        return Monitor(observer, (), np.zeros((0, J, 2, boxes), bool), causes)

    @property
    def boxes(self) -> int:
        """B."""
        return self.values.shape[-1]

    def take(self, chosen: Array) -> Monitor:
        """For other boxes: number i goes on from ``chosen[i]``, of which it is (a part of) the set."""
        return replace(self, values=self.values[..., chosen], causes=self.causes.take(chosen))

    def observe(self, segments: Sequence[Segment]) -> Monitor:
        """With these segments too, which go on where the last ended."""
        found = self
        for segment in segments:
            if self.observer.claim.predicates:
                found = found._with(segment)
        return found

    def finish(self, front: Front, system: System) -> Monitor:
        """With the last states where no segment holds them: those of a map, and of claims about time 0 only."""
        if system.kind != "map" and self.times:
            return self
        rest = system.rest(front, None, np.zeros((0, 0)))
        return self.observe([Segment(front.time, front.time, front.origin, front.states, rest, None)])

    def _with(self, segment: Segment) -> Monitor:
        discrete = self.observer.claim.discrete
        seen = self.observer.look(segment, self.boxes)
        if seen is None:
            seen = _nothing(segment, self)
        times, values = self.times, self.values
        if not times:
            if segment.start != 0:
                raise InternalError(f"a monitor begins at 0, the first segment at {segment.start}")
            times, values = seen.times, seen.values
        elif discrete:
            if segment.start != times[-1] + 1:
                raise InternalError(f"the step {segment.start} follows on {times[-1]}")
            times, values = (*times, segment.start), np.concatenate([values, seen.values])
        else:
            if segment.start != times[-1]:
                raise InternalError(f"a segment begins at {segment.start}, the last ended at {times[-1]}")
            here, there = values[-1], seen.values[0]
            joint = np.stack([here[:, 0] | there[:, 0], here[:, 1] & there[:, 1]], 1)
            times = (*times, *seen.times[1:])
            values = np.concatenate([values[:-1], joint[None], seen.values[1:]])
        if not discrete:
            times, values = _merged(times, values, 2 * (len(self.times) - 1))
        return replace(self, times=times, values=values, causes=self._blamed(seen.causes))

    def _blamed(self, new: Causes) -> Causes:
        """The first failure of predicates that must hold, the smallest of the others."""
        old, must = self.causes.margin, self.observer.must[:, None]
        better = np.where(must, np.isinf(old), new.margin < old) & np.isfinite(new.margin)
        return self.causes.updated(new, better)

    def status(self) -> Status:
        """What follows from all that was seen."""
        claim, B = self.observer.claim, self.boxes
        if not claim.predicates:
            whole = np.ones(B, bool)
            return Status(claim, whole, ~whole, ~whole, np.full(B, -1), self.causes)
        proved, refuted, lost = self._decided()
        margin = self.causes.margin
        must = self.observer.must[:, None] & np.isfinite(margin)
        # those that must hold first, the worst of them; of the others the one that failed least
        rank = np.where(must, 1e301 + margin, np.where(np.isfinite(margin), -margin, -np.inf))
        chosen = rank.argmax(0)
        at = np.arange(B)
        own = Causes(*(getattr(self.causes, name)[chosen, at][None] for name in Causes.__dataclass_fields__))
        predicate = np.where(np.isfinite(rank[chosen, at]), chosen, -1)
        return Status(claim, proved, refuted, lost & ~proved & ~refuted, predicate, own)

    def _decided(self) -> tuple[Array, Array, Array]:
        """Proved, refuted, and no longer provable."""
        claim, B = self.observer.claim, self.boxes
        if not self.times:
            none = np.zeros(B, bool)
            return none, none, none
        # what comes later twice: as not known, and as whatever helps (known to hold and known not to)
        later = np.zeros((1, 2, 2, B), bool)
        later[:, 1, 0], later[:, 0, 1] = True, True
        signals = []
        for j in range(len(claim.predicates)):
            values = np.repeat(self.values[:, j, :, None], 2, axis=2)
            signals.append(Signal(self.times, np.concatenate([values, later]), claim.discrete))
        now = evaluate(claim.formula, signals, _START).values[0]
        return now[0, 0], ~now[1, 0], ~now[0, 1]


def _nothing(segment: Segment, monitor: Monitor) -> Seen:
    times = (segment.start, segment.end) if segment.start < segment.end else (segment.start,)
    J, B = len(monitor.observer.claim.predicates), monitor.boxes
    values = np.zeros((2 * len(times) - 1, J, 2, B), bool)
    values[:, :, 1] = True
    return Seen(times, values, Causes.none(J, B, monitor.causes.influence.shape[-1]))


def _merged(times: tuple[Fraction, ...], values: Array, begin: int) -> tuple[tuple[Fraction, ...], Array]:
    """Without instants at which nothing changes, from cell ``begin`` (an instant) on."""
    begin = max(begin, 2)
    at = np.arange(begin, len(values) - 1, 2)  # the last instant stays
    if not len(at):
        return times, values
    same = (values[at - 1] == values[at]).all((1, 2, 3)) & (values[at] == values[at + 1]).all((1, 2, 3))
    gone = at[same]
    if not len(gone):
        return times, values
    kept = np.ones(len(values), bool)
    kept[gone] = kept[gone + 1] = False
    dropped = set((gone // 2).tolist())
    return tuple(t for i, t in enumerate(times) if i not in dropped), values[kept]
