"""Coordinates z = Y (x - centre) in which an ellipsoid is nearly the unit ball, and a sampled loop in them.

Boxes around the set, around what is met in a period, and around remainders fit closely there. What `invariance.held_slopes` and
`invariance.sampled` prove of ellipsoids; docs/certificates/loops.md, section 7, coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import flint
import numpy as np

from holdfast.errors import InputError
from holdfast.invariance.contraction import _Norm
from holdfast.invariance.sets import root_above
from holdfast.loop.coordinates import in_coordinates
from holdfast.spec.plant import LoopData
from holdfast.spec.temporal import Ellipsoid

Matrix = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True, eq=False)
class Ball:
    """The loop in coordinates z = Y (x - centre), in which the ellipsoid is nearly the unit ball: {z : z' N z <= 1}, in the box +-``reach``."""

    data: LoopData
    states: Ellipsoid  # in these coordinates
    rows: Matrix
    norm: _Norm
    N: np.ndarray  # entries upward, absolute values
    reach: np.ndarray

    @staticmethod
    def of(data: LoopData, states: Ellipsoid) -> Ball:
        """InputError where the ellipsoid is too flat for float64 coordinates."""
        n = len(states.center)
        try:
            root = np.linalg.cholesky(np.array([[float(v / states.level) for v in row] for row in states.P])).T
        except np.linalg.LinAlgError:
            raise InputError("ellipsoid: P is not positive definite in float64 arithmetic") from None
        rows = tuple(tuple(Fraction(float(v)) for v in row) for row in root)
        back = flint.fmpq_mat(n, n, [flint.fmpq(v.numerator, v.denominator) for row in rows for v in row]).inv()
        P = flint.fmpq_mat(
            n, n, [flint.fmpq(q.numerator, q.denominator) for row in states.P for q in [v / states.level for v in row]]
        )
        N = back.transpose() * P * back
        exact = [[_fraction(N[i, j]) for j in range(n)] for i in range(n)]
        norm = _Norm.of(exact)
        if norm is None:
            raise InputError("ellipsoid: too flat for coordinates in which it is nearly a ball")
        inverse = N.inv()
        reach = np.array([_upward(root_above(_fraction(inverse[i, i]))) for i in range(n)])
        upper = np.array([[_upward(abs(v)) for v in row] for row in exact])
        turned = Ellipsoid((Fraction(0),) * n, tuple(map(tuple, exact)), Fraction(1))
        return Ball(in_coordinates(data, rows, states.center), turned, rows, norm, upper, reach)

    def size(self, most: np.ndarray) -> np.ndarray:
        """Upper bounds (K,) of the norm of all z with |z_i| <= most (K, n)."""
        return np.sqrt(((most @ self.N) * most).sum(1)) * (1 + 1e-13) + 1e-290


def _fraction(value: flint.fmpq) -> Fraction:
    return Fraction(int(value.p), int(value.q))


def _upward(value: Fraction) -> float:
    near = float(value)
    return near if Fraction(near) >= value else float(np.nextafter(near, np.inf))
