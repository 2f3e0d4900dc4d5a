"""Trajectories of closed loops in plain arithmetic, many at once, that try to leave a certified set; nothing is proved here.

Dormand and Prince, A family of embedded Runge-Kutta formulae, 1980: a step size for each trajectory, kept by the estimated error.
Disturbances are constant in pieces: random, at random corners, or at the corner that drives the nearest side outwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize

from holdfast.bounds.bounder import flat_problem
from holdfast.invariance.escape import affine, plain
from holdfast.invariance.faces import Faces
from holdfast.invariance.field import Field
from holdfast.invariance.sets import Inequalities
from holdfast.loop import ClosedLoop
from holdfast.rigor import FLOAT64

TOLERANCE = 1e-7  # of the set's width: local error of a step
FINER = 1e-3  # times that, where a result is checked
PIECES = 40  # of a disturbance, over the whole time
FEW = 10  # the same without disturbances
CLOSE = -0.05  # sides above this share of what they vary by are looked at after every step, others after every piece
MAP_STEPS = 400
PROGRAMS = 60  # vertices found by linear programs, where there is no closed form
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = np.array([71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40])


@dataclass(frozen=True)
class Paths:
    """Trajectories of one set, seen from its sides.

    ``start``, ``end``: states (P, n). ``signals`` (pieces, P, m): disturbances and parameters. ``excess`` (P,): the largest value of
    a side on the way, over how much that side varies in the hull (> 0: outside). ``late`` (P,), ``nearest`` (P, n): the same after
    the first pieces, and the state where it was.
    """

    start: np.ndarray
    end: np.ndarray
    signals: np.ndarray
    excess: np.ndarray
    late: np.ndarray
    nearest: np.ndarray


class Simulator:
    """Starts, disturbances and trajectories for one set of one loop."""

    def __init__(self, loop: ClosedLoop, states: Inequalities, seed: int = 0):
        self.field = Field(loop, states)
        self.loop, self.rng = loop, np.random.default_rng(seed)
        self._dynamics = flat_problem(loop.dynamics, FLOAT64)
        forms = affine(states.functions)
        self.faces: Faces | None = None
        if forms is not None and not states.domain:
            weights, _, shift, _ = forms
            self.faces = Faces(self.field.rows @ weights.T, -(self.field.rows @ shift + self.field.constants))

    def flow(self, x: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The right side (P, n) (of a map: the next states)."""
        return plain(self._dynamics, np.concatenate([x, others], axis=1))

    def over(self, x: np.ndarray) -> np.ndarray:
        """How far outside (P,), relative to how much each side varies; infinite where something is not a number."""
        worst = (self.field.sides(x) / self.field.spread).max(1)
        return np.where(np.isfinite(worst), worst, np.inf)

    # ---- where they start ----

    def starts(self, count: int) -> np.ndarray:
        """Points of the set: half of them next to the boundary, a fifth at vertices or on sides of the domain, the rest anywhere."""
        f, rng = self.field, self.rng
        corners = self._corners(count // 5)
        border = f.boundary(rng, count - len(corners))
        share = 3 * len(border) // 8
        pairs = border[rng.integers(0, len(border), (2, share))]
        inner = pairs[0] + rng.random((share, 1)) * (pairs[1] - pairs[0])
        fine = self.over(inner) <= 0
        inner = np.where(fine[:, None], inner, border[:share])
        return np.concatenate([corners, border[share:], inner])

    def _corners(self, count: int) -> np.ndarray:
        f, rng = self.field, self.rng
        if self.faces is not None and self.faces.center is not None:
            some = count if self.faces.quick else min(count, PROGRAMS)
            x = self.faces.best(rng.normal(size=(some, f.n)) / f.width, np.full(some, -1))
            x = x[np.isfinite(x).all(1)]
            if len(x) and not self.faces.quick:  # between two vertices: on edges and faces, or inside
                pairs = x[rng.integers(0, len(x), (2, count - len(x)))]
                x = np.concatenate([x, pairs[0] + rng.random((pairs.shape[1], 1)) * (pairs[1] - pairs[0])])
            x = x - 1e-9 * (x - self.faces.center)
        elif f.own < len(f.spread):
            x, _ = f.on_domain(rng, count)
        else:
            x = np.zeros((0, f.n))
        return x[self.over(x) <= 0] if len(x) else x

    # ---- what drives them ----

    def _first(self, count: int) -> np.ndarray:
        """Parameters and disturbances at the start: half of them corners."""
        return self.field.others(self.rng, count)

    def _next(self, x: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Signals of the next piece: of five trajectories one keeps them, one draws anew, one a corner, two go uphill."""
        f, rng = self.field, self.rng
        count, w = len(x), len(self.loop.disturbances)
        if not w:
            return before
        after = before.copy()
        kind = np.arange(count) % 5
        drawn = f.low_others + rng.random(before.shape) * (f.high_others - f.low_others)
        corner = np.where(rng.random(before.shape) < 0.5, f.low_others, f.high_others)
        after[kind == 1, :w], after[kind == 2, :w] = drawn[kind == 1, :w], corner[kind == 2, :w]
        up = np.flatnonzero((kind >= 3) & np.isfinite(x).all(1))
        side = (f.sides(x[up]) / f.spread).argmax(1)
        slope = f.slope_of_rate(x[up], before[up], side)
        after[up, :w] = f.corner(slope[:, f.n :], before[up])[:, :w]
        return after

    def uphill(self, x: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The signals, where every fifth trajectory starts with what drives its nearest side outwards (parameters too)."""
        f = self.field
        if not others.shape[1]:
            return others
        some = np.arange(0, len(x), 5)
        side = (f.sides(x[some]) / f.spread).argmax(1)
        others = others.copy()
        others[some] = f.corner(f.slope_of_rate(x[some], others[some], side)[:, f.n :], others[some])
        return others

    # ---- the way ----

    def paths(
        self, x: np.ndarray, seconds: float, signals: np.ndarray | None = None, tolerance: float = TOLERANCE
    ) -> Paths:
        """Trajectories over some time; ``signals``: those of earlier ones, to repeat them."""
        start, count = x, len(x)
        excess = np.full(count, -np.inf)
        late, nearest = np.full(count, -np.inf), x.copy()
        others = self.uphill(x, self._first(count)) if signals is None else signals[0]
        used = []
        pieces = MAP_STEPS if self.loop.kind == "map" else PIECES if self.loop.disturbances else FEW
        step = np.full(count, 1e-3 * seconds / pieces)
        for k in range(pieces):
            if k:
                others = self._next(x, others) if signals is None else signals[k]
            used.append(others)
            if self.loop.kind == "ode":
                x, most, at, step = self._piece(x, others, seconds / pieces, step, tolerance)
            else:
                x = self.flow(x, others)
                most, at = self.over(x), x
            excess = np.maximum(excess, most)
            if k >= max(1, pieces // 20):
                closer = most > late
                late, nearest = np.where(closer, most, late), np.where(closer[:, None], at, nearest)
        every = np.stack(used) if self.loop.disturbances else np.broadcast_to(used[0], (pieces, *used[0].shape))
        return Paths(start, x, every, excess, late, nearest)

    def _piece(
        self, x: np.ndarray, others: np.ndarray, seconds: float, step: np.ndarray, tolerance: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Up to the end of a piece: states, largest excess, the state where it was, step sizes."""
        x, step = x.copy(), step.copy()
        left = np.full(len(x), seconds)
        watched = self.over(x) > CLOSE
        most, at = np.full(len(x), -np.inf), x.copy()

        def look(which: np.ndarray) -> None:
            over = self.over(x[which])
            further = which[over > most[which]]
            at[further], most[further] = x[further], over[over > most[which]]

        active = np.arange(len(x))
        while len(active):
            y, w = x[active], others[active]
            h = np.minimum(step[active], left[active])
            slopes = [self.flow(y, w)]
            for row in STAGES:
                moved = sum(c * k for c, k in zip(row, slopes, strict=True) if c)
                new = y + h[:, None] * moved
                slopes.append(self.flow(new, w))
            error = abs(h[:, None] * np.tensordot(ERROR, np.stack(slopes), 1) / self.field.width).max(1) / tolerance
            finite = np.isfinite(error)
            taken = ~(error > 1) | (h < 1e-12 * seconds)
            taken &= finite | (h < 1e-12 * seconds)
            here = active[taken]
            x[here] = new[taken]
            left[here] -= h[taken]
            look(here[watched[here]])
            factor = np.where(finite, 0.9 * np.maximum(np.where(finite, error, 1.0), 1e-10) ** -0.2, 0.1)
            grown = np.where(finite, np.clip(factor, 0.2, 5.0), 0.1) * h
            cut = taken & (h < step[active])  # the end of the piece made the step short: that says nothing
            step[active] = np.where(cut, np.maximum(grown, step[active]), grown)
            active = active[(left[active] > 1e-12 * seconds) & ~(taken & ~finite)]
        look(np.arange(len(x)))
        return x, most, at, step

    # ---- what they say ----

    def finer(self, paths: Paths, which: np.ndarray, seconds: float) -> Paths:
        """Some of the trajectories again, with the same signals and smaller steps."""
        return self.paths(paths.start[which], seconds, paths.signals[:, which], TOLERANCE * FINER)

    def distance(self, x: np.ndarray) -> np.ndarray:
        """Distance (P,) to the nearest side along its normal, to first order, where the hull is a unit cube; negative outside."""
        f = self.field
        values = f.sides(x)
        found = np.full(len(x), np.inf)
        for k in range(values.shape[1]):
            slope = np.linalg.norm(f.slope(x, np.full(len(x), k)) * f.width, axis=1)
            found = np.minimum(found, -values[:, k] / np.maximum(slope, 1e-300))
        return found


@dataclass(frozen=True)
class Left:
    """How many of ``count`` trajectories left, beyond ``error`` (largest difference seen when steps were made smaller).

    ``excess``: the largest value of a side; ``distance``: the least one along the normal after the first twentieth of the time.
    """

    count: int
    left: int
    error: float
    excess: float
    distance: float
    worst: np.ndarray | None = None  # the start of one that left


def count_left(simulator: Simulator, paths: Paths, seconds: float, sample: int = 50) -> Left:
    """Which trajectories left: everything suspicious is simulated again with smaller steps, and some others."""
    suspicious = np.flatnonzero(paths.excess > 0)
    some = np.unique(
        np.concatenate([suspicious[:2000], np.arange(0, len(paths.start), max(1, len(paths.start) // sample))])
    )
    again = simulator.finer(paths, some, seconds)
    differences = abs(again.excess - paths.excess[some])
    error = float(np.nanmax(np.where(np.isfinite(differences), differences, 0.0), initial=0.0))
    beyond = again.excess > np.maximum(FINER * 10 * np.where(np.isfinite(differences), differences, 0.0), 1e-13)
    excess = paths.excess.copy()
    excess[some] = again.excess
    closest = np.argsort(-paths.late)[:200]
    distance = float(simulator.distance(paths.nearest[closest]).min())
    found = Left(len(excess), int(beyond.sum()) + max(0, len(suspicious) - 2000), error, float(excess.max()), distance)
    return replace(found, worst=again.start[beyond][0]) if beyond.any() else found


def equilibrium(simulator: Simulator, near: np.ndarray) -> np.ndarray | None:
    """Where the undisturbed loop rests in the set, searched from the middle of its hull and from those of ``near`` that move least.

    A stable one, where there is one; None where none is found.
    """
    f = simulator.field
    middle = 0.5 * (f.low_others + f.high_others)
    ode = simulator.loop.kind == "ode"

    def motion(points: np.ndarray) -> np.ndarray:
        out = simulator.flow(points, np.broadcast_to(middle, (len(points), len(middle))))
        return (out if ode else out - points) / f.width

    slow = near[np.argsort(np.linalg.norm(motion(near), axis=1))[:8]]
    found = []
    for start in [0.5 * (f.low + f.high), *slow]:
        rest = scipy.optimize.root(lambda z: motion((z * f.width)[None])[0], start / f.width, tol=1e-12)
        x = rest.x * f.width
        if np.isfinite(x).all() and abs(motion(x[None])).max() < 1e-9 and simulator.over(x[None])[0] <= 0:
            found.append(x)
            if growth(simulator, x) < (0 if ode else 1):
                return x
    return found[0] if found else None


def growth(simulator: Simulator, x: np.ndarray) -> float:
    """The largest real part of the linearisation's spectrum (of a map: the largest modulus); infinite where it is no number."""
    f = simulator.field
    middle = 0.5 * (f.low_others + f.high_others)
    d = 1e-6 * f.width
    points = np.concatenate([x + np.diag(d), x - np.diag(d)])
    around = simulator.flow(points, np.broadcast_to(middle, (len(points), len(middle))))
    jacobian = ((around[: f.n] - around[f.n :]) / (2 * d[:, None])).T
    if not np.isfinite(jacobian).all():
        return np.inf
    spectrum = np.linalg.eigvals(jacobian)
    return float((spectrum.real if simulator.loop.kind == "ode" else abs(spectrum)).max())


def slowness(simulator: Simulator, x: np.ndarray) -> float:
    """Seconds in which distances from the equilibrium x shrink to a third; 1 where it is not stable."""
    rate = -growth(simulator, x)
    return 1 / rate if np.isfinite(rate) and rate > 1e-3 else 1.0
