"""Which initial values a loop bends: those in which its states are not linear after a while. Only these are worth polynomials.

Before the tube: the others become symbols, which are carried linearly and cost no monomials, so that the degree in the few that matter can
be high. Differences of simulated trajectories in plain arithmetic (Morris, Factorial sampling plans for preliminary computational
experiments, 1991): they choose what stands for what, and no bound rests on them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from holdfast.bounds.enclosure import Problem
from holdfast.transforms import evaluate

Array = np.ndarray
CORNERS = 4  # from which each value is moved
LATER, SOON = 64, 8  # periods, about, over which trajectories are compared: fewer for many values
WORK = 960  # periods times values
LITTLE = 0.03  # of the largest effect: a value that bends less is carried linearly
FEW = 4  # values: so many are always worth polynomials
LEAST = 2  # values that are variables in any case: boxes are halved along variables
_ENDS = 2.0**-50  # of its size: the width of a decimal number that is enclosed
_POINT = 1e-9  # of the size of a state: less is no difference


def bent(
    dynamics: Problem, control: Problem | None, kind: str, period: float | None, box: tuple[Array, Array], n: int, others: Array
) -> Array:  # fmt: skip
    """Which of the values (n states, then parameters) of ``box`` (lower, upper) are worth polynomials; parameters that vary always are.

    ``dynamics``, ``control`` read signals: states, inputs, parameters, then ``others`` (disturbances, scheduled signals), which stay.
    """
    low, high = box
    wide: Array = high - low > _ENDS * (abs(low) + abs(high))
    varying = np.flatnonzero(wide)
    if len(varying) <= FEW:
        return wide
    periods = int(np.clip(WORK // len(varying), SOON, LATER))
    flow = _flow(dynamics, control, kind, period, n, len(low), others, periods)
    with np.errstate(all="ignore"):
        effect = _effects(flow, low, high, varying, n)
    if not np.isfinite(effect).all():
        return wide
    chosen = wide.copy()
    chosen[varying[effect < max(LITTLE * effect.max(), _POINT)]] = False
    chosen[n:] = wide[n:]  # symbols of states are joined on the way, and must not stand for anything else
    chosen[varying[np.argsort(-effect, kind="stable")[:LEAST]]] = True
    return chosen


def _effects(flow: Callable[[Array, Array], list[Array]], low: Array, high: Array, varying: Array, n: int) -> Array:
    """By how much each value bends the states (V,): of any state, in units of its spread."""
    rng = np.random.default_rng(0)
    V = len(varying)
    corner = np.where(rng.random((CORNERS, V)) < 0.5, -1.0, 1.0)
    places = np.tile(
        corner[:, None, :], (1, 2 * V + 1, 1)
    )  # as they are, one value at its other end, one in the middle
    moved = np.arange(V)
    places[:, 1 + moved, moved] *= -1
    places[:, 1 + V + moved, moved] = 0.0
    points = np.tile(0.5 * low + 0.5 * high, (CORNERS * (2 * V + 1), 1))
    points[:, varying] += (0.5 * high - 0.5 * low)[varying] * places.reshape(-1, V)
    effect = np.full(V, np.nan)
    for x in flow(points[:, :n], points[:, n:]):
        if not np.isfinite(x).all():
            break
        x = x.reshape(CORNERS, 2 * V + 1, n)
        own, other, middle = x[:, :1], x[:, 1 : 1 + V], x[:, 1 + V :]
        slope = 0.5 * (own - other) * corner[:, :, None]
        curve = abs(0.5 * (own + other) - middle)
        spread = abs(slope).mean(0).sum(0)
        spread = np.where(spread > _POINT * (1 + abs(x).max((0, 1))), spread, np.inf)
        effect = np.fmax(effect, ((0.5 * np.ptp(slope, axis=0) + curve.max(0)) / spread).max(1))
    return effect


def _flow(
    dynamics: Problem,
    control: Problem | None,
    kind: str,
    period: float | None,
    n: int,
    values: int,
    others: Array,
    periods: int,
) -> Callable[[Array, Array], list[Array]]:
    """Trajectories from states (P, n), with parameters (P, p): states at a few times."""

    def signals(x: Array, u: Array, p: Array) -> Array:
        return np.concatenate([x, u, p, np.tile(others, (len(x), 1))], axis=1)

    width = dynamics.graph[0].shape[0] - values - len(others)  # inputs

    def inputs(x: Array, p: Array) -> Array:
        zero = np.zeros((len(x), width))
        return zero if control is None else _values(control, signals(x, zero, p))

    def run(x: Array, p: Array) -> list[Array]:
        def rate(x: Array, u: Array) -> Array:
            return _values(dynamics, signals(x, u, p))

        found, h = [], period
        if kind != "map" and h is None:  # so long that rates change as much as states
            f = rate(x, inputs(x, p))
            size, speed = np.ptp(x, axis=0), np.ptp(f, axis=0)
            h = float((size / np.maximum(speed, 1e-300))[(size > 0) & (speed > 0)].min(initial=1.0))
        for _ in range(periods):
            u = inputs(x, p)
            if kind == "map":
                x = rate(x, u)
            else:
                assert h is not None
                first = rate(x, u)
                second = rate(x + 0.5 * h * first, u)
                third = rate(x + 0.5 * h * second, u)
                x = x + h / 6 * (first + 2 * second + 2 * third + rate(x + h * third, u))
            found.append(x)
        return found

    return run


def _values(problem: Problem, points: Array) -> Array:
    output = problem.graph.outputs[0]
    found: Array = evaluate(problem.graph, problem.parameters, [points])[output]
    return np.broadcast_to(found, (len(points), *problem.graph[output].shape))
