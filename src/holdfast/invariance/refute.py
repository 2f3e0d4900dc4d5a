"""Refutations of claims that are not of invariance, where they are finite proofs: a state, or a small box that certainly holds one.

attracts: an equilibrium in the set `from` that is not in `to` (`to = "equilibrium"`: two of them) is never left. barrier: its function has
the wrong sign at an initial or unsafe state, or does not decrease at a zero. until: an initial state in neither set, or one that
is an equilibrium and not the goal. Candidates come from plain arithmetic; Krawczyk (see `equilibrium`), Hansen, Walster, Global
Optimization Using Interval Analysis, 2004, chapter 11, for the proofs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from holdfast.bounds.bounder import bounds_of_rows, flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.errors import InputError
from holdfast.graph import Model
from holdfast.invariance.equilibrium import Linearisation, krawczyk, newton
from holdfast.invariance.escape import Ends, combined, plain
from holdfast.invariance.features import features
from holdfast.invariance.regular import require_regular
from holdfast.invariance.sets import Inequalities, bounded_domain, inequalities
from holdfast.loop import ClosedLoop
from holdfast.loop.closed_loop import JUMPS
from holdfast.rigor import FLOAT64
from holdfast.spec.region import Box
from holdfast.spec.row import Row, row
from holdfast.spec.temporal import Instance, TemporalProperty
from holdfast.verdict import Refutation

SAMPLES = 4096
BEST = 6  # candidates whose proof is tried
EQUILIBRIA = 40  # Newton searches
SIZES = (1e-10, 1e-8, 1e-6, 1e-4)  # of boxes about a candidate, relative to the hull
Points = np.ndarray  # (P, n)


def refute(
    loop: ClosedLoop, instance: Instance, prop: TemporalProperty, number: int, where: str, *, seed: int, seconds: float,
    starts: Sequence[np.ndarray] = (),
) -> Refutation | None:  # fmt: skip
    """What refutes the claim ``prop``, proved; None: nothing was found in about so many seconds.

    ``starts``: points, their states first, that are tried as well. Raises InputError where a set cannot be read.
    """
    search = _Search(loop, instance, prop, number, where, np.random.default_rng(seed), time.monotonic() + seconds)
    near = np.array([s[: len(loop.states)] for s in starts], np.float64).reshape(-1, len(loop.states))
    if prop.kind == "attracts":
        return search.attracts(near)
    if instance.initial is None or prop.function is None:
        return None
    return search.barrier(instance.initial, near) if prop.kind == "barrier" else search.until(instance.initial, near)


class _Search:
    def __init__(
        self, loop: ClosedLoop, instance: Instance, prop: TemporalProperty, number: int, where: str, rng: np.random.Generator, deadline: float
    ):  # fmt: skip
        self.loop, self.prop, self.number, self.where = loop, prop, number, where
        self.rng, self.deadline, self.n = rng, deadline, len(loop.states)
        self.horizon = instance.time is not None or instance.steps is not None
        self.others = 0.5 * loop.others.lower + 0.5 * loop.others.upper

    # ---- the kinds of claims ----

    def attracts(self, near: Points) -> Refutation | None:
        """An equilibrium in `from`, certainly not in `to`, or two equilibria."""
        assert self.prop.states is not None and self.prop.target is not None
        start = inequalities(self.prop.states, self.loop, f"{self.where} from")
        goal = (
            None if self.prop.target == "equilibrium" else inequalities(self.prop.target, self.loop, f"{self.where} to")
        )
        first: tuple[np.ndarray, np.ndarray] | None = None
        for low, high in self._equilibria(start.hull, near):
            if not within(start, low, high):
                continue
            if goal is not None and beyond(goal, low, high):
                return self._found(
                    "an equilibrium of the set `from`, which is never left, is not in the set `to`", low, high
                )
            if goal is None and first is not None and ((low > first[1]) | (high < first[0])).any():
                return self._found(
                    "the set `from` has this equilibrium, and another one, from which it is not reached", low, high
                )
            first = first or (low, high)
        return None

    def barrier(self, initial: Box, near: Points) -> Refutation | None:
        """A sign that is wrong, or a zero where the function does not decrease."""
        assert self.prop.function is not None and self.prop.states is not None
        name, domain = self.prop.function, bounded_domain(self.loop, self.where)
        h = self.loop.on_states(self.loop.data.functions[name].value)
        positive = row({0: -1}, 0, f"{name} > 0", strict=True)
        negative = Inequalities(h, (row({0: 1}, 0, f"{name} <= 0"),), domain)
        unsafe = inequalities(self.prop.states, self.loop, f"{self.where} unsafe")
        x = self._points(initial, near)
        for point in best(x, self._values(h, (positive,), x)):
            if initial.contains(point) and beyond(negative, point, point):
                return self._found(f"{name} is positive at a state of the initial set", point, point)
        x = self._points(unsafe.hull, near)
        sizes = np.maximum(self._values(h, negative.sides, x), self._values(unsafe.functions, unsafe.sides, x))
        for point in best(x, sizes):
            if domain.contains(point) and within(unsafe, point, point) and within(negative, point, point):
                return self._found(f"{name} is not positive at a state of the unsafe set", point, point)
        return self._crossing(name, h, domain, near)

    def until(self, initial: Box, near: Points) -> Refutation | None:
        """An initial state in neither set, or one that is an equilibrium outside of the goal."""
        prop = self.prop
        if prop.states is None or prop.target is None or prop.target == "equilibrium" or prop.during or self.horizon:
            return None
        first = inequalities(prop.states, self.loop, f"{self.where} first")
        goal = inequalities(prop.target, self.loop, f"{self.where} then")
        x = self._points(initial, near)
        outside = -np.minimum(*(self._values(s.functions, s.sides, x) for s in (first, goal)))
        for point in best(x, outside):
            if initial.contains(point) and beyond(first, point, point) and beyond(goal, point, point):
                return self._found("a state of the initial set is in neither of the sets", point, point)
        for low, high in self._equilibria(initial, near):
            if initial.contains(low) and initial.contains(high) and beyond(goal, low, high):
                return self._found(
                    "an equilibrium of the initial set, which is never left, is not in the set `then`", low, high
                )
        return None

    # ---- candidates and proofs ----

    def _found(self, text: str, low: np.ndarray, high: np.ndarray, others: np.ndarray | None = None) -> Refutation:
        others = self.others if others is None else others
        count = len(self.loop.disturbances)
        w, p = tuple(others[:count].tolist()), tuple(others[count:].tolist())
        return Refutation(self.number, text, tuple(low.tolist()), tuple(high.tolist()), w, p)

    def _points(self, hull: Box, near: Points) -> Points:
        """Random states of a box, some of its corners, and those given."""
        low, high = hull.inside("float64")
        share = self.rng.random((SAMPLES, self.n))
        share[::4] = np.round(share[::4])
        x = np.concatenate([near, low + share * (high - low)])
        return np.clip(x, low, high)

    def _values(self, functions: Model, sides: Sequence[Row], x: Points) -> np.ndarray:
        """The largest of the sides (P,), not proved."""
        values = plain(flat_problem(functions, FLOAT64), x)
        largest = np.full(len(x), -np.inf)
        for g in sides:
            largest = np.maximum(largest, sum(float(c) * values[:, i] for i, c in g.terms) + float(g.constant))
        return largest

    def _equilibria(self, hull: Box, near: Points) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Boxes that certainly hold an equilibrium, at the middle of disturbances and parameters."""
        if not self.loop.others.contains(self.others) or jumps(self.loop.dynamics):
            return
        line, width = Linearisation(self.loop), np.maximum(hull.upper - hull.lower, 1e-300)
        starts = self._points(hull, near)[: EQUILIBRIA + len(near)]
        seen: list[np.ndarray] = []
        for x in [0.5 * hull.lower + 0.5 * hull.upper, *starts]:
            if time.monotonic() > self.deadline:
                return
            center = newton(self.loop, x, line=line)
            if center is None or not ((center >= hull.lower) & (center <= hull.upper)).all():
                continue
            if any((abs(center - other) < 1e-7 * width).all() for other in seen):
                continue
            seen.append(center)
            for size in SIZES:
                reach = krawczyk(self.loop, center, size * width, Box.of(self.others.tolist(), self.others.tolist()))
                if reach is None:
                    continue
                low, high = np.nextafter(center - reach, -np.inf), np.nextafter(center + reach, np.inf)
                if self._regular([], np.minimum(low, center - size * width), np.maximum(high, center + size * width)):
                    yield low, high
                break

    def _regular(self, functions: Sequence[Model], low: np.ndarray, high: np.ndarray) -> bool:
        """Whether everything is certainly defined and Lipschitz on a box: else a bound may hide a pole."""
        try:
            box = Box.of(low.tolist(), high.tolist())
            require_regular(self.loop, functions, None, box, self.where, lambda condition: False)
        except InputError:
            return False
        return True

    def _crossing(self, name: str, h: Model, domain: Box, near: Points) -> Refutation | None:
        """A box on which the function changes its sign and certainly does not decrease."""
        if jumps(h) or jumps(self.loop.dynamics):
            return None
        f = features(self.loop, h, change=True, flow=True)
        assert f.change is not None and f.flow is not None
        problem, values = flat_problem(f.model, FLOAT64), flat_problem(h, FLOAT64)
        low, high = domain.inside("float64")
        x = np.concatenate([self._zeros(values, domain, near), near])
        ends = self.loop.others.inside("float64")
        others = np.where(self.rng.random((len(x), len(ends[0]))) < 0.5, *ends)
        rise = plain(problem, np.concatenate([x, others], axis=1))[:, f.change]
        every = np.eye(problem.graph[problem.graph.outputs[0]].shape[0])
        for k in np.argsort(-np.where(np.isfinite(rise), rise, -np.inf))[:BEST]:
            if not rise[k] > 0 or not self.loop.others.contains(others[k]):
                continue
            steps = 1e-6 * np.diag(high - low)
            slope = plain(values, x[k] + steps)[:, 0] - plain(values, x[k] - steps)[:, 0]
            for share in SIZES[1:]:
                d = share * (high - low)
                left, right = np.maximum(x[k] - d, low), np.minimum(x[k] + d, high)
                down, up = (np.clip(x[k] + sign * d * np.sign(slope), left, right)[None] for sign in (-1, 1))
                highest = bounds_of_rows(values, down, down, np.eye(1), "backward")[1][0, 0]
                lowest = bounds_of_rows(values, up, up, np.eye(1), "backward")[0][0, 0]
                if not highest <= 0 <= lowest:  # so that there is a zero between the two
                    continue
                v, u = (np.concatenate([end, others[k]])[None] for end in (left, right))
                least, most = (part[0] for part in bounds_of_rows(problem, v, u, every, "backward"))
                grows = least[f.change] > 0 and np.isfinite(most[f.change])
                flow = slice(f.flow, f.flow + self.n)
                stays = self.loop.kind == "ode" or bool(((least[flow] >= low) & (most[flow] <= high)).all())
                if grows and stays and self._regular([h], left, right):
                    text = f"{name} is 0 at a state of this box, and does not decrease there"
                    return self._found(text, left, right, others[k])
        return None

    def _zeros(self, values: Problem, domain: Box, near: Points) -> Points:
        """States just inside of the zeros of a function, by bisection between states of either sign."""
        x = self._points(domain, near)
        size = plain(values, x)[:, 0]
        inner, outer = x[size <= 0], x[size > 0]
        if not len(inner) or not len(outer):
            return x[:0]
        a, b = (part[self.rng.integers(0, len(part), SAMPLES)] for part in (inner, outer))
        for _ in range(50):
            middle = 0.5 * a + 0.5 * b
            below = (plain(values, middle)[:, 0] <= 0)[:, None]
            a, b = np.where(below, middle, a), np.where(below, b, middle)
        return a


def jumps(model: Model) -> bool:
    """Whether a function is not continuous."""
    return any(node.op in JUMPS for node in model.graph.nodes)


def best(x: Points, size: np.ndarray) -> Points:
    """Those with the least values (P,) that are not positive."""
    order = np.argsort(np.where(np.isfinite(size), size, np.inf), kind="stable")[:BEST]
    return x[order[size[order] <= 0]]


def _sides(states: Inequalities, low: np.ndarray, high: np.ndarray) -> list[Ends]:
    """Bounds of all sides on a box; nothing where a bound is not finite."""
    width = states.functions.outputs[0].shape[0]
    below, above = bounds_of_rows(
        flat_problem(states.functions, FLOAT64), low[None], high[None], np.eye(width), "backward"
    )
    if not (np.isfinite(below).all() and np.isfinite(above).all()):
        return []
    values = [(Fraction(float(a)), Fraction(float(b))) for a, b in zip(below[0], above[0], strict=True)]
    return [combined(g, values) for g in states.sides]


def within(states: Inequalities, low: np.ndarray, high: np.ndarray) -> bool:
    """Whether a box certainly lies in the set."""
    sides = _sides(states, low, high)
    fits = not states.domain or (states.hull.contains(low) and states.hull.contains(high))
    return bool(sides) and fits and all(most <= 0 for _, most in sides)


def beyond(states: Inequalities, low: np.ndarray, high: np.ndarray) -> bool:
    """Whether one inequality of the set is certainly violated on all of a box."""
    return any(least > 0 for least, _ in _sides(states, low, high))
