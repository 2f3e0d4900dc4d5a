"""Steps of x' = f(x, p) by conservative linearisation: the plant as a linear one with bounded inputs, which hold what it neglects.

Over a box that is guessed and then verified, f is enclosed by affine functions of states and inputs (best lines per function, where
Lagrange's remainder would come from Hessians); the rest is `linear_flow`. Linear in the set, second order in its width. Althoff,
Reachability analysis and its application to the safety assessment of autonomous cars, 2010, section 3.4.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from holdfast.bounds.enclosure import Problem
from holdfast.bounds.taylor import propagate_models
from holdfast.plant.deviation import Disturbance
from holdfast.plant.exponential import Balls, exact
from holdfast.plant.linear_flow import LinearStep, enclosed, mapped
from holdfast.rigor import FLOAT64, gamma
from holdfast.sets.monomials import monomials
from holdfast.sets.taylor_model import TaylorModel, add, aligned, box, constant, shifted

Array = np.ndarray
_U, _TINY = FLOAT64.unit, FLOAT64.tiny
ROUNDS = 8  # guesses of the box
MARGIN = 0.05  # of the width, by which a guess exceeds what it has to hold


def step(
    problem: Problem,
    states: TaylorModel,
    rest: TaylorModel | None,
    length: Fraction,
    disturbance: Disturbance | None = None,
) -> LinearStep:
    """All solutions over [0, length] from ``states`` (B, n), with ``rest`` (B, m): inputs and parameters that stay as they are, and
    the nominal values of disturbances. Where no box is verified the member of the batch is not ``sound``."""
    low, high = states.range()
    done = np.zeros(len(low), bool)
    best = np.full_like(low, np.nan), np.full_like(high, np.nan)
    for round_ in range(ROUNDS):
        if round_ == 0:
            low, high = _ahead(problem, states, rest, length, low, high)
        slack = MARGIN * (1 + round_) * (high - low) + 1e-9 * (abs(low) + abs(high)) + 1e-13
        guess = low - slack, high + slack
        own = enclosed(_linearised(problem, states, rest, length, guess, disturbance), 1)
        below, above = own.states
        fine = own.sound & ((below > guess[0]) & (above < guess[1])).all(1) & ~done
        best[0][fine], best[1][fine] = below[fine], above[fine]
        done |= fine
        if done.all():
            break
        low, high = np.minimum(low, below), np.maximum(high, above)
        if not np.isfinite(np.concatenate([low, high])[np.concatenate([~done, ~done])]).all():
            break
    # what was verified holds all solutions: linearised over that, without the margin
    own = enclosed(_linearised(problem, states, rest, length, best, disturbance), 2)
    tighter = np.maximum(own.states[0], best[0]), np.minimum(own.states[1], best[1])
    return LinearStep(
        own.start, own.drive, own.matrix, own.gain, own.away, length, own.sound & done, tighter, method=True
    )


def _ahead(
    problem: Problem, states: TaylorModel, rest: TaylorModel | None, length: Fraction, low: Array, high: Array
) -> tuple[Array, Array]:
    """A first guess: the hull of the set and of what Euler's method makes of it; nothing depends on it."""
    n = low.shape[1]
    basis = monomials(n, 1)
    parts = [box(basis, low, high, range(n))]
    if rest is not None:
        parts.append(constant(basis, *rest.range()))
    f = propagate_models(problem, _side_by_side(parts))
    moved = add(parts[0], TaylorModel(basis, f.terms * float(length), f.error * float(length)))
    below, above = moved.range()
    known = np.isfinite(below) & np.isfinite(above)
    return np.where(known, np.minimum(low, below), low), np.where(known, np.maximum(high, above), high)


def _side_by_side(parts: list[TaylorModel]) -> TaylorModel:
    terms = np.concatenate([p.terms for p in parts], axis=2)
    return TaylorModel(parts[0].basis, terms, np.concatenate([p.error for p in parts], axis=1))


def _linearised(
    problem: Problem,
    states: TaylorModel,
    rest: TaylorModel | None,
    length: Fraction,
    over: tuple[Array, Array],
    disturbance: Disturbance | None,
) -> LinearStep:
    """The step of x' = A x + b + G u that encloses the plant's as long as its states are within the box ``over``.

    f = c + A (x - x_c) + P (p - p_c) + W (w - w_c) + l, |l| <= e: b = c - A x_c + P (p - p_c), and u consists of w - w_c and l.
    """
    low, high = over
    n = low.shape[1]
    if rest is not None:
        below, above = rest.range()
        if disturbance is not None:
            here = slice(disturbance.first - n, disturbance.first - n + len(disturbance.lower))
            below[:, here], above[:, here] = disturbance.lower, disturbance.upper
        low, high = np.concatenate([low, below], axis=1), np.concatenate([high, above], axis=1)
    width = low.shape[1]
    basis = monomials(width, 1)
    z = box(basis, low, high, range(width))
    center, radius = z.terms[0], z.terms[np.arange(1, width + 1), :, np.arange(width)].T  # (B, width)
    f = propagate_models(problem, z)
    terms, error = f.terms[: len(basis)], (f.error + abs(f.terms[len(basis) :]).sum(0)) * (1 + 1e-9)
    slopes = np.moveaxis(terms[1:], 0, 2)  # (B, n, width), in units of the radius
    J = np.where(radius[:, None] > 0, slopes / np.where(radius > 0, radius, 1.0)[:, None], 0.0)
    # J radius is not quite the slope
    e = (error + 4 * _U * abs(slopes).sum(2) + 4 * width * _TINY * (1 + radius.sum(1, keepdims=True))) * (
        1 + gamma(width + 8, FLOAT64)
    )
    A = exact(J[:, :, :n])
    drive = constant(states.basis, terms[0], terms[0])
    still = constant(states.basis, -center[:, :n], -center[:, :n])
    drive = add(drive, mapped(A, still))
    held = np.ones(width - n, bool)
    gain, away = np.broadcast_to(np.eye(n), (len(e), n, n)), e
    if rest is not None:
        if disturbance is not None:
            held[here] = False
            gain = np.concatenate([gain, J[:, :, n:][:, :, ~held]], axis=2)
            away = np.concatenate([e, radius[:, n:][:, ~held]], axis=1)
        own = shifted(rest.component(held), -center[:, n:][:, held])
        drive = add(drive, mapped(exact(J[:, :, n:][:, :, held]), own))
    states, drive = aligned([states, drive])
    unknown = np.full_like(e, np.nan)
    return LinearStep(
        states, drive, A, Balls(gain, np.zeros_like(gain)), away, length, np.ones(len(e), bool), (unknown, unknown), True
    )  # fmt: skip
