"""Contraction: around an equilibrium all trajectories of the loop approach each other, so the equilibrium is exponentially stable.

With J(x) in an interval matrix on a box and P J + J' P + 2 rate P <= 0 for every J in it, distances in the P-norm shrink
(Demidovich; Lohmiller, Slotine, On contraction analysis for nonlinear systems, Automatica 34, 1998; Davydov, Jafarpour, Bullo,
Non-Euclidean contraction theory, IEEE TAC 2022, theorem 29, for the 2-norm). What is proved, word by word: docs/certificates/loops.md, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import flint
import numpy as np

from holdfast.bounds.bounder import bounds_of_rows, flat_problem
from holdfast.invariance.sets import inverse
from holdfast.loop import ClosedLoop
from holdfast.rigor import FLOAT64
from holdfast.transforms import derivative


@dataclass(frozen=True, eq=False)
class Contraction:
    """Proved: {(x - center)' P (x - center) <= level} is invariant, holds exactly one equilibrium (per value of the
    parameters), and all its trajectories converge to that one, at least like exp(-rate t) (maps: rate^k)."""

    center: np.ndarray
    P: tuple[tuple[Fraction, ...], ...]
    level: Fraction
    box: np.ndarray  # half-widths
    parts: tuple[int, ...]
    rate: float


def jacobian_hull(
    loop: ClosedLoop, center: np.ndarray, half: np.ndarray, parts: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """An interval matrix (n, n) that contains the Jacobian by the states on center +- half, cut into ``parts`` pieces each."""
    n = len(loop.states)
    J = derivative(loop.dynamics)
    problem = flat_problem(J, FLOAT64)
    low, high = _cells(center, half, parts)
    others = loop.others
    low = np.concatenate([low, np.broadcast_to(others.lower, (len(low), len(others)))], axis=1)
    high = np.concatenate([high, np.broadcast_to(others.upper, (len(high), len(others)))], axis=1)
    width = len(loop.variables)
    below, above = bounds_of_rows(problem, low, high, np.eye(n * width), "backward")
    return below.min(0).reshape(n, width)[:, :n], above.max(0).reshape(n, width)[:, :n]


def contraction(
    loop: ClosedLoop, center: np.ndarray, P: Sequence[Sequence[Fraction]], half: np.ndarray, parts: Sequence[int]
) -> Contraction | None:
    """The largest ellipsoid of shape P in center +- half, if the loop contracts on that box; None where that is not proved."""
    low, high = jacobian_hull(loop, center, half, parts)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None
    rate = decay(loop.kind, P, low, high)
    turned = inverse(P)
    if rate is None or turned is None:
        return None
    level = min(Fraction(float(h)) ** 2 / turned[i][i] for i, h in enumerate(half))
    level = Fraction(float(level) * (1 - 2.0**-40))
    residual = _residual(loop, center, P)
    reach = rate if loop.kind == "ode" else 1 - rate
    if reach <= 0 or not residual <= Fraction(reach) ** 2 * level:
        return None
    return Contraction(center, tuple(map(tuple, P)), level, half, tuple(parts), rate)


def decay(kind: str, P: Sequence[Sequence[Fraction]], low: np.ndarray, high: np.ndarray) -> float | None:
    """A rate > 0 with P J + J' P + 2 rate P <= 0 (maps: mu < 1 with J' P J <= mu^2 P) for all J between, or None.

    Congruence with X ~ P^(-1/2) Q, Q the eigenvectors of the middle, makes the matrices nearly diagonal; what is left is
    bounded by Gershgorin's discs, in balls.
    """
    n = len(P)
    plain = np.array([[float(v) for v in entries] for entries in P])
    middle = 0.5 * low + 0.5 * high
    try:
        root = np.linalg.inv(np.linalg.cholesky(plain)).T
    except np.linalg.LinAlgError:
        return None
    turned = root.T @ plain @ middle @ root
    _, q = np.linalg.eigh(turned + turned.T if kind == "ode" else turned.T @ turned)
    X = root @ q
    x = flint.arb_mat(n, n, X.reshape(-1).tolist())
    p = flint.arb_mat(n, n, [flint.arb(flint.fmpq(v.numerator, v.denominator)) for entries in P for v in entries])
    j = flint.arb_mat(n, n, [_ball(a, b) for a, b in zip(low.reshape(-1), high.reshape(-1), strict=True)])
    unit = _discs(x.transpose() * p * x, n)
    if not unit[0] > 0:  # X is not invertible, or P not positive definite
        return None
    if kind == "ode":
        s = x.transpose() * p * j * x
        shrinking = _discs(-(s + s.transpose()), n)[0]
        if not shrinking > 0:
            return None
        return float(np.nextafter(float((flint.arb(shrinking) / (2 * flint.arb(unit[1]))).lower()), 0.0))
    m = x.inv() * j * x
    center = flint.arb_mat(n, n, [e.mid() for e in m.entries()])
    radius = flint.arb_mat(n, n, [flint.arb(e.rad()) for e in m.entries()])
    square = flint.arb(_discs(center.transpose() * center, n)[1])
    rest = flint.arb(_discs(radius.transpose() * radius, n)[1])
    norm = (square.sqrt() + rest.sqrt()) * (flint.arb(unit[1]) / flint.arb(unit[0])).sqrt()
    mu = float(np.nextafter(float(norm.upper()), np.inf))
    return mu if mu < 1 else None


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


def _cells(center: np.ndarray, half: np.ndarray, parts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes that cover center +- half, ``parts[i]`` along axis i."""
    lows, highs = [], []
    edges = []
    for c, h, k in zip(center, half, parts, strict=True):
        ends = np.linspace(c - h, c + h, k + 1)
        ends[0], ends[-1] = np.nextafter(c - h, -np.inf), np.nextafter(c + h, np.inf)
        edges.append(ends)
    for cell in product(*(range(k) for k in parts)):
        lows.append([edges[i][k] for i, k in enumerate(cell)])
        highs.append([edges[i][k + 1] for i, k in enumerate(cell)])
    return np.array(lows), np.array(highs)
