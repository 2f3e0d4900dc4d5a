"""Contraction: around an equilibrium all trajectories of the loop approach each other, so the equilibrium is exponentially stable.

If P J + J' P + 2 rate P <= 0 for all Jacobians J on an ellipsoid in the P-norm, distances in that norm shrink (Demidovich;
Lohmiller, Slotine, On contraction analysis for nonlinear systems, Automatica 34, 1998). The matrices that do so form a convex set, so that
small pieces can be looked at one by one. What is proved, word by word: docs/certificates/loops.md, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import flint
import numpy as np

from holdfast.bounds.bounder import bounds_of_rows, flat_problem
from holdfast.invariance.sets import ellipsoid_hull, root_above
from holdfast.loop import ClosedLoop
from holdfast.rigor import FLOAT64, gamma
from holdfast.spec.region import Box
from holdfast.spec.temporal import Ellipsoid
from holdfast.transforms import derivative

LARGEST = 20000  # pieces looked at before the proof is given up
SMALLEST = 2.0**-9  # widths of pieces, in half-widths of the ellipsoid: what does not contract there hardly ever does
PATTERNS = 512  # extreme matrices of an interval matrix that are worth looking at one by one
BATCH = 128


@dataclass(frozen=True, eq=False)
class Contraction:
    """Proved: {(x - center)' P (x - center) <= level} is invariant, holds exactly one equilibrium (per value of the
    parameters), and all its trajectories converge to that one, at least like exp(-rate t) (maps: rate^k)."""

    center: np.ndarray
    P: tuple[tuple[Fraction, ...], ...]
    level: Fraction
    rate: float
    pieces: int


class Jacobians:
    """Interval matrices (K, n, n) that contain the Jacobian by the states on boxes (K, n), all disturbances and parameters included
    (or those of the box ``others``)."""

    def __init__(self, loop: ClosedLoop, others: Box | None = None):
        self._loop, self._others = loop, others or loop.others
        self._problem = flat_problem(derivative(loop.dynamics), FLOAT64)

    def on(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends."""
        n, others = len(self._loop.states), self._others
        below, above = (
            np.concatenate([ends, np.broadcast_to(more, (len(ends), len(more)))], axis=1)
            for ends, more in ((low, others.lower), (high, others.upper))
        )
        width = len(self._loop.variables)
        found = bounds_of_rows(self._problem, below, above, np.eye(n * width), "backward")
        return tuple(end.reshape(-1, n, width)[:, :, :n] for end in found)  # type: ignore[return-value]


def contraction(
    loop: ClosedLoop, center: np.ndarray, P: Sequence[Sequence[Fraction]], level: Fraction,
    jacobians: Jacobians | None = None, largest: int = LARGEST,
) -> Contraction | None:  # fmt: skip
    """The proof for one ellipsoid; None where it does not succeed within ``largest`` pieces."""
    jacobians = jacobians or Jacobians(loop)
    norm = _Norm.of(P)
    if norm is None:
        return None
    hull = ellipsoid_hull(Ellipsoid(tuple(Fraction(float(c)) for c in center), tuple(map(tuple, P)), level))
    least = _least_rate(loop, center, P, level)
    worst = -np.inf if loop.kind == "ode" else 0.0  # of the growth over all pieces
    allowed = -least if loop.kind == "ode" else float(np.nextafter(1 - least, -np.inf))
    low, high = hull.lower[None], hull.upper[None]
    done = 0
    shape = (hull.upper - hull.lower) / 2
    radius = float(root_above(level))
    while len(low):
        part, low = low[:BATCH], low[BATCH:]
        top, high = high[:BATCH], high[BATCH:]
        near = norm.distance(part, top, center) <= radius
        part, top = part[near], top[near]
        done += len(part)
        if done + len(low) > largest:
            return None
        if not len(part):
            continue
        below, above = jacobians.on(part, top)
        growth = norm.growth(loop.kind, below, above)
        bad = ~(growth < allowed)
        worst = max(worst, float(growth[~bad].max(initial=worst)))
        middle = 0.5 * part[bad] + 0.5 * top[bad]
        axis = np.argmax((top[bad] - part[bad]) / shape, axis=1)
        index = np.arange(len(axis))
        if bad.any() and ((top[bad] - part[bad])[index, axis] < SMALLEST * shape[axis]).any():
            return None
        left, right = top[bad].copy(), part[bad].copy()
        left[index, axis] = right[index, axis] = middle[index, axis]
        low, high = np.concatenate([part[bad], right, low]), np.concatenate([left, top[bad], high])
    return Contraction(center, tuple(map(tuple, P)), level, abs(float(worst)), done)


@dataclass(frozen=True, eq=False)
class _Norm:
    """Coordinates u = X^-1 (x - c) in which the P-norm is nearly the Euclidean one: unit <= X' P X <= 1 / unit."""

    X: np.ndarray
    turned: np.ndarray  # X^-1, and what it is off
    turned_off: np.ndarray
    G: np.ndarray  # X' P, and what it is off
    G_off: np.ndarray
    unit: float

    @staticmethod
    def of(P: Sequence[Sequence[Fraction]]) -> _Norm | None:
        """None where P is not positive definite (as far as can be proved)."""
        n = len(P)
        plain = np.array([[float(v) for v in entries] for entries in P])
        try:
            X = np.linalg.inv(np.linalg.cholesky(plain)).T
        except np.linalg.LinAlgError:
            return None
        x = flint.arb_mat(n, n, X.reshape(-1).tolist())
        p = flint.arb_mat(n, n, [flint.arb(flint.fmpq(v.numerator, v.denominator)) for entries in P for v in entries])
        g = x.transpose() * p
        low, high = _discs(g * x, n)
        if not (low > 0.5 and high < 2.0):
            return None
        try:
            middle, off = zip(*(_apart(m) for m in (x.inv(), g)), strict=True)
        except ZeroDivisionError:
            return None
        unit = min(low, float(np.nextafter(1 / high, 0.0)))
        return _Norm(X, middle[0], off[0], middle[1], off[1], float(unit))

    def distance(self, low: np.ndarray, high: np.ndarray, center: np.ndarray) -> np.ndarray:
        """Lower bounds (K,) of the P-norm of x - center on boxes."""
        n = len(center)
        middle = 0.5 * low + 0.5 * high - center
        spread = (0.5 * high - 0.5 * low) * (1 + 1e-12) + 1e-15 * (abs(low) + abs(high) + abs(center))
        u = middle @ self.turned.T
        off = spread @ abs(self.turned).T + (abs(middle) + spread) @ self.turned_off.T
        off = off + gamma(n + 4, FLOAT64) * (abs(middle) @ abs(self.turned).T) + 1e-290
        least = np.maximum(abs(u) - off * (1 + 1e-12), 0.0)
        # the norm of u, and how much longer it may be in the P-norm
        return np.sqrt((least * least).sum(1)) * np.sqrt(self.unit) * (1 - 1e-12)

    def growth(self, kind: str, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Upper bounds (K,) of the growth of the P-norm under interval matrices: mu in x' P J x <= mu x' P x (a rate), or
        the norm of J for maps. NaN or infinity where nothing is known."""
        n = low.shape[1]
        middle, spread = 0.5 * low + 0.5 * high, (0.5 * high - 0.5 * low) * (1 + 1e-12) + 1e-300
        spread = spread + 1e-15 * abs(middle)  # of the middle, and of what is added to it
        left, left_off = (self.G, self.G_off) if kind == "ode" else (self.turned, self.turned_off)
        whole = abs(middle) + 2 * spread
        off = left_off @ whole @ abs(self.X) + gamma(2 * n + 8, FLOAT64) * (abs(left) @ whole @ abs(self.X))
        signs = _patterns(np.asarray(np.any(low < high, axis=0)))
        if signs is None:
            off = off + abs(left) @ spread @ abs(self.X) * (1 + gamma(2 * n + 8, FLOAT64))
            signs = np.zeros((1, n, n))
        off = off * (1 + 1e-12) + 1e-290
        # y' J x is largest, for given signs of y and x, where J is as large (or small) as it may be entry by entry
        J = middle[:, None] + signs * spread[:, None]
        S = (left @ J @ self.X).reshape(-1, n, n)
        if kind == "ode":
            S = 0.5 * (S + S.transpose(0, 2, 1))
            off = 0.5 * (off + off.transpose(0, 2, 1)) * (1 + 1e-12)
            rounding = np.sqrt((S * S).sum((1, 2))) * 1e-15
            largest = _over(_largest_eigenvalue(S) + rounding, len(signs)) + _frobenius(off)
            # x' P J x <= largest |u|^2, and |u|^2 is between unit and 1 / unit times x' P x
            return np.where(largest > 0, largest / self.unit, largest * self.unit) + 4e-15 * abs(largest)
        square = S.transpose(0, 2, 1) @ S
        lost = gamma(n + 4, FLOAT64) * (abs(S).transpose(0, 2, 1) @ abs(S))
        norm = np.sqrt(np.maximum(_largest_eigenvalue(square) + _frobenius(lost), 0.0) * (1 + 1e-12))
        return (_over(norm, len(signs)) + _frobenius(off)) / self.unit * (1 + 1e-12)


def _patterns(varies: np.ndarray) -> np.ndarray | None:
    """Signs (M, n, n) of the extreme matrices w_i z_j for w, z of -1 and 1, as far as they differ where entries vary; None: too many."""
    rows, columns = np.flatnonzero(varies.any(1)), np.flatnonzero(varies.any(0))
    free = len(rows) + len(columns) - 1
    if free < 0:
        return np.zeros((1, *varies.shape))
    if 2**free > PATTERNS:
        return None
    bits = 1.0 - 2.0 * ((np.arange(2**free)[:, None] >> np.arange(free)) & 1)
    signs = np.zeros((2**free, *varies.shape))
    w = np.concatenate([np.ones((2**free, 1)), bits[:, : len(rows) - 1]], axis=1)  # both signs turned: the same matrix
    signs[np.ix_(np.arange(2**free), rows, columns)] = w[:, :, None] * bits[:, None, len(rows) - 1 :]
    return signs


def _over(values: np.ndarray, count: int) -> np.ndarray:
    """The largest of each ``count`` in turn; NaN where one is."""
    return values.reshape(-1, count).max(1)


def _frobenius(matrix: np.ndarray) -> np.ndarray:
    """Upper bounds of the norms of matrices (K, n, n)."""
    return np.sqrt((matrix * matrix).sum((1, 2))) * (1 + 1e-12)


def _largest_eigenvalue(S: np.ndarray) -> np.ndarray:
    """Upper bounds (K,) of the largest eigenvalues of symmetric matrices (K, n, n): what was computed is checked.

    S = Q D Q' + E gives x' S x <= d |Q' x|^2 + |E| with |Q' x|^2 between 1 -+ |Q Q' - I| (Frobenius norms).
    """
    n = S.shape[1]
    S = np.where(np.isfinite(S).all((1, 2))[:, None, None], S, np.eye(n))
    d, q = np.linalg.eigh(S)
    turned = q.transpose(0, 2, 1)
    product = (q * d[:, None, :]) @ turned
    error = abs(S - product) + gamma(n + 4, FLOAT64) * ((abs(q) * abs(d)[:, None, :]) @ abs(turned) + abs(S))
    defect = abs(q @ turned - np.eye(n)) + gamma(n + 4, FLOAT64) * (abs(q) @ abs(turned) + np.eye(n))
    e, o = (np.sqrt((m * m).sum((1, 2))) * (1 + 1e-12) for m in (error, defect))
    top = d.max(1)
    return np.where(top > 0, top * (1 + o), top * (1 - o)) + e + 1e-15 * abs(top) + 1e-290


def _apart(matrix: flint.arb_mat) -> tuple[np.ndarray, np.ndarray]:
    """Middle, and what it is off at most, of a ball matrix."""
    shape = (matrix.nrows(), matrix.ncols())
    middle = np.array([float(e.mid()) for e in matrix.entries()]).reshape(shape)
    off = [
        float((e - flint.arb(float(m))).__abs__().upper())
        for e, m in zip(matrix.entries(), middle.ravel(), strict=True)
    ]
    return middle, np.nextafter(np.array(off).reshape(shape), np.inf)


def _ball(low: float, high: float) -> flint.arb:
    return flint.arb(low).union(flint.arb(high))


def _discs(matrix: flint.arb_mat, n: int) -> tuple[float, float]:
    """Bounds of the eigenvalues of all symmetric matrices in a ball matrix (Gershgorin)."""
    lows, highs = [], []
    for i in range(n):
        off = sum((abs(matrix[i, j]) for j in range(n) if j != i), flint.arb(0))
        lows.append(float(np.nextafter(float((matrix[i, i] - off).lower()), -np.inf)))
        highs.append(float(np.nextafter(float((matrix[i, i] + off).upper()), np.inf)))
    return min(lows), max(highs)


def _least_rate(loop: ClosedLoop, center: np.ndarray, P: Sequence[Sequence[Fraction]], level: Fraction) -> float:
    """The contraction rate (maps: 1 - factor) that keeps the ellipsoid, although its centre is not quite the equilibrium."""
    residual = _residual(loop, center, P) / level
    if residual > 1e200:
        return float("inf")
    return max(float(np.sqrt(max(float(residual), 0.0))) * (1 + 1e-12), 1e-18)


def _residual(loop: ClosedLoop, center: np.ndarray, P: Sequence[Sequence[Fraction]]) -> Fraction:
    """An upper bound of f(c)' P f(c) (maps: of f(c) - c), over all parameters."""
    others = loop.others
    low = np.concatenate([center, others.lower])[None]
    high = np.concatenate([center, others.upper])[None]
    n = len(center)
    below, above = bounds_of_rows(flat_problem(loop.dynamics, FLOAT64), low, high, np.eye(n), "backward")
    f = [_ball(a, b) for a, b in zip(below[0], above[0], strict=True)]
    if loop.kind == "map":
        f = [v - flint.arb(float(c)) for v, c in zip(f, center, strict=True)]
    total = flint.arb(0)
    for i in range(n):
        for k in range(n):
            total += flint.arb(flint.fmpq(P[i][k].numerator, P[i][k].denominator)) * f[i] * f[k]
    top = float(total.upper())
    return Fraction(float(np.nextafter(top, np.inf))) if np.isfinite(top) else Fraction(10) ** 300
