"""Finds sets that a sampled loop never leaves, around an equilibrium: samples propose ellipsoids, a rigorous proof decides.

Two proofs, of ever larger sets: slopes of a period (`invariance.held_slopes`) and, in few dimensions, branch and bound over the boundary
(`invariance.sampled`), which has certificates. Where no set is kept at all times, one that is kept at the sample times is looked for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from holdfast.errors import InputError
from holdfast.invariance.ball import Ball
from holdfast.invariance.find import Found, asking, equilibria, search_box
from holdfast.invariance.held_samples import Flight, HeldSamples, SlopeSamples
from holdfast.invariance.held_slopes import SLICES, held_slopes
from holdfast.invariance.plans import continuous
from holdfast.invariance.prove import prove
from holdfast.invariance.sampled import held_in_ball, hull_of
from holdfast.invariance.shapes import Sampled, Shape, evolve, largest_size
from holdfast.loop import ClosedLoop
from holdfast.loop.sampled import between_hull, sample
from holdfast.search.budget import Budget
from holdfast.spec.region import Box
from holdfast.spec.temporal import Ellipsoid, Instance

PERIOD = np.linspace(0.125, 1.0, 8)  # shares of it at which its linearisation is looked at
CHANGES = 400  # random changes of a shape
HIGHEST = 5  # order of Taylor's formula to begin with
SAMPLES = 600
DIRECTIONS = 96  # in which derivatives of a period are looked at
CLEARANCE = 0.15  # asked of samples, as a share of what the linearisation shrinks by
LOW_DIMENSION = 3  # up to here branch and bound is tried as well
SMALL, MIDDLE = 0.05, 0.3  # of the size that samples suggest, for the first proof by slopes, and by branch and bound
STEP, LEAST = 1.0, 0.1  # by which the logarithm of a volume is to grow until the next proof
BACK = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])  # sizes from which shapes change
LARGER = 1.04  # a size that is so much larger is worth a further proof
TRY = 0.25  # share of the time left that one proof may take
PATIENCE = 6.0  # a proof may take so many times as long as the longest before it, and SECONDS
SECONDS = 1.5

Proof = Callable[[Shape, float], float | str]  # of a set, until a moment: a rate, or why there is none


@dataclass(frozen=True, eq=False)
class KeptSet:
    """One proved set. ``always``: kept at all times once the loop is in it at a sample time, else at the sample times only; ``between``: then a
    box that is not left in between. ``rate``: by which slopes of a period shrink distances at least; None: proved by branch and bound."""

    found: Found
    shape: Shape
    always: bool
    between: Box | None = None
    rate: float | None = None


@dataclass
class SampledSearch:
    """What came of it: sets, the best first (all times before sample times, then by volume); ``why``: evidence where there is none."""

    sets: list[KeptSet] = field(default_factory=list)
    why: str = ""
    equilibrium: np.ndarray | None = None
    radius: float | None = None  # spectral radius of the linearised period

    @property
    def found(self) -> list[Found]:
        """Those that a problem file can ask for and a certificate can prove."""
        return [s.found for s in self.sets if s.always and s.rate is None]


def find_sampled(
    instance: Instance, *, timeout: float = 60.0, seed: int = 0, workers: int = 1, tell: Callable[[str], None] = lambda _: None
) -> SampledSearch:  # fmt: skip
    """Sets around the equilibria of a sampled loop. UnsupportedError or InputError for loops with schedules or selecting controllers."""
    begin = time.monotonic()
    loop = continuous(instance.loop)
    low, high = search_box(loop)
    centers = equilibria(loop, instance, low, high)
    search = SampledSearch()
    if not centers:
        search.why = "no equilibrium was found"
        return search
    flight = Flight(instance.loop)
    radii = [float(abs(np.linalg.eigvals(flight.slopes(c, [1.0])[0])).max()) for c in centers]
    best = int(np.argmin(radii))
    center, search.radius, search.equilibrium = centers[best], radii[best], centers[best]
    if search.radius >= 1 - 1e-7:
        kind = "unstable" if search.radius > 1 + 1e-7 else "not decided by the linearisation"
        search.why = f"{kind}: spectral radius {search.radius:.6g} at the {'best' if len(centers) > 1 else 'only'} equilibrium found"
        return search
    rng = np.random.default_rng(seed)
    run = _Run(instance, loop, flight, center, low, high, rng, begin, begin + timeout, workers, tell, search)
    root, rate = run.shape()
    tell(f"equilibrium {np.round(center, 6).tolist()}, spectral radius {search.radius:.6g}, common rate {rate:.4g}")
    if rate > 0:
        run.order = run.lowest = run.first_order(root, rate)
        if len(center) <= LOW_DIMENSION:
            run.branching(root, rate)
        if not search.sets:
            run.by_slopes(root, rate, share=0.7)
    if not search.sets:
        run.by_slopes(*run.shape(at_end=True), share=1.0, always=False)
    search.sets.sort(key=lambda s: (not s.always, -s.found.volume))
    if not search.sets:
        search.why = f"no proof within the time; spectral radius {search.radius:.6g}, common rate {rate:.4g} a period"
        search.why += f"; {run.reason}" if run.reason else ""
    return search


@dataclass
class _Run:
    """What is shared by all attempts around one equilibrium."""

    instance: Instance
    loop: ClosedLoop
    flight: Flight
    center: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rng: np.random.Generator
    begin: float
    end: float
    workers: int
    tell: Callable[[str], None]
    search: SampledSearch
    order: int | None = None  # of Taylor's formula, once it is known
    lowest: int = 2  # order that branch and bound begins with
    longest: float = 0.0  # seconds of a proof
    reason: str = ""  # why the last proof failed

    def left(self, share: float = 1.0) -> float:
        return share * (self.end - time.monotonic())

    def shape(self, at_end: bool = False) -> tuple[np.ndarray, float]:
        """A root V, x = c + V u, in whose norm the linearised period shrinks fastest: at all shares, or ``at_end``; the rate."""
        n = len(self.center)
        shares = [1.0] if at_end else PERIOD.tolist()
        slopes = self.flight.slopes(self.center, shares)
        first = (self.flight.slopes(self.center, [1e-6])[0] - np.eye(n)) / 1e-6

        def rate(V: np.ndarray) -> float:
            turned = np.linalg.inv(V) @ slopes @ V
            return float(min((1 - np.linalg.norm(turned, 2, axis=(1, 2))) / np.array(shares)))

        roots = _roots(first, self.flight.slopes(self.center, [1.0])[0], 0.5 * (self.high - self.low))
        best = max(roots, key=rate)
        value, step = rate(best), 0.3
        for _ in range(CHANGES):
            trial = best @ (np.eye(n) + step * self.rng.normal(size=(n, n)) / math.sqrt(n))
            found = rate(trial)
            if found > value:
                best, value, step = trial, found, min(1.5 * step, 0.5)
            else:
                step = max(0.95 * step, 0.01)
        return best, value

    def first_order(self, root: np.ndarray, rate: float) -> int:
        """Of Taylor's formula: lower ones leave remainders that outweigh the rate, by the linearisation."""
        n = len(self.center)
        first = (self.flight.slopes(self.center, [1e-6])[0] - np.eye(n)) / 1e-6
        speed = float(np.linalg.norm(np.linalg.inv(root) @ first @ root, 2))
        return next((p for p in range(2, HIGHEST) if speed**p / math.factorial(p) < 0.3 * rate), HIGHEST)

    def suggested(self, root: np.ndarray, samples: HeldSamples) -> float:
        """The largest size that samples say is kept."""
        shape = Shape("ellipsoid", self.center, root)
        room = np.minimum(self.high - self.center, self.center - self.low)
        most = float((room / shape.half_widths()).min())
        return largest_size(samples, shape, most * 0.7 ** np.arange(30.0), self.low, self.high)

    def samples(self, always: bool, clearance: float) -> HeldSamples:
        step = replace(self.loop, kind="map")  # only its kind and its box are read: points inside count as well
        found = HeldSamples(self.flight, step, "ellipsoid", self.rng, SAMPLES, always)
        found.clearance = clearance
        return found

    def by_slopes(self, root: np.ndarray, rate: float, share: float, always: bool = True) -> None:
        """The largest ellipsoid that slopes of a period prove within the time: first of this shape, then of those that grow from it."""
        end = time.monotonic() + self.left(share)
        size = SMALL * self.suggested(root, self.samples(always, 0.0))
        if not size:
            self.reason = "samples leave each ellipsoid of the shape that suits the linearisation"
            return
        half = time.monotonic() + 0.4 * (end - time.monotonic())

        def proof(shape: Shape, moment: float) -> float | str:
            return self.slopes(shape, always, moment)

        best = self.growing(Shape("ellipsoid", self.center, size * root), half if always else end, proof)
        if best is not None and always:
            samples = SlopeSamples(self.flight, self.loop, self.rng, DIRECTIONS, SLICES)
            best = self.evolving(best, samples, CLEARANCE * rate, end, proof)
        if best is not None:
            self.keep(best[0], best[1], always)

    def branching(self, root: np.ndarray, rate: float) -> None:
        """The largest ellipsoid that branch and bound proves: first of this shape, then of those that grow from it."""
        size = MIDDLE * self.suggested(root, self.samples(True, 0.0))
        half = time.monotonic() + 0.5 * self.left()
        best = self.growing(Shape("ellipsoid", self.center, size * root), half, self.boundary) if size else None
        if best is not None:
            best = self.evolving(best, self.samples(True, 0.0), CLEARANCE * rate, self.end, self.boundary)
            self.keep(best[0], None, True)
        self.longest = 0.0

    def evolving(
        self, best: tuple[Shape, float], samples: Sampled, clearance: float, end: float, proof: Proof
    ) -> tuple[Shape, float]:
        """Ellipsoids of other shapes and centres, larger by a step that proofs follow: longer after each proof, shorter where there is none."""
        step = STEP
        while time.monotonic() < end and step > LEAST:
            clear = samples.clear(best[0], BACK)
            size = float(BACK[int(np.argmax(clear > 1.5 * clearance))])  # where none is as clear: the first
            samples.clearance = min(clearance, 0.7 * float(clear[size == BACK][0]))
            shape, moment = best[0].scaled(size), time.monotonic() + TRY * (end - time.monotonic())
            for better in evolve(samples, shape, self.low, self.high, self.rng, CHANGES, _after(moment)):
                shape = better
                if shape.log_volume > best[0].log_volume + step:
                    break
            begin, larger = time.monotonic(), shape.log_volume > best[0].log_volume + 0.5 * LEAST
            moment = min(end, begin + SECONDS + PATIENCE * self.longest)
            done = proof(shape, moment) if larger else "samples do not suggest a larger one"
            volume = f"at volume {math.exp(shape.log_volume):.4g}"
            if isinstance(done, str):
                self.tell(f"{done}, {volume}")
                step *= 0.5
                continue
            self.tell(f"proved {volume}")
            self.longest = max(self.longest, time.monotonic() - begin)
            best, step = (shape, done), 1.5 * step
        return best

    def growing(self, shape: Shape, end: float, proof: Proof) -> tuple[Shape, float] | None:
        """The largest proved set of this shape: twice as wide until a proof fails, then in between."""
        best: tuple[float, Shape, float] | None = None
        size, failed = 1.0, math.inf
        while time.monotonic() < end and size > 1e-9:
            begin, trial = time.monotonic(), shape.scaled(size)
            patience = PATIENCE * self.longest if best is not None else 0.7 * (end - begin)
            done = proof(trial, min(end, begin + SECONDS + patience))
            volume = f"at volume {math.exp(trial.log_volume):.4g}"
            if isinstance(done, str):
                self.tell(f"{done}, {volume}")
                self.reason, failed = done, size
                size = 0.25 * size if best is None else math.sqrt(best[0] * failed)
            else:
                self.tell(f"proved {volume}")
                best = size, trial, done
                self.longest = max(self.longest, time.monotonic() - begin)
                size = min(2 * size, math.sqrt(size * failed))
            if best is not None and size < LARGER * best[0]:
                break
        return None if best is None else best[1:]

    def slopes(self, shape: Shape, always: bool, moment: float) -> float | str:
        """The rate that is proved by slopes, or a clause."""
        states = shape.states()
        assert isinstance(states, Ellipsoid)
        try:
            done = held_slopes(self.instance.loop, states, always=always, order=self.order, expired=_after(moment))
        except InputError as error:
            return f"slopes: {error}"
        if isinstance(done, str):
            return f"slopes: {done}"
        self.order = done.order
        return done.rate

    def boundary(self, shape: Shape, moment: float) -> float | str:
        """Infinity where branch and bound proves that the set is kept at all times; else a clause."""
        states, budget = shape.states(), Budget(moment - time.monotonic())
        assert isinstance(states, Ellipsoid)
        try:
            ball = Ball.of(self.instance.loop, states)
            sampled, conditions = held_in_ball(ball, "set found", budget.expired, self.lowest)
            self.lowest = max(2, sampled.order - 1)  # lower ones are not worth their time for sets of about this size
            for condition in conditions:
                done = prove(condition, budget, self.workers, stop=lambda region, x: True)
                if not done.holds:
                    return (
                        f"branch and bound: not proved in {budget.seconds:.1f} s ({done.outcome.reason.name.lower()})"
                    )
        except InputError as error:
            return f"branch and bound: {error}"
        return math.inf

    def keep(self, shape: Shape, rate: float | None, always: bool) -> None:
        states = shape.states()
        found = Found(
            states, "ellipsoid", math.exp(shape.log_volume), self.center, None, asking(self.instance, states),
            time.monotonic() - self.begin,
        )  # fmt: skip
        between = None
        if not always:
            between = between_hull(sample(self.instance.loop, hull_of(states, self.loop, "set found"), self.order))
        self.search.sets.append(KeptSet(found, shape, always, between, rate))


def _after(moment: float) -> Callable[[], bool]:
    return lambda: time.monotonic() > moment


def _roots(first: np.ndarray, whole: np.ndarray, reach: np.ndarray) -> list[np.ndarray]:
    """Roots of Lyapunov equations of the flow at the beginning of a period, of the whole period, and of mixtures."""
    import scipy.linalg

    logarithm = np.real(scipy.linalg.logm(whole)) if abs(np.linalg.det(whole)) > 1e-12 else first
    n, found = len(first), [np.diag(reach)]
    for A in (first, logarithm, 0.5 * (first + logarithm)):
        decay = -float(np.linalg.eigvals(A).real.max())
        if not decay > 0:
            continue
        for scales in (np.ones(n), reach):
            for share in (0.2, 0.6, 0.9):
                P = scipy.linalg.solve_continuous_lyapunov((A + share * decay * np.eye(n)).T, -np.diag(scales**-2.0))
                if np.isfinite(P).all() and np.linalg.eigvalsh(0.5 * (P + P.T)).min() > 0:
                    found.append(np.linalg.inv(np.linalg.cholesky(0.5 * (P + P.T))).T)
    decay = 1 - float(abs(np.linalg.eigvals(whole)).max())
    for share in (0.2, 0.6, 0.9):
        P = scipy.linalg.solve_discrete_lyapunov((whole / (1 - share * decay)).T, np.eye(n))
        if np.linalg.eigvalsh(0.5 * (P + P.T)).min() > 0:
            found.append(np.linalg.inv(np.linalg.cholesky(0.5 * (P + P.T))).T)
    return [V / abs(V).max() for V in found]
