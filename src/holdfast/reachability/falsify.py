"""Falsification of claims about trajectories: found in plain arithmetic, then proved on a validated tube.

Fourth station of reachability: `explore` looks for the trajectory of least robustness, `witness` makes its start exact, `replay` and
`monitor` show that the claim is certainly false for it. What is only simulated falsifies nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.invariance.prove import quiet
from holdfast.loop.tube import Segment
from holdfast.reachability.claim import Claim
from holdfast.reachability.explore import Drive, Space, explore
from holdfast.reachability.monitor import Monitor
from holdfast.reachability.replay import Replay
from holdfast.reachability.robustness import Decisive, Robustness, hanging
from holdfast.reachability.simulate import Simulator, horizon_of
from holdfast.reachability.witness import Witness, witnesses
from holdfast.spec.formula import Formula
from holdfast.spec.temporal import Instance
from holdfast.verdict import Violation

Array = np.ndarray
CALIBRATED = 16  # trajectories that say how small steps have to be, so that ...
ROUGHLY = 1e-5  # ... states are known up to this share of their size
WORK = 2e8  # multiplications of a round of trajectories ...
FEWEST, MOST = 32, 512  # ... but not less, not more of them
ATTEMPTS = 2  # proofs tried whenever a worse trajectory was found
FAILURES = 6  # proofs that failed, after which no more are tried
RESOLUTIONS = (1e-2, 1e-4, 1e-7)  # of the tube, from coarse to fine
KEPT = 0.5  # of the margin must be left when numbers are made short


@dataclass(frozen=True)
class Found:
    """``violation``: proved, or None. ``margin``: the least one simulated, in units of how much atoms vary (< 0: violated); ``text``: on what
    it hangs, or why a violation that was simulated is not proved. ``simulated``: how many trajectories."""

    violation: Violation | None
    margin: float
    simulated: int
    seconds: float
    text: str = ""


def falsify(
    instance: Instance, claim: Claim, *, seed: int, seconds: float, rounds: int = 2, expired: Callable[[], bool] = lambda: False
) -> Found:  # fmt: skip
    """A proved violation of the claim by one trajectory from the initial set, if one is found in about so many seconds.

    ``rounds``: at most so many times from new points. ``expired``: stops proofs as well. Same seed, same trajectories.
    """
    with quiet():
        return _Hunt(instance, claim, seed, seconds, expired).run(rounds)


class _Hunt:
    def __init__(self, instance: Instance, claim: Claim, seed: int, seconds: float, expired: Callable[[], bool]):
        assert instance.initial is not None
        self.begin = time.monotonic()
        self.deadline, self.expired = self.begin + seconds, expired
        self.instance, self.claim, self.initial = instance, claim, instance.initial
        self.plant = instance.loop.plant
        self.robustness = Robustness(claim, instance.loop)
        self.simulator = Simulator(instance.loop, claim.end, self.robustness.instants)
        self.space = Space(self.initial, self.plant, self.simulator.pieces)
        self.rng = np.random.default_rng(seed)
        self.simulated, self.failures, self.doubt = 0, 0, ""

    def over(self) -> bool:
        """Whether the time for simulations is up."""
        return self.expired() or time.monotonic() > self.deadline

    def margins(self, z: Array) -> Array:
        """Of points of the unit cube."""
        if self.over():
            return np.full(len(z), np.nan)
        return self.of(self.space.at(z))

    def of(self, drive: Drive) -> Array:
        """Margins of trajectories."""
        self.simulated += len(drive.states)
        found = self.simulator.run(drive.states, drive.parameters, drive.disturbances)
        return self.robustness.margins(found, drive.parameters)

    def run(self, rounds: int) -> Found:
        """Until a violation is proved, or nothing more is to be expected."""
        best, tried = np.inf, np.inf
        nearest = np.full((1, self.space.size), 0.5)
        for z, values in explore(self.margins, self.space, self.rng, self._count(), rounds):
            if values[0] < best:
                best, nearest = float(values[0]), z[:1]
            # proofs that failed are not worth repeating for a trajectory that is hardly worse
            if best < 0 and self.failures < FAILURES and (self.failures == 0 or best < 1.2 * tried):
                tried = best
                for k in range(min(ATTEMPTS, len(z))):
                    violation = self.proved(z[k], float(values[k])) if values[k] < 0 else None
                    if violation is not None:
                        return self._found(violation, best, nearest)
            if self.over():
                break
        return self._found(None, best, nearest)

    def _found(self, violation: Violation | None, margin: float, nearest: Array) -> Found:
        text = "" if violation is not None else self.doubt
        if not text and violation is None and np.isfinite(margin):
            drive = self.space.at(nearest)
            one = self.simulator.run(drive.states, drive.parameters, drive.disturbances)
            it = self.robustness.decisive(one, drive.parameters, 0)
            when = f"{'step' if self.claim.discrete else 't ='} {float(it.time):.6g}"
            text = f"the nearest of {self.simulated} simulated trajectories hangs on {self.claim.texts[it.atom]} at {when}, by {abs(it.margin):.3g}"
        return Found(violation, margin, self.simulated, time.monotonic() - self.begin, text)

    def _count(self) -> int:
        """Trajectories of a round; steps of the simulation are made small enough, units of atoms chosen."""
        z = np.concatenate([self.rng.random((CALIBRATED - 2, self.space.size)), np.zeros((1, self.space.size))])
        drive = self.space.at(np.concatenate([z, np.ones((1, self.space.size))]))
        self.simulator.calibrate(drive.states, drive.parameters, drive.disturbances, ROUGHLY)
        self.of(drive)
        return int(np.clip(WORK / max(self.simulator.work, 1.0), FEWEST, MOST))

    def proved(self, z: Array, margin: float) -> Violation | None:
        """A proof that starts at or next to a point; None, and ``doubt`` says why, where there is none."""
        options = witnesses(self.initial, self.plant, self.space.at(z[None]), 0)
        drives = [w.drive for w in options]
        joint = Drive(
            np.concatenate([d.states for d in drives]), np.concatenate([d.parameters for d in drives]),
            np.concatenate([d.disturbances for d in drives], axis=1),
        )  # fmt: skip
        self.simulated += len(options)
        simulated = self.simulator.run(joint.states, joint.parameters, joint.disturbances)
        values = self.robustness.margins(simulated, joint.parameters)
        enough = np.flatnonzero(values <= KEPT * margin)
        k = int(enough[0]) if len(enough) else int(np.nan_to_num(values, nan=np.inf).argmin())
        if not values[k] < 0:
            return None
        decisive = self.robustness.decisive(simulated, joint.parameters, k)
        for resolution in RESOLUTIONS:
            found, doubt = self._enclosed(options[k], decisive, resolution)
            if found is not None:
                return found
            at = ", ".join(f"{n} = {v}" for n, v in zip(self.plant.signals.states, options[k].state, strict=True))
            self.doubt = f"the simulated trajectory from {at} violates the claim, but {doubt}"
            if self.expired():
                return None
        self.failures += 1
        return None

    def _enclosed(self, witness: Witness, decisive: Decisive, resolution: float) -> tuple[Violation | None, str]:
        """The tube of the trajectory; the claim is false for all that is in it, or why that does not show."""
        data = self.instance.loop
        replay = Replay(data, witness, tuple(self.simulator.samples), resolution)
        monitor = Monitor.of(self.claim, replay.system, 1, [decisive.time])
        seen: list[Segment] = []
        last = 0.0
        for segments in replay.segments(
            self.claim.end or horizon_of(self.instance)
        ):  # what is true at 0 shows in a first step
            monitor = monitor.observe(segments)
            seen += segments
            last = float(segments[-1].end) if segments else last
            status = monitor.status()
            if status.refuted[0]:
                return self._violation(witness, decisive, seen, monitor), ""
            if status.proved[0]:
                return None, "its enclosure shows that it does not"
            if self.expired():
                return None, "the time was up before it was enclosed"
        if last < float(self.claim.end) and (not seen or replay.system.kind != "map"):
            return None, f"its enclosure is lost after {last:.6g}"
        return None, monitor.status().reason(0)

    def _violation(self, witness: Witness, decisive: Decisive, seen: list[Segment], monitor: Monitor) -> Violation:
        """What the claim hangs on: where the simulation is worst, or, where the tube ends before, where the claim is lost first."""
        lost = None if decisive.time <= _end(seen) else _lost(monitor)
        at = min(decisive.time, _end(seen)) if lost is None else lost[1]
        segment = next(s for s in seen if s.start <= at <= s.end)
        low, high = segment.between(at, at).range()
        below, above = monitor.observer.atoms(segment, at)
        if lost is None:
            number = decisive.atom
        else:
            formula = self.claim.predicates[lost[0]].formula
            number = hanging(formula, self.robustness.unit, -(0.5 * below[0] + 0.5 * above[0]))
        holds = bool(above[0, number] <= 0)
        times = self.simulator.samples if len(witness.disturbances) > 1 else self.simulator.samples[:1]
        values = witness.disturbances if self.plant.signals.disturbances else ()
        prop = next(p.property for p in self.claim.predicates if number in _atoms(p.formula))
        return Violation(
            prop, self.claim.texts[number], holds, witness.state, witness.parameters,
            tuple((str(t), v) for t, v in zip(times, values, strict=False)), float(at), tuple(low[0].tolist()), tuple(high[0].tolist()),
            float(-above[0, number] if holds else below[0, number]),
        )  # fmt: skip


def _end(seen: list[Segment]) -> Fraction:
    return seen[-1].end


def _lost(monitor: Monitor) -> tuple[int, Fraction] | None:
    """The first predicate that has to hold and certainly does not, and when."""
    claim, times = monitor.observer.claim, monitor.times
    for i, cell in enumerate(monitor.values):
        k = i if claim.discrete else i // 2
        at = times[k] if claim.discrete or i % 2 == 0 else (times[k] + times[k + 1]) / 2
        for j, predicate in enumerate(claim.predicates):
            if predicate.must and predicate.window[0] <= at <= predicate.window[1] and not cell[j, 1, 0]:
                return j, at
    return None


def _atoms(formula: Formula) -> set[int]:
    own = {formula.atom} if formula.operator == "atom" else set()
    return own.union(*map(_atoms, formula.arguments))
