"""Rows of a polytope as coordinates: states, and all other rows, as exact linear forms of n independent rows.

A face needs its own row among the coordinates; it enters by exchanging one row of a common frame, so that all faces together
cost no more than one inversion (the exchange step of the simplex method). Blocks of H that share no state are inverted apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.errors import InputError
from holdfast.invariance.sets import basis, inverse
from holdfast.spec.temporal import Polytope

Form = dict[int, Fraction]  # row of H -> coefficient: sum of coefficient * y_row


@dataclass(frozen=True, eq=False)
class Frame:
    """y_k = H_k (x - center) for the ``rows`` k; ``states``: x_i - center_i, ``others``: H_k (x - center) for all other rows."""

    rows: tuple[int, ...]
    states: tuple[Form, ...]
    others: Mapping[int, Form]

    def row(self, k: int) -> Form:
        """H_k (x - center)."""
        return self.others[k] if k in self.others else {k: Fraction(1)}

    def dense(self) -> list[list[Fraction]]:
        """x - center as a matrix of the coordinates, in their order."""
        return [[form.get(k, Fraction(0)) for k in self.rows] for form in self.states]

    def support(self, states: Sequence[int]) -> tuple[set[int], list[int]]:
        """The coordinates that these states depend on or that rows tie to them, and the other rows that do so."""
        wanted = {k for i in states for k in self.states[i]}
        left = dict(self.others)
        ties: list[int] = []
        while True:
            touching = [k for k, form in left.items() if not wanted.isdisjoint(form)]
            if not touching:
                return wanted, sorted(ties)
            for k in touching:
                wanted |= left.pop(k).keys()
            ties += touching


def frame_of(states: Polytope, rows: Sequence[int]) -> Frame:
    """The frame of n independent rows; InputError where they are dependent."""
    turned: list[Form] = [{} for _ in states.center]
    for members, columns in _blocks(states.H, rows):
        block = [[states.H[k][i] for i in columns] for k in members]
        back = inverse(block) if len(members) == len(columns) else None
        if back is None:
            raise InputError("polytope: the rows chosen as coordinates are linearly dependent")
        for i, entries in zip(columns, back, strict=True):
            turned[i] = {k: c for k, c in zip(members, entries, strict=True) if c}
    chosen = set(rows)
    others = {k: _sum(states.H[k], turned) for k in range(len(states.H)) if k not in chosen}
    return Frame(tuple(rows), tuple(turned), others)


def frames(states: Polytope, faces: Sequence[int]) -> list[Frame]:
    """For each of these rows a frame that has it; rows that are wide make way for those that are not in the common frame."""
    try:
        common = frame_of(states, basis(states, None))
    except InputError:  # too few rows with two ends: each face on its own
        return [frame_of(states, basis(states, k)) for k in faces]
    found: dict[int, Frame] = {}
    for k in faces:
        if k not in found:
            found[k] = common if k not in common.others else _exchanged(states, common, k)
    return [found[k] for k in faces]


def _exchanged(states: Polytope, frame: Frame, k: int) -> Frame:
    """Row k instead of the one that contributes most to it."""
    form = frame.others[k]

    def share(j: int) -> float:
        low, high = states.lower[j], states.upper[j]
        assert low is not None and high is not None
        return abs(float(form[j])) * float(high - low)

    leaving = max(form, key=share)
    pivot = form[leaving]
    entering = {j: -c / pivot for j, c in form.items() if j != leaving} | {k: 1 / pivot}  # y_leaving

    def put(old: Form) -> Form:
        if leaving not in old:
            return old
        new, factor = dict(old), old[leaving]
        del new[leaving]
        for j, c in entering.items():
            value = new.get(j, Fraction(0)) + factor * c
            if value:
                new[j] = value
            else:
                new.pop(j, None)
        return new

    others = {j: put(old) for j, old in frame.others.items() if j != k} | {leaving: entering}
    return Frame(tuple(k if j == leaving else j for j in frame.rows), tuple(map(put, frame.states)), others)


def _blocks(H: Sequence[Sequence[Fraction]], rows: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Rows and states that belong together: (rows, states) of each block."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(H[0])
    pairs = [(p, i) for p, k in enumerate(rows) for i, c in enumerate(H[k]) if c]
    at, to = np.array(pairs, np.int64).reshape(-1, 2).T
    size = len(rows) + n
    count, label = connected_components(coo_array((np.ones(len(at)), (at, to + len(rows))), shape=(size, size)), False)
    blocks: list[tuple[list[int], list[int]]] = [([], []) for _ in range(count)]
    for p, k in enumerate(rows):
        blocks[label[p]][0].append(k)
    for i in range(n):
        blocks[label[len(rows) + i]][1].append(i)
    return blocks


def _sum(coefficients: Sequence[Fraction], forms: Sequence[Form]) -> Form:
    total: Form = {}
    for c, form in zip(coefficients, forms, strict=True):
        if c:
            for k, a in form.items():
                total[k] = total.get(k, Fraction(0)) + c * a
    return {k: a for k, a in total.items() if a}
