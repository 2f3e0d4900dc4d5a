"""Open sub-problems of an input-splitting search as arrays, worst bound first; memory is bounded.

Ranges inherited by children may be kept in float32, rounded outward: half the memory, still enclosures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def outward(low: np.ndarray, high: np.ndarray, kind: type[np.floating] = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Enclosures of float64 ranges in a type that may be narrower."""
    with np.errstate(over="ignore"):
        below, above = low.astype(kind), high.astype(kind)
    below = np.where(below > low, np.nextafter(below, kind(-np.inf)), below)
    above = np.where(above < high, np.nextafter(above, kind(np.inf)), above)
    return below, above


@dataclass(eq=False)
class Boxes:
    """K sub-problems: bounds of the split inputs, region, open cases, bound, inherited ranges, number."""

    low: np.ndarray  # (K, d)
    high: np.ndarray
    region: np.ndarray  # (K,)
    open: np.ndarray  # (K, C) bool: cases of the region not yet refuted
    bound: np.ndarray  # (K,) worst lower bound of an open case, as far as known
    known_low: np.ndarray  # (K, m)
    known_high: np.ndarray
    node: np.ndarray  # (K,) number of the obligation in the certificate (0 where none is written)

    def __len__(self) -> int:
        return len(self.bound)

    def take(self, index: np.ndarray) -> Boxes:
        """Some of them."""
        return Boxes(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    @staticmethod
    def join(parts: list[Boxes]) -> Boxes:
        """All of several."""
        return Boxes(*(np.concatenate([getattr(p, name) for p in parts]) for name in Boxes.__dataclass_fields__))

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(getattr(self, name).nbytes for name in self.__dataclass_fields__)


class Frontier:
    """A bag of `Boxes` in one growing pool. Few: the worst bounds come first. Many: the newest, to stop growing."""

    def __init__(self, first: Boxes, wide: int = 16384):
        self._pool = first
        self._slots = np.arange(len(first))  # occupied rows of the pool, oldest first
        self._free = np.zeros(0, np.int64)
        self._wide = wide

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def nbytes(self) -> int:
        """Memory held by the pool."""
        return self._pool.nbytes

    @property
    def bound(self) -> float:
        """The worst lower bound among the open sub-problems."""
        return float(self._pool.bound[self._slots].min(initial=np.inf))

    def worst(self) -> Boxes | None:
        """The one sub-problem with the worst bound, left where it is."""
        if not len(self._slots):
            return None
        return self._pool.take(self._slots[[int(self._pool.bound[self._slots].argmin())]])

    def push(self, boxes: Boxes) -> None:
        """Add sub-problems."""
        count = len(boxes)
        if not count:
            return
        if len(self._free) < count:
            size = len(self._pool)
            room = self._pool.take(np.zeros(max(size, 2 * count, 64), np.int64))
            self._free = np.concatenate([self._free, np.arange(size, size + len(room))])
            self._pool = Boxes.join([self._pool, room])
        slots, self._free = self._free[:count], self._free[count:]
        for name in Boxes.__dataclass_fields__:
            getattr(self._pool, name)[slots] = getattr(boxes, name)
        self._slots = np.concatenate([self._slots, slots])

    def pop(self, count: int) -> Boxes:
        """Remove up to ``count`` sub-problems."""
        count = min(count, len(self._slots))
        if len(self._slots) > self._wide:
            picked = np.arange(len(self._slots) - count, len(self._slots))
        elif count < len(self._slots):
            picked = np.argpartition(self._pool.bound[self._slots], count)[:count]
        else:
            picked = np.arange(count)
        slots = self._slots[picked]
        self._slots = np.delete(self._slots, picked)
        self._free = np.concatenate([slots, self._free])
        return self._pool.take(slots)
