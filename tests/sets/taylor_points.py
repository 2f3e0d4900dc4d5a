"""Taylor models at points, in exact arithmetic: what tests of their arithmetic compare with."""

from __future__ import annotations

import math
from fractions import Fraction

import flint
import numpy as np

from holdfast.sets.monomials import Monomials
from holdfast.sets.taylor_model import TaylorModel

Array = np.ndarray
Point = list[Fraction]
BITS = 400


def random_model(
    rng: np.random.Generator,
    basis: Monomials,
    shape: tuple[int, ...],
    batch: int = 1,
    symbols: int = 0,
    kind: str = "plain",
) -> TaylorModel:
    """Coefficients of sizes that differ; ``kind``: plain, exact (no error), huge, tiny, denormal, sparse (many zeros)."""
    size = (len(basis) + symbols, batch, *shape)
    low, high = {"huge": (90, 140), "tiny": (-170, -90), "denormal": (-323, -300)}.get(kind, (-6, 3))
    terms = rng.normal(size=size) * 10.0 ** rng.uniform(low, high, size)
    error = abs(rng.normal(size=size[1:])) * 10.0 ** rng.uniform(low - 6, high - 3, size[1:])
    if kind == "sparse":
        terms *= rng.random(size) < 0.3
    if kind == "exact":
        error *= 0
    return TaylorModel(basis, terms, error)


def random_point(rng: np.random.Generator, count: int) -> Point:
    """In [-1, 1]^count: corners, edges, zeros, inside."""
    chosen = rng.integers(0, 5)
    values = rng.uniform(-1, 1, count)
    if chosen == 0:
        values = np.sign(values)
    elif chosen == 1:
        values = np.where(rng.random(count) < 0.5, np.sign(values), values)
    elif chosen == 2:
        values = np.where(rng.random(count) < 0.5, 0.0, values)
    return [Fraction(float(v)) for v in values]


def monomial_values(basis: Monomials, xi: Point) -> Point:
    """All monomials at a point."""
    found = []
    for row in basis.exponents.tolist():
        value = Fraction(1)
        for x, e in zip(xi, row, strict=True):
            value *= x**e
        found.append(value)
    return found


def polynomial(model: TaylorModel, at: tuple[int, ...], xi: Point) -> Fraction:
    """The polynomial part of the element ``at`` (member of the batch first)."""
    values = monomial_values(model.basis, xi)
    terms = model.terms[: len(model.basis)]
    return sum((Fraction(float(c)) * v for c, v in zip(terms[(slice(None), *at)], values, strict=True)), Fraction(0))


def symbolic(model: TaylorModel, at: tuple[int, ...], eps: Point) -> Fraction:
    """The part of the first symbols, as many as ``eps`` has."""
    terms = model.terms[len(model.basis) :]
    return sum((Fraction(float(g)) * e for g, e in zip(terms[(slice(None), *at)], eps, strict=False)), Fraction(0))


def value(model: TaylorModel, at: tuple[int, ...], xi: Point, eps: Point, share: Fraction) -> Fraction:
    """A point of the set: ``share`` in [-1, 1] of the error."""
    return polynomial(model, at, xi) + symbolic(model, at, eps) + Fraction(float(model.error[at])) * share


def room(model: TaylorModel, at: tuple[int, ...], known: int) -> Fraction | None:
    """How far values may be from the part that is known: error and symbols from number ``known`` on; None: infinitely far."""
    rest = [float(model.error[at]), *model.terms[(slice(len(model.basis) + known, None), *at)].tolist()]
    if not all(map(math.isfinite, rest)):
        return None
    return sum((abs(Fraction(r)) for r in rest), Fraction(0))


def holds(model: TaylorModel, at: tuple[int, ...], xi: Point, eps: Point, exact: Fraction | flint.arb) -> bool:
    """Whether the exact value is one of the model's at this point (balls: not certainly outside)."""
    size = room(model, at, len(eps))
    if size is None or not np.isfinite(model.terms[(slice(None), *at)]).all():
        return True
    middle = polynomial(model, at, xi) + symbolic(model, at, eps)
    if isinstance(exact, Fraction):
        return abs(exact - middle) <= size
    with flint.ctx.workprec(BITS):
        return not abs(exact - ball(middle)) > ball(size)


def ball(x: Fraction | float) -> flint.arb:
    """A number as a ball that holds it."""
    x = Fraction(x)
    with flint.ctx.workprec(BITS):
        return flint.arb(flint.fmpq(x.numerator, x.denominator))
