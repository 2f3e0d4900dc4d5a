"""Steps of the embedding system: boxes whose ends move as fast as the flow on their faces; 2n states for n, thousands of boxes at once.

Over a box that holds the step the signs of the Jacobian tell at which corner each face is crossed fastest; entries of both signs are charged
with their smaller part. Cooperative plants: exact. Coogan, Arcak, Efficient finite abstraction of mixed monotone systems, HSCC 2015; Yang,
Mickelin, Ozay, On sufficient conditions for mixed monotonicity, TAC 2019. The embedding system itself is integrated as in `taylor_flow`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from holdfast.bounds.bounder import flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.bounds.propagate import propagate
from holdfast.errors import InputError
from holdfast.graph import Model
from holdfast.plant.deviation import Disturbance
from holdfast.plant.jets import Jets, Series
from holdfast.plant.taylor_flow import moved, upper
from holdfast.rigor import FLOAT64
from holdfast.sets.monomials import monomials
from holdfast.sets.taylor_model import TaylorModel, add, constant, scaled
from holdfast.transforms import derivative

Array = np.ndarray
Box = tuple[Array, Array]
Ends = tuple[Box, Box]  # of the lower ends, of the upper ones
_U, _TINY = FLOAT64.unit, FLOAT64.tiny
ORDER = 4  # of the remainder
ROUNDS = 8  # guesses of the box
MARGIN = 0.2  # of the width, by which a guess exceeds what it has to hold
_UP = 1 + 1e-12


@dataclass(frozen=True, eq=False)
class Faces:
    """Of B boxes the 2n faces, lower ones first: ``low_end`` (B, 2n, n + m), whether a face is crossed fastest at the lower end of
    each signal; ``charge`` (B, n, n + m) >= 0 of signals whose slopes have both signs."""

    low_end: Array
    charge: Array

    def corners(self, low: Array, high: Array, first: int = 0) -> Array:
        """What the flow reads on each face (B * 2n, k), of ends (B, k) of the signals from number ``first`` on."""
        chosen = self.low_end[:, :, first : first + low.shape[1]]
        return np.where(chosen, low[:, None], high[:, None]).reshape(len(chosen) * chosen.shape[1], low.shape[1])


@dataclass(frozen=True, eq=False)
class EmbeddingStep:
    """A `Flow`: ``lower``, ``upper``: coefficients in time of the ends of the boxes, each with the ``remainder`` (low, high) of theirs."""

    like: TaylorModel
    lower: Series
    upper: Series
    remainder: Ends
    length: Fraction
    states: Box
    sound: Array
    deviation: None = None

    @property
    def lost(self) -> Array:
        """What the remainders add, at the end."""
        (a, b), (c, d) = self.remainder
        return (b - a + d - c) * (0.5 * float(self.length ** len(self.lower)))

    @property
    def nbytes(self) -> int:
        """Memory, about."""
        return 4 * self.lower[0].terms.nbytes * len(self.lower)

    def __getitem__(self, chosen: Array) -> EmbeddingStep:
        (a, b), (c, d) = self.remainder
        return replace(
            self, like=self.like[chosen], lower=[m[chosen] for m in self.lower], upper=[m[chosen] for m in self.upper],
            remainder=((a[chosen], b[chosen]), (c[chosen], d[chosen])),
            states=(self.states[0][chosen], self.states[1][chosen]), sound=self.sound[chosen],
        )  # fmt: skip

    def at(self, time: Fraction) -> TaylorModel:
        """The states at a time within the step."""
        return self.between(time, time)

    def at_end(self) -> TaylorModel:
        """The states at the end of the step."""
        return self.at(self.length)

    def between(self, first: Fraction, last: Fraction) -> TaylorModel:
        """All states at first <= s <= last."""
        (below, _), (_, above) = self.remainder
        low = _end(self.lower, first, last, below, -1.0)
        high = _end(self.upper, first, last, above, 1.0)
        low, high = np.fmax(low, self.states[0]), np.fmin(high, self.states[1])
        return constant(self.like.basis, low, high)


def _end(series: Series, first: Fraction, last: Fraction, remainder: Array, side: float) -> Array:
    """The outer end (B, n) over first <= s <= last; ``side`` -1: the lower one."""
    center, radius = (first + last) / 2, (last - first) / 2
    middle = moved(series, center, 0)
    away = middle.error
    if radius:
        for k in range(1, len(series)):
            away = away + moved(series, center, k).size * upper(radius**k)
        more = np.maximum(side * remainder, 0.0) * upper(last ** len(series))
    else:
        weight = upper(last ** len(series))
        # of the wrong sign it makes the box smaller: rounded towards zero
        more = side * remainder * weight
        more = np.where(more < 0, more * (1 - 1e-9), more) if last ** len(series) > 1e-270 else np.maximum(more, 0.0)
    away = (away + more) + abs(away + more) * 1e-14 + abs(middle.terms[0]) * 4 * _U + 4 * _TINY
    return middle.terms[0] + side * away


@dataclass(frozen=True, eq=False)
class Embedding:
    """A plant prepared: f and its Jacobian by all signals, both flat."""

    problem: Problem
    jacobian: Problem
    states: int

    @staticmethod
    def of(dynamics: Model, states: int) -> Embedding:
        """``dynamics`` reads all signals, the states first."""
        return Embedding(flat_problem(dynamics, FLOAT64), flat_problem(derivative(dynamics), FLOAT64), states)

    def faces(self, low: Array, high: Array) -> Faces:
        """For boxes (B, n + m) of all signals, which hold everything that is asked about."""
        n = self.states
        a, b = (end.reshape(len(low), n, -1) for end in _values(self.jacobian, low, high))
        own = np.arange(n)
        at_low = abs(a) <= b  # mostly growing
        charge = np.where((a >= 0) | (b <= 0), 0.0, np.where(at_low, -a, b))
        charge[:, own, own] = 0.0
        charge = np.where(
            np.isfinite(a) & np.isfinite(b), charge, np.inf
        )  # solutions must be unique: those on the diagonal too
        at_low[:, own, own] = True
        at_high = ~at_low
        at_high[:, own, own] = False
        return Faces(np.concatenate([at_low, at_high], axis=1), charge)

    def speeds(self, faces: Faces, ends: Ends, held: Box) -> Ends:
        """Bounds of how fast lower and upper ends move, for ends within ``ends`` ((low, high) of the lower ones, of the upper ones)."""
        n, (lower, upper_) = self.states, ends
        corner = [
            np.concatenate([faces.corners(a, b), faces.corners(*held, n)], axis=1)
            for a, b in zip(lower, upper_, strict=True)
        ]
        below, above = (_own(v, n) for v in _values(self.problem, corner[0], corner[1]))
        widest = np.concatenate([np.maximum(upper_[1] - lower[0], 0.0), held[1] - held[0]], axis=1) * _UP
        narrowest = np.concatenate([np.maximum(upper_[0] - lower[1], 0.0), 0.0 * held[0]], axis=1) * (1 - 1e-12)
        most, least = (_charged(faces.charge, w) for w in (widest, narrowest))
        least = least * (1 - 1e-9)
        return _out(below[:, 0] - most, above[:, 0] - least), _out(below[:, 1] + least, above[:, 1] + most)

    def series(
        self, faces: Faces, ends: tuple[TaylorModel, TaylorModel], held: Box, order: int
    ) -> tuple[Series, Series]:
        """Coefficients in time up to ``order`` of both ends."""
        n, basis = self.states, ends[0].basis
        lower, upper_ = [ends[0]], [ends[1]]
        corner = faces.corners(*held, n)
        jets = Jets(self.problem, _corners(faces, *ends), constant(basis, corner, corner) if held[0].size else None)
        apart_held = TaylorModel(basis, ((held[1] - held[0]) * _UP)[None], np.zeros_like(held[0]))
        for k in range(order):
            jets.advance()
            found = jets.solution[-1]
            values, errors = _own(found.terms[0], n), _own(found.error, n)
            apart = _weighted(faces.charge[:, :, :n], add(upper_[-1], lower[-1], -1.0))
            if k == 0:
                apart = add(apart, _weighted(faces.charge[:, :, n:], apart_held))
            apart = scaled(apart, 1.0 / (k + 1))
            lower.append(add(TaylorModel(basis, values[None, :, 0], errors[:, 0]), apart, -1.0))
            upper_.append(add(TaylorModel(basis, values[None, :, 1], errors[:, 1]), apart))
            jets.solution[-1] = _corners(faces, lower[-1], upper_[-1])
        return lower, upper_


def _own(values: Array, n: int) -> Array:
    """(B * 2n, n) -> (B, 2, n): on each face the component that moves it."""
    return values.reshape(-1, 2, n, n)[:, :, np.arange(n), np.arange(n)]


def _corners(faces: Faces, low: TaylorModel, high: TaylorModel) -> TaylorModel:
    return TaylorModel(
        low.basis, faces.corners(low.terms[0], high.terms[0])[None], faces.corners(low.error, high.error)
    )


def _charged(charge: Array, widths: Array) -> Array:
    """sum over j of charge_ij width_j (B, n), up to 1e-12; where nothing is charged a width that is not known does no harm."""
    return np.where(charge > 0, charge * widths[:, None], 0.0).sum(2) * _UP


def _weighted(charge: Array, widths: TaylorModel) -> TaylorModel:
    """The same of models of constants (B, m)."""
    middle = np.where(charge > 0, charge * widths.terms[0][:, None], 0.0)
    error = np.where(charge > 0, charge * widths.error[:, None], 0.0).sum(2)
    lost = abs(middle).sum(2) * (1e-15 * (charge.shape[2] + 4)) + 4 * charge.shape[2] * _TINY
    return TaylorModel(widths.basis, middle.sum(2)[None], (error + lost) * _UP)


def _out(low: Array, high: Array) -> Box:
    return low - 4 * _U * abs(low) - _TINY, high + 4 * _U * abs(high) + _TINY


def _values(problem: Problem, low: Array, high: Array) -> Box:
    """Intervals of all outputs; infinite where a box leaves the domain of a function."""
    output = problem.graph.outputs[0]
    try:
        state = propagate(problem, low, high, narrow=False)
    except InputError:
        if len(low) == 1:
            unknown = np.full((1, *problem.graph[output].shape), np.inf)
            return -unknown, unknown
        parts = [_values(problem, a, b) for a, b in _halves(low, high)]
        return np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])
    return state.lower[output], state.upper[output]


def _halves(low: Array, high: Array) -> Sequence[Box]:
    half = len(low) // 2
    return (low[:half], high[:half]), (low[half:], high[half:])


def step(
    system: Embedding,
    states: TaylorModel,
    rest: TaylorModel | None,
    length: Fraction,
    order: int = ORDER,
    disturbance: Disturbance | None = None,
) -> EmbeddingStep:
    """All solutions over [0, length] from boxes around ``states`` (B, n), with ``rest`` (B, m) anywhere in its range at any time.

    A trajectory stays between the ends as long as the box that gave the signs holds both; the ends are shown to stay inside.
    """
    n = system.states
    start = states.range()
    held = (np.zeros((len(start[0]), 0)), np.zeros((len(start[0]), 0))) if rest is None else rest.range()
    if disturbance is not None:
        here = slice(disturbance.first - n, disturbance.first - n + len(disturbance.lower))
        held[0][:, here], held[1][:, here] = disturbance.lower, disturbance.upper
    h = upper(length)
    done = np.zeros(len(start[0]), bool)
    need: Ends = (start[0], start[0]), (start[1], start[1])
    best: Ends = need
    for round_ in range(ROUNDS):
        guess = _wider(need[0], start, round_), _wider(need[1], start, round_)
        speeds = system.speeds(_faces(system, guess, held), guess, held)
        found = _ahead(start[0], *speeds[0], h), _ahead(start[1], *speeds[1], h)
        fine = ~done
        for (a, b), (c, d) in zip(found, guess, strict=True):
            fine &= ((a > c) & (b < d)).all(1)
        best = _chosen(best, guess, fine[:, None])
        done |= fine
        need = _hull(need[0], found[0]), _hull(need[1], found[1])
        if done.all() or not np.isfinite(np.concatenate([*need[0], *need[1]], axis=1)[~done]).all(1).any():
            break
    return _expanded(system, states, start, held, best, length, order, done)


def _hull(a: Box, b: Box) -> Box:
    return np.minimum(a[0], b[0]), np.maximum(a[1], b[1])


def _chosen(old: Ends, new: Ends, where: Array) -> Ends:
    (a, b), (c, d) = (tuple(np.where(where, y, x) for x, y in zip(*pair, strict=True)) for pair in zip(old, new, strict=True))  # fmt: skip
    return (a, b), (c, d)


def _expanded(system: Embedding, states: TaylorModel, start: Box, held: Box, within: Ends, length: Fraction, order: int, done: Array) -> EmbeddingStep:  # fmt: skip
    """The step as a polynomial, from boxes that hold both ends."""
    faces = _faces(system, within, held)
    basis = monomials(0, 0)
    points = constant(basis, start[0], start[0]), constant(basis, start[1], start[1])
    lower, upper_ = system.series(faces, points, held, order - 1)
    far = system.series(faces, (constant(basis, *within[0]), constant(basis, *within[1])), held, order)
    remainder = far[0][-1].range(), far[1][-1].range()
    known = np.isfinite(np.concatenate([*remainder[0], *remainder[1]], axis=1)).all(1)
    return EmbeddingStep(states, lower, upper_, remainder, length, (within[0][0], within[1][1]), done & known)


def _faces(system: Embedding, ends: Ends, held: Box) -> Faces:
    """From the box that holds both ends."""
    low, high = np.minimum(ends[0][0], ends[1][0]), np.maximum(ends[0][1], ends[1][1])
    return system.faces(np.concatenate([low, held[0]], axis=1), np.concatenate([high, held[1]], axis=1))


def _wider(box: Box, start: Box, round_: int) -> Box:
    low, high = box
    slack = MARGIN * (1 + round_) * (high - low) + 1e-9 * (abs(low) + abs(high) + start[1] - start[0]) + 1e-13
    return low - slack, high + slack


def _ahead(end: Array, low: Array, high: Array, h: float) -> Box:
    """Where an end can be up to time h."""
    down, up = np.minimum(low * h, 0.0), np.maximum(high * h, 0.0)
    return end + down - 4 * _U * (abs(end) + abs(down)) - _TINY, end + up + 4 * _U * (abs(end) + abs(up)) + _TINY
