"""Trajectories of closed loops in plain arithmetic, thousands at once; nothing is proved here.

Plants, controllers, schedules, unknown constants and disturbances as problem files mean them; between samples the classical method of
Runge and Kutta (Kutta, Beitrag zur näherungsweisen Integration, 1901) with a step that is halved until states hardly move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.bounds.bounder import flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.invariance.escape import plain
from holdfast.rigor import FLOAT64
from holdfast.spec.plant import Case, Controller, LoopData
from holdfast.spec.temporal import Instance

Array = np.ndarray
PIECES = 20  # of disturbances, where no samples say when they may change
MOMENTS = 64  # of the horizon that are looked at, at the least
TOLERANCE = 1e-6  # of the size of the states: difference after halving the step
HALVINGS = 6


@dataclass(frozen=True, eq=False)
class Trajectories:
    """P trajectories at T times (seconds; maps: steps): ``states`` (T, P, n), ``rows`` (T, P) that a selecting controller picked last."""

    times: tuple[Fraction, ...]
    states: Array
    rows: Array | None = None

    def __getitem__(self, chosen: Array | slice) -> Trajectories:
        rows = None if self.rows is None else self.rows[:, chosen]
        return Trajectories(self.times, self.states[:, chosen], rows)


def horizon_of(instance: Instance) -> Fraction:
    """The end of the instance's horizon: seconds, or steps of a map; 0 where it has none."""
    controller = instance.loop.controller
    if instance.steps is None:
        return instance.time or Fraction(0)
    period = None if controller is None or instance.loop.plant.kind == "map" else controller.period
    return instance.steps * (period if period is not None else Fraction(1))


class Simulator:
    """One loop over one horizon. ``instants``: times that have to be among those of the trajectories (maps: steps)."""

    def __init__(self, data: LoopData, horizon: Fraction, instants: Sequence[Fraction] = ()):
        plant, controller = data.plant, data.controller
        self.data, self.horizon = data, horizon
        self.map = plant.kind == "map"
        self.period = None if controller is None or self.map else controller.period
        self._dynamics = flat_problem(plant.dynamics, FLOAT64)
        self._control = None if controller is None else _Control(controller)
        self._continuous = controller is not None and controller.feedback == "continuous"
        self.samples = self._samples()
        changes = {begin for signal in plant.schedule for begin, _ in signal if begin < horizon}
        cuts = {*self.samples, *changes, *(t for t in instants if 0 <= t <= horizon), Fraction(0), horizon}
        self._cuts = sorted(cuts) if not self.map else [Fraction(k) for k in range(int(horizon) + 1)]
        # steps between two cuts, made finer by `calibrate`
        self.parts = max(1, -(-MOMENTS // max(len(self._cuts) - 1, 1)))

    def _samples(self) -> list[Fraction]:
        """When the controller computes its output and disturbances may change."""
        if self.map or not self.horizon:
            return [Fraction(k) for k in range(max(1, int(self.horizon)))]
        length = self.period if self.period is not None else self.horizon / PIECES
        return [k * length for k in range(-(-self.horizon // length))]

    @property
    def pieces(self) -> int:
        """How many values in a row a disturbance may take."""
        return len(self.samples)

    @property
    def work(self) -> float:
        """What one trajectory costs, about: multiplications."""
        steps = (len(self._cuts) - 1) * (1 if self.map else 4 * self.parts)
        control = 0.0 if self._control is None else self._control.work
        return steps * _work(self._dynamics) + control * (steps if self._continuous else len(self.samples))

    def calibrate(self, states: Array, parameters: Array, disturbances: Array, tolerance: float = TOLERANCE) -> None:
        """Makes steps so small that halving them hardly changes these trajectories."""
        if self.map:
            return
        before = self.run(states, parameters, disturbances).states
        for _ in range(HALVINGS):
            self.parts *= 2
            after = self.run(states, parameters, disturbances).states
            known = np.isfinite(before).all((0, 2)) & np.isfinite(after).all((0, 2))
            same = after[::2, known]  # the same times
            size = 1e-3 + abs(same).max((0, 1), initial=0.0)
            if not known.any() or (abs(same - before[:, known]) <= tolerance * size).all():
                self.parts //= 2
                return
            before = after

    def run(self, states: Array, parameters: Array, disturbances: Array) -> Trajectories:
        """From ``states`` (P, n), with ``parameters`` (P, p) and ``disturbances`` (pieces or 1, P, w), constant between samples."""
        with np.errstate(all="ignore"):
            return self._run(np.asarray(states, np.float64), parameters, disturbances)

    def _run(self, x: Array, p: Array, disturbances: Array) -> Trajectories:
        count = len(x)
        row = None if self._control is None else self._control.before(count)
        u = np.zeros((count, len(self.data.plant.signals.inputs)))
        times, states, rows = [Fraction(0)], [x], [row]
        following = {t: k for k, t in enumerate(self.samples)}
        w = disturbances[0]
        for begin, end in zip(self._cuts[:-1], self._cuts[1:], strict=True):
            if begin in following:
                w = disturbances[min(following[begin], len(disturbances) - 1)]
            rest = [p, w, np.tile(self._scheduled(begin), (count, 1))]
            if begin in following and self._control is not None:
                u, row = self._control(np.concatenate([x, u, *rest], axis=1), row)
            parts = 1 if self.map else self.parts
            for k in range(1, parts + 1):
                x = self._flow(x, u, rest) if self.map else self._step(x, u, rest, float((end - begin) / parts))
                times.append(begin + (end - begin) * k / parts)
                states.append(x)
                rows.append(row)
        picked = None if row is None else np.stack([r for r in rows if r is not None])
        return Trajectories(tuple(times), np.stack(states), picked)

    def _scheduled(self, time: Fraction) -> Array:
        return np.array(
            [
                float(next(value for begin, value in reversed(signal) if begin <= time))
                for signal in self.data.plant.schedule
            ]
        )

    def _flow(self, x: Array, u: Array, rest: Sequence[Array]) -> Array:
        if self._continuous and self._control is not None:
            u, _ = self._control(np.concatenate([x, u, *rest], axis=1), None)
        return plain(self._dynamics, np.concatenate([x, u, *rest], axis=1))

    def _step(self, x: Array, u: Array, rest: Sequence[Array], h: float) -> Array:
        k1 = self._flow(x, u, rest)
        k2 = self._flow(x + 0.5 * h * k1, u, rest)
        k3 = self._flow(x + 0.5 * h * k2, u, rest)
        k4 = self._flow(x + h * k3, u, rest)
        return x + (h / 6) * (k1 + 2 * (k2 + k3) + k4)


def _work(problem: Problem) -> float:
    """Multiplications of one evaluation, about; a function counts for some."""
    shapes = sum(float(np.prod(node.shape)) for node in problem.graph.nodes)
    return 10 * shapes + sum(np.size(p) for p in problem.parameters.values())


class _Control:
    """What the controller does with signals (P, S): (inputs of the plant, row picked)."""

    def __init__(self, controller: Controller):
        self.controller = controller
        self._fed = flat_problem(controller.network_inputs, FLOAT64)
        self._networks = [flat_problem(model, FLOAT64) for model in controller.networks]
        inputs = controller.plant_inputs
        self._inputs = None if inputs is None else flat_problem(inputs, FLOAT64)
        self._rows = [[_Case(case) for case in cases] for cases in controller.rows]

    @property
    def work(self) -> float:
        """Of one use, about."""
        return max(map(_work, self._networks))

    def before(self, count: int) -> Array | None:
        """The rows that count as picked before the start; None where none is ever picked, -1 where none was."""
        if self.controller.select is None:
            return None
        first = self.controller.first
        return np.full(count, -1 if first is None else first)

    def __call__(self, signals: Array, row: Array | None) -> tuple[Array, Array | None]:
        fed = plain(self._fed, signals)
        if self._inputs is not None:
            return plain(self._inputs, np.concatenate([signals, plain(self._networks[0], fed)], axis=1)), None
        before = self.before(len(signals)) if row is None else row
        assert before is not None
        y = self._outputs(fed, before)
        picked = y.argmax(1) if self.controller.select == "argmax" else y.argmin(1)
        everything = np.concatenate([signals, y], axis=1)
        inputs: Array | None = None
        for k in np.unique(picked).tolist():
            left = np.flatnonzero(picked == k)
            for case in self._rows[k]:
                fits = case.applies(signals[left], before[left])
                u = plain(case.inputs, everything[left[fits]])
                inputs = np.full((len(signals), u.shape[1]), np.nan) if inputs is None else inputs
                inputs[left[fits]] = u
                left = left[~fits]
        assert inputs is not None
        return inputs, picked

    def _outputs(self, fed: Array, before: Array) -> Array:
        if len(self._networks) == 1:
            return plain(self._networks[0], fed)
        y: Array | None = None
        for k in np.unique(before).tolist():
            chosen = before == k
            found = plain(self._networks[k], fed[chosen])
            y = np.empty((len(fed), found.shape[1])) if y is None else y
            y[chosen] = found
        assert y is not None
        return y


class _Case:
    def __init__(self, case: Case):
        self._after, self._strict = case.after, np.array(case.strict, bool)
        self._where: Problem | None = None if case.where is None else flat_problem(case.where, FLOAT64)
        self.inputs = flat_problem(case.inputs, FLOAT64)

    def applies(self, signals: Array, before: Array) -> Array:
        """(P,)"""
        fits = np.ones(len(signals), bool) if self._after is None else before == self._after
        if self._where is not None:
            values = plain(self._where, signals)
            fits = fits & np.where(self._strict, values < 0, values <= 0).all(1)
        return fits
