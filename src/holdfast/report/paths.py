"""Simulated trajectories beside a tube: how wide the true set is at least, and what a picture shows on top.

Plain arithmetic on `holdfast.reachability.simulate`; corners of the initial boxes first, then edges and inside, disturbances switching.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from holdfast.reachability.simulate import Simulator, Trajectories
from holdfast.spec.plant import LoopData
from holdfast.spec.region import Box
from holdfast.verdict import Violation

Array = np.ndarray
COUNT = 200
TOLERANCE = 1e-5  # of a simulation for the eye


def paths(data: LoopData, initial: Sequence[Box], horizon: Fraction, count: int = COUNT, seed: int = 0) -> Trajectories:
    """Trajectories from about ``count`` points spread over the boxes."""
    rng = np.random.default_rng(seed)
    simulator = Simulator(data, horizon)
    plant = data.plant
    chosen = rng.integers(0, len(initial), count) if len(initial) > 1 else np.zeros(count, int)
    states = _spread(np.stack([b.lower for b in initial])[chosen], np.stack([b.upper for b in initial])[chosen], rng)
    p = plant.parameters
    parameters = _spread(np.tile(p.lower, (count, 1)), np.tile(p.upper, (count, 1)), rng)
    w = plant.disturbances
    pieces = simulator.pieces if len(w) else 1
    switching = np.where(rng.random((pieces, count, len(w))) < 0.5, w.lower, w.upper)
    kept = np.tile(switching[:1], (pieces, 1, 1))
    disturbances = np.where((np.arange(count) % 2 == 0)[None, :, None], kept, switching)
    few = slice(0, 8)
    simulator.calibrate(states[few], parameters[few], disturbances[:, few], TOLERANCE)
    return simulator.run(states, parameters, disturbances)


def violating(data: LoopData, found: Violation, horizon: Fraction) -> Trajectories:
    """The trajectory that violates a claim, simulated, on until the horizon."""
    simulator = Simulator(data, horizon, (Fraction(found.time),))
    state, parameters = (np.array([[float(Fraction(v)) for v in t]]) for t in (found.state, found.parameters))
    changes = [(Fraction(at), [float(Fraction(v)) for v in values]) for at, values in found.disturbances]
    w = data.plant.disturbances
    rows = [next((v for at, v in reversed(changes) if at <= t), w.lower.tolist()) for t in simulator.samples]
    disturbances = np.array(rows, np.float64).reshape(len(rows), 1, len(w))
    simulator.calibrate(state, parameters, disturbances, TOLERANCE)
    return simulator.run(state, parameters, disturbances)


def _spread(low: Array, high: Array, rng: np.random.Generator) -> Array:
    """Points (K, n) of boxes: a third each corners, points with some coordinates at their ends, and anywhere."""
    count, n = low.shape
    inside = low + (high - low) * rng.random((count, n))
    ends = np.where(rng.random((count, n)) < 0.5, low, high)
    varying = np.flatnonzero((low < high).any(0))
    if 0 < len(varying) <= 6:  # every corner once
        which = (np.arange(count)[:, None] >> np.arange(len(varying))) & 1
        ends[:, varying] = np.where(which == 1, high[:, varying], low[:, varying])
    kind = np.minimum(np.arange(count) * 3 // max(count, 1), 2)[:, None]
    edges = np.where(rng.random((count, n)) < 0.5, ends, inside)
    return np.clip(np.where(kind == 0, ends, np.where(kind == 1, edges, inside)), low, high)
