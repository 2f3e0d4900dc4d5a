"""Oblique coordinates y = Y x of the states, in which the boxes of a condition about a set of states may be cut.

A function that changes fast along one direction needs cells that are thin along it, which boxes in the states' own axes cannot be. The
region is the hull of the images of a box D; further rows say that x is in D. docs/certificates/loops.md, section 3, coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import flint
import numpy as np

from holdfast.errors import InputError
from holdfast.spec.region import Box
from holdfast.spec.row import Row, row

Matrix = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True, eq=False)
class Oblique:
    """y = Y x, x = inverse y, both exact. ``skew``: the states whose row of Y is no unit vector of theirs."""

    Y: Matrix
    inverse: Matrix
    skew: tuple[int, ...]

    @staticmethod
    def of(Y: Sequence[Sequence[Fraction]]) -> Oblique:
        """InputError where Y is not square, or has no inverse."""
        n = len(Y)
        if any(len(line) != n for line in Y):
            raise InputError("coordinates need as many numbers in each row as there are rows")
        try:
            inverse = flint.fmpq_mat(n, n, [flint.fmpq(v.numerator, v.denominator) for line in Y for v in line]).inv()
        except ZeroDivisionError:
            raise InputError("the matrix of coordinates has no inverse") from None
        back = tuple(tuple(Fraction(int(inverse[i, j].p), int(inverse[i, j].q)) for j in range(n)) for i in range(n))
        skew = tuple(i for i in range(n) if any(Y[i][j] != (i == j) for j in range(n)))
        return Oblique(tuple(map(tuple, Y)), back, skew)

    @property
    def text(self) -> list[list[str]]:
        """Y, as certificates write it."""
        return [[str(v) for v in line] for line in self.Y]

    def states(self, y: np.ndarray) -> np.ndarray:
        """Points (K, n), in plain arithmetic."""
        return np.asarray(y @ np.array([[float(v) for v in line] for line in self.inverse]).T)

    def hull(self, box: Box) -> Box:
        """The smallest box that contains all Y x, x in ``box``; exact."""
        lows, highs = [], []
        for line in self.Y:
            ends = [sorted((a * box.exact_lower(i), a * box.exact_upper(i))) for i, a in enumerate(line)]
            lows.append(sum((low for low, _ in ends), Fraction(0)))
            highs.append(sum((high for _, high in ends), Fraction(0)))
        return Box.of(lows, highs)

    def rows(self, box: Box, at: int, names: Sequence[str]) -> list[Row]:
        """That x lies in ``box``, as far as the hull does not say so; x are the features from ``at`` on."""
        found = []
        for i in self.skew:
            low, high = box.exact_lower(i), box.exact_upper(i)
            found.append(row({at + i: 1}, -high, f"{names[i]} <= {float(high):g}"))
            found.append(row({at + i: -1}, low, f"{names[i]} >= {float(low):g}"))
        return found
