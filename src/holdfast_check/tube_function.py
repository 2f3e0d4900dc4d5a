"""A function of one variable of models: a polynomial in its place, whose distance from it is bounded here (section 4 of the format of tubes).

Any polynomial p is sound. On [low, high], cut into cells, the function is its Taylor polynomial about the middle of a cell and Lagrange's remainder;
what is left of the function when p is taken away is again a polynomial on each cell, and its size the error.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from math import comb

import numpy as np

from holdfast_check.arithmetic import TINY, UNIT, gamma, outward
from holdfast_check.elementary import Smooth
from holdfast_check.network import Node
from holdfast_check.relaxations import SIDES, extremum, function, image
from holdfast_check.tube_model import UP, Array, Model, basis, charged, interval, scaled, shifted, times
from holdfast_check.tube_series import Series

CELLS, ORDER = 16, 4  # order: of Taylor polynomials on cells
LOOSE = 0.02  # of the range of the function: polynomials of lower degree are tried where more is lost


@lru_cache(maxsize=16)
def nodes_of(degree: int) -> tuple[Array, Array]:
    """Points of [-1, 1], and the matrix from values there to the coefficients of a good polynomial."""
    points = np.cos((np.arange(2 * degree + 4) + 0.5) * (np.pi / (2 * degree + 4)))
    return points, np.linalg.pinv(np.vander(points, degree + 1, increasing=True))


@np.errstate(all="ignore")
def applied(node: Node, z: Model, floor: float = -np.inf) -> Model:
    """The function of a model; `floor`: what z is known not to be below."""
    low, high = z.range()
    low, high = np.maximum(low, floor), np.maximum(high, floor)
    least, most = image(node, [low], [high])  # NaN where nothing is known
    fine = np.isfinite(low) & np.isfinite(high) & np.isfinite(least) & np.isfinite(most)
    low, high, least, most = (np.where(fine, a, 1.0) for a in (low, high, least, most))
    center = 0.5 * low + 0.5 * high
    width = np.maximum(np.maximum(high - center, center - low), 2.0**-40 * np.abs(center)) * (1 + 8 * UNIT) + 2.0**-300
    t = scaled(shifted(z, -center), 1.0 / width)
    local = Cells(node, low, high, center, width)
    degree = max(1, z.basis.degree if z.basis.variables else 1)
    best, loss = None, np.full(low.shape, np.inf)
    for d in sorted({degree, *(k for k in (3, 2, 1) if k < degree)}, reverse=True):
        p, error = local.polynomial(d)
        value = horner(p, t, error)
        down, up = value.range()
        its = value.error + 0.5 * np.maximum((up - down) - (most - least), 0.0)
        its = np.where(np.isnan(its), np.inf, its)
        best = value if best is None else chosen(its < loss, value, best)
        loss = np.minimum(loss, its)
        if np.all(loss <= LOOSE * (most - least) + 2.0**-40 * np.maximum(np.abs(least), np.abs(most))):
            break
    assert best is not None
    if np.isinf(loss).any():  # derivatives have no bounds: just the range, or a line
        f = function(node)
        rise = (f.value(high)[0] - f.value(low)[0]) / (high - low) if isinstance(f, Smooth) else 0 * low
        for slope in (0 * low, np.where(np.isfinite(rise), rise, 0.0)):
            a, b = extremum(node, SIDES, [low], [high], [slope])
            error = (b - a) * (0.5 * UP) + gamma(4) * (np.abs(a) + np.abs(b)) + TINY
            value = horner(np.stack([0.5 * a + 0.5 * b, slope]), shifted(z, 0.0), error)
            best = chosen(
                np.isinf(loss) & (value.error < np.where(np.isnan(best.error), np.inf, best.error)), value, best
            )
    return charged(z.basis, best.terms, np.where(fine, best.error, np.inf))


def chosen(which: Array, a: Model, b: Model) -> Model:
    return Model(a.basis, np.where(which, a.terms, b.terms), np.where(which, a.error, b.error))


def horner(p: Array, t: Model, error: Array) -> Model:
    """sum_k p_k t^k, and an error; p has at least two terms."""
    total = scaled(t, p[-1])
    for k in range(len(p) - 2, 0, -1):
        total = times(shifted(total, p[k]), t)
    total = shifted(total, p[0])
    return charged(t.basis, total.terms, total.error + error)


class Cells:
    """The function on the cells of [low, high], prepared for its distance from polynomials in t = (z - center) / width."""

    def __init__(self, node: Node, low: Array, high: Array, center: Array, width: Array):
        f = function(node)
        self.node, self.low, self.high, self.center, self.width, self.f = node, low, high, center, width, f
        breaks = [] if isinstance(f, Smooth) else [np.clip(b, low, high) for b in f.breaks]
        marks = [low, *breaks, high]
        share = (np.arange(CELLS) / CELLS)[:, None, None]
        ends = np.concatenate([a + np.maximum(b - a, 0.0) * share for a, b in pairwise(marks)] + [high[None]])
        ends = np.maximum.accumulate(np.clip(ends, low, high))  # they cover the range, and breaks are among them
        a, b = ends[:-1], ends[1:]
        self.middle = np.clip(0.5 * a + 0.5 * b, a, b)
        self.reach = np.maximum(b - self.middle, self.middle - a) * (1 + 4 * UNIT)
        self.value, self.error = self.lines(f, a, b) if not isinstance(f, Smooth) else self.taylor(a, b)

    def lines(self, f: object, a: Array, b: Array) -> tuple[list[Array], Array]:
        """Between breaks: a line through a value, rounded once; slopes are exact."""
        value, slope = f.value(self.middle), f.slope(self.middle)  # type: ignore[attr-defined]
        empty = a >= b
        return [value, np.where(empty, 0.0, slope)], 2 * UNIT * np.abs(value) + TINY

    def taylor(self, a: Array, b: Array) -> tuple[list[Array], Array]:
        """Coefficients at the middle, and a bound of all that they leave out on the cell."""
        if self.node.kind == "asin":  # no derivatives
            return [np.zeros(a.shape)], np.full(a.shape, np.inf)

        def values(low: Array, high: Array) -> Series:
            shape, flat = low.shape, basis(0, 0)
            start = interval(flat, low.reshape(len(low), -1), high.reshape(len(high), -1))
            one = interval(flat, *[np.ones(start.error.shape)] * 2)
            inner = Node("input", (), shape[1] * shape[2]), replace(self.node, inputs=(0,))
            return Series(inner, lambda k: (start, one, None)[min(k, 2)], ranged)

        points, cells = values(self.middle, self.middle), values(a, b)
        found, error, power = [], np.zeros(a.shape), np.ones(a.shape)
        for k in range(ORDER + 1):
            value = points.at(1, k)
            found.append(np.zeros(a.shape) if value is None else value.terms[0].reshape(a.shape))
            error = error + (0.0 if value is None else value.error.reshape(a.shape)) * power
            power = power * self.reach
        last = cells.at(1, ORDER + 1)
        return found, error + (0.0 if last is None else last.size().reshape(a.shape)) * power

    def near(self, degree: int) -> Array:
        """A good polynomial; nothing rests on it."""
        f, low, high = self.f, self.low, self.high
        if (
            not isinstance(f, Smooth) and len(f.breaks) == 1
        ):  # of a parabola across a kink the ripples are equal (degree 1: of a line)
            b, (left, right) = f.breaks[0], (f.slope(np.full(1, f.breaks[0] + side)) for side in (-1, 1))
            below, above, o = np.maximum(b - low, 0.0), np.maximum(high - b, 0.0), self.center - b
            short, long = np.minimum(below, above), np.maximum(below, above) + TINY
            c = np.where(2 * short >= long, 0.5 / long, short / (0.5 * long + short) ** 2) * (degree > 1)
            bend = np.where(below > above, c * long, 1 - c * long) if degree > 1 else above / (above + below + TINY)
            c, bend = np.where(short > 0, c, 0.0), np.where(short > 0, bend, above > 0)
            rise = left + (right - left) * bend
            p = np.zeros((degree + 1, *low.shape))
            p[0] = f.value(np.full(1, b)) + rise * o + (right - left) * c * o**2
            p[1] = self.width * (rise + 2 * (right - left) * c * o)
            p[2:3] = (right - left) * c * self.width**2
            return np.nan_to_num(p)
        points, solve = nodes_of(degree)
        sample = np.clip(self.center + self.width * points[:, None, None], low, high)
        exact = (lambda z: f.value(z)[0]) if isinstance(f, Smooth) else f.value
        return np.nan_to_num(
            np.tensordot(solve, (f.rough[0] if isinstance(f, Smooth) and f.rough else exact)(sample), axes=1)
        )

    def polynomial(self, degree: int) -> tuple[Array, Array]:
        """A polynomial in t (degree + 1, B, n), and a bound of its distance from the function."""
        p = self.near(degree)
        tau, rho = (self.middle - self.center) / self.width, self.reach / self.width
        left: Array = np.zeros(tau.shape)
        size = np.abs(p).sum(axis=0)
        for k in range(max(degree, len(self.value) - 1) + 1):
            taken = (
                sum((comb(j, k) * p[j] * tau ** (j - k) for j in range(k, degree + 1)), np.zeros(tau.shape)) * rho**k
            )
            given = self.value[k] * self.reach**k if k < len(self.value) else np.zeros(tau.shape)
            size = size + np.abs(given).max(axis=0)
            if k == 0:
                base = given - taken
            else:
                left = left + np.abs(given - taken)
        left = (left + self.error) * UP
        most, least = (base + left).max(axis=0), (base - left).min(axis=0)
        middle = 0.5 * most + 0.5 * least
        p[0] = p[0] + middle
        radius = np.maximum(most - middle, middle - least)
        # coefficients moved to cells: powers by the library, within a few units; sums of degree + 1 terms
        return p, (radius + gamma(16 * degree + 64) * (size + np.abs(middle))) * UP + TINY


def ranged(node: Node, z: Model) -> Model:
    """The function on intervals, by its extrema."""
    ends = outward(z.terms[0] - z.error, z.terms[0] + z.error)
    point = z.error == 0
    return interval(z.basis, *image(node, *([np.where(point, z.terms[0], end)] for end in ends)))
