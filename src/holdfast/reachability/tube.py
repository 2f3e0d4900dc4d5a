"""A flow tube as people ask it: where can the states be at this time, between those, seen in that plane, as arrays.

Made by `holdfast.reachability.reach` from the segments of `holdfast.loop.tube`; every answer is an enclosure (outward rounding),
outlines in a plane up to the rounding of their corners.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.errors import InputError
from holdfast.loop.tube import Segment
from holdfast.reachability.limits import Stopped
from holdfast.sets.taylor_model import TaylorModel
from holdfast.spec.plant import PlantKind
from holdfast.spec.region import Box

Array = np.ndarray
Time = float | int | str | Decimal | Fraction
PIECES = 200  # of the horizon, for arrays and pictures


@dataclass(frozen=True, eq=False)
class Boxes:
    """One box per initial box: whoever started in initial box b is within ``lower[b]``, ``upper[b]``, each (B, n)."""

    lower: Array
    upper: Array

    @property
    def hull(self) -> tuple[Array, Array]:
        """The smallest box (lower, upper), each (n,), around all of them."""
        return self.lower.min(0), self.upper.max(0)

    @property
    def width(self) -> Array:
        """Widths (n,) of the hull."""
        return self.upper.max(0) - self.lower.min(0)


@dataclass(frozen=True, eq=False)
class Piece:
    """All states of some boxes over [start, end]: ``states`` as Taylor models, ``origin``: of which initial boxes."""

    start: Fraction
    end: Fraction
    origin: Array
    states: TaylorModel


@dataclass(frozen=True, eq=False)
class Tube:
    """Everything a loop can do from ``initial`` until ``reached`` (seconds; maps: steps), as far as it was followed.

    ``initial``: boxes of states that cover the initial set. ``reached[b]``: until when box b was followed; all of them to ``horizon``
    unless ``stopped`` says why not. ``degree``: of the polynomials in the initial states; ``order``: of the steps in time (0: a map, or a linear plant, whose
    steps are exact).
    """

    states: tuple[str, ...]
    kind: PlantKind
    initial: tuple[Box, ...]
    horizon: Fraction
    reached: tuple[Fraction, ...]
    segments: tuple[Segment, ...] = field(repr=False)
    stopped: Stopped | None = None
    degree: int = 0
    order: int = 0
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether it goes to the horizon."""
        return self.stopped is None

    @property
    def end(self) -> Fraction:
        """Until when something is known of all states."""
        return min(self.reached)

    @property
    def times(self) -> tuple[Fraction, ...]:
        """The ends of its steps, from 0 on."""
        return tuple(sorted({Fraction(0), *(s.end for s in self.segments if s.end <= self.end)}))

    def at(self, time: Time) -> Boxes:
        """Boxes of all states at one time. Text such as "0.1" is that decimal, a float is the float64 number it is.

        Raises `holdfast.InputError` for times of which nothing is known.
        """
        return self.between(time, time)

    def between(self, first: Time, last: Time) -> Boxes:
        """Boxes of all states at all times from ``first`` to ``last`` (of a map: the steps among them)."""
        a, b = self._time(first), self._time(last)
        if a > b:
            raise InputError(f"tube: found the times {first} to {last}; accepted is the earlier one first")
        if b == 0:
            return Boxes(np.stack([box.lower for box in self.initial]), np.stack([box.upper for box in self.initial]))
        low = np.full((len(self.initial), len(self.states)), np.inf)
        high = -low
        for piece in self._within(a, b):
            below, above = bounds(piece.states)
            np.minimum.at(low, piece.origin, below)
            np.maximum.at(high, piece.origin, above)
        if not (low <= high).all():
            raise InputError(f"tube: a map has no states between steps, found the times {first} to {last}")
        return Boxes(low, high)

    def pieces(self, count: int = PIECES, upto: Time | None = None) -> Iterator[Piece]:
        """The tube in time order, about ``count`` pieces or more: each holds all states of its boxes over its times."""
        end = max(self.reached) if upto is None else self._time(upto)
        longest = self.horizon / count
        for segment in sorted(self.segments, key=lambda s: s.start):
            if segment.start > end or (segment.step is not None and segment.start >= end):
                continue
            last = min(segment.end, end)
            parts = max(1, math.ceil((last - segment.start) / longest)) if segment.step is not None else 1
            ends = [segment.start + (last - segment.start) * Fraction(k, parts) for k in range(parts + 1)]
            for a, b in pairwise(ends):
                yield Piece(a, b, segment.origin, segment.between(a, b))

    def fronts(self, time: Time) -> list[TaylorModel]:
        """The states at one time as Taylor models over the variables of each initial box."""
        at = self._time(time)
        return [piece.states for piece in self._within(at, at)]

    def polygons(self, x: str, y: str, count: int = PIECES) -> list[Array]:
        """Outlines (K, 2) of the pieces in the plane of two states: zonotopes around them, for pictures."""
        from holdfast.reachability.projection import outlines

        i, j = self.state(x), self.state(y)
        return [line for piece in self.pieces(count) for line in outlines(piece.states, i, j)]

    def to_numpy(self, count: int = PIECES) -> dict[str, Array]:
        """The tube as arrays: ``start``, ``end`` (P,) of its pieces, their boxes ``lower``, ``upper`` (P, n), ``origin`` (P,), the initial
        boxes ``initial_lower``, ``initial_upper`` (B, n), ``reached`` (B,), names of ``states``. Times are rounded to float64."""
        rows: list[tuple[Array, ...]] = []
        for piece in self.pieces(count):
            low, high = bounds(piece.states)
            when = [np.full(len(low), float(t)) for t in (piece.start, piece.end)]
            rows.append((*when, low, high, piece.origin))
        names = ("start", "end", "lower", "upper", "origin")
        found = {name: np.concatenate([row[k] for row in rows]) for k, name in enumerate(names)}
        return {
            **found,
            "initial_lower": np.stack([b.lower for b in self.initial]),
            "initial_upper": np.stack([b.upper for b in self.initial]),
            "reached": np.array([float(t) for t in self.reached]),
            "states": np.array(self.states),
        }

    def save(self, path: str | PathLike[str], count: int = PIECES) -> None:
        """Write `to_numpy` as a file for ``numpy.load`` (.npz). Raises `holdfast.InputError` where it cannot be written."""
        target = Path(path)
        if target.suffix != ".npz":
            raise InputError(f"{target}: found the ending '{target.suffix}'; accepted is .npz")
        arrays: Mapping[str, Any] = self.to_numpy(count)
        try:
            with target.open("wb") as stream:
                np.savez_compressed(stream, **arrays)
        except OSError as error:
            raise InputError(f"{target}: cannot be written ({error.strerror})") from error

    def state(self, name: str) -> int:
        """The place of a state by its name. Raises InputError."""
        if name not in self.states:
            raise InputError(f"tube: found the state '{name}'; accepted are {', '.join(self.states)}")
        return self.states.index(name)

    def _time(self, time: Time) -> Fraction:
        try:
            exact = Fraction(time)
        except (ValueError, TypeError, ArithmeticError):
            raise InputError(f"tube: found the time {time!r}; accepted are numbers") from None
        if not 0 <= exact <= self.end:
            unit = "steps" if self.kind == "map" else "s"
            raise InputError(
                f"tube: nothing is known at {time}; accepted are times from 0 to {float(self.end):g} {unit}"
            )
        return exact

    def _within(self, first: Fraction, last: Fraction) -> Iterator[Piece]:
        """Pieces that together hold all states from ``first`` to ``last``."""
        for s in self.segments:
            if s.step is None:
                if first <= s.start <= last:
                    yield Piece(s.start, s.end, s.origin, s.states)
            elif first == last:  # where two steps meet, the one that ends there
                if s.start < first <= s.end or first == s.start == 0:
                    yield Piece(first, last, s.origin, s.between(first, last))
            elif s.start < last and s.end > first:
                a, b = max(first, s.start), min(last, s.end)
                yield Piece(a, b, s.origin, s.between(a, b))


def bounds(states: TaylorModel) -> tuple[Array, Array]:
    """Boxes (B, n) of a Taylor model; what is not known is infinite."""
    with np.errstate(all="ignore"):
        low, high = states.range()
    unknown = ~(np.isfinite(low) & np.isfinite(high))  # NaN too
    return np.where(unknown, -np.inf, low), np.where(unknown, np.inf, high)
