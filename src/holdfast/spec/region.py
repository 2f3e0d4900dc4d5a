"""The box of all inputs a property speaks of: exact decimal bounds, and the float64 numbers that enclose them.

First station of a property on its way to the engine: bounds are computed on the enclosure, witnesses are checked
against the exact decimals. Decimal constants are enclosed, never rounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np

Exact = float | int | str | Decimal | Fraction


class Number(NamedTuple):
    """An exact constant: its value, the float64 numbers around it (equal where it is one), and its text."""

    value: Decimal | Fraction
    lower: float
    upper: float
    text: str


def number(constant: Exact) -> Number:
    """Enclose a constant: decimal text, "p/q", Fraction, or a float taken exactly.

    Raises ValueError for what is not finite, and OverflowError for what exceeds the float64 range.
    """
    if isinstance(constant, str):
        value: Decimal | Fraction = Fraction(constant) if "/" in constant else Decimal(constant)
        text = constant
    elif isinstance(constant, Decimal):
        value, text = constant, str(constant)
    else:
        value = Fraction(constant)
        text = str(value)
    nearest = float(value)
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError(f"{text} is not a finite number")
    if math.isinf(nearest):
        raise OverflowError(f"{text} exceeds the range of float64")
    exact = Decimal(nearest)  # every float64 is a finite decimal; comparison of decimals is exact
    lower = nearest if exact <= value else math.nextafter(nearest, -math.inf)
    upper = nearest if exact >= value else math.nextafter(nearest, math.inf)
    if math.isinf(lower) or math.isinf(upper):
        raise OverflowError(f"{text} exceeds the range of float64")
    return Number(value, lower, upper, text)


@dataclass(frozen=True, eq=False)
class Box:
    """A closed box with exact bounds; equality is identity.

    ``lower``/``upper`` (shape (n,), float64) are the largest float64 below and the smallest above the exact bounds,
    so the exact box lies inside. ``lower_text``/``upper_text`` are the exact bounds (decimal or "p/q").
    """

    lower: np.ndarray
    upper: np.ndarray
    lower_text: tuple[str, ...] = field(repr=False)
    upper_text: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        self.lower.flags.writeable = False
        self.upper.flags.writeable = False

    @staticmethod
    def of(lower: Sequence[Exact], upper: Sequence[Exact]) -> Box:
        """A box from exact bounds (floats are taken exactly, text as decimals); ValueError where lower > upper."""
        below, above = [number(_plain(v)) for v in lower], [number(_plain(v)) for v in upper]
        if len(below) != len(above):
            raise ValueError(f"a box needs as many upper as lower bounds, got {len(above)} and {len(below)}")
        for i, (a, b) in enumerate(zip(below, above, strict=True)):
            if a.value > b.value:
                raise ValueError(f"component {i}: the lower bound {a.text} exceeds the upper bound {b.text}")
        return Box(
            np.array([v.lower for v in below], np.float64),
            np.array([v.upper for v in above], np.float64),
            tuple(v.text for v in below),
            tuple(v.text for v in above),
        )

    def __len__(self) -> int:
        return len(self.lower)

    def exact_lower(self, i: int) -> Fraction:
        """The exact lower bound of component i."""
        return Fraction(self.lower_text[i])

    def exact_upper(self, i: int) -> Fraction:
        """The exact upper bound of component i."""
        return Fraction(self.upper_text[i])

    def contains(self, x: Sequence[Exact] | np.ndarray) -> bool:
        """Whether the point lies in the exact box. Floats are taken exactly, text as decimals; no tolerance."""
        if len(x) != len(self.lower):
            raise ValueError(f"a point of {len(x)} components cannot lie in a box of {len(self.lower)}")
        if isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.dtype.itemsize <= 8:
            point = np.asarray(x, np.float64)
            if not bool(np.all((point >= self.lower) & (point <= self.upper))):
                return False
            # a float64 above the largest float64 <= bound is >= bound: only ties need exact numbers
            at_lower, at_upper = (
                np.flatnonzero(point == self.lower).tolist(),
                np.flatnonzero(point == self.upper).tolist(),
            )
            return all(Fraction(float(point[i])) >= self.exact_lower(i) for i in at_lower) and all(
                Fraction(float(point[i])) <= self.exact_upper(i) for i in at_upper
            )
        for i, component in enumerate(x):
            value = exact(component)
            if value is None or not self.exact_lower(i) <= value <= self.exact_upper(i):
                return False
        return True

    def inside(self, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
        """The smallest and largest ``dtype`` number within each exact interval (lower > upper where there is none)."""
        kind = np.dtype(dtype)
        with np.errstate(over="ignore"):
            low, high = self.lower.astype(kind), self.upper.astype(kind)
        largest = kind.type(np.inf)
        # compare in float64, which holds every number of the narrower type; exact texts decide ties
        below = low.astype(np.float64) < self.lower
        above = high.astype(np.float64) > self.upper
        for i in np.flatnonzero(low.astype(np.float64) == self.lower).tolist():
            below[i] = self.exact_lower(i) > Fraction(float(self.lower[i]))
        for i in np.flatnonzero(high.astype(np.float64) == self.upper).tolist():
            above[i] = self.exact_upper(i) < Fraction(float(self.upper[i]))
        return np.where(below, np.nextafter(low, largest), low), np.where(above, np.nextafter(high, -largest), high)


def exact(component: Exact | np.generic) -> Fraction | None:
    """The number as a Fraction; None for NaN and infinities."""
    component = _plain(component)
    if isinstance(component, float) and not math.isfinite(component):
        return None
    return Fraction(component)


def box_of_numbers(lower: Sequence[Number], upper: Sequence[Number]) -> Box:
    """A box from enclosed constants (no checks)."""
    return Box(
        np.array([v.lower for v in lower], np.float64),
        np.array([v.upper for v in upper], np.float64),
        tuple(v.text for v in lower),
        tuple(v.text for v in upper),
    )


def refined(box: Box, lower: Mapping[int, Number], upper: Mapping[int, Number]) -> Box:
    """``box`` with some bounds replaced; costs copies, not conversions."""
    low, high = box.lower.copy(), box.upper.copy()
    low_text, high_text = list(box.lower_text), list(box.upper_text)
    for i, v in lower.items():
        low[i], low_text[i] = v.lower, v.text
    for i, v in upper.items():
        high[i], high_text[i] = v.upper, v.text
    return Box(low, high, tuple(low_text), tuple(high_text))


def _plain(component: Exact | np.generic) -> Exact:
    return component.item() if isinstance(component, np.generic) else component
