"""Families of invariant boxes in one set of coordinates, each inside the next: the smallest attracts, the largest is what can be claimed.

From one box that passes the one-shot test, along the embedding system: forward in time boxes shrink towards what attracts, in reverse time
they grow (Harapanahalli, Jafarpour, Coogan, Forward invariance in neural network controlled systems, L-CSS 2023). Steps are only a way to
propose boxes: each member is tested for itself, and from each one the next smaller is proved to be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.errors import InputError
from holdfast.invariance.embedding import Embedding
from holdfast.spec.temporal import Polytope

FIRST = 0.1  # of the width of the box: the first step of its fastest face
LARGEST = 0.3  # and the largest one of any face
SMALLEST = 1e-4  # steps below this share of the width end a family


@dataclass(frozen=True, eq=False)
class Family:
    """Boxes in coordinates y, the largest first: lower, upper (K, n). Each is invariant, and all trajectories from it reach the next
    one in finite time, so those from the first reach the last. ``given``: number of the box the family was made from."""

    lower: np.ndarray
    upper: np.ndarray
    given: int

    def __len__(self) -> int:
        return len(self.lower)

    def log_volumes(self, T: np.ndarray) -> np.ndarray:
        """Of the members, in the states' own units: y = T (x - center)."""
        return np.log(self.upper - self.lower).sum(1) - float(np.linalg.slogdet(T)[1])

    def polytope(self, member: int, T: Sequence[Sequence[Fraction]], center: Sequence[Fraction]) -> Polytope:
        """One of them as a set of states, exact."""
        low, high = (tuple(Fraction(float(v)) for v in ends[member]) for ends in (self.lower, self.upper))
        return Polytope(tuple(map(tuple, T)), low, high, tuple(center))


def family(
    flow: Embedding, lower: np.ndarray, upper: np.ndarray, *, members: int = 60, expired: Callable[[], bool] = lambda: False
) -> Family:  # fmt: skip
    """The family around one box that passes the test of ``flow`` (rigorous for proofs), at most so many members each way.

    Raises InputError where the box does not pass.
    """
    first = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
    if not flow.invariant(*first)[0]:
        raise InputError(
            "the box to begin with does not pass the one-shot test; give a smaller one, or prove it by branch and bound"
        )
    larger = _steps(flow, *first, -1, members, expired)
    smaller = _steps(flow, *first, 1, members, expired)
    chain = [*reversed(larger), first, *smaller]
    return Family(np.stack([a for a, _ in chain]), np.stack([b for _, b in chain]), len(larger))


def _leads(flow: Embedding, old: tuple[np.ndarray, np.ndarray], new: tuple[np.ndarray, np.ndarray], sign: int) -> bool:
    """Whether the larger of both boxes is led into the smaller one."""
    return flow.attracted(*old, *new) if sign > 0 else flow.attracted(*new, *old)


def _steps(
    flow: Embedding, lower: np.ndarray, upper: np.ndarray, sign: int, members: int, expired: Callable[[], bool]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Boxes found one after the other, forward (sign 1, shrinking) or in reverse time (-1, growing)."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    step = 0.0
    while len(found) < members and not expired():
        down, up = (ends[0] for ends in flow(lower, upper))
        if flow.discrete:
            down, up = down - lower, up - upper
        width = upper - lower
        inward = np.maximum(down, 0.0), np.minimum(up, 0.0)
        speed = float((np.maximum(inward[0], -inward[1]) / width).max())
        if not 0 < speed < np.inf:
            break
        step = step or FIRST / speed
        while step * speed >= SMALLEST:
            low = lower + sign * np.clip(step * inward[0], 0, LARGEST * width)
            high = upper + sign * np.clip(step * inward[1], -LARGEST * width, 0)
            if (low < high).all() and flow.invariant(low, high)[0] and _leads(flow, (lower, upper), (low, high), sign):
                break
            step *= 0.5
        else:
            break
        if float((np.maximum(abs(low - lower), abs(high - upper)) / width).max()) < SMALLEST:
            break
        lower, upper = low, high
        found.append((low, high))
        step *= 1.5
    return found
