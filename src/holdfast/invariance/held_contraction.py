"""Ellipsoids that a sampled loop never leaves, at any time, by contraction of a period: no branch and bound over its boundary.

x(t_k + s) = x + (s/h) D(x, s/h) + (s/h)^e r. If |I + t M|_P <= 1 - rate t for all Jacobians M of D by x on the ellipsoid and all shares t of the
period, then |x(t_k + s) - c|_P <= radius - t (rate radius - |D(c)|_P - |r|_P), t = s/h, which stays at most the radius if the rate outweighs the rest. The norm's
growth over t, (|I + t M|_P - 1) / t, increases with t (convexity), so each piece is looked at where t is largest. Lohmiller, Slotine, Automatica 34, 1998.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.bounds.bounder import Method, bounds_of_rows, flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.errors import InputError
from holdfast.graph import Model, Tensor
from holdfast.invariance.contraction import _Norm
from holdfast.loop.closed_loop import JUMPS
from holdfast.loop.coordinates import in_coordinates
from holdfast.loop.sampled import SampledLoop, _held, _variables, sample
from holdfast.loop.taylor import flow_derivatives, increments
from holdfast.rigor import FLOAT64
from holdfast.spec.plant import LoopData
from holdfast.spec.region import Box
from holdfast.spec.temporal import Ellipsoid
from holdfast.transforms import derivative, simplify
from holdfast.transforms.compose import finish

LARGEST = 4000  # pieces looked at before the proof is given up
SMALLEST = 2.0**-7  # widths of pieces, in half-widths of the ellipsoid
BATCH = 16
NODES = 600  # of a graph of Jacobians that is worth a higher order
POINTS = 128  # on the boundary, looked at first
ORDERS = range(2, 8)  # of Taylor's formula, tried in turn
SMALL = 0.25  # share of the rate at the centre that remainders may take, so that no higher order is tried
ENOUGH = 0.5  # of the rate at the centre is to be left when shares of the period come in intervals


@dataclass(frozen=True, eq=False)
class HeldContraction:
    """Proved: from states of the ellipsoid at a sample time the loop stays in it (``always``: at all times after, else at the sample times).

    ``rate``: by which distances shrink in a period at least, as a share. ``pieces``: looked at. ``order``: of Taylor's formula.
    """

    states: Ellipsoid
    always: bool
    rate: float
    pieces: int
    order: int


def held_contraction(
    data: LoopData, center: Sequence[Fraction], Y: np.ndarray, *, always: bool = True, order: int | None = None,
    largest: int = LARGEST, expired: Callable[[], bool] = lambda: False,
) -> HeldContraction | str:  # fmt: skip
    """The proof for the ellipsoid {x : |Y (x - center)| <= 1}, Y (n, n); a clause that says why there is none.

    Everything is bounded in the coordinates Y (x - center), in which the ellipsoid is a ball. Raises InputError where the loop is none that is
    sampled, or where no box holds all states of a period.
    """
    exact = [[Fraction(float(v)) for v in row] for row in Y]
    n = len(exact)
    norm = _Norm.of([[Fraction(int(i == k)) for k in range(n)] for i in range(n)])
    assert norm is not None
    turned = in_coordinates(data, exact, center)
    tried = [_Period.of(turned, p, norm, always) for p in ([order] if order is not None else [])]
    period = tried[0] if tried else _lowest(turned, norm, always, expired)
    if not period.rest < period.best:
        return f"remainders need a rate of {period.rest:.3g} a period, {period.best:.3g} is there at the centre"
    slopes, sampled, rest = period.slopes, period.sampled, period.rest
    found = _covered(slopes, sampled, norm, float(np.nextafter(rest * (1 + 1e-15), 1)), always, largest, expired)
    if isinstance(found, str):
        return found
    rate, pieces = found
    P = tuple(tuple(sum((r[i] * r[k] for r in exact), Fraction(0)) for k in range(n)) for i in range(n))
    return HeldContraction(Ellipsoid(tuple(center), P, Fraction(1)), always, rate, pieces, sampled.order)


@dataclass(frozen=True, eq=False)
class _Period:
    """A period from the unit ball: Jacobians of D, what the centre and remainders add to the norm, the rate at the centre."""

    sampled: SampledLoop
    slopes: Problem
    rest: float
    best: float

    @staticmethod
    def of(data: LoopData, order: int, norm: _Norm, always: bool) -> _Period:
        """Raises InputError where no box holds all states of a period."""
        n = len(data.plant.signals.states)
        sampled = sample(data, Box.of([-1] * n, [1] * n), order)
        model = _increments(sampled)
        for node in model.graph.nodes:
            if node.op in JUMPS:
                raise InputError(
                    f"{node.name or node.op}: the controller jumps there; contraction needs one that is locally Lipschitz"
                )
        slopes = flat_problem(derivative(model), FLOAT64)
        rest = _norm(_at_center(flat_problem(model, FLOAT64), sampled, always)) + _norm(sampled.hold.between)
        middle = np.zeros((1, n + 1))
        middle[0, n] = 1.0
        return _Period(sampled, slopes, rest, float(_rates(slopes, sampled, norm, middle, middle)[0]))


def _lowest(data: LoopData, norm: _Norm, always: bool, expired: Callable[[], bool]) -> _Period:
    """With the lowest order whose remainders leave most of the rate."""
    best: _Period | None = None
    for p in ORDERS:
        try:
            period = _Period.of(data, p, norm, always)
        except InputError:
            if best is None:
                raise
            break
        if best is None or period.best - period.rest > best.best - best.rest:
            best = period
        if period.rest < SMALL * period.best or len(period.slopes.graph.nodes) > NODES or expired():
            break
    assert best is not None
    return best


def lowest_order(
    data: LoopData,
    center: Sequence[Fraction],
    Y: np.ndarray,
    always: bool = True,
    expired: Callable[[], bool] = lambda: False,
) -> int:
    """The order of Taylor's formula that is good enough for `held_contraction` of sets of about that size. Raises InputError as that does."""
    n = len(center)
    exact = [[Fraction(float(v)) for v in row] for row in Y]
    norm = _Norm.of([[Fraction(int(i == k)) for k in range(n)] for i in range(n)])
    assert norm is not None
    return _lowest(in_coordinates(data, exact, center), norm, always, expired).sampled.order


def _covered(
    slopes: Problem,
    sampled: SampledLoop,
    norm: _Norm,
    needed: float,
    always: bool,
    largest: int,
    expired: Callable[[], bool],
) -> tuple[float, int] | str:
    """The least rate over the unit ball, and how many pieces it took."""
    n = len(sampled.states)
    low, high = np.append(-np.ones(n), 1.0)[None], np.ones((1, n + 1))
    u = np.random.default_rng(0).normal(size=(POINTS, n + 1))
    u[:, :n] /= np.linalg.norm(u[:, :n], axis=1)[:, None]
    u[:, n] = 1.0
    least = float(_rates(slopes, sampled, norm, u, u).min())
    if not least > needed:  # of no use to try
        return f"rate {least:.3g} at some points, {needed:.3g} is needed"
    if always:
        low, high = _cells(slopes, sampled, norm, needed)
    shape = np.append(np.ones(n), max(0.5 * float((high - low)[:, n].max()), 1e-3))
    worst, done = np.inf, 0
    while len(low):
        part, low = low[:BATCH], low[BATCH:]
        top, high = high[:BATCH], high[BATCH:]
        near = norm.distance(part[:, :n], top[:, :n], np.zeros(n)) <= 1.0
        part, top = part[near], top[near]
        done += len(part)
        if done + len(low) > largest or expired():
            return f"not proved with {done} pieces"
        if not len(part):
            continue
        rate = _rates(slopes, sampled, norm, part, top)
        again = np.flatnonzero(~(rate > needed))
        for few in (again[:1], again[1:]):  # intervals are cheap, but looser: is the other method worth its time?
            if len(few) and not expired():
                rate[few] = np.fmax(rate[few], _rates(slopes, sampled, norm, part[few], top[few], "backward"))
                if not rate[few[0]] > needed:
                    break
        good = rate > needed
        worst = min(worst, float(rate[good].min(initial=np.inf)))
        left, right = part[~good], top[~good]
        axis = np.argmax((right - left) / shape, axis=1)
        index = np.arange(len(axis))
        if len(left) and ((right - left)[index, axis] < SMALLEST * shape[axis]).any():
            return f"rate {float(rate[~good].min()):.3g} on the smallest pieces, {needed:.3g} is needed"
        middle = 0.5 * left[index, axis] + 0.5 * right[index, axis]
        first, second = right.copy(), left.copy()
        first[index, axis] = second[index, axis] = middle
        low, high = np.concatenate([left, second, low]), np.concatenate([first, right, high])
    return worst, done


def _cells(slopes: Problem, sampled: SampledLoop, norm: _Norm, needed: float) -> tuple[np.ndarray, np.ndarray]:
    """The unit cube times parts of the period that are so short that, at the centre, little is lost."""
    n = len(sampled.states)
    for count in (1, 2, 4, 8, 16, 32, 64):
        ends = np.linspace(0.0, 1.0, count + 1)
        low, high = np.zeros((2, count, n + 1))
        low[:, n], high[:, n] = ends[:-1], ends[1:]
        interval = _rates(slopes, sampled, norm, low, high)
        low[:, n] = high[:, n]
        point = _rates(slopes, sampled, norm, low, high)
        if (interval > needed + ENOUGH * (point - needed)).all():
            break
    low, high = -np.ones((count, n + 1)), np.ones((count, n + 1))
    low[:, n], high[:, n] = ends[:-1], ends[1:]
    return low, high


def _rates(
    slopes: Problem, sampled: SampledLoop, norm: _Norm, low: np.ndarray, high: np.ndarray, method: Method = "interval"
) -> np.ndarray:
    """Lower bounds (K,) of (1 - |I + t M|_P) / t over pieces (K, n + 1) of states and shares."""
    n = low.shape[1] - 1
    w, p = sampled.data.plant.disturbances, sampled.data.plant.parameters
    below, above = (
        np.concatenate([end[:, :n], np.tile(p_end, (len(end), 1)), np.tile(w_end, (len(end), 1)), end[:, n:]], axis=1)
        for end, p_end, w_end in ((low, p.lower, w.lower), (high, p.upper, w.upper))
    )
    width = below.shape[1]
    least, most = bounds_of_rows(slopes, below, above, np.eye(n * width), method)
    least, most = (end.reshape(-1, n, width)[:, :, :n] for end in (least, most))
    share = high[:, n]
    t, one = share[:, None, None], np.eye(n)
    # outward: a product and a sum, each off by half a unit in the last place at most
    lost = 4e-16 * (abs(t * np.maximum(abs(least), abs(most))) + one) + 1e-300
    growth = norm.growth("map", one + t * least - lost, one + t * most + lost)
    return np.asarray((1.0 - growth) / share - 1e-15 * (1 + abs(growth)) / share)


def _increments(sampled: SampledLoop) -> Model:
    """(x, p, w, t) -> D, where the polynomial of x(t_k + t h) is x + t D."""
    data = sampled.data
    signals = data.plant.signals
    widths = (len(signals.states), len(signals.parameters), len(signals.disturbances), 1)
    builder, (x, p, w, phase) = _variables(widths)
    assert x is not None and phase is not None
    flow = flow_derivatives(data.plant)
    while len(flow.derivatives) < sampled.order - 1:
        flow = flow_derivatives(data.plant, flow)
    y = increments(builder, flow, _held(builder, data, x, p, w), sampled.period, sampled.order, phase)
    tensors = (Tensor("signals", (sum(widths),)),)
    return simplify(finish(builder, [y], tensors, (Tensor("increment", builder.shape(y)),), "increment")).model


def _at_center(problem: Problem, sampled: SampledLoop, always: bool) -> Box:
    """D at the centre, for all shares of the period (or its end), disturbances and parameters."""
    w, p, n = sampled.data.plant.disturbances, sampled.data.plant.parameters, len(sampled.states)
    first = 0.0 if always else 1.0
    low = np.concatenate([np.zeros(n), p.lower, w.lower, [first]])[None]
    high = np.concatenate([np.zeros(n), p.upper, w.upper, [1.0]])[None]
    below, above = bounds_of_rows(problem, low, high, np.eye(n), "backward")
    if not (np.isfinite(below).all() and np.isfinite(above).all()):
        return Box.of([-1e300] * n, [1e300] * n)
    return Box.of(below[0].tolist(), above[0].tolist())


def _norm(box: Box) -> float:
    """An upper bound of the Euclidean norm on a box."""
    most = np.maximum(abs(box.lower), abs(box.upper))
    return float(np.sqrt((most * most).sum()) * (1 + 1e-14)) + 1e-290
