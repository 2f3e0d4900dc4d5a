"""What falsifies a claim, in exact numbers: initial states, unknown constants and disturbances as decimals of few digits.

Between the search (plain numbers near a violation) and its proof (enclosure of the trajectory from exactly these values).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np

from holdfast.reachability.explore import Drive
from holdfast.spec.plant import Plant
from holdfast.spec.region import Box

ROUGHNESS = (0.05, 0.01, 1e-3, 1e-5, 0.0)  # of a width: how far numbers may be moved to become short, tried in turn
_DIGITS = 17


@dataclass(frozen=True)
class Witness:
    """Exact values as text (decimals, or p/q where the problem says so): ``disturbances`` one after the other, constant between samples."""

    state: tuple[str, ...]
    parameters: tuple[str, ...]
    disturbances: tuple[tuple[str, ...], ...]

    @property
    def drive(self) -> Drive:
        """The nearest float64 numbers, for a simulation."""
        return Drive(
            _floats([self.state]), _floats([self.parameters]), np.stack([_floats([w]) for w in self.disturbances])
        )


def witnesses(initial: Box, plant: Plant, drive: Drive, k: int) -> list[Witness]:
    """Exact values near those of trajectory ``k``, within the exact boxes: from roughly the same and short to the same and long."""
    found = []
    for roughness in ROUGHNESS:
        one = Witness(
            _near(initial, drive.states[k], roughness),
            _near(plant.parameters, drive.parameters[k], roughness),
            tuple(_near(plant.disturbances, w[k], roughness) for w in drive.disturbances),
        )
        if one not in found:
            found.append(one)
    return found


def _near(box: Box, values: np.ndarray, roughness: float) -> tuple[str, ...]:
    texts = []
    for i, value in enumerate(values.tolist()):
        low, high = box.exact_lower(i), box.exact_upper(i)
        near = min(max(Fraction(value), low), high)
        room = Fraction(roughness) * (high - low)
        if near - low <= room:
            texts.append(box.lower_text[i])
        elif high - near <= room:
            texts.append(box.upper_text[i])
        else:
            texts.append(shortest(near, max(low, near - room), min(high, near + room)))
    return tuple(texts)


def shortest(near: Fraction, low: Fraction, high: Fraction) -> str:
    """The decimal of fewest digits behind the point in [low, high], next to ``near``; ``near`` itself, exactly, where it takes many."""
    for digits in range(_DIGITS):
        scale = 10**digits
        whole = round(near * scale)
        if low * scale <= whole <= high * scale:
            return format(Decimal(whole).scaleb(-digits), "f")
    return str(near)


def _floats(rows: Sequence[Sequence[str]]) -> np.ndarray:
    return np.array([[float(Fraction(v)) for v in row] for row in rows], np.float64)
