"""The embedding system of a loop for boxes in given coordinates: how fast each face of a box must move for the box to keep all trajectories.

y = T (x - center). E_lower_i bounds the flow y_i' from below on the lower face i, E_upper_i from above on the upper one, all disturbances and
parameters included. If E_lower >= 0 >= E_upper the box is invariant, one bound pass over 2n faces: the one-shot test (Meyer, Devonport, Arcak,
Interval Reachability Analysis, 2021; Harapanahalli, Jafarpour, Coogan, Forward invariance in neural network controlled systems, L-CSS 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from holdfast.bounds.bounder import bounds_of_rows, flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.bounds.propagate import propagate, refine_rows
from holdfast.errors import InputError
from holdfast.invariance.features import Coordinates, features, linear_forms
from holdfast.invariance.prove import quiet
from holdfast.invariance.sets import inverse
from holdfast.loop import ClosedLoop
from holdfast.rigor import FLOAT64, PLAIN
from holdfast.transforms import derivative

Inclusion = Literal["natural", "mean-value", "backward"]
INCLUSIONS: tuple[Inclusion, ...] = ("natural", "mean-value", "backward")
Matrix = Sequence[Sequence[Fraction]]


@dataclass(frozen=True, eq=False)
class Embedding:
    """The embedding system of x' = f(x, w, p) in y = T (x - center); for maps, of the next y.

    ``inclusion``: "natural" (intervals through the graph), "mean-value" (a point and the Jacobian's intervals), "backward" (linear
    bounds of the whole graph, controller and plant together, which is what interaction-aware bounds are after).

    Measured, worst face in units of the box's width (1 core): leader_follower natural -231, mean-value -0.45 (4 s), backward +0.17 (20 ms);
    segway nominal -170, 0.13 (0.2 s), 0.38 (60 ms); cart-pole of half-widths 0.1, face 1: -1639, 224, 334. Backward was the tightest of the
    three everywhere, so intersecting it with the mean value form gained nothing for ten times the time.
    """

    inclusion: Inclusion
    discrete: bool
    rigorous: bool
    states: int
    problem: Problem
    slopes: Problem | None
    others: tuple[np.ndarray, np.ndarray]

    def __call__(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """E_lower, E_upper (B, n) of boxes (B, n). For maps the hull of the image instead. Infinite where nothing is known."""
        low, high = (np.atleast_2d(np.asarray(a, np.float64)) for a in (lower, upper))
        count, n = low.shape
        if self.discrete:
            chosen = np.broadcast_to(np.arange(n), (count, n))
            return self._bounds(low, high, chosen)
        # face i of the lower ends, then of the upper ones, of each box
        a, b = (np.repeat(end, 2 * n, axis=0).reshape(count, 2, n, n) for end in (low, high))
        index = np.arange(n)
        b[:, 0, index, index] = low
        a[:, 1, index, index] = high
        chosen = np.tile(index, 2 * count)[:, None]
        below, above = self._bounds(a.reshape(-1, n), b.reshape(-1, n), chosen)
        return below.reshape(count, 2, n)[:, 0], above.reshape(count, 2, n)[:, 1]

    def invariant(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """The one-shot test (B,): a proof that boxes are invariant where ``rigorous``."""
        below, above = self(lower, upper)
        if self.discrete:
            return np.asarray(((below >= lower) & (above <= upper)).all(1))
        return np.asarray(((below >= 0) & (above <= 0)).all(1))

    def attracted(self, lower: np.ndarray, upper: np.ndarray, inner_lower: np.ndarray, inner_upper: np.ndarray) -> bool:
        """Whether every trajectory in a box (n,) that is invariant reaches the box inside it in finite time and stays (a proof where ``rigorous``).

        Between each face of the outer box and that of the inner one the flow points inwards, at a speed bounded away from zero: what
        is in one of these slabs leaves it on the inner side and cannot come back. Maps: one step leads into the inner box.
        """
        if self.discrete:
            below, above = self(lower, upper)
            return bool((below[0] >= inner_lower).all() and (above[0] <= inner_upper).all())
        n = len(lower)
        a, b = (np.tile(end, (2, n, 1)) for end in (lower, upper))
        index = np.arange(n)
        b[0, index, index], a[1, index, index] = inner_lower, inner_upper
        chosen = np.tile(index, 2)[:, None]
        below, above = (end.reshape(2, n) for end in self._bounds(a.reshape(-1, n), b.reshape(-1, n), chosen))
        moved = np.stack([inner_lower > lower, inner_upper < upper])
        return bool((np.where(moved, np.stack([below[0], -above[1]]), 1.0) > 0).all())

    def _bounds(self, low: np.ndarray, high: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds (K, m) of the chosen components (K, m) of the flow on boxes (K, n) of y."""
        low, high = (
            np.concatenate([end, np.broadcast_to(other, (len(end), len(other)))], axis=1)
            for end, other in zip((low, high), self.others, strict=True)
        )
        with quiet():
            output = self.problem.graph.outputs[0]
            plain = self.inclusion == "natural"
            state = propagate(self.problem, low, high, narrow=not plain)
            below, above = (np.take_along_axis(e[output], chosen, axis=1) for e in (state.lower, state.upper))
            if self.inclusion == "backward":
                down, up, _ = refine_rows(state, output, chosen)
                below, above = np.fmax(below, down), np.fmin(above, up)
            if self.slopes is not None:
                down, up = self._mean_value(low, high, chosen)
                below, above = np.fmax(below, down), np.fmin(above, up)
        return np.where(np.isnan(below), -np.inf, below), np.where(np.isnan(above), np.inf, above)

    def _mean_value(self, low: np.ndarray, high: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f(middle) + J (v - middle), J anything in the interval matrix on the box."""
        assert self.slopes is not None
        width = low.shape[1]
        middle = 0.5 * low + 0.5 * high
        n = self.problem.graph[self.problem.graph.outputs[0]].shape[0]
        at_low, at_high = bounds_of_rows(self.problem, middle, middle, np.eye(n), "interval")
        a, b = bounds_of_rows(self.slopes, low, high, np.eye(n * width), "backward")
        size = np.maximum(abs(a), abs(b)).reshape(-1, n, width)
        reach = np.maximum(high - middle, middle - low)
        # widths, products and sums round: a factor covers it
        off = np.einsum("kij,kj->ki", size, reach) * (1 + 1e-12) + 1e-300
        below, above = np.nextafter(at_low - off, -np.inf), np.nextafter(at_high + off, np.inf)
        return np.take_along_axis(below, chosen, axis=1), np.take_along_axis(above, chosen, axis=1)


def embedding(
    loop: ClosedLoop, T: Matrix, center: Sequence[Fraction], inclusion: Inclusion = "backward", *, rigorous: bool = True
) -> Embedding:
    """The embedding system in coordinates y = T (x - center), T square and invertible, exact.

    ``rigorous``: outward rounded (the default); else plain arithmetic, for search. Raises InputError for a singular T.
    """
    if inclusion not in INCLUSIONS:
        raise InputError(f"inclusion {inclusion!r}: accepted are {', '.join(INCLUSIONS)}")
    n = len(loop.states)
    back = inverse(T) if len(T) == n else None
    if back is None:
        raise InputError(f"the matrix of coordinates must be invertible, {n} by {n}")
    shift = [Fraction(0)] * n
    if loop.kind == "map":
        shift = [-sum((a * c for a, c in zip(row, center, strict=True)), Fraction(0)) for row in T]
    names = tuple(f"y{i + 1}" for i in range(n))
    coordinates = Coordinates(tuple(map(tuple, back)), tuple(center), names)
    forms = linear_forms(T, shift, n)
    model = features(loop, forms, change=True, value=False, coordinates=coordinates).model
    arithmetic = FLOAT64 if rigorous else PLAIN
    slopes = flat_problem(derivative(model), arithmetic) if inclusion == "mean-value" else None
    others = loop.others.lower, loop.others.upper
    return Embedding(inclusion, loop.kind == "map", rigorous, n, flat_problem(model, arithmetic), slopes, others)
