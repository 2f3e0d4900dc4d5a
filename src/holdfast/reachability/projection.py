"""Outlines of Taylor models in a plane of two states: zonotopes around them, for pictures.

The linear part and the symbols are generators, higher monomials and the error an interval each (Girard, Reachability of uncertain
linear systems using zonotopes, HSCC 2005). Corners are computed in plain arithmetic.
"""

from __future__ import annotations

import numpy as np

from holdfast.sets.taylor_model import TaylorModel

Array = np.ndarray


def outlines(states: TaylorModel, i: int, j: int) -> list[Array]:
    """A convex polygon (K, 2), counter-clockwise, per member of the batch; members of which nothing is known are left out."""
    basis = states.basis
    plane = states.terms[:, :, [i, j]]
    K, V = len(basis), basis.variables
    linear = 1 + V if basis.degree >= 1 else 1
    higher = plane[linear:K]
    even = basis.even[linear:K][:, None, None]
    center = plane[0] + np.where(even, 0.5 * higher, 0.0).sum(0)  # an even monomial lies in [0, 1]
    rest = np.where(even, 0.5 * abs(higher), abs(higher)).sum(0) + states.error[:, [i, j]]
    generators = np.concatenate([plane[1:linear], plane[K:]])
    found = []
    for b in range(len(center)):
        sides = np.concatenate([generators[:, b], np.diag(rest[b])])
        if np.isfinite(sides).all() and np.isfinite(center[b]).all():
            found.append(zonotope(center[b], sides))
    return found


def zonotope(center: Array, generators: Array) -> Array:
    """The corners (K, 2) of {center + sum g_k e_k, |e_k| <= 1}; generators (M, 2)."""
    sides = generators[np.abs(generators).max(1) > 0]
    if not len(sides):
        return center[None]
    sides = np.where((sides[:, 1:] < 0) | ((sides[:, 1:] == 0) & (sides[:, :1] < 0)), -sides, sides)
    sides = sides[np.argsort(np.arctan2(sides[:, 1], sides[:, 0]), kind="stable")]
    lowest = center - sides.sum(0)
    way = np.concatenate([lowest[None], lowest + 2 * np.cumsum(sides, axis=0)])
    return np.concatenate([way, 2 * center - way[1:-1]]) if len(sides) > 1 else way
