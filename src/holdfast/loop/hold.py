"""All states that a plant meets while its inputs are held for one period: a box around them, and bounds of remainders.

A box B is guessed and then verified: Taylor's polynomial over the box of initial states, plus the remainder over B, plus what
disturbances add, lies in the interior of B. Corliss, Rihm, Validating an a priori enclosure using high-order
Taylor series, 1996; Neumaier, The wrapping effect, ellipsoid arithmetic, stability and confidence regions, 1993 (comparison of
deviations). docs/certificates/loops.md, section 7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import flint
import numpy as np

from holdfast.bounds.bounder import bounds_of_rows, flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.graph import Model
from holdfast.loop.closed_loop import controller_model
from holdfast.loop.taylor import FlowDerivatives, weight
from holdfast.rigor import FLOAT64
from holdfast.spec.plant import LoopData, Plant
from holdfast.spec.region import Box
from holdfast.transforms import derivative

PARTS = 16  # of the period: the polynomial is bounded on each
ROUNDS = 12  # guesses of the box
MARGIN = 0.1  # by which a guess exceeds what it has to hold
CLOSER = 0.01  # the same once a box is verified
LEAST = Fraction(1, 10**280)  # added to remainders: checkers whose own rounding costs more than what is denormal agree
TIGHTENED = 2  # further rounds once a box is verified


@dataclass(frozen=True, eq=False)
class Period:
    """What is to be bounded: ``polynomial``, Model (states, parameters, disturbances, share of the period) -> (n,)."""

    data: LoopData
    length: Fraction
    order: int
    flow: FlowDerivatives
    polynomial: Model


@dataclass(frozen=True, eq=False)
class Hold:
    """``states``: box B of all states during the period; ``inputs``: box of the held inputs.

    ``taylor``: h^p / p! L^p x over B. ``deviation`` (n,): what disturbances move a state by at most. ``remainder``: of
    both together at the end of the period. Between samples it is (s / h)^exponent times a point of ``between``.
    """

    states: Box
    inputs: Box
    taylor: Box
    deviation: np.ndarray
    remainder: Box
    between: Box
    exponent: int


def nominal(plant: Plant) -> np.ndarray:
    """Values (W,) of the disturbances that polynomials are made for: near the middle."""
    w = plant.disturbances
    return np.clip(0.5 * w.lower + 0.5 * w.upper, w.lower, w.upper)


def hold(period: Period, states: Box, expired: Callable[[], bool] = lambda: False) -> Hold | str:
    """The box and the remainders from the box ``states``; a clause where none is found before the time has ``expired``."""
    plant = period.data.plant
    inputs = _held_inputs(period.data, states)
    if inputs is None:
        return "the controller has no finite bounds on the set"
    low, high = _polynomial_bounds(period, states)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return "Taylor's polynomial has no finite bounds on the set"
    over = _OverBox(period, inputs)
    if not np.isfinite(np.concatenate(over.derivative(states))).all():
        return "the derivatives along the flow have no finite bounds on the set"
    need = low, high
    verified: tuple[Box, Box, np.ndarray] | None = None
    better = 0
    for _ in range(ROUNDS):
        if expired():
            return "the time ended before a box was found that holds all states of a period"
        guess = _widened(*need, MARGIN if verified is None else CLOSER)
        taylor, deviation = over.taylor(guess), over.deviation(guess)
        if taylor is None or deviation is None:
            break
        lost = [Fraction(float(d)) for d in deviation]
        below = [
            Fraction(a) + min(Fraction(0), t) - d for a, t, d in zip(low.tolist(), _ends(taylor)[0], lost, strict=True)
        ]
        above = [
            Fraction(a) + max(Fraction(0), t) + d for a, t, d in zip(high.tolist(), _ends(taylor)[1], lost, strict=True)
        ]
        ends = _ends(guess)
        if all(a < b for a, b in zip(ends[0], below, strict=True)) and all(
            a > b for a, b in zip(ends[1], above, strict=True)
        ):
            verified = guess, taylor, deviation
            better += 1
            if better > TIGHTENED:
                break
        elif verified is not None:
            break
        wanted = Box.of(below, above)
        if not (np.isfinite(wanted.lower).all() and np.isfinite(wanted.upper).all()):
            break
        need = wanted.lower, wanted.upper
    if verified is None:
        return "no box was found that holds all states of a period"
    guess, taylor, deviation = verified
    if plant.singular is not None and not over.regular(guess):
        return "the mass matrix may be singular within a period"
    lost = [Fraction(float(d)) for d in deviation]
    below, above = _ends(taylor)
    remainder = Box.of(
        [a - d for a, d in zip(below, lost, strict=True)], [a + d for a, d in zip(above, lost, strict=True)]
    )
    if not deviation.any():
        return Hold(guess, inputs, taylor, deviation, remainder, remainder, period.order)
    # (s/h)^p t + (s/h) d with t, d from their boxes is s/h times a point of the hull of both and zero
    zero = Fraction(0)
    between = Box.of(
        [min(zero, a) - d for a, d in zip(below, lost, strict=True)],
        [max(zero, a) + d for a, d in zip(above, lost, strict=True)],
    )
    return Hold(guess, inputs, taylor, deviation, remainder, between, 1)


class _OverBox:
    """Bounds over a box of states, the box of held inputs, and all parameters and disturbances."""

    def __init__(self, period: Period, inputs: Box):
        self._period, self._inputs = period, inputs
        plant = period.data.plant
        self._highest = flat_problem(period.flow.derivatives[period.order - 1], FLOAT64)
        fixed = bool((plant.disturbances.lower == plant.disturbances.upper).all())
        self._jacobian = None if fixed else flat_problem(derivative(plant.dynamics), FLOAT64)

    def derivative(self, states: Box) -> tuple[np.ndarray, np.ndarray]:
        """L^p x with the disturbances at their nominal value."""
        w0 = nominal(self._period.data.plant)
        return self._bounds(self._highest, states, w0, w0)

    def taylor(self, states: Box) -> Box | None:
        """h^p / p! L^p x, outward."""
        factor = weight(self._period.length, self._period.order)
        low, high = self.derivative(states)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return None
        return Box.of(
            *(
                [_outward(factor * Fraction(v) + room, up) for v in end.tolist()]
                for end, room, up in ((low, -LEAST, False), (high, LEAST, True))
            )
        )

    def deviation(self, states: Box) -> np.ndarray | None:
        """Bounds (n,) of |x - nominal x|: integral of exp(M t) b over the period, |J| <= M, |df/dw| |w - w0| <= b."""
        plant = self._period.data.plant
        n = len(plant.signals.states)
        if self._jacobian is None:
            return np.zeros(n)
        w, w0 = plant.disturbances, nominal(plant)
        low, high = self._bounds(self._jacobian, states, w.lower, w.upper)
        J = np.maximum(abs(low), abs(high)).reshape(n, -1)
        if not np.isfinite(J).all():
            return None
        growth = J[:, :n].copy()
        np.fill_diagonal(growth, np.maximum(np.diag(high.reshape(n, -1)), 0.0))
        away = [flint.arb(float(v)) for v in np.nextafter(np.maximum(w.upper - w0, w0 - w.lower), np.inf)]
        first = len(plant.signals) - len(plant.signals.disturbances) - len(plant.signals.schedule)
        push = flint.arb_mat(n, len(away), J[:, first : first + len(away)].ravel().tolist()) * flint.arb_mat(
            len(away), 1, away
        )
        return _driven(flint.arb_mat(n, n, growth.ravel().tolist()), push, self._period.length)

    def regular(self, states: Box) -> bool:
        """Whether the determinant of the mass matrix has no zero."""
        plant = self._period.data.plant
        assert plant.singular is not None
        low, high = self._bounds(
            flat_problem(plant.singular, FLOAT64), states, plant.disturbances.lower, plant.disturbances.upper
        )
        return bool((low > 0).all() or (high < 0).all())

    def _bounds(
        self, problem: Problem, states: Box, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        parameters = self._period.data.plant.parameters
        below = np.concatenate([states.lower, self._inputs.lower, parameters.lower, low])
        above = np.concatenate([states.upper, self._inputs.upper, parameters.upper, high])
        return _on_box(problem, below[None], above[None])


def _driven(growth: flint.arb_mat, push: flint.arb_mat, length: Fraction) -> np.ndarray | None:
    """Upper bounds (n,) of sum over k >= 0 of h^(k+1) / (k+1)! M^k b, entries of M and b nonnegative."""
    n = growth.nrows()
    h = flint.arb(flint.fmpq(length.numerator, length.denominator))
    norm = max(_above(sum((growth[i, j] for j in range(n)), flint.arb(0))) for i in range(n))
    if not norm * float(length) < 50:
        return None
    term = push * h
    total, k = term, 1
    while k < 400:
        term = growth * term * (h / (k + 1))
        total = total + term
        k += 1
        ratio = _above(flint.arb(norm) * h / (k + 1))
        if ratio <= 0.5:
            rest = max(_above(term[i, 0]) for i in range(n))
            largest = max(_above(total[i, 0]) for i in range(n))
            if rest <= 1e-18 * largest:
                break
    else:
        return None
    tail = flint.arb(2 * rest)  # in the maximum norm each further term is at most half of the one before
    sums = [total[i, 0] + (tail if rest else 0) for i in range(n)]
    return np.array([_above(s) for s in sums])


def _above(ball: flint.arb) -> float:
    """A float64 number not below the ball; zero stays zero."""
    return 0.0 if ball == 0 else float(np.nextafter(float(ball.upper()), np.inf))


def _held_inputs(data: LoopData, states: Box) -> Box | None:
    """Bounds of what the controller computes from states of the box."""
    plant = data.plant
    low = np.concatenate([states.lower, plant.disturbances.lower, plant.parameters.lower])
    high = np.concatenate([states.upper, plant.disturbances.upper, plant.parameters.upper])
    below, above = _on_box(flat_problem(controller_model(data), FLOAT64), low[None], high[None])
    if not (np.isfinite(below).all() and np.isfinite(above).all()):
        return None
    return Box.of(below.tolist(), above.tolist())


def _polynomial_bounds(period: Period, states: Box) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (n,) of the polynomial over the whole period."""
    plant = period.data.plant
    ends = np.linspace(0.0, 1.0, PARTS + 1)
    low, high = (
        np.concatenate([np.tile(np.concatenate(part), (PARTS, 1)), share[:, None]], axis=1)
        for part, share in (
            ((states.lower, plant.parameters.lower, plant.disturbances.lower), ends[:-1]),
            ((states.upper, plant.parameters.upper, plant.disturbances.upper), ends[1:]),
        )
    )
    problem = flat_problem(period.polynomial, FLOAT64)
    n = len(plant.signals.states)
    below, above = bounds_of_rows(problem, low, high, np.eye(n), "backward")
    return below.min(0), above.max(0)


def _on_box(problem: Problem, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.eye(problem.graph[problem.graph.outputs[0]].shape[0])
    below, above = bounds_of_rows(problem, low, high, rows, "backward")
    return below[0], above[0]


def _widened(low: np.ndarray, high: np.ndarray, margin: float) -> Box:
    """A box whose interior holds the one given."""
    size = margin * (high - low) + 1e-9 * np.maximum(abs(low), abs(high)) + 1e-12
    return Box.of((low - size).tolist(), (high + size).tolist())


def _ends(box: Box) -> tuple[list[Fraction], list[Fraction]]:
    n = len(box)
    return [box.exact_lower(i) for i in range(n)], [box.exact_upper(i) for i in range(n)]


def _outward(value: Fraction, up: bool) -> float:
    """A float64 number on that side."""
    near = float(value)
    if up:
        return near if Fraction(near) >= value else float(np.nextafter(near, np.inf))
    return near if Fraction(near) <= value else float(np.nextafter(near, -np.inf))
