"""Ellipsoids that a sampled loop never leaves, at any time, by slopes of a period: no branch and bound over the boundary.

In coordinates z in which the ellipsoid is the unit ball, z(t_k + t h) = z + t D(z, t) + t^e r, and D(z, t) - D(0, t) = M z with M a mean of Jacobians of D
on the segment from 0 to z. Where |I + t M| <= 1 - rate t, the norm grows to (1 - rate t) |z| + t (|D(0, t)| + |r|) at most. Neumaier, Interval methods
for systems of equations, 1990 (slopes); docs/certificates/loops.md, section 7, held-slopes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from holdfast.bounds.bounder import bounds_of_rows, flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.errors import InputError
from holdfast.graph import Model
from holdfast.invariance.ball import Ball, Matrix
from holdfast.loop.closed_loop import JUMPS
from holdfast.loop.hold import Hold
from holdfast.loop.sampled import SampledLoop, increments_model, sample
from holdfast.rigor import FLOAT64
from holdfast.spec.plant import LoopData
from holdfast.spec.region import Box
from holdfast.spec.temporal import Ellipsoid
from holdfast.transforms import derivative

LARGEST = 20000  # pieces looked at before the proof is given up
SMALLEST = 2.0**-6  # widths of pieces, in half-widths of the ellipsoid
BATCH = 64
SLICES = 8  # of the segment from the centre: a power of two, so that their ends are exact
NODES = 600  # of a graph of Jacobians that is worth a higher order
POINTS = 64  # on the boundary, looked at first
ORDERS = range(2, 9)  # of Taylor's formula, tried in turn
HOPELESS = 3  # orders higher than the first, and still no box that holds all states of a period
SMALL = 0.05  # share of the rate at the centre that remainders may take, so that no higher order is tried
ENOUGH = 0.5  # of the rate at the centre is to be left when shares of the period come in intervals

Never = Callable[[], bool]


@dataclass(frozen=True, eq=False)
class HeldSlopes:
    """Proved: from states of the ellipsoid at a sample time the loop stays in it (``always``: at all times after, else at the sample times).

    ``rate``: by which distances from the centre shrink in a period at least, as a share; negative where they may grow inside. ``pieces``: looked
    at. ``rows``: Y of the coordinates z = Y (x - centre), in which ``hold`` is meant.
    """

    states: Ellipsoid
    always: bool
    rate: float
    pieces: int
    order: int
    rows: Matrix
    hold: Hold
    slices: int = SLICES


def held_slopes(
    data: LoopData, states: Ellipsoid, *, always: bool = True, order: int | None = None, largest: int = LARGEST,
    expired: Never = lambda: False,
) -> HeldSlopes | str:  # fmt: skip
    """The proof for an ellipsoid; a clause that says why there is none. ``order``: the lowest one of Taylor's formula that is tried.

    ``expired``: asked often whether to give up.

    Raises InputError where the loop is none that is sampled, where a controller jumps, and where no box holds all states of a period.
    """
    period = _lowest(Ball.of(data, states), always, expired, ORDERS[0] if order is None else order)
    if expired():
        return "the time ended"
    found = _covered(period, always, largest, expired)
    if isinstance(found, str):
        return found
    return HeldSlopes(states, always, *found, period.sampled.order, period.ball.rows, period.sampled.hold)


@dataclass(frozen=True, eq=False)
class _Period:
    """Jacobians of D, what the centre and remainders add to the norm in a period, the rate at the centre."""

    ball: Ball
    sampled: SampledLoop
    slopes: Problem
    rest: float
    best: float

    @staticmethod
    def of(ball: Ball, order: int, always: bool, expired: Never) -> _Period:
        """Raises InputError where no box holds all states of a period."""
        n = len(ball.reach)
        sampled = sample(ball.data, Box.of((-ball.reach).tolist(), ball.reach.tolist()), order, expired)
        model = increments_model(sampled)
        for node in model.graph.nodes:
            if node.op in JUMPS:
                raise InputError(
                    f"{node.name or node.op}: the controller jumps there; slopes need one that is locally Lipschitz"
                )
        slopes = flat_problem(derivative(model), FLOAT64)
        center, remainder = _at_center(model, sampled, always), sampled.hold.between
        ends = np.array([np.maximum(abs(b.lower), abs(b.upper)) for b in (center, remainder)])
        rest = float(np.nextafter(ball.size(ends).sum() * (1 + 1e-15), np.inf))
        middle = np.zeros((1, n + 1))
        middle[0, n] = 1.0
        return _Period(ball, sampled, slopes, rest, float(_rates(ball, sampled, slopes, middle, middle)[0]))

    def rates(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower bounds (K,) of (1 - |I + t M|) / t over pieces (K, n + 1) of z and shares of the period, and what is needed there."""
        n = low.shape[1] - 1
        size = np.minimum(self.ball.size(np.maximum(abs(low[:, :n]), abs(high[:, :n]))), 1.0)
        room = (1.0 - size) / high[:, n] * (1 - 1e-14)
        needed = (self.rest - room) / size
        return _rates(self.ball, self.sampled, self.slopes, low, high), needed + 1e-14 * (1 + abs(needed))


def _lowest(ball: Ball, always: bool, expired: Never, first: int) -> _Period:
    """With the lowest order, from the first on, whose remainders leave most of the rate."""
    best: _Period | None = None
    failure = InputError("sampled loop: no box was found that holds all states of a period within the time")
    for p in range(first, max(ORDERS.stop, first + 1)):
        try:
            period = _Period.of(ball, p, always, expired)
        except InputError as error:
            failure = error
            if best is not None or expired() or p == first + HOPELESS:
                break
            continue
        if best is not None and period.best - period.rest <= best.best - best.rest:
            break
        best = period
        if period.rest < SMALL * abs(period.best) or len(period.slopes.graph.nodes) > NODES or expired():
            break
    if best is None:
        raise failure
    return best


def _covered(period: _Period, always: bool, largest: int, expired: Never) -> tuple[float, int] | str:
    """The least rate over the ball, and how many pieces it took."""
    n = len(period.ball.reach)
    u = np.random.default_rng(0).normal(size=(POINTS, n + 1))
    u[:, :n] /= np.linalg.norm(u[:, :n], axis=1)[:, None]
    u[:, n] = 1.0
    rate, needed = period.rates(u, u)
    if not (rate > needed).all():  # of no use to try
        return f"rate {float(rate.min()):.3g} at some points, {period.rest:.3g} is needed"
    low, high = np.append(-period.ball.reach, 1.0)[None], np.append(period.ball.reach, 1.0)[None]
    if always:
        low, high = _cells(period)
    shape = np.append(np.ones(n), max(0.5 * float((high - low)[:, n].max()), 1e-3))
    worst, done = np.inf, 0
    while len(low):
        part, low = low[:BATCH], low[BATCH:]
        top, high = high[:BATCH], high[BATCH:]
        near = period.ball.norm.distance(part[:, :n], top[:, :n], np.zeros(n)) <= 1.0
        part, top = part[near], top[near]
        done += len(part)
        if done + len(low) > largest or expired():
            return f"not proved with {done} pieces"
        if not len(part):
            continue
        rate, needed = period.rates(part, top)
        good = rate > needed
        worst = min(worst, float(rate[good].min(initial=np.inf)))
        left, right = part[~good], top[~good]
        axis = np.argmax((right - left) / shape, axis=1)
        index = np.arange(len(axis))
        if len(left) and ((right - left)[index, axis] < SMALLEST * shape[axis]).any():
            return f"rate {float(rate[~good].min()):.3g} on the smallest pieces, {period.rest:.3g} is needed"
        middle = 0.5 * left[index, axis] + 0.5 * right[index, axis]
        first, second = right.copy(), left.copy()
        first[index, axis] = second[index, axis] = middle
        low, high = np.concatenate([left, second, low]), np.concatenate([first, right, high])
    return worst, done


def _cells(period: _Period) -> tuple[np.ndarray, np.ndarray]:
    """The cube around the ball times parts of the period that are so short that, at the centre, little is lost."""
    reach, needed = period.ball.reach, period.rest
    n = len(reach)
    for count in (1, 2, 4, 8, 16, 32, 64):
        ends = np.linspace(0.0, 1.0, count + 1)
        low, high = np.zeros((2, count, n + 1))
        low[:, n], high[:, n] = ends[:-1], ends[1:]
        interval = _rates(period.ball, period.sampled, period.slopes, low, high)
        low[:, n] = high[:, n]
        point = _rates(period.ball, period.sampled, period.slopes, low, high)
        if (interval > point - ENOUGH * abs(point - needed)).all():
            break
    low, high = np.tile(np.append(-reach, 0.0), (count, 1)), np.tile(np.append(reach, 0.0), (count, 1))
    low[:, n], high[:, n] = ends[:-1], ends[1:]
    return low, high


def _rates(ball: Ball, sampled: SampledLoop, slopes: Problem, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Lower bounds (K,) of (1 - |I + t M|) / t over pieces (K, n + 1) of z and shares: M is the mean of Jacobians on slices."""
    n, count = low.shape[1] - 1, len(low)
    w, p = sampled.data.plant.disturbances, sampled.data.plant.parameters
    ends = np.linspace(0.0, 1.0, SLICES + 1)[:, None, None]
    inner, outer = ends * low[None, :, :n], ends * high[None, :, :n]
    parts = np.minimum(inner[:-1], inner[1:]), np.maximum(outer[:-1], outer[1:])  # hulls of both ends of each slice
    below, above = (
        np.concatenate(
            [z.reshape(-1, n), *(np.tile(b, (SLICES * count, 1)) for b in (p_end, w_end)), np.tile(end[:, n:], (SLICES, 1))],
            axis=1,
        )
        for z, end, p_end, w_end in ((parts[0], low, p.lower, w.lower), (parts[1], high, p.upper, w.upper))
    )  # fmt: skip
    width = below.shape[1]
    least, most = bounds_of_rows(slopes, below, above, np.eye(n * width), "interval")
    least, most = (end.reshape(SLICES, count, n, width)[:, :, :, :n] for end in (least, most))
    largest = np.maximum(abs(least), abs(most)).max(0)
    least, most = least.mean(0), most.mean(0)
    share = high[:, n]
    t, one = share[:, None, None], np.eye(n)
    # outward: a mean of few numbers, a product and a sum
    lost = 2e-15 * (t * largest + one) + 1e-290
    growth = ball.norm.growth("map", one + t * least - lost, one + t * most + lost)
    return np.asarray((1.0 - growth) / share - 1e-15 * (1 + abs(growth)) / share)


def _at_center(model: Model, sampled: SampledLoop, always: bool) -> Box:
    """D at the centre, for all shares of the period (or its end), disturbances and parameters."""
    w, p, n = sampled.data.plant.disturbances, sampled.data.plant.parameters, len(sampled.states)
    first = 0.0 if always else 1.0
    low = np.concatenate([np.zeros(n), p.lower, w.lower, [first]])[None]
    high = np.concatenate([np.zeros(n), p.upper, w.upper, [1.0]])[None]
    below, above = bounds_of_rows(flat_problem(model, FLOAT64), low, high, np.eye(n), "backward")
    if not (np.isfinite(below).all() and np.isfinite(above).all()):
        return Box.of([-1e300] * n, [1e300] * n)
    return Box.of(below[0].tolist(), above[0].tolist())
