"""Boxes and polytopes in plain arithmetic: points of a face that are best for a linear objective, for the falsifier.

Parallelotopes have a closed form in the coordinates of their rows; other polytopes take a linear program per point.
"""

from __future__ import annotations

import numpy as np


class Faces:
    """{x : A x <= b}, bounded, not flat."""

    def __init__(self, A: np.ndarray, b: np.ndarray):
        import scipy.optimize

        self.A, self.b = A, b
        size = np.maximum(np.linalg.norm(A, axis=1), 1e-300)
        result = scipy.optimize.linprog(
            np.append(np.zeros(A.shape[1]), -1.0), np.column_stack([A, size]), b, bounds=[(None, None)] * A.shape[1] + [(0, None)],
            method="highs",
        )  # fmt: skip
        self.center: np.ndarray | None = None if result.x is None else result.x[:-1]  # of the largest ball
        self._pairs = _pairs(A)
        if self._pairs is not None:
            self._turn = np.linalg.inv(A[self._pairs[0]])

    @property
    def quick(self) -> bool:
        """Whether the best points are found at once."""
        return self._pairs is not None

    def best(self, objective: np.ndarray, side: np.ndarray) -> np.ndarray:
        """For each linear objective (P, n) the point of face ``side`` (P,) where it is largest (-1: of the whole set)."""
        if self._pairs is None:
            return np.stack([self._program(c, int(k)) for c, k in zip(objective, side, strict=True)])
        up, low = self._pairs
        chosen = objective @ self._turn > 0
        at = np.arange(len(up))
        chosen = np.where(side[:, None] == up[at], True, np.where(side[:, None] == low[at], False, chosen))
        return np.where(chosen, self.b[up], -self.b[low]) @ self._turn.T

    def _program(self, objective: np.ndarray, side: int) -> np.ndarray:
        import scipy.optimize

        held = {} if side < 0 else {"A_eq": self.A[side : side + 1], "b_eq": self.b[side : side + 1]}
        result = scipy.optimize.linprog(
            -objective, self.A, self.b, bounds=[(None, None)] * self.A.shape[1], method="highs", **held
        )
        return np.full(self.A.shape[1], np.nan) if result.x is None else result.x


def _pairs(A: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows k and their opposites -k, where there are n such pairs that are independent."""
    count, n = A.shape
    if count != 2 * n:
        return None
    up, low = [], []
    free = set(range(count))
    for k in range(count):
        if k not in free:
            continue
        free.discard(k)
        opposite = [j for j in free if (A[j] == -A[k]).all()]
        if not opposite:
            return None
        free.discard(opposite[0])
        up.append(k)
        low.append(opposite[0])
    return (np.array(up), np.array(low)) if np.linalg.matrix_rank(A[up]) == n else None
