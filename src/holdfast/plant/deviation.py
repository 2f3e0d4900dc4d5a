"""How far signals that change at any time within bounds can move a solution away from the one for constant values of them.

|x - y|' <= M |x - y| + c componentwise, with M >= |df/dx| off the diagonal and c >= |df/dw| |w - w0|, hence
|x - y|(s) <= sum_k s^(k+1) / (k+1)! M^k c (Neumaier, The wrapping effect, ellipsoid arithmetic, stability and confidence
regions, 1993). docs/certificates/loops.md, section 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.bounds.bounder import bounds_of_rows, flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.errors import InputError
from holdfast.graph import Model
from holdfast.rigor import FLOAT64
from holdfast.spec.plant import Plant
from holdfast.transforms import derivative

Array = np.ndarray
_LEAST = 1e-290  # far more than what underflow can cost
_UP = 1 + 1e-9  # far more than the rounding of the few hundred operations with numbers >= 0 here


@dataclass(frozen=True, eq=False)
class Disturbance:
    """``nominal`` (W,): constant values that tubes are made for. ``lower``, ``upper``: bounds. ``jacobian``: of f by all signals."""

    nominal: Array
    lower: Array
    upper: Array
    jacobian: Problem
    first: int  # where disturbances stand among the signals
    states: int

    @staticmethod
    def of(plant: Plant, dynamics: Model) -> Disturbance | None:
        """None where no disturbance has a width. ``dynamics`` reads all signals."""
        w, signals = plant.disturbances, plant.signals
        if not len(w) or (w.lower == w.upper).all():
            return None
        nominal = np.clip(0.5 * w.lower + 0.5 * w.upper, w.lower, w.upper)
        first = len(signals) - len(signals.disturbances) - len(signals.schedule)
        return Disturbance(
            nominal, w.lower, w.upper, flat_problem(derivative(dynamics), FLOAT64), first, len(signals.states)
        )

    def bound(self, states: tuple[Array, Array], rest: tuple[Array, Array], length: Fraction) -> Array:
        """Bounds (B, n) over one step for solutions in the boxes ``states``; ``rest``: all other signals, disturbances at their
        nominal values. Infinite where none is found."""
        n, width = self.states, len(self.nominal)
        low, high = (np.concatenate(part, axis=1) for part in zip(states, rest, strict=True))
        low[:, self.first : self.first + width] = self.lower
        high[:, self.first : self.first + width] = self.upper
        rows = np.eye(self.jacobian.graph[self.jacobian.graph.outputs[0]].shape[0])
        try:
            below, above = bounds_of_rows(self.jacobian, low, high, rows, "backward")
        except InputError:  # the box leaves the domain of a logarithm or a root
            return np.full((len(low), n), np.inf)
        J = np.maximum(abs(below), abs(above)).reshape(len(low), n, -1)
        M = J[:, :, :n].copy()
        diagonal = np.arange(n)
        M[:, diagonal, diagonal] = np.maximum(above.reshape(J.shape)[:, diagonal, diagonal], 0.0)
        away = np.maximum(self.upper - self.nominal, self.nominal - self.lower) * _UP
        c = (J[:, :, self.first : self.first + width] * away).sum(2) * _UP
        return _driven(M, c, float(length) * _UP)


def _driven(M: Array, c: Array, h: float) -> Array:
    """sum over k of h^(k+1) / (k+1)! M^k c, rounded up."""
    norm = M.sum(2).max(1)
    term = c * h + _LEAST
    total = term
    for k in range(1, 60):
        term = (M * term[:, None, :]).sum(2) * (h / (k + 1)) * _UP + _LEAST
        total = (total + term) * _UP
        if (norm * h / (k + 2) <= 0.5).all() and (term.max(1) <= 1e-12 * total.max(1)).all():
            return total + 2 * term.max(1, keepdims=True)  # each further term is at most half of the one before
    return np.where((norm * h / 60 <= 0.5)[:, None], total + 2 * term.max(1, keepdims=True), np.inf)
