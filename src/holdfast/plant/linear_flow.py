"""Steps of x' = A x + b(p) + G u: as linear maps of the set, exact but for rounding, however long the step; |u| bounded, varying.

Plants are affine in their states by the form of their graphs (`affine`): every way from a state leads through linear operators and
products with constants. Girard, Reachability of uncertain linear systems using zonotopes, HSCC 2005; exponentials: `exponential`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import numpy as np

from holdfast.bounds.enclosure import Problem
from holdfast.bounds.taylor import function, linear, propagate_models
from holdfast.operators import INPUT, OPERATORS, LinearOperator, ProductOperator
from holdfast.plant.exponential import Balls, absolute_integral, exponential, norm
from holdfast.rigor import FLOAT64, gamma
from holdfast.sets.monomials import monomials
from holdfast.sets.taylor_model import TaylorModel, add, aligned, concatenated, constant, multiply, scaled

Array = np.ndarray
_U, _TINY = FLOAT64.unit, FLOAT64.tiny
_UP = 1 + 1e-12
PIECES = 16  # of a time, for what inputs that vary can do by then
HULL = 4  # pieces of a step, for the box of its states
TERMS = 4  # of the series in time that act on the set itself; further ones act on its size
LEAST = 1e-280  # smaller times are read as this one


@dataclass(frozen=True, eq=False)
class Linear:
    """x' = A x + b(p) + G u, |u| <= ``away``: ``matrix`` A and ``gain`` G as balls, ``problem``: f. ``first``: where u stands
    among the signals; ``nominal``: what u is measured from."""

    matrix: Balls
    gain: Balls | None
    away: Array | None
    nominal: Array
    first: int
    problem: Problem

    @property
    def norm(self) -> float:
        """A bound of the row sums of |A|."""
        return norm(self.matrix)

    def drive(self, states: TaylorModel, rest: TaylorModel | None) -> TaylorModel:
        """b(p) = f(0, p), for inputs and parameters in ``rest`` (B, m), u at its nominal values there."""
        zero = np.zeros_like(states.error)
        still = constant(states.basis, zero, zero)
        return propagate_models(self.problem, still if rest is None else concatenated([still, rest]))


@dataclass(frozen=True, eq=False)
class LinearStep:
    """A `Flow`: ``start`` x_0 and ``drive`` b (B, n) of x' = A x + b + G u, |u| <= ``away`` (S, k), by the same variables and symbols.

    ``method``: whether u stands for what the method neglects, not for disturbances.
    """

    start: TaylorModel
    drive: TaylorModel
    matrix: Balls
    gain: Balls | None
    away: Array | None
    length: Fraction
    sound: Array
    states: tuple[Array, Array]
    method: bool = False

    @property
    def deviation(self) -> Array | None:
        """What disturbances have moved the states by at the end."""
        return None if self.method or self.gain is None else self.moved(self.length)

    @property
    def lost(self) -> Array:
        """What the method has neglected, at the end."""
        return self.moved(self.length) if self.method else np.zeros_like(self.start.error)

    @property
    def nbytes(self) -> int:
        """Memory, about."""
        return int(self.start.terms.nbytes + self.drive.terms.nbytes)

    def __getitem__(self, chosen: Array) -> LinearStep:
        gain, away = self.gain, self.away
        return replace(
            self, start=self.start[chosen], drive=self.drive[chosen], matrix=self.matrix[chosen],
            gain=None if gain is None else gain[chosen],
            away=away if away is None or len(away) == 1 else away[chosen],
            sound=self.sound[chosen], states=(self.states[0][chosen], self.states[1][chosen]),
        )  # fmt: skip

    def at(self, time: Fraction) -> TaylorModel:
        """The states at a time within the step."""
        return _wider(self._nominal(time), self.moved(time))

    def at_end(self) -> TaylorModel:
        """The states at the end of the step."""
        return self.at(self.length)

    def between(self, first: Fraction, last: Fraction) -> TaylorModel:
        """All states at first <= s <= last: x(c + r tau) = y + r tau v + r^2 tau^2 / 2 A v + ..., v = A y + b, |tau| <= 1, by one more symbol."""
        center, radius = (first + last) / 2, (last - first) / 2
        r = max(float(radius), LEAST) * _UP
        y = self._nominal(center)
        term = scaled(add(mapped(self.matrix, y), self.drive), r)
        total = _with_time(y, term)
        spread = np.zeros_like(y.error)
        for k in range(2, TERMS + 1):
            term = scaled(mapped(self.matrix, term), r / k)
            if k == 2:  # tau^2 lies between 0 and 1
                half = scaled(term, 0.5)
                total, spread = add(total, half), spread + half.size
            else:
                spread = spread + term.size
        spread = (spread + self._further(term.size, r)) * _UP
        return _wider(total, spread + self.moved(last))

    def _further(self, size: Array, r: float) -> Array:
        """Bounds of the terms of the series beyond, from the size (B, n) of the last one."""
        grown, reach = self.matrix.size, norm(self.matrix) * r * _UP
        total = np.zeros_like(size)
        for k in range(TERMS + 1, 120):
            size = np.matmul(grown, size[:, :, None])[:, :, 0] * (r / k) * _UP + LEAST
            total = (total + size) * _UP
            if reach / (k + 1) <= 0.5 and not (size.max(1) > 1e-13 * total.min(1)).any():
                break
        return total + 2 * size.max(1, keepdims=True) if reach / (k + 1) <= 0.5 else np.full_like(total, np.inf)

    def _nominal(self, time: Fraction) -> TaylorModel:
        """The states for u = 0."""
        if time == 0:
            return self.start
        E, integral = (exponential if self.method else _known_maps)(self.matrix, time)
        return add(mapped(E, self.start), mapped(integral, self.drive))

    def moved(self, time: Fraction) -> Array:
        """Bounds (B, n) of what u has done."""
        if self.gain is None or self.away is None or time == 0:
            return np.zeros_like(self.start.error)
        if self.method:
            pieces = 1 + min(3, int(8 * np.nan_to_num(norm(self.matrix) * float(time))))
            found = absolute_integral(self.matrix, self.gain, time, pieces) @ self.away[:, :, None]
        else:
            found = _known_moves(self.matrix, self.gain, time) @ self.away[:, :, None]
        return np.broadcast_to(found[:, :, 0] * _UP + _TINY, self.start.error.shape)


@lru_cache(maxsize=512)
def _known_maps(A: Balls, time: Fraction) -> tuple[Balls, Balls]:
    """Periods are alike: the same times come again and again."""
    return exponential(A, time)


@lru_cache(maxsize=512)
def _known_moves(A: Balls, G: Balls, time: Fraction) -> Array:
    return absolute_integral(A, G, time, PIECES)


def mapped(M: Balls, model: TaylorModel) -> TaylorModel:
    """M x (B, n) for vectors x (B, m), one matrix for all members or one for each."""
    size, m, count = model.size, M.value.shape[2], len(model.terms)
    turned = np.swapaxes(M.value, 1, 2)
    terms = model.terms @ turned[0] if len(turned) == 1 else np.swapaxes(np.swapaxes(model.terms, 0, 1) @ turned, 0, 1)
    lost = gamma(m + count + 6, FLOAT64) * _times(abs(M.value), size) + _times(M.radius, size)
    error = _times(abs(M.value), model.error) + lost
    return TaylorModel(model.basis, terms, error * (1 + gamma(m + 12, FLOAT64)) + 4 * (m + 2) * (count + 1) * _TINY)


def _times(matrix: Array, vectors: Array) -> Array:
    """Members of a batch of matrices (S, n, m) by those of vectors (B, m)."""
    return vectors @ matrix[0].T if len(matrix) == 1 else np.matmul(matrix, vectors[:, :, None])[:, :, 0]


def _wider(model: TaylorModel, by: Array) -> TaylorModel:
    return replace(model, error=(model.error + by) * (1 + 4 * _U))


def _with_time(value: TaylorModel, speed: TaylorModel) -> TaylorModel:
    """value + speed tau, |tau| <= 1: the middle of the speed is a symbol's coefficient, the rest error."""
    value, speed = aligned([value, speed])
    terms = np.concatenate([value.terms, speed.terms[:1]])
    return TaylorModel(value.basis, terms, (value.error + speed.spread()) * (1 + 8 * _U))


def step(plant: Linear, states: TaylorModel, rest: TaylorModel | None, length: Fraction) -> LinearStep:
    """All solutions over [0, length] from ``states`` (B, n), with ``rest`` (B, m): inputs and parameters that stay as they are, and the
    nominal values of signals that do not."""
    states, drive = aligned([states, plant.drive(states, rest)])
    away = None if plant.away is None else plant.away[None]
    unknown, known = np.full_like(states.error, np.nan), np.ones(len(states.error), bool)
    return enclosed(LinearStep(states, drive, plant.matrix, plant.gain, away, length, known, (unknown, unknown)))


def enclosed(step: LinearStep, pieces: int = HULL) -> LinearStep:
    """With the box of all its states, from so many pieces of time; sound where that is finite."""
    ends = [step.length * Fraction(k, pieces) for k in range(pieces + 1)]
    ranges = [step.between(*span).range() for span in pairwise(ends)]
    low, high = np.min([a for a, _ in ranges], axis=0), np.max([b for _, b in ranges], axis=0)
    return replace(step, states=(low, high), sound=step.sound & (np.isfinite(low) & np.isfinite(high)).all(1))


def affine(problem: Problem, states: int, first: int, lower: Array, upper: Array, nominal: Array) -> Linear | None:
    """f as A x + b(p) + G u, where it is of that form in the ``states`` x and the signals u from ``first`` on, which lie within
    ``lower``, ``upper`` (W,); None where it is not."""
    width = problem.graph[problem.graph.inputs[0]].shape[0]
    varies = (lower != upper) | (lower != nominal)
    moving = np.zeros(width, bool)
    moving[:states] = True
    moving[first : first + len(lower)] = varies
    places = np.flatnonzero(moving)
    found = _coefficients(problem, moving)
    if found is None:
        return None
    coefficients, present = found
    value, error = coefficients.terms[1:, 0].T, coefficients.error[0][:, None]
    if not (np.isfinite(value).all() and np.isfinite(error).all()):
        return None
    # |f - fitted| <= error for all |x|, |u| <= 1: each coefficient is off by at most that, and those that are not there are zero
    value, radius = np.where(present, value, 0.0), np.where(present, error, 0.0)
    own = places < states
    matrix = Balls(value[None][:, :, own], radius[None][:, :, own])
    if not varies.any():
        return Linear(matrix, None, None, nominal, first, problem)
    gain = Balls(value[None][:, :, ~own], radius[None][:, :, ~own])
    away = (np.maximum(upper - nominal, nominal - lower) * _UP)[varies]
    return Linear(matrix, gain, away, nominal, first, problem)


def _coefficients(problem: Problem, moving: Array) -> tuple[TaylorModel, Array] | None:
    """The output's part that depends on the ``moving`` signals, each in [-1, 1], as a polynomial of degree 1 in them, and which outputs
    depend on which of them (n, M); None: not affine.

    Values that depend on other signals count as 0, which changes no coefficient: nothing that they multiply may move.
    """
    width, count = len(moving), int(moving.sum())
    basis = monomials(count, 1)
    terms = np.zeros((1 + count, 1, width))
    terms[1 + np.arange(count), 0, np.flatnonzero(moving)] = 1.0
    source = TaylorModel(basis, terms, np.zeros((1, width)))
    models: list[TaylorModel] = []
    moves: list[
        Array
    ] = []  # (M, *shape): which elements depend on which of what moves, and (1, *shape) which on the other signals
    depends: list[Array] = []
    for position, node in enumerate(problem.graph.nodes):
        inputs = [models[i] for i in node.inputs]
        moved, held = [moves[i] for i in node.inputs], [depends[i] for i in node.inputs]
        some = [m.any(0) for m in moved]
        if node.op == INPUT:
            model, own, other = source, np.eye(width, dtype=bool)[moving], ~moving[None]
        elif isinstance(OPERATORS[node.op], LinearOperator):
            model = linear(problem, position, inputs, source, 1)
            own, other = _reached(problem, position, moved, count), _reached(problem, position, held, 1)
        elif isinstance(OPERATORS[node.op], ProductOperator):
            (a, b), (p, q) = some, held
            if (a & (b | q) | b & p).any():
                return None
            own, other = moved[0] | moved[1], p | q
            model = _without(multiply(*inputs), other, own)
        else:
            if some[0].any():
                return None
            own, other = moved[0], held[0]
            model = _without(inputs[0] if other.all() else function(node, inputs[0]), other, own)
        models.append(model)
        moves.append(own)
        depends.append(other)
    output = problem.graph.outputs[0]
    return models[output], moves[output].T


def _without(model: TaylorModel, held: Array, moved: Array) -> TaylorModel:
    """Elements that depend on other signals and do not move, as 0."""
    gone = held & ~moved.any(0)
    return TaylorModel(model.basis, np.where(gone, 0.0, model.terms), np.where(gone, 0.0, model.error))


def _reached(problem: Problem, position: int, masks: list[Array], count: int) -> Array:
    """Which elements of a linear operator's output read one of the marked elements of its inputs, with a weight that may not be zero."""
    node = problem.graph[position]
    card, weights, doubts = OPERATORS[node.op], problem.weights(position), problem.doubts(position)
    assert isinstance(card, LinearOperator)
    found = np.zeros((count, *node.shape), bool)
    if not masks:
        return found
    marked = [m.astype(np.float64) for m in masks]
    for values in (weights, doubts):
        if values is not None:
            present = [(abs(v) > 0).astype(np.float64) for v in values]
            found |= np.asarray(card.magnitude(np, node, present, marked)).reshape(found.shape) > 0
    return found
