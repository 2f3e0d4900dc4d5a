"""One validated step of x' = f(x, p) from Taylor models: a polynomial in time over the set, and a bound of Lagrange's remainder.

A box is guessed that holds all states of the step, and then verified (Corliss, Rihm, Validating an a priori enclosure using high-order
Taylor series, 1996); the remainder h^q x^[q] over that box goes to the error. Dependence on the initial set stays in the polynomials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.bounds.enclosure import Problem
from holdfast.plant.deviation import Disturbance
from holdfast.plant.jets import Jets, Series
from holdfast.rigor import FLOAT64, gamma
from holdfast.sets.monomials import monomials
from holdfast.sets.taylor_model import TaylorModel, add, aligned, box, scaled

Array = np.ndarray
_U, _TINY = FLOAT64.unit, FLOAT64.tiny
ROUNDS = 6  # guesses of the box
MARGIN = 0.02  # of the width, by which a guess exceeds what it has to hold
LEAST = 1e-280  # smaller powers of times are read as an interval around zero


@dataclass(frozen=True, eq=False)
class Step:
    """A `holdfast.plant.flow.Flow`. ``series``: coefficients x_0 ... x_(q-1) of the states in time; ``states`` box (lower, upper), each (B, n), of all states of
    the step; ``remainder`` (lower, upper) of x^[q] there: x(s) = sum_k x_k s^k + s^q r + d for 0 <= s <= h, |d| <= ``deviation``. ``sound`` (B,): where verified."""

    series: Series
    length: Fraction
    states: tuple[Array, Array]
    remainder: tuple[Array, Array]
    sound: Array
    deviation: Array | None = None

    def __getitem__(self, chosen: Array) -> Step:
        """These members of the batch."""
        return Step(
            [m[chosen] for m in self.series], self.length, (self.states[0][chosen], self.states[1][chosen]),
            (self.remainder[0][chosen], self.remainder[1][chosen]), self.sound[chosen],
            None if self.deviation is None else self.deviation[chosen],
        )  # fmt: skip

    @property
    def lost(self) -> Array:
        """What the remainder adds to the error (B, n), about."""
        return (self.remainder[1] - self.remainder[0]) * (0.5 * float(self.length ** len(self.series)))

    @property
    def nbytes(self) -> int:
        """Memory of the series, about."""
        return self.series[0].terms.nbytes * len(self.series)

    def at(self, time: Fraction) -> TaylorModel:
        """The states at a time within the step."""
        value = moved(self.series, time, 0)
        return _with_remainder(value, self.remainder, time ** len(self.series), self.deviation)

    def at_end(self) -> TaylorModel:
        """The states at the end of the step."""
        return self.at(self.length)

    def between(self, first: Fraction, last: Fraction) -> TaylorModel:
        """All states at first <= s <= last: the time within is one more symbol, linearly."""
        center, radius = (first + last) / 2, (last - first) / 2
        q = len(self.series)
        value = moved(self.series, center, 0)
        total = value
        for k in range(1, q):
            part = _times(moved(self.series, center, k), radius**k)
            if k == 1:
                total = _with_time(total, part)
            else:
                total = TaylorModel(total.basis, total.terms, (total.error + part.size) * (1 + 8 * _U))
        low, high = self.remainder
        weight = upper(last**q)
        low, high = np.minimum(low, 0.0) * weight, np.maximum(high, 0.0) * weight
        if self.deviation is not None:
            low, high = low - self.deviation, high + self.deviation
        return _with_interval(total, low, high)


def moved(series: Series, s: Fraction, k: int) -> TaylorModel:
    """The k-th derivative over k! at s of the polynomial."""
    total: TaylorModel | None = None
    for j in range(len(series) - 1, k - 1, -1):
        factor = math.comb(j, k) * s ** (j - k)
        if factor:
            part = _times(series[j], factor)
            total = part if total is None else add(total, part)
    assert total is not None
    return total


def _times(model: TaylorModel, factor: Fraction) -> TaylorModel:
    """factor * model, ``factor`` >= 0."""
    if factor >= LEAST:
        return scaled(model, float(factor))
    return TaylorModel(model.basis, 0.0 * model.terms, model.size * (2 * LEAST) + _TINY)


def upper(factor: Fraction) -> float:
    """The number, rounded up, with room for the rounding of a product with it."""
    return max(float(factor), LEAST) * (1 + 8 * _U)


def _with_time(value: TaylorModel, speed: TaylorModel) -> TaylorModel:
    """value + speed tau, |tau| <= 1: the middle of the speed is a symbol's coefficient, the rest error."""
    value, speed = aligned([value, speed])
    terms = np.concatenate([value.terms, speed.terms[:1]])
    return TaylorModel(value.basis, terms, (value.error + speed.spread()) * (1 + 8 * _U))


def _with_interval(value: TaylorModel, low: Array, high: Array) -> TaylorModel:
    middle = 0.5 * low + 0.5 * high
    radius = np.maximum(high - middle, middle - low)
    terms = value.terms.copy()
    terms[0] = terms[0] + middle
    lost = 4 * _U * (abs(terms[0]) + abs(middle)) + 4 * _TINY
    return TaylorModel(value.basis, terms, (value.error + radius + lost) * (1 + 16 * _U))


def _with_remainder(
    value: TaylorModel, remainder: tuple[Array, Array], weight: Fraction, deviation: Array | None
) -> TaylorModel:
    factor, low, high = float(weight), *remainder
    if weight < LEAST:
        factor, low, high = LEAST, np.minimum(low, 0.0), np.maximum(high, 0.0)
    low, high = low * factor, high * factor
    low, high = low - 4 * _U * abs(low) - _TINY, high + 4 * _U * abs(high) + _TINY
    if deviation is not None:
        low, high = low - deviation, high + deviation
    return _with_interval(value, low, high)


def step(
    problem: Problem,
    states: TaylorModel,
    rest: TaylorModel | None,
    length: Fraction,
    order: int,
    disturbance: Disturbance | None = None,
) -> Step:
    """All solutions over [0, length] from ``states`` (B, n), with ``rest`` (B, m): inputs and parameters that stay as they are.

    ``order`` q >= 1: of the remainder. Where no box is verified the member of the batch is not ``sound``.
    """
    # all have the symbols of all: those that are added later (times) get numbers of their own
    series = aligned([*Jets(problem, states, rest).to(order - 1), *([] if rest is None else [rest])])[:order]
    low, high = _hull(series, length)
    rest_range = None if rest is None else rest.range()
    done = np.zeros(len(states.error), bool)
    best_states = np.full_like(low, np.nan), np.full_like(high, np.nan)
    best_rest = np.full_like(low, np.nan), np.full_like(high, np.nan)
    need = low, high
    weight = upper(length**order)
    best_deviation = None if disturbance is None else np.full_like(low, np.nan)
    for round_ in range(ROUNDS):
        width = need[1] - need[0]
        slack = (MARGIN if round_ == 0 else 0.1 * round_) * width + 1e-10 * (abs(need[0]) + abs(need[1])) + 1e-14
        guess = need[0] - slack, need[1] + slack
        remainder = _coefficient(problem, guess, rest_range, order)
        down, up = np.minimum(remainder[0] * weight, 0.0), np.maximum(remainder[1] * weight, 0.0)
        if disturbance is not None:
            assert rest_range is not None and best_deviation is not None
            away = disturbance.bound(guess, rest_range, length)
            down, up = down - away, up + away
        below = low + down - (8 * _U * (abs(low) + abs(down)) + _TINY)
        above = high + up + (8 * _U * (abs(high) + abs(up)) + _TINY)
        fine = ((below > guess[0]) & (above < guess[1])).all(1) & ~done
        for best, found in ((best_states, guess), (best_rest, remainder)):
            best[0][fine], best[1][fine] = found[0][fine], found[1][fine]
        if best_deviation is not None:
            best_deviation[fine] = away[fine]
        done |= fine
        if done.all():
            break
        need = np.minimum(below, need[0]), np.maximum(above, need[1])
        if not np.isfinite(np.concatenate(need)[np.concatenate([~done, ~done])]).all():
            break
    return Step(series, length, best_states, best_rest, done, best_deviation)


def _hull(series: Series, length: Fraction) -> tuple[Array, Array]:
    """Bounds of the polynomial in time over the whole step: about the middle of the step."""
    half = length / 2
    low, high = moved(series, half, 0).range()
    reach = np.zeros_like(low)
    for k in range(1, len(series)):
        reach = reach + moved(series, half, k).size * upper(half**k)
    reach = reach * (1 + gamma(len(series) + 8, FLOAT64)) + _TINY
    return low - reach - 4 * _U * abs(low), high + reach + 4 * _U * abs(high)


def _coefficient(
    problem: Problem, states: tuple[Array, Array], rest: tuple[Array, Array] | None, order: int
) -> tuple[Array, Array]:
    """Bounds of x^[order] over boxes: affine in the states."""
    n = states[0].shape[1]
    m = 0 if rest is None else rest[0].shape[1]
    basis = monomials(n, 1)
    x = box(basis, *states, list(range(n)))
    p = None if rest is None else box(basis, *rest, [None] * m)
    return Jets(problem, x, p).to(order)[order].range()
