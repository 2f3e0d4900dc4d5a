"""Where in the state space the properties of an instance want trajectories to be, or not: regions to be drawn.

Every part of a claim that speaks of one instant (`holdfast.reachability.claim`) is one region, with the times it is asked for.
Evaluated in plain arithmetic; nothing is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from holdfast.bounds.bounder import flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.errors import InputError
from holdfast.invariance.escape import plain
from holdfast.reachability.claim import Claim, claim_of
from holdfast.rigor import FLOAT64
from holdfast.spec.formula import Formula
from holdfast.spec.temporal import Instance

Array = np.ndarray
Role = Literal["goal", "unsafe", "outside"]
SAMPLES = 40


@dataclass(frozen=True, eq=False)
class Region:
    """A formula over atoms of one instant. ``role``: a goal, a set never to be entered, or one not to be left (drawn from outside).

    ``reads``: the states it depends on; ``window``: when it is asked for.
    """

    role: Role
    label: str
    formula: Formula
    window: tuple[float, float]
    reads: frozenset[int]
    regions: Regions = field(repr=False)
    only: frozenset[int] = frozenset()  # the states that are looked at (empty: all)

    def height(self, x: Array) -> Array:
        """<= 0 where (K,) what is drawn lies: where it holds (a goal), or where it does not, at points (K, n).

        Atoms that read other states than those looked at are left out.
        """
        values = self.regions.values(x)
        found = _height(self.formula, values, [not self.only or r <= self.only for r in self.regions.atoms])
        found = np.full(len(x), -1.0) if found is None else np.where(np.isnan(found), np.inf, found)
        return found if self.role == "goal" else -found


class Regions:
    """The regions of one instance; none where it claims nothing about trajectories."""

    def __init__(self, instance: Instance):
        self.regions: tuple[Region, ...] = ()
        self.atoms: tuple[frozenset[int], ...] = ()
        plant = instance.loop.plant
        self._rest = np.concatenate(
            [
                np.zeros(len(plant.signals.inputs)), 0.5 * (plant.parameters.lower + plant.parameters.upper),
                0.5 * (plant.disturbances.lower + plant.disturbances.upper), [float(s[0][1]) for s in plant.schedule],
            ]
        )  # fmt: skip
        try:
            claim = claim_of(instance)
        except InputError:
            return  # what cannot be claimed cannot be drawn; `verify` says why
        if not claim.predicates:
            return
        self._problem: Problem = flat_problem(claim.values, FLOAT64)
        self.atoms = self._reads(instance, len(claim.texts))
        self.regions = tuple(self._region(claim, k, context) for k, context in _contexts(claim.formula, "hold"))

    def within(self, states: set[int]) -> list[Region]:
        """Regions of which something can be seen in these states alone: of a conjunction its projection, of what is forbidden all or nothing."""
        found = []
        for region in self.regions:
            if region.role == "unsafe" and not region.reads <= states:
                continue  # a trajectory may cross its projection
            seen = [a for a in _atoms(region.formula) if self.atoms[a] and self.atoms[a] <= states]
            if seen:
                found.append(
                    Region(
                        region.role, region.label, region.formula, region.window, region.reads, self, frozenset(states)
                    )
                )
        return found

    def values(self, x: Array) -> Array:
        """Values (K, atoms) at points (K, n)."""
        with np.errstate(all="ignore"):
            return plain(self._problem, np.concatenate([x, np.tile(self._rest, (len(x), 1))], axis=1))

    def _reads(self, instance: Instance, count: int) -> tuple[frozenset[int], ...]:
        """The states each atom depends on, as samples show."""
        n = len(instance.loop.plant.signals.states)
        rng = np.random.default_rng(0)
        x = rng.normal(size=(SAMPLES, n))
        before = self.values(x)
        found: list[set[int]] = [set() for _ in range(count)]
        for i in range(n):
            moved = x.copy()
            moved[:, i] += rng.normal(size=SAMPLES)
            after = self.values(moved)
            for k in np.flatnonzero(((before != after) & ~(np.isnan(before) & np.isnan(after))).any(0)).tolist():
                found[k].add(i)
        return tuple(frozenset(s) for s in found)

    def _region(self, claim: Claim, k: int, context: str) -> Region:
        predicate = claim.predicates[k]
        first, last = (float(t) for t in predicate.window)
        role: Role = "goal"
        if _forbids(predicate.formula):
            role = "unsafe"
        elif context == "hold" and first < last:
            role = "outside"
        reads = frozenset[int]().union(*(self.atoms[a] for a in _atoms(predicate.formula)))
        return Region(role, predicate.property, predicate.formula, (first, last), reads, self)


def _contexts(formula: Formula, context: str) -> list[tuple[int, str]]:
    """Predicates in order, each with "hold" (it must stay) or "goal" (it must come)."""
    if formula.operator == "atom":
        return [(formula.atom, context)]
    inner = {"G": ["hold"], "F": ["goal"], "U": ["hold", "goal"]}.get(
        formula.operator, [context] * len(formula.arguments)
    )
    return [found for a, c in zip(formula.arguments, inner, strict=True) for found in _contexts(a, c)]


def _forbids(formula: Formula) -> bool:
    """Whether it is the negation of an atom or of a conjunction."""
    return formula.operator == "!" or (formula.operator == "|" and all(a.operator == "!" for a in formula.arguments))


def _atoms(formula: Formula) -> list[int]:
    if formula.operator == "atom":
        return [formula.atom]
    return [a for argument in formula.arguments for a in _atoms(argument)]


def _height(formula: Formula, values: Array, seen: list[bool]) -> Array | None:
    """<= 0 where it holds (K,); None where all it reads is left out."""
    if formula.operator == "atom":
        return values[:, formula.atom] if seen[formula.atom] else None
    parts = [p for a in formula.arguments if (p := _height(a, values, seen)) is not None]
    if not parts:
        return None
    if formula.operator == "!":
        return -parts[0]
    found: Array = np.maximum.reduce(parts) if formula.operator == "&" else np.minimum.reduce(parts)
    return found
