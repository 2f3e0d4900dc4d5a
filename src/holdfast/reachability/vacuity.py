"""Claims that say nothing, and claims that fail before anything moves: sets that are empty, initial states that break a property.

Beside the monitor: no trajectory is followed here. Predicates are bounded on boxes of states, which are halved where that decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import Literal

import numpy as np

from holdfast.bounds.bounder import flat_problem
from holdfast.bounds.taylor import propagate_models
from holdfast.reachability.claim import Claim
from holdfast.reachability.judgement import judged, known_atoms
from holdfast.rigor import FLOAT64
from holdfast.sets.monomials import monomials
from holdfast.sets.taylor_model import box
from holdfast.spec.plant import Plant
from holdfast.spec.region import Box
from holdfast.spec.temporal import Instance
from holdfast.transforms.live_elements import live_elements

Array = np.ndarray
FAR = 1e9  # how far states without a domain are looked at
MOST = 1 << 10  # boxes of states
CORNERS = 1 << 10


@dataclass(frozen=True)
class Finding:
    """About the property ``name``. ``kind`` "empty": what it demands holds of all states (of the domain; none: up to `FAR`): it says nothing.
    "start": it is violated at time 0, from ``every`` initial state or from some, such as ``state`` (exact numbers)."""

    kind: Literal["empty", "start"]
    name: str
    every: bool = True
    state: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """A sentence without its end."""
        if self.kind == "empty":
            return f"property {self.name} says nothing: it holds of all states (of the domain, or up to {FAR:g}), as the set to be avoided is empty"
        if self.every:
            return f"property {self.name} is violated at time 0 by every initial state"
        return f"property {self.name} is violated at time 0 by some initial states, such as ({', '.join(self.state)})"


def check_vacuity(claim: Claim, instance: Instance) -> tuple[Finding, ...]:
    """What is wrong with the encoding of a claim, as far as a short search can tell."""
    plant, found = instance.loop.plant, []
    asked = _Asked(claim, plant)
    n = len(plant.signals.states)
    low, high = np.full(n, -FAR), np.full(n, FAR)
    if plant.domain is not None:
        bounded = np.array(plant.bounded, bool)
        low[bounded], high[bounded] = plant.domain.lower[bounded], plant.domain.upper[bounded]
    with np.errstate(all="ignore"):
        for j, predicate in enumerate(claim.predicates):
            if predicate.must and asked.everywhere(j, low, high):
                found.append(Finding("empty", predicate.property))
            if predicate.must and predicate.window[0] == 0 and instance.initial is not None:
                found += _start(asked, j, predicate.property, instance.initial)
    return tuple(found)


def _start(asked: _Asked, j: int, name: str, initial: Box) -> list[Finding]:
    for state, low, high in _points(initial):
        if asked.fails(j, low, high):
            every = asked.everywhere(j, initial.lower, initial.upper, fails=True)
            return [Finding("start", name, every, state)]
    point = asked.failing(j, initial.lower, initial.upper)
    if point is None:
        return []
    single = [a == b for a, b in zip(initial.lower_text, initial.upper_text, strict=True)]
    texts = [initial.lower_text[i] if one else str(Decimal(float(point[i]))) for i, one in enumerate(single)]
    low, high = np.where(single, initial.lower, point), np.where(single, initial.upper, point)
    if not initial.contains(texts) or not asked.fails(j, low, high):
        return []
    return [Finding("start", name, False, tuple(texts))]


def _points(initial: Box) -> Iterator[tuple[tuple[str, ...], Array, Array]]:
    """The corners: exact numbers, and float64 boxes around them."""
    free = np.flatnonzero(initial.lower < initial.upper)
    sides = np.array(list(product((0, 1), repeat=len(free)))) if 2 ** len(free) <= CORNERS else np.zeros((0, 0), int)
    for side in sides:
        texts, low, high = list(initial.lower_text), initial.lower.copy(), initial.upper.copy()
        for i, upper in zip(free.tolist(), side.tolist(), strict=True):
            texts[i] = (initial.upper_text if upper else initial.lower_text)[i]
            end = initial.upper[i] if upper else initial.lower[i]
            # the exact end lies between this float64 number and its neighbour inwards
            low[i], high[i] = (np.nextafter(end, -np.inf), end) if upper else (end, np.nextafter(end, np.inf))
        yield tuple(texts), low, high


class _Asked:
    """Predicates on boxes of states, for all values of unknown constants and scheduled signals that they read."""

    def __init__(self, claim: Claim, plant: Plant):
        self._claim, self._strict = claim, np.array(claim.strict, bool)
        n, first = len(plant.signals.states), len(plant.signals) - len(plant.schedule)
        values = [Box.of([v for _, v in signal], [v for _, v in signal]) for signal in plant.schedule]
        own = len(plant.signals.states) + len(plant.signals.inputs)
        low, high = np.zeros((2, len(plant.signals)))
        p = len(plant.parameters)
        low[own : own + p], high[own : own + p] = plant.parameters.lower, plant.parameters.upper
        for i, given in enumerate(values):
            low[first + i], high[first + i] = given.lower.min(), given.upper.max()
        self._low, self._high = low[n:], high[n:]
        self._n = n
        self._problem = flat_problem(claim.values, FLOAT64) if claim.texts else None
        self._read = set(live_elements(claim.values, range(len(claim.texts))).inputs.tolist()) if claim.texts else set()

    def _bounded(self, j: int, low: Array, high: Array) -> tuple[Array, Array, Array]:
        """Known, possible (P,), and how much each state has to do with it (P, n), over boxes (P, n)."""
        assert self._problem is not None
        P, n = low.shape
        lows = np.concatenate([low, np.tile(self._low, (P, 1))], 1)
        highs = np.concatenate([high, np.tile(self._high, (P, 1))], 1)
        basis = monomials(n, 2 if n <= 6 else 1)
        variables = [*range(n), *[None] * len(self._low)]
        values = propagate_models(self._problem, box(basis, lows, highs, variables))
        atoms = known_atoms(*values.range(), self._strict)
        known, possible = judged(self._claim.predicates[j].formula, *atoms)
        own = sorted(self._claim.predicates[j].formula.atoms)
        undecided = (~atoms[0] & atoms[1])[:, own]
        spread = np.where(undecided, abs(values.terms[1 : len(basis)][..., own]), 0.0)
        weight = np.einsum("kpa,kv->pv", np.nan_to_num(spread), (basis.exponents[1:] > 0).astype(float))
        return known, possible, weight

    def fails(self, j: int, low: Array, high: Array) -> bool:
        """Whether the predicate is known to fail on all of one box."""
        return not self._bounded(j, low[None], high[None])[1][0]

    def everywhere(self, j: int, low: Array, high: Array, fails: bool = False) -> bool:
        """Whether it is known to hold (``fails``: to fail) on all of one box."""
        return self._search(j, low, high, fails) is True

    def failing(self, j: int, low: Array, high: Array) -> Array | None:
        """A float64 point within the box at which it is known to fail, if one is found."""
        found = self._search(j, low, high, False)
        return None if isinstance(found, bool) else found

    def _search(self, j: int, low: Array, high: Array, fails: bool) -> bool | Array:
        """True: everywhere so; a point at which it is known not to be so; False: not found out."""
        lows, highs, count = low[None], high[None], 0
        while len(lows):
            count += len(lows)
            if count > MOST:
                return False
            middle = 0.5 * lows + 0.5 * highs
            known, possible, _ = self._bounded(j, middle, middle)
            wrong = known if fails else ~possible
            if wrong.any():
                point: Array = middle[int(wrong.argmax())]
                return point
            known, possible, weight = self._bounded(j, lows, highs)
            left = possible if fails else ~known
            lows, highs, middle = lows[left], highs[left], middle[left]
            inner = (lows < middle) & (middle < highs)
            if not inner.any(1).all():
                return False
            weight = np.where(inner, weight[left] + 1e-300, -1.0)
            split, at = weight.argmax(1), np.arange(len(lows))
            upper, lower = highs.copy(), lows.copy()
            upper[at, split] = lower[at, split] = middle[at, split]
            lows, highs = np.concatenate([lows, lower]), np.concatenate([upper, highs])
        return True
