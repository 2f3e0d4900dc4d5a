"""How a sampled loop moves within a period, in plain arithmetic: what proposes sets to `invariance.find_sampled`. Never a proof.

Classical Runge-Kutta steps with the input held; disturbances and unknown constants are drawn at random, mostly at their ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from holdfast.graph import Model
from holdfast.invariance.shapes import Form, Sampled, Shape
from holdfast.loop import ClosedLoop
from holdfast.loop.closed_loop import controller_model
from holdfast.spec.plant import LoopData
from holdfast.spec.region import Box
from holdfast.transforms import derivative, evaluate

STEPS = 8  # of a period
DIFFERENCE = 1e-5  # of states, relative to the size of the box


class Flight:
    """One period of a sampled loop, from many states at once."""

    def __init__(self, data: LoopData, steps: int = STEPS):
        assert data.controller is not None and data.controller.period is not None
        self.data, self.steps, self.period = data, steps, float(data.controller.period)
        self._controller, self._plant = controller_model(data), data.plant.dynamics

    def drawn(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Disturbances and parameters (count, W), (count, P): two thirds of them at corners."""
        return tuple(_drawn(rng, box, count) for box in (self.data.plant.disturbances, self.data.plant.parameters))  # type: ignore[return-value]

    def middle(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The same at their middle."""
        boxes = (self.data.plant.disturbances, self.data.plant.parameters)
        return tuple(np.tile(0.5 * (b.lower + b.upper), (count, 1)) for b in boxes)  # type: ignore[return-value]

    def run(self, x: np.ndarray, others: tuple[np.ndarray, np.ndarray], inputs: np.ndarray | None = None) -> np.ndarray:
        """States (steps + 1, K, n) from (K, n): at the sample time, and after each step of the period."""
        w, p = others
        u = self.inputs(x, others) if inputs is None else inputs
        met, dt = [x], self.period / self.steps
        with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
            for _ in range(self.steps):
                k1 = self._flow(x, u, p, w)
                k2 = self._flow(x + 0.5 * dt * k1, u, p, w)
                k3 = self._flow(x + 0.5 * dt * k2, u, p, w)
                k4 = self._flow(x + dt * k3, u, p, w)
                x = x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
                met.append(x)
        return np.array(met)

    def inputs(self, x: np.ndarray, others: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """What the controller holds from these states on."""
        with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
            return _values(self._controller, np.concatenate([x, *others], axis=1))

    def slopes(self, center: np.ndarray, shares: Sequence[float]) -> np.ndarray:
        """Derivatives (len(shares), n, n) of x(t_k + share h) by x(t_k) at a point; the linear plant with a linear controller."""
        import scipy.linalg

        signals, n = self.data.plant.signals, len(center)
        others = self.middle(1)
        x = center[None]
        u = self.inputs(x, others)
        full = _values(derivative(self._plant), np.concatenate([x, u, others[1], others[0]], axis=1))[0]
        gain = _values(derivative(self._controller), np.concatenate([x, *others], axis=1))[0][:, :n]
        A, B = full[:, :n], full[:, n : n + len(signals.inputs)]
        block = np.zeros((n + B.shape[1],) * 2)
        block[:n, :n], block[:n, n:] = A, B
        found = []
        for share in shares:
            E = scipy.linalg.expm(block * self.period * share)
            found.append(E[:n, :n] + E[:n, n:] @ gain)
        return np.array(found)

    def _flow(self, x: np.ndarray, u: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
        return _values(self._plant, np.concatenate([x, u, p, w], axis=1))


class HeldSamples(Sampled):
    """How clearly a set is kept within a period, measured at samples of it (`invariance.shapes` grows sets by it).

    ``always``: whether it is to be kept at all times of the period, or at its end only.
    """

    def __init__(
        self, flight: Flight, loop: ClosedLoop, form: Form, rng: np.random.Generator, samples: int, always: bool = True
    ):
        super().__init__(loop, form, rng, samples)  # ``loop`` is of kind "map": samples lie on the boundary and inside
        self._flight, self._always = flight, always
        self._drawn = flight.drawn(rng, len(self.y))
        self.clearance = 0.0

    def aim(self, shape: Shape) -> None:
        """Nothing: disturbances are drawn once."""

    def heed(self, shape: Shape, points: np.ndarray, others: tuple[np.ndarray, np.ndarray]) -> None:
        """Further samples: states (K, n) at which a claim failed."""
        self.y = np.concatenate([self.y, (points - shape.center) @ np.linalg.inv(shape.V).T])
        self._drawn = tuple(np.concatenate([a, b]) for a, b in zip(self._drawn, others, strict=True))  # type: ignore[assignment]

    def clear(self, shape: Shape, sizes: np.ndarray) -> np.ndarray:
        """For each size how fast sets shrink around all samples, per period; positive where each is kept."""
        back = np.linalg.inv(shape.V)
        result = []
        for size in sizes:
            x = shape.center + size * (self.y @ shape.V.T)
            met = self._flight.run(x, self._drawn)
            units = (met - shape.center) @ back.T / size
            length = np.linalg.norm(units, axis=2) if self._form == "ellipsoid" else abs(units).max(2)
            shares = np.arange(1, len(met)) / self._flight.steps
            grown = (length[1:].max(1) - 1.0) / shares  # a point well inside may move outwards
            worst = float(grown.max() if self._always else grown[-1])
            result.append(-worst if math.isfinite(worst) else -math.inf)
        return np.array(result)


class SlopeSamples(Sampled):
    """How clearly a period shrinks distances from the centre, by means of its derivatives on segments from there (`invariance.held_slopes`)."""

    def __init__(self, flight: Flight, loop: ClosedLoop, rng: np.random.Generator, samples: int, slices: int):
        super().__init__(loop, "ellipsoid", rng, samples)  # ``loop`` is of kind "ode": samples lie on the boundary
        self._flight = flight
        self._places = (np.arange(slices) + 0.5) / slices
        self.clearance = 0.0

    def aim(self, shape: Shape) -> None:
        """Nothing: disturbances stay at their middle."""

    def clear(self, shape: Shape, sizes: np.ndarray) -> np.ndarray:
        """For each size the least rate, per period, at all samples."""
        back, n = np.linalg.inv(shape.V), len(shape.center)
        steps = np.concatenate([np.zeros((1, n)), 1e-6 * np.eye(n)])
        shares = np.arange(1, self._flight.steps + 1) / self._flight.steps
        drift = (self._flight.run(shape.center[None], self._flight.middle(1))[1:, 0] - shape.center) @ back.T
        result = []
        for size in sizes:
            z = (self._places[:, None, None] * self.y)[:, :, None, :] + steps
            x = shape.center + size * (z.reshape(-1, n) @ shape.V.T)
            met = self._flight.run(x, self._flight.middle(len(x)))[1:]
            unit = ((met - shape.center) @ back.T / size).reshape(len(shares), *z.shape)
            columns = (unit[..., 1:, :] - unit[..., :1, :]) / 1e-6  # by the coordinate in the last axis but one
            means = columns.mean(1)
            if not np.isfinite(means).all():
                result.append(-math.inf)
                continue
            rate = (1.0 - np.linalg.norm(means, 2, axis=(2, 3)).max(1)) / shares
            moved = np.linalg.norm(drift / size, axis=1) / shares  # of the centre, which need not be an equilibrium
            result.append(float((rate - moved).min()))
        return np.array(result)


def _drawn(rng: np.random.Generator, box: Box, count: int) -> np.ndarray:
    share = rng.random((count, len(box)))
    share[: 2 * count // 3] = share[: 2 * count // 3].round()
    return np.clip(box.lower + share * (box.upper - box.lower), box.lower, box.upper)


def _values(model: Model, v: np.ndarray) -> np.ndarray:
    out = evaluate(model.graph, model.parameters, [v])[model.graph.outputs[0]]
    shape = model.graph[model.graph.outputs[0]].shape
    return np.broadcast_to(out, (len(v), *shape))  # what is constant comes without the axis of points
