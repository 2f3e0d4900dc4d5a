"""Random points of a band {bottom <= h <= top} of a function of the states, or of the surface {h = top}, at all distances from its middle.

Rays in all directions of an ellipsoid that is fitted to the set, radii spread evenly on a logarithmic scale. Plain floating point: for
searches and estimates, nothing is claimed on its ground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from holdfast.graph import Model
from holdfast.spec.region import Box
from holdfast.transforms import evaluate

FITS = 6  # of the ellipsoid
DRAWN = 3000  # points for each
LEAST = 1e-4  # the smallest radius, in units of the ellipsoid
MOST = 3.0
HALVINGS = 40


@dataclass(frozen=True, eq=False)
class Sample:
    """``points`` (K, n) and ``weights`` (K,): sums of weights times values are integrals of the values over the band.

    ``turn`` (n, n): x = center + turn z, the set being about the unit ball of z. ``surface``: points where h = top instead, the integral
    is that over the surface seen in z.
    """

    points: np.ndarray
    weights: np.ndarray
    turn: np.ndarray
    surface: bool


@dataclass(frozen=True, eq=False)
class _Rays:
    center: np.ndarray
    turn: np.ndarray
    near: float
    far: float

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Points, and their radii in units of the ellipsoid."""
        z = rng.normal(size=(count, len(self.center)))
        r = np.exp(rng.uniform(math.log(self.near), math.log(self.far), count))
        return self.center + (z * (r / np.linalg.norm(z, axis=1))[:, None]) @ self.turn.T, r

    def density(self, r: np.ndarray) -> np.ndarray:
        n = len(self.center)
        whole = abs(np.linalg.det(self.turn)) * sphere(n) * math.log(self.far / self.near)
        return 1 / (whole * r**n)


def sphere(n: int) -> float:
    """The surface of the unit ball of n dimensions."""
    return 2 * math.pi ** (n / 2) / math.gamma(n / 2)


def band(
    h: Model, domain: Box, bottom: float | None, top: float, count: int, rng: np.random.Generator
) -> Sample | None:
    """About ``count`` points of the band, or of the surface where ``bottom`` is None; None where too few are found."""
    low, high = domain.lower, domain.upper
    x = low + (high - low) * rng.random((DRAWN, len(low)))
    values = _values(h, x)
    rays = _Rays(x[values.argmin()], np.diag(0.5 * (high - low)), LEAST, MOST)
    n, least = len(low), float(values.min())
    for _ in range(FITS):
        x, r = rays.draw(DRAWN, rng)
        values = _values(h, x)
        inner = ((x >= low) & (x <= high)).all(1) & (values <= top)
        if values[inner].min(initial=np.inf) < least:
            least = float(values[inner].min())
            rays = _Rays(x[inner][values[inner].argmin()], rays.turn, LEAST, MOST)
        x, r = x[inner], r[inner]
        if len(x) < 4 * n:
            continue
        weights = r**n / (r**n).sum()
        spread = ((x - rays.center) * weights[:, None]).T @ (x - rays.center)
        spread += 1e-12 * np.diag(np.diag(spread))
        try:
            rays = _Rays(rays.center, np.linalg.cholesky((n + 2) * spread), LEAST, MOST)
        except np.linalg.LinAlgError:
            return None
    return (
        _surface(h, domain, top, rays, count, rng)
        if bottom is None
        else _band(h, domain, bottom, top, rays, count, rng)
    )


def _band(
    h: Model, domain: Box, bottom: float, top: float, rays: _Rays, count: int, rng: np.random.Generator
) -> Sample | None:
    for _ in range(2):  # the second time with the radii that were met
        x, r = rays.draw(2 * count, rng)
        values = _values(h, x)
        met = ((x >= domain.lower) & (x <= domain.upper)).all(1) & (values <= top) & (values >= bottom)
        if met.sum() < 8:
            return None
        sample = Sample(x[met], 1 / rays.density(r[met]) / len(x), rays.turn, False)
        rays = _Rays(
            rays.center, rays.turn, max(LEAST, 0.8 * float(r[met].min())), min(MOST, 1.2 * float(r[met].max()))
        )
    return sample


def _surface(h: Model, domain: Box, top: float, rays: _Rays, count: int, rng: np.random.Generator) -> Sample | None:
    """Where rays meet the surface, if they do in the domain."""
    far, _ = rays.draw(count, rng)
    away = far - rays.center
    with np.errstate(divide="ignore"):  # out to the domain's end
        reach = np.where(away > 0, (domain.upper - rays.center) / away, (domain.lower - rays.center) / away)
    away = away * np.minimum(np.where(np.isfinite(reach), reach, np.inf).min(1), 1e6)[:, None]
    crosses = _values(h, rays.center + away) > top
    away = away[crosses]
    if len(away) < 8:
        return None
    inner, outer = np.zeros(len(away)), np.ones(len(away))
    for _ in range(HALVINGS):
        middle = 0.5 * (inner + outer)
        below = _values(h, rays.center + middle[:, None] * away) <= top
        inner, outer = np.where(below, middle, inner), np.where(below, outer, middle)
    weights = np.full(len(away), sphere(away.shape[1]) / len(away))
    return Sample(rays.center + inner[:, None] * away, weights, rays.turn, True)


def _values(h: Model, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        out = evaluate(h.graph, h.parameters, [x])[h.graph.outputs[0]]
    return np.nan_to_num(np.broadcast_to(out, (len(x), 1))[:, 0], nan=np.inf)
