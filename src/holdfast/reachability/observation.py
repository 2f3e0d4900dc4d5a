"""What a segment of a flow tube says about the predicates of a claim: when each is known to hold, and when it is possible.

Second station of reachability, between `claim` and `monitor`. Atoms are evaluated on the correlated set, over the whole segment first and
on shorter and shorter pieces of its time where that does not decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from holdfast.bounds.bounder import flat_problem
from holdfast.bounds.taylor import propagate_models
from holdfast.graph import Model, Tensor
from holdfast.loop.tube import Segment, System
from holdfast.operators import GraphBuilder
from holdfast.reachability.claim import Claim
from holdfast.reachability.judgement import judged, known_atoms, shortfall
from holdfast.rigor import FLOAT64
from holdfast.sets.monomials import monomials
from holdfast.sets.taylor_model import TaylorModel, box, concatenated, constant, stacked
from holdfast.spec.region import Box
from holdfast.transforms import embed, simplify
from holdfast.transforms.compose import finish
from holdfast.transforms.live_elements import live_elements

Array = np.ndarray
Piece = tuple[Fraction, Fraction]
HALVINGS = 7  # of a segment's time, where the claim is lost unless a predicate is known
FEWER = 4  # elsewhere


@dataclass(frozen=True, eq=False)
class Causes:
    """What hindered each predicate most, (J, B): ``margin`` (inf: nothing) by which an atom ``number`` failed to be known, at a time between
    ``first`` and ``last``. ``influence`` (J, B, V): how much of that atom's spread comes from each variable, ``error``: from errors."""

    margin: Array
    number: Array
    first: Array
    last: Array
    influence: Array
    error: Array

    @staticmethod
    def none(predicates: int, boxes: int, variables: int) -> Causes:
        """Nothing so far."""
        shape = predicates, boxes
        return Causes(
            np.full(shape, np.inf), np.zeros(shape, np.int64), np.full(shape, np.nan), np.full(shape, np.nan),
            np.zeros((*shape, variables)), np.zeros(shape),
        )  # fmt: skip

    def take(self, chosen: Array) -> Causes:
        """Of these boxes."""
        return Causes(*(getattr(self, name)[:, chosen] for name in _FIELDS))

    def updated(self, other: Causes, better: Array) -> Causes:
        """``other`` where ``better`` (J, B)."""
        found = []
        for name in _FIELDS:
            a, b = getattr(self, name), getattr(other, name)
            found.append(np.where(better[..., None] if a.ndim == 3 else better, b, a))
        return Causes(*found)


_FIELDS = ("margin", "number", "first", "last", "influence", "error")


@dataclass(frozen=True, eq=False)
class Seen:
    """``values`` (cells, J, 2, B) on the cells of ``times`` (see `signals`, without what comes later): known, possible."""

    times: tuple[Fraction, ...]
    values: Array
    causes: Causes


@dataclass(eq=False)
class _Leaves:
    """What was found out about one segment's members."""

    pieces: list[tuple[Piece, Array, Array, Array]]  # time, members, known, possible
    causes: Causes


class Observer:
    """A claim, prepared for the tubes of a system. ``instants``: times that are looked at in any case."""

    def __init__(self, claim: Claim, system: System, instants: Sequence[Fraction] = ()):
        self.claim, self.basis = claim, system.basis
        self._instants = frozenset(instants)
        plant = system.data.plant
        self._states, signals = len(plant.signals.states), len(plant.signals)
        self._schedule = plant.schedule
        self._scheduled = signals - len(plant.schedule)  # the first of them
        read = live_elements(claim.values, range(len(claim.texts))).inputs.tolist() if claim.texts else []
        self._extra = [i for i in read if i >= self._states]
        self._problem = flat_problem(_over(claim.values, self._states, signals, self._extra), FLOAT64)
        self._strict = np.array(claim.strict, bool)
        self.must = np.array([p.must for p in claim.predicates], bool)
        self._jumps = sorted({begin for i in self._extra if i >= self._scheduled
                              for begin, _ in plant.schedule[i - self._scheduled]})  # fmt: skip

    def look(self, segment: Segment, boxes: int) -> Seen | None:
        """All that is found out about the segment; None where the claim asks nothing then."""
        pieces = self._pieces(segment)
        if not pieces:
            return None
        J = len(self.claim.predicates)
        leaves = _Leaves([], Causes.none(J, boxes, self.basis.variables))
        with np.errstate(all="ignore"):
            for piece, needed in pieces:
                members = np.arange(len(segment.origin))
                if piece[0] < piece[1]:
                    members = self._roughly(segment, piece, needed, leaves)
                if len(members):
                    self._refine(segment, piece, needed, members, leaves, 0)
        return self._joined(segment, leaves, boxes)

    def atoms(self, segment: Segment, time: Fraction) -> tuple[Array, Array]:
        """Bounds (B, K) of the atoms at a time within the segment."""
        with np.errstate(all="ignore"):
            return self._values(segment, [(time, time)], np.arange(len(segment.origin))).range()

    def _pieces(self, segment: Segment) -> list[tuple[Piece, Array]]:
        """Times of the segment that matter, each with the predicates (J,) that it matters to."""
        start, end = segment.start, segment.end
        windows = [p.window for p in self.claim.predicates]
        inner = {*self._instants, *(w for window in windows for w in window)}
        marks = sorted({start, end, *(t for t in inner if start < t < end)})
        found = []
        for u, v in pairwise(marks):
            needed = np.array([a <= u and v <= b and a < b for a, b in windows], bool)
            if needed.any():
                found.append(((u, v), needed))
        for t in marks:
            # every instant of a map; where a signal that is read jumps, as what holds before does not tell
            if start == end or t in self._instants or (t in self._jumps and t > start):
                needed = np.array([a <= t <= b for a, b in windows], bool)
            else:  # single instants, and where a window begins as the segment ends; the end of the one before is this one's start
                needed = np.array([a == t and t in (b, end) and (t > start or t == 0) for a, b in windows], bool)
            if needed.any():
                found.append(((t, t), needed))
        return found

    def _roughly(self, segment: Segment, piece: Piece, needed: Array, leaves: _Leaves) -> Array:
        """Decides what the box of the whole step decides; the members that are left."""
        assert segment.step is not None
        low, high = segment.step.states
        basis = monomials(self._states, 1)
        parts = [box(basis, low, high, range(self._states))]
        rest = self._rest(segment, piece)
        if rest is not None:
            parts.append(constant(basis, *rest.range()))
        known, possible = self._judged(propagate_models(self._problem, concatenated(parts)))
        self._keep(leaves, (segment.start, segment.end), np.arange(len(low)), known, possible)
        return np.flatnonzero((needed & possible & ~known).any(1))

    def _refine(
        self, segment: Segment, piece: Piece, needed: Array, members: Array, leaves: _Leaves, level: int
    ) -> Array:
        """Decides as much as can be on a piece of time, on its halves where that helps; for which members the claim is lost."""
        u, v = piece
        values = self._values(segment, [piece], members)
        known, possible = self._judged(values)
        self._keep(leaves, piece, members, known, possible)
        depth = np.where(self.must, HALVINGS, FEWER)
        again = (needed & possible & ~known & (level < depth) & (u < v)).any(1)
        final = needed & ~known & ~again[:, None]
        self._blame(leaves, segment, piece, members, final, values)
        lost: Array = (final & self.must).any(1)
        if again.any() and level == 0:
            hopeless = self._hopeless(segment, piece, needed, members, again, leaves)
            lost, again = lost | hopeless, again & ~hopeless
        middle = (u + v) / 2
        for half in ((u, middle), (middle, v)):
            chosen = np.flatnonzero(again & ~lost)
            if len(chosen):
                lost[chosen] = self._refine(segment, half, needed, members[chosen], leaves, level + 1)
        return lost

    def _hopeless(
        self, segment: Segment, piece: Piece, needed: Array, members: Array, asked: Array, leaves: _Leaves
    ) -> Array:
        """Which members are undecided at single instants already, where that loses the claim: shorter pieces would not help."""
        must = needed & self.must
        found = np.zeros(len(members), bool)
        if not must.any():
            return found
        (u, v), chosen = piece, members[asked]
        instants = [(u, u), ((u + v) / 2, (u + v) / 2), (v, v)]
        values = self._values(segment, instants, chosen)
        known, possible = self._judged(values)
        for k, instant in enumerate(instants):
            part = slice(k * len(chosen), (k + 1) * len(chosen))
            self._keep(leaves, instant, chosen, known[part], possible[part])
            lost = must & ~known[part]
            found[asked] |= lost.any(1)
            self._blame(leaves, segment, instant, chosen, lost, values[part])
        return found

    def _values(self, segment: Segment, pieces: Sequence[Piece], members: Array) -> TaylorModel:
        """The atoms, piece by piece."""
        part = segment if len(members) == len(segment.origin) else _members(segment, members)
        found = []
        for piece in pieces:
            states = part.between(*piece)
            rest = self._rest(part, piece)
            found.append(states if rest is None else concatenated([states, rest]))
        return propagate_models(self._problem, stacked(found))

    def _rest(self, segment: Segment, piece: Piece) -> TaylorModel | None:
        """What atoms read beside the states: unknown constants, scheduled signals."""
        if not self._extra:
            return None
        parts: list[TaylorModel] = []
        for i in self._extra:
            if i < self._scheduled:
                assert segment.rest is not None
                parts.append(segment.rest.component(slice(i - self._states, i - self._states + 1)))
                continue
            value = next(v for begin, v in reversed(self._schedule[i - self._scheduled]) if begin <= piece[0])
            at = Box.of([value], [value])
            B = len(segment.origin)
            parts.append(constant(segment.states.basis, np.tile(at.lower, (B, 1)), np.tile(at.upper, (B, 1))))
        return concatenated(parts)

    def _judged(self, values: TaylorModel) -> tuple[Array, Array]:
        """Known and possible, each (members, J)."""
        atoms = known_atoms(*values.range(), self._strict)
        found = [judged(p.formula, *atoms) for p in self.claim.predicates]
        return np.stack([k for k, _ in found], 1), np.stack([p for _, p in found], 1)

    def _keep(self, leaves: _Leaves, piece: Piece, members: Array, known: Array, possible: Array) -> None:
        leaves.pieces.append((piece, members, known, possible))

    def _blame(
        self, leaves: _Leaves, segment: Segment, piece: Piece, members: Array, lost: Array, values: TaylorModel
    ) -> None:
        """Remembers the largest failure of predicates that must hold, the smallest of the others."""
        if not lost.any():
            return
        low, high = values.range()
        causes, K = leaves.causes, len(self.basis)
        varies = (self.basis.exponents[1:] > 0).astype(float)
        for j, predicate in enumerate(self.claim.predicates):
            at = np.flatnonzero(lost[:, j])
            if not len(at):
                continue
            margin, number = shortfall(predicate.formula, low[at], high[at])
            into = segment.origin[members[at]]
            old = causes.margin[j, into]
            better = (np.isinf(old) | (margin > old)) if predicate.must else (margin < old)
            at, into, margin, number = at[better], into[better], margin[better], number[better]
            terms = abs(values.terms[1:, at, number])
            causes.margin[j, into], causes.number[j, into] = np.minimum(margin, 1e300), number
            causes.first[j, into], causes.last[j, into] = float(piece[0]), float(piece[1])
            causes.influence[j, into] = terms[: K - 1].T @ varies
            causes.error[j, into] = terms[K - 1 :].sum(0) + values.error[at, number]

    def _joined(self, segment: Segment, leaves: _Leaves, boxes: int) -> Seen:
        """From pieces and members to cells and boxes: what is known must be known of all members of a box."""
        times = tuple(sorted({segment.start, segment.end, *(t for piece, *_ in leaves.pieces for t in piece)}))
        place = {t: i for i, t in enumerate(times)}
        J, M = len(self.claim.predicates), len(segment.origin)
        known = np.zeros((2 * len(times) - 1, M, J), bool)
        possible = ~known
        for (u, v), members, k, p in leaves.pieces:
            first, last = 2 * place[u], 2 * place[v]
            if u < v and v in self._jumps:
                last -= 1
            known[first : last + 1, members] |= k
            possible[first : last + 1, members] &= p
        values = np.zeros((len(known), J, 2, boxes), bool)
        values[:, :, 1] = True
        order = np.argsort(segment.origin, kind="stable")
        own, begin = np.unique(segment.origin[order], return_index=True)
        values[:, :, 0, own] = np.logical_and.reduceat(known[:, order], begin, axis=1).transpose(0, 2, 1)
        values[:, :, 1, own] = np.logical_or.reduceat(possible[:, order], begin, axis=1).transpose(0, 2, 1)
        return Seen(times, values, leaves.causes)


def _members(segment: Segment, chosen: Array) -> Segment:
    rest, step = segment.rest, segment.step
    return Segment(
        segment.start, segment.end, segment.origin[chosen], segment.states[chosen],
        None if rest is None else rest[chosen], None if step is None else step[chosen],
    )  # fmt: skip


def _over(values: Model, states: int, signals: int, extra: Sequence[int]) -> Model:
    """The atoms as a Model of the states and of those other signals that they read."""
    builder = GraphBuilder()
    width = states + len(extra)
    x = builder.input((width,), "signals")
    parts = [builder.add("slice", [x], slices=((0, states, 1),))] if signals > states else [x]
    for i in range(states, signals):
        if i in extra:
            parts.append(builder.add("slice", [x], slices=((states + extra.index(i), 1, 1),)))
        else:
            parts.append(builder.add("constant", [], [np.zeros(1)]))
    v = parts[0] if len(parts) == 1 else builder.add("concat", parts, axis=0)
    tensors = (Tensor("signals", (width,)),), values.outputs
    return simplify(finish(builder, embed(builder, values, [v]), *tensors, "claim")).model
