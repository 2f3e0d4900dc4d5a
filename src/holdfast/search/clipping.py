"""Boxes shrunk to where a counterexample can be: linear lower bounds of rows that must be <= 0 cut corners off.

Constraint propagation (hull consistency) on a x + c <= 0; its use with bounds of networks: Zhou et al., Clip-and-
Verify, 2025. Rounded outward: no point that satisfies a x + c <= 0 is lost.
"""

from __future__ import annotations

import numpy as np

from holdfast.rigor import FLOAT64, gamma


def clip(
    coefficients: np.ndarray, constant: np.ndarray, low: np.ndarray, high: np.ndarray, slack: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (B, n) that contain every point of [low, high] with coefficients (B, n) . x + constant (B,) <= 0.

    Where no such point exists, some component of the result has low > high. ``slack``: by which share of the size of
    its terms the left side must exceed zero before a point is given up.
    """
    a = coefficients
    size = np.abs(a) * np.maximum(np.abs(low), np.abs(high))
    error = (gamma(a.shape[1] + 8, FLOAT64) + slack) * (size.sum(1) + np.abs(constant)) + 8 * a.shape[1] * FLOAT64.tiny
    least = np.minimum(a * low, a * high)
    total = least.sum(1) + constant
    rest = (error - total)[:, None] + least  # a_d x_d <= rest_d
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        limit = rest / a
        limit = limit + np.sign(a) * (np.abs(limit) * 1e-15 + 1e-300)
    usable = np.isfinite(limit) & (np.abs(a) > 1e-150)
    high = np.where(usable & (a > 0), np.minimum(high, limit), high)
    low = np.where(usable & (a < 0), np.maximum(low, limit), low)
    empty = total > error
    high = np.where(empty[:, None], np.minimum(high, low - 1.0), high)
    return low, high
