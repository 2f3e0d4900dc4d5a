"""Sets of states as pictures and reports need them: who is inside, outlines of projections, volumes, in plain arithmetic.

Nothing here proves anything; what is proved was proved before on the exact sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from holdfast.graph import Model
from holdfast.invariance.polytope import as_polytope
from holdfast.invariance.sets import inequalities
from holdfast.loop import ClosedLoop
from holdfast.spec.temporal import BoxSet, Ellipsoid, Polytope, SetOfStates
from holdfast.transforms import evaluate

Values = Callable[[np.ndarray], np.ndarray]
DIRECTIONS = 96  # of an outline
RAYS = 2000
SAMPLES = 200_000


@dataclass(frozen=True)
class Volume:
    """``value`` in the product of the states' units, ``off``: standard error where it was sampled, else 0."""

    value: float
    off: float = 0.0

    def __str__(self) -> str:
        return f"{self.value:.6g}" if not self.off else f"{self.value:.4g} +- {self.off:.1g} (sampled)"


def values(model: Model, x: np.ndarray) -> np.ndarray:
    """The first output of a model on points (K, n), flat per point."""
    with np.errstate(all="ignore"):
        out = evaluate(model.graph, model.parameters, [x])[model.graph.outputs[0]]
    return np.asarray(out, np.float64).reshape(len(x), -1)


def excess(states: SetOfStates, loop: ClosedLoop, where: str = "the set") -> tuple[Values, np.ndarray, np.ndarray]:
    """A function of points (K, n) that is <= 0 inside, and a box (lower, upper) around the set."""
    found = inequalities(states, loop, where)
    matrix = np.zeros((len(found.sides), math.prod(found.functions.outputs[0].shape)))
    for k, side in enumerate(found.sides):
        for i, coefficient in side.terms:
            matrix[k, i] = float(coefficient)
    constant = np.array([float(side.constant) for side in found.sides])
    low, high = found.hull.lower, found.hull.upper

    def over(x: np.ndarray) -> np.ndarray:
        worst = (values(found.functions, x) @ matrix.T + constant).max(1)
        if found.domain:  # leaving the domain is leaving the set
            worst = np.where(((x < low) | (x > high)).any(1), np.maximum(worst, 0.0) + 1e-300, worst)
        return worst

    return over, low, high


def center_of(states: SetOfStates) -> np.ndarray | None:
    """The point in the middle of the shapes that have one."""
    if isinstance(states, Polytope | Ellipsoid):
        return np.array([float(c) for c in states.center])
    if isinstance(states, BoxSet):
        return np.array([float(low + high) / 2 for _, (low, high) in sorted(states.ends.items())])
    return None


def outline(states: SetOfStates, loop: ClosedLoop, i: int, j: int) -> np.ndarray | None:
    """Points (K, 2) around the projection of a polytope, box or ellipsoid on two states; None for other sets."""
    import scipy.optimize

    angles = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False)
    plane = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if isinstance(states, Ellipsoid):
        P = np.array([[float(v) for v in row] for row in states.P])
        block = np.linalg.inv(P)[np.ix_([i, j], [i, j])] * float(states.level)
        return np.array([float(states.center[i]), float(states.center[j])]) + plane @ np.linalg.cholesky(block).T
    if not isinstance(states, BoxSet | Polytope):
        return None
    shape = as_polytope(states, loop, "the set")
    center = np.array([float(c) for c in shape.center])
    H = np.array([[float(v) for v in row] for row in shape.H])
    low, high = (
        np.array([np.nan if end is None else float(end) for end in ends]) for ends in (shape.lower, shape.upper)
    )
    size = np.ptp(np.array([low, high]), axis=0)
    if H.shape[0] == H.shape[1] and np.isfinite(size).all():
        turned = np.linalg.inv(H)
        sides = plane @ turned[[i, j]]  # of each direction in coordinates in which the set is a box
        corners = np.where(sides > 0, high, low) @ turned[[i, j]].T
    else:
        upper, lower = ~np.isnan(high), ~np.isnan(low)
        A = np.concatenate([H[upper], -H[lower]])
        b = np.concatenate([high[upper], -low[lower]])
        reach = np.ptp(np.stack(excess(states, loop)[1:]), axis=0).max()
        scale = np.ones(2) * reach
        found = []
        for direction in plane:
            cost = np.zeros(len(center))
            cost[[i, j]] = -direction / scale
            best = scipy.optimize.linprog(cost, A, b, bounds=(None, None), method="highs")
            if best.status != 0:
                return None
            found.append(best.x[[i, j]])
        corners = np.array(found)
    return center[[i, j]] + _ordered(corners)


def _ordered(corners: np.ndarray) -> np.ndarray:
    """Distinct corners around their middle."""
    corners = np.unique(np.round(corners, 12), axis=0)
    away = corners - corners.mean(0)
    return corners[np.argsort(np.arctan2(away[:, 1], away[:, 0]))]


def boundary_points(over: Values, center: np.ndarray, low: np.ndarray, high: np.ndarray, seed: int = 0) -> np.ndarray:
    """Points (K, n) where rays from ``center`` first leave {over <= 0}; empty where the center is outside."""
    n = len(center)
    if over(center[None])[0] > 0:
        return np.zeros((0, n))
    rng = np.random.default_rng(seed)
    rays = rng.normal(size=(RAYS, n)) * (high - low)
    rays[: 2 * n] = np.concatenate([np.diag(high - low), -np.diag(high - low)])
    with np.errstate(all="ignore"):
        ends = np.where(rays > 0, (high - center) / rays, np.where(rays < 0, (low - center) / rays, np.inf)).min(1)
    rays = rays * ends[:, None]  # up to the box
    inner, outer = np.zeros(RAYS), np.ones(RAYS)
    open_ = np.ones(RAYS, bool)
    for step in np.linspace(0, 1, 31)[1:]:
        outside = over(center + step * rays) > 0
        outer = np.where(open_ & outside, step, outer)
        open_ &= ~outside
        inner = np.where(open_, step, inner)
    for _ in range(20):
        middle = (inner + outer) / 2
        outside = over(center + middle[:, None] * rays) > 0
        inner, outer = np.where(outside, inner, middle), np.where(outside, middle, outer)
    return center + inner[:, None] * rays


def corners(states: Polytope, seed: int = 0, most: int = 4096) -> np.ndarray | None:
    """Corners (K, n) of a parallelotope in coordinates y = H (x - center) at its ends, all or some; None for others."""
    n = len(states.center)
    if len(states.H) != n or None in (*states.lower, *states.upper):
        return None
    ends = np.array([[float(v) for v in side if v is not None] for side in (states.lower, states.upper)])
    if 2**n <= most:
        which = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        which = np.random.default_rng(seed).integers(0, 2, (most, n))
    return ends[which, np.arange(n)]


def inward_flow(states: Polytope, loop: ClosedLoop, seed: int = 0) -> list[tuple[str, float]]:
    """Per face the least inward speed found on samples, in units of the row over its half-width per second.

    Sampled, so an upper bound of the true margin: what it is good for is to see which face is the tight one.
    """
    H = np.array([[float(v) for v in row] for row in states.H])
    center = np.array([float(c) for c in states.center])
    rng = np.random.default_rng(seed)
    y = corners(states)
    if y is not None:
        x = center + y @ np.linalg.inv(H).T
    else:
        over, low, high = excess(states, loop)
        x = boundary_points(over, center, low, high)
        y = (x - center) @ H.T
    low, high = loop.others.lower, loop.others.upper
    at_ends = np.where(rng.random((len(x), len(low))) < 0.5, low, high)
    change = values(loop.dynamics, np.concatenate([x, at_ends], axis=1)) @ H.T
    found = []
    for k in range(len(H)):
        for end, sign, word in ((states.upper[k], 1, "<="), (states.lower[k], -1, ">=")):
            if end is None:
                continue
            wide = abs(float(end)) or 1.0
            on = np.abs(y[:, k] - float(end)) <= 1e-5 * wide
            if on.any():
                found.append((f"row {k + 1} {word} {float(end):g}", float(-(sign * change[on, k]).max() / wide)))
    return found


def hull_of_projection(over: Values, points: np.ndarray, i: int, j: int, seed: int = 0) -> np.ndarray:
    """Corners (K, 2) of the projection's convex hull as far as a random search from ``points`` of the set gets."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, DIRECTIONS // 2, endpoint=False)
    scale = np.maximum(np.ptp(points, axis=0), 1e-300)
    ways = np.zeros((len(angles), len(scale)))
    ways[:, i], ways[:, j] = np.cos(angles) / scale[i], np.sin(angles) / scale[j]
    best = points[np.argmax(points @ ways.T, axis=0)]
    for size in np.geomspace(0.1, 0.01, 30):
        trial = best[:, None] + size * scale * rng.normal(size=(len(best), 6, len(scale)))
        gain = ((trial - best[:, None]) * ways[:, None]).sum(2)
        gain = np.where((over(trial.reshape(-1, len(scale))) <= 0).reshape(gain.shape), gain, -1.0)
        pick = np.argmax(gain, axis=1)
        rows = np.arange(len(best))
        best = np.where((gain[rows, pick] > 0)[:, None], trial[rows, pick], best)
        best = best[np.argmax(best @ ways.T, axis=0)]  # what one direction found may be better for another
    return _ordered(best[:, [i, j]])


def volume(states: SetOfStates, loop: ClosedLoop, seed: int = 0) -> Volume | None:
    """The volume: by formula where there is one, else sampled; None where no sample is inside."""
    n = len(loop.states)
    if isinstance(states, BoxSet):
        return Volume(math.prod(float(high - low) for low, high in states.ends.values()))
    if isinstance(states, Ellipsoid):
        P = np.array([[float(v) for v in row] for row in states.P])
        ball = math.pi ** (n / 2) / math.gamma(n / 2 + 1)
        return Volume(ball * float(states.level) ** (n / 2) / math.sqrt(float(np.linalg.det(P))))
    if isinstance(states, Polytope) and len(states.H) == n and None not in (*states.lower, *states.upper):
        H = np.array([[float(v) for v in row] for row in states.H])
        wide = [
            float(top - end)
            for end, top in zip(states.lower, states.upper, strict=True)
            if top is not None and end is not None
        ]
        return Volume(math.prod(wide) / abs(float(np.linalg.det(H))))
    over, low, high = excess(states, loop)
    rng = np.random.default_rng(seed)
    inside = 0
    for _ in range(4):
        inside += int((over(low + (high - low) * rng.random((SAMPLES // 4, n))) <= 0).sum())
    if not inside:
        return None
    whole, share = float(np.prod(high - low)), inside / SAMPLES
    return Volume(whole * share, whole * math.sqrt(share * (1 - share) / SAMPLES))
