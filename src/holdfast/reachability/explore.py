"""Search of the free values of a closed loop (initial states, unknown constants, disturbances) for the trajectory of least margin.

Corners, faces and points of a Latin hypercube first, then descent along slopes by differences, from the best of them, all trajectories
at once in plain arithmetic. McKay, Beckman, Conover, A comparison of three methods for selecting values of input variables, 1979;
Annpureddy, Liu, Fainekos, Sankaranarayanan, S-TaLiRo: a tool for temporal logic falsification for hybrid systems, TACAS 2011.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from holdfast.spec.plant import Plant
from holdfast.spec.region import Box

Array = np.ndarray
LEADERS = 6  # points that descend
DESCENTS = 12  # steps, at the most
DIRECTIONS = 64  # of differences, where there are more variables than that
NEIGHBOURS = 192  # trajectories for all differences of a step, at the most
BLOCKS = 4  # of disturbances that switch seldom
DIFFERENCE = 1e-4
SHORTEST = 0.05  # of a step that is shortened where nothing was gained
STEPS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)  # of the cube, tried at once


@dataclass(frozen=True, eq=False)
class Drive:
    """What drives P trajectories: ``states`` (P, n) at the start, ``parameters`` (P, p), ``disturbances`` (pieces, P, w)."""

    states: Array
    parameters: Array
    disturbances: Array


class Space:
    """Free values as a unit cube of ``size`` dimensions: states, parameters, then disturbances piece by piece; what is fixed is left out."""

    def __init__(self, initial: Box, plant: Plant, pieces: int):
        w = plant.disturbances
        least, most = _inside(w)
        self.changing = int((least < most).sum())  # disturbances that are not fixed
        self._pieces = pieces if self.changing else 1
        boxes = [initial, plant.parameters, *[w] * self._pieces]
        ends = [_inside(box) for box in boxes]
        self._low, self._high = (np.concatenate([e[k] for e in ends]) for k in (0, 1))
        self._cuts = len(initial), len(initial) + len(plant.parameters)
        self._disturbances = len(w)
        self.free = np.flatnonzero(self._low < self._high)
        self.signals = self._cuts[1]  # from here on: disturbances
        self.size = len(self.free)

    @property
    def constant(self) -> int:
        """How many dimensions are not disturbances."""
        return int((self.free < self.signals).sum())

    def at(self, z: Array) -> Drive:
        """Points (P, size) of the cube."""
        values = np.tile(self._low, (len(z), 1))
        low, high = self._low[self.free], self._high[self.free]
        values[:, self.free] = np.clip(low + z * (high - low), low, high)
        values[:, self.free] = np.where(z >= 1, high, values[:, self.free])
        a, b = self._cuts
        w = values[:, b:].reshape(len(z), self._pieces, self._disturbances)
        return Drive(values[:, :a], values[:, a:b], w.transpose(1, 0, 2))


def _inside(box: Box) -> tuple[Array, Array]:
    """Float64 numbers in the box; the one below where it holds none."""
    low, high = box.inside("float64")
    none = low > high
    return np.where(none, box.lower, low), np.where(none, box.lower, high)


Margins = Callable[[Array], Array]  # points (P, size) -> (P,); < 0: the claim is violated


def explore(margins: Margins, space: Space, rng: np.random.Generator, count: int, rounds: int) -> Iterator[tuple[Array, Array]]:  # fmt: skip
    """Ever better points (P, size) with their margins (P,), the least first: whoever reads them says when it is enough.

    ``count``: points of a round before descent; ``rounds`` 0: no descent, corners and faces only.
    """
    for k in range(max(rounds, 1) if space.size else 1):
        more = _spread(rng, count, space.size)
        faces = rng.random(more.shape) < np.linspace(0.0, 0.8, len(more))[:, None]
        z = _seldom(space, np.where(faces, np.round(more), more), rng)
        if k == 0:
            z = np.concatenate([_first(space, rng, count), z])
        found = _ranked(z, margins(z))
        yield found
        leaders = int(np.clip(NEIGHBOURS // max(min(space.size, DIRECTIONS), 1), 1, LEADERS))
        z, values = (part[:leaders] for part in found)
        step = 1.0
        for _ in range(DESCENTS if space.size and rounds else 0):
            z, values, step = _descend(margins, space, z, values, step, rng)
            yield _ranked(z, values)
            if step < SHORTEST:
                break


def _spread(rng: np.random.Generator, count: int, size: int) -> Array:
    """Points (count, size) of the cube, one in each of ``count`` layers of every dimension."""
    layers = rng.permuted(np.tile(np.arange(count), (size, 1)), axis=1).T
    return (layers + rng.random((count, size))) / count


def _ranked(z: Array, values: Array) -> tuple[Array, Array]:
    values = np.where(np.isnan(values), np.inf, values)
    order = np.argsort(values, kind="stable")
    return z[order], values[order]


def _first(space: Space, rng: np.random.Generator, count: int) -> Array:
    """The middle, and corners: all, or some; disturbances constant in half of them, switching between ends in the others."""
    n, size = space.constant, space.size
    corners: Array
    if 2**n <= count // 2:
        corners = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(float)
    else:
        corners = np.round(rng.random((count // 2, n)))
        corners[0], corners[1] = 0.0, 1.0
    if size > n:
        corners = np.tile(corners, (max(2, count // (2 * len(corners))), 1))
        signals = np.round(rng.random((len(corners), size - n)))
        corners = _seldom(space, np.concatenate([corners, signals], axis=1), rng)
    return np.concatenate([np.full((1, size), 0.5), corners])


def _seldom(space: Space, z: Array, rng: np.random.Generator) -> Array:
    """The same with disturbances that are constant, change a few times, or (one of four) whenever they may."""
    n, w = space.constant, space.changing
    if space.size == n:
        return z
    signals = z[:, n:].reshape(len(z), -1, w)
    pieces = signals.shape[1]
    blocks = rng.integers(1, BLOCKS + 1, len(z))
    starts = rng.integers(0, pieces, (len(z), BLOCKS))
    starts[np.arange(BLOCKS) >= blocks[:, None]] = 0
    starts[:, 0] = 0
    first = np.zeros((len(z), pieces), np.int64)
    first[np.arange(len(z))[:, None], starts] = starts
    first = np.maximum.accumulate(first, axis=1)
    kept = np.take_along_axis(signals, first[:, :, None], axis=1)
    chosen = np.where((np.arange(len(z)) % 4 == 3)[:, None, None], signals, kept)
    return np.concatenate([z[:, :n], chosen.reshape(len(z), -1)], axis=1)


def _descend(
    margins: Margins, space: Space, z: Array, values: Array, step: float, rng: np.random.Generator
) -> tuple[Array, Array, float]:
    """One step of each of some points: along the slope by differences and towards the corner it points to, as far as is best."""
    points, size = z.shape
    if size <= DIRECTIONS:
        directions = np.tile(np.eye(size), (points, 1, 1))
    else:  # simultaneous perturbation (Spall 1992)
        directions = np.sign(rng.random((points, DIRECTIONS, size)) - 0.5)
    d = DIFFERENCE * min(1.0, max(step, 1e-2))
    inward = np.where(z[:, None, :] + d * directions > 1, -1.0, 1.0)
    inward = np.where(z[:, None, :] + d * inward * directions < 0, -inward, inward)
    if size > DIRECTIONS:
        inward = np.ones_like(directions)
    tried = np.clip(z[:, None, :] + d * inward * directions, 0.0, 1.0)
    near = margins(tried.reshape(-1, size)).reshape(points, -1)
    change = np.nan_to_num((near - values[:, None]) / d, nan=0.0, posinf=0.0, neginf=0.0)
    slope = (change[:, :, None] * inward * directions).sum(1)
    slope = slope / np.maximum(abs(slope).max(1, keepdims=True), 1e-300)
    moves = [np.clip(z - s * step * slope, 0.0, 1.0) for s in STEPS]
    moves += [np.where(slope > 0, 0.0, np.where(slope < 0, 1.0, z)), np.clip(z - step * np.sign(slope), 0.0, 1.0)]
    options = np.stack(
        [*moves, tried[np.arange(points), np.nanargmin(np.nan_to_num(near, nan=np.inf), axis=1)]], axis=1
    )
    found = margins(options.reshape(-1, size)).reshape(points, -1)
    found = np.where(np.isnan(found), np.inf, found)
    best = found.argmin(1)
    better = found[np.arange(points), best] < values
    z = np.where(better[:, None], options[np.arange(points), best], z)
    values = np.where(better, found[np.arange(points), best], values)
    return z, values, step if better.any() else step / 10
