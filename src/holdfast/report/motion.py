"""Trajectories of a closed loop by plain simulation (Runge-Kutta), for pictures only: nothing is proved by them."""

from __future__ import annotations

import numpy as np

from holdfast.loop import ClosedLoop
from holdfast.report.shape import values

STEPS = 400
ORBIT = 60  # steps of a map


def nominal(loop: ClosedLoop) -> np.ndarray:
    """Disturbances and parameters in the middle of their intervals."""
    return 0.5 * (loop.others.lower + loop.others.upper)


def flow(loop: ClosedLoop, x: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    """The right side on points (K, n) (map: the next states)."""
    more = nominal(loop) if others is None else others
    return values(loop.dynamics, np.concatenate([x, np.broadcast_to(more, (len(x), len(more)))], axis=1))


def simulate(
    loop: ClosedLoop, x: np.ndarray, seconds: float, others: np.ndarray | None = None, steps: int = STEPS
) -> np.ndarray:
    """Trajectories (steps + 1, K, n) from points (K, n); of a map: ``steps`` steps."""
    path = [np.asarray(x, np.float64)]
    h = seconds / steps
    for _ in range(steps):
        a = path[-1]
        if loop.kind == "map":
            path.append(flow(loop, a, others))
            continue
        k1 = flow(loop, a, others)
        k2 = flow(loop, a + h / 2 * k1, others)
        k3 = flow(loop, a + h / 2 * k2, others)
        path.append(a + h / 6 * (k1 + 2 * k2 + 2 * k3 + flow(loop, a + h * k3, others)))
    return np.array(path)


def pace(loop: ClosedLoop, x: np.ndarray) -> float:
    """Seconds in which trajectories near x come close to rest, as far as a simulation with so many steps allows."""
    n = len(x)
    size = 1e-6 * (1 + np.abs(x))
    around = np.concatenate([x + np.diag(size), x - np.diag(size)])
    f = flow(loop, around)
    jacobian = ((f[:n] - f[n:]) / (2 * size[:, None])).T
    if not np.isfinite(jacobian).all():
        return 1.0
    spectrum = np.linalg.eigvals(jacobian)
    slowest = max(1e-3, float(np.abs(spectrum.real).min()))
    fastest = max(1e-3, float(np.abs(spectrum).max()))
    return float(min(4 / slowest, 2 * STEPS / fastest))
