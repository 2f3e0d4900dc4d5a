"""A closed loop and a set in plain arithmetic: values of the sides, how fast they change, slopes, points of the boundary.

What the falsifier walks on; nothing here is proved. All functions take many points at once.
"""

from __future__ import annotations

import numpy as np

from holdfast.bounds.bounder import flat_problem
from holdfast.invariance.escape import all_sides, plain
from holdfast.invariance.features import features
from holdfast.invariance.sets import Inequalities
from holdfast.loop import ClosedLoop
from holdfast.rigor import FLOAT64
from holdfast.search.attack import gradient
from holdfast.transforms import evaluate

CLOSE = 1e-9  # of a side's range over the hull: on the boundary, as far as candidates are concerned
STEP = 0.01  # of the hull's width, per step of a simulation


class Field:
    """Sides g_k(x), and their rates: g_k' f (ode) or g_k(f) (map), at points of the hull.

    ``own``: number of sides of the set itself, those of the domain are behind; ``spread``: how much each side varies over the hull;
    sides are ``rows`` (S, K) times the values of functions, plus ``constants``.
    """

    def __init__(self, loop: ClosedLoop, states: Inequalities):
        self.loop, self.ode = loop, loop.kind == "ode"
        self.n = len(loop.states)
        self.own = len(states.sides)
        complete = all_sides(states, loop.states)
        f = features(loop, complete.functions, change=True, value=False)
        self._values = flat_problem(complete.functions, FLOAT64)
        self._moving = flat_problem(f.model, FLOAT64)
        self._dynamics = flat_problem(loop.dynamics, FLOAT64)
        self.rows = np.zeros((len(complete.sides), complete.functions.outputs[0].shape[0]))
        for k, g in enumerate(complete.sides):
            for i, c in g.terms:
                self.rows[k, i] += float(c)
        self.constants = np.array([float(g.constant) for g in complete.sides])
        self.low, self.high = states.hull.inside("float64")
        self.width = np.maximum(self.high - self.low, 1e-300)
        self.low_others, self.high_others = loop.others.inside("float64")
        sample = np.random.default_rng(0).random((256, self.n)) * self.width + self.low
        values = self.sides(sample)
        values = values[np.isfinite(values).all(1)]
        spread = np.ptp(values, axis=0) if len(values) else np.ones(len(self.rows))
        self.spread = np.maximum(spread, 1e-300)

    @property
    def size(self) -> int:
        """How many numbers an evaluation of the rates multiplies."""
        graph = self._moving.graph
        return sum(
            self._moving.parameters[node.parameters[0]].size
            for node in graph.nodes
            if node.op == "dense" and node.parameters
        )

    def sides(self, x: np.ndarray) -> np.ndarray:
        """(P, S)."""
        out = plain(self._values, x)
        return out @ self.rows.T + self.constants

    def slope(self, x: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Gradients (P, n) of one side per point."""
        values = evaluate(self._values.graph, self._values.parameters, [x])
        return gradient(self._values, values, self.rows[side])

    def rates(self, x: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(P, S)."""
        out = plain(self._moving, np.concatenate([x, others], axis=1))
        return out @ self.rows.T + (0.0 if self.ode else self.constants)

    def rate(self, x: np.ndarray, others: np.ndarray, side: np.ndarray) -> np.ndarray:
        """(P,)."""
        return np.take_along_axis(self.rates(x, others), side[:, None], 1)[:, 0]

    def slope_of_rate(self, x: np.ndarray, others: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Gradients (P, n + m) of the rate of one side per point, by all variables."""
        values = evaluate(self._moving.graph, self._moving.parameters, [np.concatenate([x, others], axis=1)])
        return np.nan_to_num(gradient(self._moving, values, self.rows[side]))

    def clipped(self, x: np.ndarray) -> np.ndarray:
        """Into the hull."""
        return np.clip(x, self.low, self.high)

    def others(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random disturbances and parameters, half of them corners."""
        share = rng.random((count, len(self.low_others)))
        share[::2] = np.round(share[::2])
        return np.clip(
            self.low_others + share * (self.high_others - self.low_others), self.low_others, self.high_others
        )

    def corner(self, slope: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The corner that a slope points to."""
        return np.where(slope > 0, self.high_others, np.where(slope < 0, self.low_others, others))

    def held(self, x: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Points on sides of the domain, exactly there."""
        x = x.copy()
        k = side - self.own
        at = np.flatnonzero(k >= 0)
        i = k[at] // 2
        x[at, i] = np.where(k[at] % 2 == 0, self.high[i], self.low[i])
        return x

    def repaired(self, x: np.ndarray, side: np.ndarray, on_side: bool, rounds: int = 4) -> np.ndarray:
        """Points moved onto their side (``on_side``) and out of others that they violate: Newton steps, the worst first."""
        x = self.held(x, side) if on_side else x
        points = np.arange(len(x))
        for _ in range(rounds):
            excess = self.sides(x) / self.spread
            excess[:, self.own :] = 0.0  # the hull sees to these
            wrong = np.maximum(excess, 0.0)
            if on_side:
                own = side < self.own
                wrong[points[own], side[own]] = abs(excess[points[own], side[own]])
            worst = wrong.argmax(1)
            todo = np.flatnonzero(wrong[points, worst] > 0.1 * CLOSE)
            if not len(todo):
                break
            a = self.slope(x[todo], worst[todo])
            normal = a * self.width**2
            size = np.maximum((normal * a).sum(1), 1e-300)
            shift = -(excess[todo, worst[todo]] * self.spread[worst[todo]] / size)[:, None] * normal
            longest = abs(shift / self.width).max(1, keepdims=True)
            x = x.copy()
            x[todo] = self.clipped(x[todo] + shift * np.minimum(1.0, 0.3 / np.maximum(longest, 1e-300)))
            x = self.held(x, side) if on_side else x
        return x

    def feasible(self, x: np.ndarray, side: np.ndarray, on_side: bool) -> np.ndarray:
        """Whether points lie in the set and (``on_side``) on their side, nearly."""
        values = self.sides(x) / self.spread
        fine = np.asarray((values <= CLOSE).all(1))
        return fine & (abs(values[np.arange(len(x)), side]) <= CLOSE) if on_side else fine

    def interior(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Points of the set: random ones of the hull, led downhill where they are outside."""
        x = np.concatenate(
            [0.5 * (self.low + self.high)[None], self.low + rng.random((count, self.n)) * (self.high - self.low)]
        )
        for _ in range(30):
            values = self.sides(x) / self.spread
            worst = values.argmax(1)
            outside = np.flatnonzero(~(values.max(1) < 0))
            if len(outside) <= 0.7 * len(x):
                break
            a = self.slope(x[outside], worst[outside]) * self.width**2
            move = a / np.maximum(abs(a / self.width).max(1, keepdims=True), 1e-300)
            x[outside] = self.clipped(x[outside] - 0.05 * rng.random((len(outside), 1)) * move)
        return x[(self.sides(x) < 0).all(1)]

    def boundary(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Points of the set next to its boundary: where rays from points of the set meet it first."""
        anchors = self.interior(rng, 256)
        if not len(anchors):
            return anchors
        inside = anchors[rng.integers(0, len(anchors), count)]
        ray = rng.normal(size=inside.shape) * self.width
        with np.errstate(divide="ignore"):
            reach = np.where(ray > 0, (self.high - inside) / ray, (self.low - inside) / ray)
        outside = inside + 1.001 * np.nan_to_num(reach, nan=np.inf).min(1, keepdims=True) * ray
        return self.last_inside(inside, outside, 36)

    def last_inside(self, inside: np.ndarray, outside: np.ndarray, rounds: int = 36) -> np.ndarray:
        """Bisection between points of the set and points that are not in it; the inner end."""
        for _ in range(rounds):
            middle = 0.5 * (inside + outside)
            fine = np.asarray((self.sides(middle) <= 0).all(1))[:, None]
            inside, outside = np.where(fine, middle, inside), np.where(fine, outside, middle)
        return inside

    def on_domain(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Points of the set on sides of the domain, and which sides: led downhill until they are in the set."""
        side = self.own + np.arange(count) % (len(self.rows) - self.own)
        x = self.held(self.low + rng.random((count, self.n)) * (self.high - self.low), side)
        for _ in range(12):
            values = self.sides(x)[:, : self.own] / self.spread[: self.own]
            outside = np.flatnonzero(~(values.max(1) <= 0))
            if not len(outside):
                break
            a = self.slope(x[outside], values[outside].argmax(1)) * self.width**2
            move = a / np.maximum(abs(a / self.width).max(1, keepdims=True), 1e-300)
            x[outside] = self.held(
                self.clipped(x[outside] - 0.06 * rng.random((len(outside), 1)) * move), side[outside]
            )
        fine = np.asarray((self.sides(x)[:, : self.own] <= 0).all(1))
        return x[fine], side[fine]

    def step(self, x: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The next state of a map, or a Runge-Kutta step over a part of the hull's width."""

        def flow(y: np.ndarray) -> np.ndarray:
            return plain(self._dynamics, np.concatenate([y, others], axis=1))

        if not self.ode:
            return flow(x)
        k1 = flow(x)
        h = STEP / np.maximum(abs(k1 / self.width).max(1, keepdims=True), 1e-12)
        k2 = flow(x + 0.5 * h * k1)
        k3 = flow(x + 0.5 * h * k2)
        k4 = flow(x + h * k3)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
