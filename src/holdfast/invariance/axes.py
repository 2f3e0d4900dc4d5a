"""Which coordinates a condition about a level set is to be cut in: candidates from samples, decided by a short trial.

A search takes fewest boxes where the set is about a ball, and where few coordinates change the rows. Candidates: the ellipsoid that fits the
set, turned into the principal directions of gradients over it (singular value decomposition); or one such direction in place of a state.
Estimated times decide; the states' own axes win unless another is clearly better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.errors import InputError
from holdfast.graph import Model
from holdfast.invariance.band import Sample, band
from holdfast.invariance.equilibrium import Linearisation
from holdfast.invariance.features import features
from holdfast.invariance.oblique import Oblique
from holdfast.invariance.tree_size import paths
from holdfast.loop import ClosedLoop
from holdfast.search.budget import Budget
from holdfast.spec.condition import Condition
from holdfast.spec.region import Box
from holdfast.transforms import derivative, evaluate

FEW = 12  # points of the first look
MANY = 48  # of the trial
EASY = 20000  # boxes that the search may take by the first look, without a trial
SHARE = 0.1  # of the time that is left, for the trial
LONGEST = 60.0  # seconds of it
FLAT = 3  # states, below which thin cells cost so little that no trial pays: 1 / width in the plane
CLEARLY = 0.6  # of the time of the states' own axes
BITS = 12  # of the entries of a matrix
SAMPLED = 2000

Make = Callable[[Oblique | None], Condition]


@dataclass(frozen=True, eq=False)
class _Steepness:
    """At points: what must be negative (Dh; of a map the change of h), and its gradient by the states."""

    value: np.ndarray
    gradient: np.ndarray


def for_band(
    loop: ClosedLoop, make: Make, h: Model, domain: Box, bottom: float | None, top: float, budget: Budget
) -> Oblique | None:
    """Coordinates for the condition ``make(coordinates)`` on {bottom <= h <= top} (None: on the surface h = top) in ``domain``."""
    if len(loop.states) < FLAT:
        return None
    sample = band(h, domain, bottom, top, SAMPLED, np.random.default_rng(0))
    return None if sample is None else choose(loop, make, h, sample, budget)


def choose(loop: ClosedLoop, make: Make, h: Model, sample: Sample, budget: Budget) -> Oblique | None:
    """Coordinates for the condition ``make(coordinates)``, which is hard at points like those of the sample, where ``h`` must fall.

    None: those of the states. Deterministic, but for the speed of the machine, which says how many points are tried.
    """
    if len(loop.states) < FLAT:
        return None
    rng = np.random.default_rng(0)
    limit = Budget(min(SHARE * budget.left, LONGEST))
    steep = _steepness(loop, h, sample.points)
    trial = _Trial.drawn(loop, sample, steep, rng)
    begin = limit.seconds
    if float(trial.boxes(make(None), None, limit, FEW)[0].sum()) * MANY / FEW < EASY:
        return None
    candidates: list[Oblique | None] = [None, *_candidates(loop, sample, steep)]
    each = (limit.seconds - begin) * len(candidates)  # of FEW points; of many more it takes less than in proportion
    count = int(min(MANY, FEW * (2.5 * limit.left / max(each, 1e-9) - 1.5)))
    if count < FEW // 2:
        return None
    costs = []
    for k, axes in enumerate(candidates):
        share = Budget(2 * max(limit.left, 0.0) / (len(candidates) - k))
        boxes, seconds = trial.boxes(make(axes), axes, share, count)
        costs.append(np.sqrt(boxes * seconds))  # the root, so that a few points do not decide
    finite = np.isfinite(costs)
    told = [k for k in range(len(candidates)) if finite[k].sum() >= 0.8 * count]  # the others were too slow
    if told[:1] != [0]:
        return None
    common = finite[told].all(0)
    times = {k: float(costs[k][common].sum()) ** 2 for k in told}
    best = min(times, key=lambda k: times[k])
    return candidates[best] if times[best] < CLEARLY * times[0] else None


@dataclass(frozen=True, eq=False)
class _Trial:
    """Points of all variables, states first, and the factor by which boxes that are seen from each count."""

    sample: Sample
    points: np.ndarray
    factors: np.ndarray

    @staticmethod
    def drawn(loop: ClosedLoop, sample: Sample, steep: _Steepness, rng: np.random.Generator) -> _Trial:
        """Some of the points, those more often around which boxes must be small."""
        size = np.linalg.norm(steep.gradient @ sample.turn, axis=1) / np.maximum(np.abs(steep.value), 1e-300)
        chance = sample.weights * np.nan_to_num(size, nan=0.0, posinf=0.0)
        if not chance.sum() > 0:
            chance = sample.weights
        chance = chance / chance.sum()
        chosen = rng.choice(len(chance), MANY, p=chance)
        others = loop.others
        w = others.lower + (others.upper - others.lower) * rng.random((MANY, len(others)))
        wide = (others.upper - others.lower)[others.upper > others.lower]
        factors = sample.weights[chosen] / chance[chosen] / MANY * float(np.prod(wide))
        return _Trial(sample, np.concatenate([sample.points[chosen], w], 1), factors)

    def boxes(
        self, condition: Condition, axes: Oblique | None, budget: Budget, first: int = MANY
    ) -> tuple[np.ndarray, float]:
        """Per point its share of the boxes that the whole condition is estimated to take, infinite where its path did not end; and
        the seconds for each of them."""
        n = self.sample.points.shape[1]
        Y = np.eye(n) if axes is None else _plain(axes)
        points = np.concatenate([self.points[:first, :n] @ Y.T, self.points[:first, n:]], 1)
        found = paths(condition, points, budget)
        boxes = found.boxes * abs(float(np.linalg.det(Y)))
        if self.sample.surface:  # a box meets about vol^(1 - 1 / n) of a surface
            boxes = (boxes * abs(float(np.linalg.det(self.sample.turn)))) ** (1 - 1 / n)
        return self.factors[:first] * boxes, found.seconds


def _plain(axes: Oblique) -> np.ndarray:
    return np.array([[float(v) for v in line] for line in axes.Y])


def _steepness(loop: ClosedLoop, h: Model, x: np.ndarray) -> _Steepness:
    f = features(loop, h, change=True)
    others = 0.5 * (loop.others.lower + loop.others.upper)
    v = np.concatenate([x, np.broadcast_to(others, (len(x), len(others)))], axis=1)
    slope = derivative(f.model)
    with np.errstate(all="ignore"):
        values = evaluate(f.model.graph, f.model.parameters, [v])[f.model.graph.outputs[0]]
        slopes = evaluate(slope.graph, slope.parameters, [v])[slope.graph.outputs[0]]
    slopes = np.broadcast_to(slopes, (len(x), *slope.graph[slope.graph.outputs[0]].shape))[..., : x.shape[1]]
    assert f.value is not None and f.change is not None
    if loop.kind == "ode":
        return _Steepness(values[:, f.change], slopes[:, f.change])
    return _Steepness(values[:, f.change] - values[:, f.value], slopes[:, f.change] - slopes[:, f.value])


def _candidates(loop: ClosedLoop, sample: Sample, steep: _Steepness) -> list[Oblique]:
    """The ball, as it is and turned into principal directions of gradients, of what must be negative and of the right side; the
    steepest direction in place of the state that it depends on most."""
    back = np.linalg.inv(sample.turn)
    n = len(back)
    rates = np.asarray(Linearisation(loop).jacobians(sample.points))
    weights = np.sqrt(sample.weights)[:, None]
    slopes = steep.gradient @ sample.turn * weights
    moves = (np.einsum("ij,kjl,lm->kim", back, rates, sample.turn) * weights[:, :, None]).reshape(-1, n)
    found = [back]
    for rows in (slopes, moves):
        rows = rows[np.isfinite(rows).all(1)]
        if not len(rows):
            continue
        directions = np.linalg.svd(rows, full_matrices=False)[2] @ back
        found.append(directions)
        single = np.eye(n)
        steepest = directions[0]
        single[int(np.argmax(np.abs(steepest) * np.linalg.norm(sample.turn, axis=1)))] = steepest
        found.append(single)
    result = []
    for Y in found:
        try:
            result.append(_rounded(Y))
        except InputError:  # singular once its entries are short
            continue
    return result


def _rounded(Y: np.ndarray) -> Oblique:
    """Rows whose largest entry is about 1, entries with few bits."""
    unit = Fraction(1, 1 << BITS)
    return Oblique.of([[round(Fraction(float(v / np.abs(line).max())) / unit) * unit for v in line] for line in Y])
