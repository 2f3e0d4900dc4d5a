"""Exponentials of matrices of balls, their integrals, and integrals of their absolute values; in batches, rounded outward.

Scaling and squaring with Taylor's polynomial and a bound of its remainder (Goldsztejn, Neumaier, On the exponentiation of interval
matrices, Reliable Computing 20, 2014). Used by the integrators whose right sides are linear, or made so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.rigor import FLOAT64, gamma

Array = np.ndarray
_U, _TINY = FLOAT64.unit, FLOAT64.tiny
LEFT = 1e-18  # of Taylor's polynomial may be left
SQUARINGS = 40  # at the most
LEAST = 1e-280  # smaller times are read as this one, as a radius
_UP = 1 + 1e-12  # far more than the roundings of a few hundred operations with numbers >= 0


@dataclass(frozen=True, eq=False)
class Balls:
    """Matrices (S, n, m) with radii >= 0: any entries with |entry - value| <= radius. S: members of a batch, or 1 for all."""

    value: Array
    radius: Array

    @property
    def size(self) -> Array:
        """Bounds of the absolute values."""
        return (abs(self.value) + self.radius) * (1 + 4 * _U)

    def __getitem__(self, chosen: Array) -> Balls:
        """The matrices of these members."""
        return self if len(self.value) == 1 else Balls(self.value[chosen], self.radius[chosen])

    def __matmul__(self, other: Balls) -> Balls:
        a, b = abs(self.value), abs(other.value)
        n = self.value.shape[2]
        radius = a @ other.radius + self.radius @ (b + other.radius) + gamma(n + 2, FLOAT64) * (a @ b)
        return Balls(self.value @ other.value, radius * (1 + gamma(n + 8, FLOAT64)) + 4 * (n + 2) * _TINY)

    def __add__(self, other: Balls) -> Balls:
        value = self.value + other.value
        return Balls(value, (self.radius + other.radius + 2 * _U * abs(value)) * (1 + 8 * _U))

    def times(self, factor: Fraction) -> Balls:
        """factor * matrix, ``factor`` >= 0."""
        if factor < LEAST:
            return Balls(0.0 * self.value, self.size * (2 * LEAST) + _TINY)
        f = float(factor)
        value = self.value * f
        return Balls(value, (self.radius * f + 4 * _U * abs(value)) * (1 + 16 * _U) + 2 * _TINY)


def exact(value: Array) -> Balls:
    """These matrices and nothing else."""
    return Balls(value, np.zeros_like(value))


def norm(A: Balls) -> float:
    """A bound of the row sums of absolute values, of all members."""
    return float(A.size.sum(2).max()) * (1 + gamma(A.value.shape[2] + 2, FLOAT64))


def exponential(A: Balls, time: Fraction) -> tuple[Balls, Balls]:
    """exp(A t), and its integral from 0 to t; ``time`` >= 0. Radii are infinite where the exponent is far too large."""
    n = A.value.shape[1]
    eye = exact(np.eye(n)[None])
    reach = norm(A) * float(time) * _UP
    if not reach < 2.0**SQUARINGS:
        unknown = Balls(np.zeros_like(A.value), np.full_like(A.value, np.inf))
        return unknown, unknown
    squarings = max(0, math.ceil(math.log2(reach))) if reach > 1 else 0
    short = time / 2**squarings
    X = A.times(short)
    terms, left = 1, min(reach, 1.0) ** 2 / 6  # reach^(terms + 1) / (terms + 2)!, the first of those that are left out
    while left > LEFT:
        terms += 1
        left *= min(reach, 1.0) / (terms + 2)
    left = left * 1.6 + _TINY  # each is at most a third of the one before
    mean = eye  # (exp(X) - 1) / X = 1 + X/2 (1 + X/3 (1 + ...))
    for k in range(terms + 1, 1, -1):
        mean = eye + (X @ mean).times(Fraction(1, k))
    mean = Balls(mean.value, mean.radius + left)
    E, integral = eye + X @ mean, mean.times(short)
    for _ in range(squarings):
        integral = integral + E @ integral
        E = E @ E
    return E, integral


def absolute_integral(A: Balls, G: Balls, time: Fraction, pieces: int) -> Array:
    """Bounds (S, n, k) of the integral of |exp(A s) G| over 0 <= s <= t, entry by entry: what inputs |u| <= 1 can do.

    On each piece |C + s A C| + sum over j >= 2 of |s|^j / j! |A|^j |C|, C in its middle; where C keeps its sign, s A C cancels.
    """
    half = time / (2 * pieces)
    h = max(float(half), LEAST) * _UP
    size, reach = A.size, norm(A) * h * _UP
    if not reach <= 16:
        return np.full((max(len(A.value), len(G.value)), *G.value.shape[1:]), np.inf)
    (first, _), (ahead, _) = exponential(A, half), exponential(A, 2 * half)
    C = first @ G
    total = np.zeros_like(C.value)
    for piece in range(pieces):
        slope, large = (A @ C).size, C.size
        kept = abs(C.value) - C.radius >= h * slope * _UP + LEAST
        total = (total + 2 * (h * large) + np.where(kept, 0.0, h * (h * slope))) * _UP
        term = large * (h / 3) + LEAST
        for _ in range(2):
            term = size @ term * h * _UP + LEAST
        for j in range(3, 80):
            total = (total + term) * _UP
            term = size @ term * (h / (j + 1)) * _UP + LEAST
            if reach / (j + 2) <= 0.5 and not (term.max((1, 2)) > 1e-9 * _UP * total.max((1, 2))).any():
                break
        total = total + 2 * term.max((1, 2), keepdims=True)  # each further one is at most half as large
        if piece + 1 < pieces:
            C = ahead @ C
    return np.where(np.isnan(total), np.inf, total) * _UP + pieces * LEAST
