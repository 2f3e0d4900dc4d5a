"""Finds sets that a sampled loop never leaves, around an equilibrium: sampling proposes ellipsoids, a rigorous proof decides.

Two proofs: branch and bound over the boundary (`invariance.sampled`; certificates), and contraction of a period
(`invariance.held_contraction`; more dimensions, no certificate). Where no set is kept at all times, one that is kept at the sample times is looked for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import scipy.linalg

from holdfast.errors import InputError
from holdfast.invariance.find import Found, asking, equilibria, search_box
from holdfast.invariance.held_contraction import HeldContraction, held_contraction, lowest_order
from holdfast.invariance.held_samples import Flight, HeldSamples
from holdfast.invariance.plans import continuous
from holdfast.invariance.prove import prove
from holdfast.invariance.sampled import hull_of, invariant_conditions
from holdfast.invariance.shapes import Shape, evolve, largest_size
from holdfast.loop import ClosedLoop
from holdfast.loop.sampled import between_hull, sample
from holdfast.search.budget import Budget
from holdfast.spec.region import Box
from holdfast.spec.temporal import Instance

SHARES = np.linspace(0.125, 1.0, 8)  # of a period, at which its linearisation is looked at
CHANGES = 400  # random changes of a shape
SAMPLES = 600
CLEARANCE = 0.15  # asked of samples, as a share of what the linearisation shrinks by
LOW_DIMENSION = 3  # up to here branch and bound comes first
FIRST = 0.5  # of the size that samples suggest, for the first proof by branch and bound
VAIN = 3  # sizes without a proof until something else is tried
TRY = 0.25  # share of the time left that one proof may take


@dataclass(frozen=True, eq=False)
class KeptSet:
    """One proved set. ``always``: kept at all times once the loop is in it at a sample time, else at the sample times only; ``between``: then a
    box that is not left in between. ``certified``: proved by conditions that a certificate can hold. ``rate``: of contraction, per period."""

    found: Found
    always: bool
    certified: bool
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
        return [s.found for s in self.sets if s.always and s.certified]


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
        if len(center) <= LOW_DIMENSION:
            run.branching(root, rate, share=0.6)
            if not search.sets:
                run.contracting(root, share=0.6)
                run.branching(root, rate, share=0.9)
        else:
            run.contracting(root, share=0.7)
            run.branching(root, rate, share=0.8)
    if not search.sets:
        run.contracting(run.shape(at_end=True)[0], share=1.0, always=False)
    for one in search.sets:
        if not (one.always and one.certified):
            times = "at all times" if one.always else "at the sample times only"
            tell(f"kept {times}, proved by contraction, no certificate: volume {one.found.volume:.4g}")
    search.sets.sort(key=lambda s: (not s.always, not s.certified and len(center) <= LOW_DIMENSION, -s.found.volume))
    if not search.sets:
        search.why = f"no proof within the time; spectral radius {search.radius:.6g}, common rate {rate:.4g} a period"
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

    def left(self, share: float = 1.0) -> float:
        return share * (self.end - time.monotonic())

    def shape(self, at_end: bool = False) -> tuple[np.ndarray, float]:
        """A root V, x = c + V u, in whose norm the linearised period shrinks fastest: at all shares, or ``at_end``; the rate."""
        n = len(self.center)
        shares = [1.0] if at_end else SHARES.tolist()
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

    def contracting(self, root: np.ndarray, share: float, always: bool = True) -> None:
        """The largest ellipsoid of this shape that contraction proves within the time."""
        end = time.monotonic() + self.left(share)
        size = 0.3 * self.suggested(root, self.samples(always, 0.0))
        if not size:
            return
        center = tuple(Fraction(float(c)) for c in self.center)
        proved: tuple[float, HeldContraction] | None = None
        factor = 0.4
        try:
            order = lowest_order(self.instance.loop, center, np.linalg.inv(0.1 * size * root), always, _after(end))
        except InputError as error:
            self.tell(f"contraction: {error}")
            return
        self.tell(f"contraction: order {order}")
        while time.monotonic() < end and size > 1e-9:
            limit = time.monotonic() + max(2.0, (0.5 if proved is None else TRY) * (end - time.monotonic()))
            try:
                done = held_contraction(
                    self.instance.loop, center, np.linalg.inv(size * root), always=always, order=order,
                    expired=_after(limit),
                )  # fmt: skip
            except InputError as error:
                done = str(error)
            if isinstance(done, HeldContraction):
                self.tell(f"contraction: proved at size {size:.3g}, rate {done.rate:.4g}, {done.pieces} pieces")
                proved = size, done
                if factor > 0.9:
                    break
                factor = math.sqrt(factor)
                size /= factor
            else:
                self.tell(f"contraction: {done}, at size {size:.3g}")
                if proved is not None:
                    factor = math.sqrt(factor)
                    if factor > 0.9:
                        break
                    size = proved[0] / factor
                else:
                    size *= factor
        if proved is not None:
            size, done = proved
            self.keep(Shape("ellipsoid", self.center, size * root), done, always)

    def keep(self, shape: Shape, done: HeldContraction | None, always: bool) -> None:
        states = shape.states() if done is None else done.states
        found = Found(
            states, "ellipsoid", math.exp(shape.log_volume), self.center, None, asking(self.instance, states),
            time.monotonic() - self.begin,
        )  # fmt: skip
        between = None
        if not always:
            between = between_hull(sample(self.instance.loop, hull_of(states, self.loop, "set found")))
        self.search.sets.append(KeptSet(found, always, done is None, between, None if done is None else done.rate))

    def branching(self, root: np.ndarray, rate: float, share: float) -> None:
        """Ellipsoids that grow by samples, proved by branch and bound."""
        end = time.monotonic() + self.left(share)
        samples = self.samples(True, CLEARANCE * rate)
        size = self.suggested(root, samples)
        known = [s for s in self.search.sets if s.always]
        if not size:
            return
        shape = Shape("ellipsoid", self.center, size * root)
        if known:  # proved by contraction: what is missing is a certificate
            states = known[0].found.states
            P = np.array([[float(v) for v in row] for row in states.P])  # type: ignore[union-attr]
            shape = Shape("ellipsoid", self.center, np.linalg.inv(np.linalg.cholesky(P)).T)
        proved: Shape | None = None
        vain = 0
        failed = math.inf  # the least logarithm of a volume that had no proof
        while time.monotonic() < end:
            slice_end = time.monotonic() + 0.2 * (end - time.monotonic())
            before = shape.log_volume
            if not known and failed == math.inf:
                for better in evolve(samples, shape, self.low, self.high, self.rng, 60, _after(slice_end)):
                    shape = better
                if proved is None:
                    shape = shape.scaled(FIRST)
            verdict = self.attempt(shape, max(1.0, TRY * (end - time.monotonic())))
            self.tell(f"branch and bound: {verdict or 'proved'}, volume {math.exp(shape.log_volume):.4g}")
            if verdict is None:
                if known or (proved is not None and failed == math.inf and shape.log_volume <= before + 0.01):
                    proved = shape
                    break
                proved = shape
            else:
                if known:
                    break
                failed, vain = shape.log_volume, vain + 1
                if proved is None and vain == VAIN:
                    break
            if failed < math.inf:  # half-way between what has a proof and what has none
                n = len(self.center)
                least = failed - 4.0 * n * math.log(2.0) if proved is None else proved.log_volume
                if proved is not None and failed - least < 0.2:
                    break
                shape = shape.scaled(math.exp((0.5 * (failed + least) - shape.log_volume) / n))
        if proved is not None:
            self.keep(proved, None, True)

    def attempt(self, shape: Shape, seconds: float) -> str | None:
        """None where the set is proved to be kept at all times; else a clause."""
        states = shape.states()
        try:
            budget = Budget(seconds)
            sampled = sample(self.instance.loop, hull_of(states, self.loop, "set found"), self.order)
            self.order = sampled.order
            for condition in invariant_conditions(sampled, states, "set found"):
                done = prove(condition, budget, self.workers, stop=lambda region, x: True)
                if not done.holds:
                    return f"not proved within {budget.seconds:.1f} s ({done.outcome.reason.name.lower()})"
        except InputError as error:
            return str(error)
        return None


def _after(moment: float) -> Callable[[], bool]:
    return lambda: time.monotonic() > moment


def _roots(first: np.ndarray, whole: np.ndarray, reach: np.ndarray) -> list[np.ndarray]:
    """Roots of Lyapunov equations of the flow at the beginning of a period, of the whole period, and of mixtures."""
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
