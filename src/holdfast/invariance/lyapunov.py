"""Polynomials that decrease along the flow, fitted to samples: candidates only, proofs come later.

Linear programming over the coefficients, with counterexamples added round by round (Kapinski, Deshmukh, Sankaranarayanan, Arechiga,
Simulation-guided Lyapunov analysis for hybrid dynamical systems, HSCC 2014). Used where a given function stops to decrease: near the
equilibrium.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

ROUNDS = 12
SAMPLES = 3000


@dataclass(frozen=True, eq=False)
class Polynomial:
    """sum_k coefficients_k prod_{i in terms_k} z_i with z = turn (x - center), in plain numbers."""

    coefficients: np.ndarray
    terms: tuple[tuple[int, ...], ...]
    turn: np.ndarray
    center: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Values at points (K, n)."""
        return monomials(self.terms, (x - self.center) @ self.turn.T) @ self.coefficients

    def formula(self, states: tuple[str, ...]) -> str:
        """In the grammar of problem files, decimals as they are."""
        forms = []
        for row in self.turn:
            parts = [
                f"{_decimal(a)}*({s} - {_decimal(c)})" for a, s, c in zip(row, states, self.center, strict=True) if a
            ]
            forms.append("(" + " + ".join(parts) + ")")
        words = []
        for c, term in zip(self.coefficients, self.terms, strict=True):
            if not c:
                continue
            powers = [f"{forms[i]}^{term.count(i)}" if term.count(i) > 1 else forms[i] for i in sorted(set(term))]
            words.append("*".join([_decimal(c), *powers]))
        return " + ".join(words)


def _decimal(value: float) -> str:
    text = repr(float(value))
    return f"({text})" if value < 0 else text


def monomials(terms: tuple[tuple[int, ...], ...], z: np.ndarray) -> np.ndarray:
    """(K, number of terms)."""
    return np.stack([np.prod(z[:, list(term)], axis=1) for term in terms], axis=1)


def slopes(terms: tuple[tuple[int, ...], ...], z: np.ndarray, dz: np.ndarray) -> np.ndarray:
    """Derivatives of the monomials along dz."""
    total = np.zeros((len(z), len(terms)))
    for k, term in enumerate(terms):
        for place, i in enumerate(term):
            rest = [j for p, j in enumerate(term) if p != place]
            total[:, k] += dz[:, i] * (np.prod(z[:, rest], axis=1) if rest else 1.0)
    return total


def fit(
    flow: Callable[[np.ndarray], np.ndarray], sample: Callable[[int], np.ndarray], turn: np.ndarray, center: np.ndarray,
    degree: int, discrete: bool, more: np.ndarray | None = None,
) -> Polynomial | None:  # fmt: skip
    """A polynomial of that degree that decreases at all samples drawn, or None.

    ``flow``: right side (maps: next state) at points (K, n); ``sample``: draws about so many points where it is to decrease;
    ``more``: points (K, n) at which earlier candidates failed.
    """
    import scipy.optimize

    n = len(center)
    terms = tuple(t for d in range(2, degree + 1) for t in combinations_with_replacement(range(n), d))
    quadratic = np.array([float(len(t) == 2 and t[0] == t[1]) for t in terms])
    x = sample(SAMPLES) if more is None else np.concatenate([sample(SAMPLES), more])
    coefficients = None
    for _ in range(ROUNDS):
        rows, floors = _rows(flow, x, turn, center, terms, discrete)
        matrix = np.concatenate([rows, np.append(-floors, np.zeros((len(floors), 1)), axis=1)])
        limits = np.concatenate([np.zeros(len(rows)), -0.02 * np.ones(len(floors))])
        result = scipy.optimize.linprog(
            np.append(np.zeros(len(terms)), -1.0), matrix, limits, np.append(quadratic, 0.0)[None], [float(n)],
            bounds=[(-20.0 * n, 20.0 * n)] * len(terms) + [(None, 1.0)], method="highs",
        )  # fmt: skip
        if result.x is None or result.x[-1] <= 1e-7:
            return None
        coefficients, margin = result.x[:-1], result.x[-1]
        fresh = sample(4 * SAMPLES)
        rows, floors = _rows(flow, fresh, turn, center, terms, discrete)
        bad = (rows[:, :-1] @ coefficients > -0.3 * margin) | (floors @ coefficients < 0.01)
        if not bad.any():
            return Polynomial(coefficients, terms, turn, center)
        x = np.concatenate([x, fresh[bad][:1500]])
    return None


def _rows(
    flow: Callable[[np.ndarray], np.ndarray], x: np.ndarray, turn: np.ndarray, center: np.ndarray,
    terms: tuple[tuple[int, ...], ...], discrete: bool,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(change, 1) <= 0 per sample, in units of |z| |dz| so that near and far, fast and slow count alike; values per |z|^2."""
    z = (x - center) @ turn.T
    moved = flow(x)
    length = np.linalg.norm(z, axis=1)
    if discrete:
        after = (moved - center) @ turn.T
        change = monomials(terms, after) - monomials(terms, z)
        unit = np.maximum(length * np.linalg.norm(after - z, axis=1), 1e-12 * length**2)
    else:
        dz = moved @ turn.T
        change = slopes(terms, z, dz)
        unit = length * np.linalg.norm(dz, axis=1)
    rows = np.append(change / unit[:, None], np.ones((len(z), 1)), axis=1)
    return rows, monomials(terms, z) / (length**2)[:, None]
