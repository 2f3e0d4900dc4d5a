"""Many members of one tube that lie close together, in place of them few that hold them all.

Members are grouped by bisection of where they are; a group becomes a parallelotope along the main axes of its union, whose longest edges
are the variables from there on (Stursberg, Krogh, Efficient representation and computation of reachable sets for hybrid
systems, HSCC 2003: oriented rectangular hulls).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from holdfast.rigor import FLOAT64, gamma
from holdfast.sets.taylor_model import TaylorModel, box, stacked

if TYPE_CHECKING:
    from holdfast.loop.tube import Front

Array = np.ndarray
POINT = 1e-9  # of the size of a state: a range below is that of a point
_U, _TINY = FLOAT64.unit, FLOAT64.tiny


def merged(front: Front, key: Array, limit: int, smallest: float, variables: tuple[int | None, ...]) -> Front:
    """At most ``limit`` members of each ``key`` (B, k): all states of the ones given are states of the ones returned.

    Members of several with the same key that are mostly symbols become parallelotopes too, so that they can be halved, if they are
    wider than ``smallest`` as a share of all of them. ``variables``: which of the model's variables stand for the states at first, and
    which for the parameters. Members of which nothing is known are left alone.
    """
    n = front.states.shape[0]
    free = [v for v in variables[:n] if v is not None]
    _, number = np.unique(key, axis=0, return_inverse=True)
    number = number.reshape(-1)
    if (np.bincount(number) == 1).all():
        return front
    low, high = front.states.range()
    known = np.isfinite(low).all(1) & np.isfinite(high).all(1)
    groups: list[Array] = []
    for which in range(int(number.max()) + 1):
        members = np.flatnonzero((number == which) & known)
        if len(members) > 1:
            blurred = np.zeros(len(known), bool)
            if free:
                blurred[members] = _blurred(front.states[members], smallest)
            parts = _bisected(members, low, high, limit) if len(members) > limit else list(members[:, None])
            groups += [part for part in parts if len(part) > 1 or blurred[part[0]]]
    if not groups:
        return front
    alone = np.setdiff1d(np.arange(len(known)), np.concatenate(groups))
    hulls = [_hull(front.states[group], free) for group in groups]
    parameters = front.parameters
    if parameters is not None:
        below, above = parameters.range()
        below, above = np.stack([below[g].min(0) for g in groups]), np.stack([above[g].max(0) for g in groups])
        parameters = stacked([parameters[alone], box(parameters.basis, below, above, variables[n:])])
    blame = np.concatenate([front.blame[alone], np.stack([front.blame[g].max(0) for g in groups])])
    kept = front[np.concatenate([alone, [group[0] for group in groups]]).astype(np.int64)]
    return replace(kept, states=stacked([front.states[alone], *hulls]), parameters=parameters, blame=blame)


def shares(states: TaylorModel) -> tuple[Array, Array]:
    """What each variable (B, V), and what is not polynomial (B,), makes of members: the largest share of the range of all together."""
    low, high = states.range()
    whole = high.max(0) - low.min(0)
    whole = np.maximum(whole, POINT * (1 + abs(high).max(0) + abs(low).max(0)))
    basis = states.basis
    slopes = abs(states.terms[1 : 1 + basis.variables])
    rest = abs(states.terms[len(basis) :]).sum(0) + states.error
    return (2 * slopes / whole).max(2).T, (2 * rest / whole).max(1)


def _blurred(states: TaylorModel, smallest: float) -> Array:
    of_variables, rest = shares(states)
    return (rest > of_variables.max(1)) & (rest > smallest)


def _bisected(members: Array, low: Array, high: Array, limit: int) -> list[Array]:
    """Groups of neighbours: the one whose middles are furthest apart is bisected until there are ``limit`` of them."""
    whole = np.maximum(high[members].max(0) - low[members].min(0), 1e-300)
    middles = (0.5 * low + 0.5 * high) / whole

    def reach(group: Array) -> tuple[float, Array]:
        return float(np.ptp(middles[group], axis=0).max()), group

    groups = [reach(members)]
    while len(groups) < limit:
        widest = max(range(len(groups)), key=lambda i: groups[i][0])
        group = groups[widest][1]
        axis = int(np.ptp(middles[group], axis=0).argmax())
        place = middles[group, axis]
        left = place <= 0.5 * place.min() + 0.5 * place.max()
        if left.all():
            break
        groups[widest] = reach(group[left])
        groups.append(reach(group[~left]))
    return [group for _, group in groups]


def _hull(states: TaylorModel, free: list[int]) -> TaylorModel:
    """One parallelotope (1, n) around all members (B, n); its longest edges are the variables ``free``, the others symbols."""
    basis, K = states.basis, len(states.basis)
    n = states.shape[0]
    low, high = states.range()
    low, high = low.min(0), high.max(0)
    scale = np.maximum(high - low, 1e-9 * (abs(low) + abs(high)) + 1e-150)
    away = (states.terms[0] - states.terms[0].mean(0)) / scale
    parts = np.concatenate([states.terms[1:].reshape(-1, n), states.error]) / scale
    axes = np.linalg.eigh(away.T @ away + parts.T @ parts / 3)[1]
    frames = [np.diag(scale), scale[:, None] * axes]
    found = [_along(states, frame) for frame in frames]
    volumes = [
        np.log(np.maximum(radius, 1e-6)).sum() for radius, _, _ in found
    ]  # the frames' determinants are the same
    best = 1 if volumes[1] < volumes[0] else 0
    frame, (radius, middle, error) = frames[best], found[best]
    columns = frame * radius
    terms = np.zeros((K + max(n - len(free), 0), 1, n))
    terms[0, 0] = frame @ middle
    places = [*(1 + v for v in free), *range(K, len(terms))]
    for place, j in zip(places, np.argsort(-radius, kind="stable"), strict=False):
        terms[place, 0] = columns[:, j]
    lost = 2 * gamma(n + 4, FLOAT64) * (abs(frame) @ abs(middle) + abs(columns).sum(1)) + 4 * (n + 4) * _TINY
    return TaylorModel(basis, terms, ((error + lost) * (1 + 16 * _U))[None])


def _along(states: TaylorModel, frame: Array) -> tuple[Array, Array, Array]:
    """Radius and middle (n,) of the coordinates y in x = frame y + e, and a bound (n,) of |e|."""
    n = len(frame)
    back = np.linalg.inv(frame)
    terms = np.einsum("ij,kbj->kbi", back, states.terms)
    size = np.einsum("ij,bj->bi", abs(back), states.size)
    error = np.einsum("ij,bj->bi", abs(back), states.error)
    lost = 2 * gamma(n + len(terms) + 8, FLOAT64) * size + 4 * (n + 4) * len(terms) * _TINY
    low, high = TaylorModel(states.basis, terms, (error + lost) * (1 + gamma(n + 8, FLOAT64))).range()
    low, high = low.min(0), high.max(0)
    middle = 0.5 * low + 0.5 * high
    radius = np.maximum(high - middle, middle - low) * (1 + 8 * _U) + 4 * _TINY
    # x = frame (back x) + (1 - frame back) x
    off = abs(np.eye(n) - frame @ back) + 2 * gamma(n + 4, FLOAT64) * (abs(frame) @ abs(back) + np.eye(n))
    return radius, middle, (off @ states.size.max(0)) * (1 + gamma(n + 8, FLOAT64)) + 4 * n * _TINY
