"""Taylor models in outward float64: batches of sets of vectors, as polynomials with error bounds (section 3 of the format of tubes).

A model of B vectors (n,) is x = sum_k terms_k xi^a_k + sum_j terms_(K+j) eps_j + e, |e| <= error: xi in [-1, 1]^V (the same point for all models
of one batch member), eps in [-1, 1]^M (symbols, likewise), K monomials up to a degree. Every operation charges its rounding to the error, from
the sizes of what it adds up (`arithmetic.gamma`); `UP` pays for the rounding of these charges. What is not a number, or infinite, is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np

from holdfast_check.arithmetic import TINY, UNIT, gamma
from holdfast_check.network import Node
from holdfast_check.property import enclosing

Array = np.ndarray
UP = 1 + 2.0**-36  # more than 2^16 roundings of sums of numbers >= 0


@dataclass(frozen=True, eq=False)
class Basis:
    """Monomials by total degree: 1, the variables, then the others. `left[k]`, `right[k]`: pairs with products of no higher degree, those of
    monomial m from `first[m]` on, at most `most` of each; `starts[d]`: where degree d begins."""

    variables: int
    degree: int
    exponents: Array
    starts: list[int]
    left: Array
    right: Array
    first: Array
    most: int

    def __len__(self) -> int:
        return len(self.exponents)


@lru_cache(maxsize=64)
def basis(variables: int, degree: int) -> Basis:
    rows: list[tuple[int, ...]] = []
    starts = []
    for d in range(degree + 1 if variables else 1):
        starts.append(len(rows))
        for factors in combinations_with_replacement(range(variables), d):
            rows.append(tuple(factors.count(v) for v in range(variables)))
    place = {row: k for k, row in enumerate(rows)}
    pairs = []
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            product = tuple(x + y for x, y in zip(a, b, strict=True))
            if product in place:
                pairs.append((place[product], i, j))
    of, left, right = np.array(sorted(pairs)).T
    first = np.searchsorted(of, np.arange(len(rows)))
    exponents = np.array(rows, np.int64).reshape(len(rows), variables)
    return Basis(variables, degree, exponents, starts, left, right, first, int(np.bincount(of).max()))


@dataclass(frozen=True, eq=False)
class Model:
    """`terms` (K + M, B, n), `error` (B, n)."""

    basis: Basis
    terms: Array
    error: Array

    def __getitem__(self, members: Array) -> Model:
        return Model(self.basis, self.terms[:, members], self.error[members])

    @property
    def symbols(self) -> Array:
        return self.terms[len(self.basis) :]

    def size(self) -> Array:
        """About the largest absolute value; `UP` pays for its rounding."""
        return np.abs(self.terms).sum(axis=0) + self.error

    def spread(self) -> Array:
        """About the largest distance from the constant term."""
        return np.abs(self.terms[1:]).sum(axis=0) + self.error

    def range(self) -> tuple[Array, Array]:
        """Bounds (B, n). a x + b x^2 lies between its values at -1, 1 and, if that is inside, its vertex -a / 2b, which is -a^2 / 4b."""
        b, K, rest = self.basis, len(self.basis), self.terms[1:]
        low = high = np.zeros(self.error.shape)
        even = (b.exponents[1:] % 2 == 0).all(axis=1)
        if b.variables and b.degree > 1:
            squares = [
                int(np.flatnonzero((b.exponents == row).all(axis=1))[0]) for row in 2 * np.eye(b.variables, dtype=int)
            ]
            linear, square = self.terms[1 : b.variables + 1], self.terms[squares]
            with np.errstate(all="ignore"):
                vertex = -(linear / square) * linear / 4
                inside = np.abs(linear) < 2 * np.abs(square)
            ends = square - np.abs(linear), square + np.abs(linear)
            low = np.where(inside & (square > 0), vertex, ends[0]).sum(axis=0)
            high = np.where(inside & (square < 0), vertex, ends[1]).sum(axis=0)
            kept = np.ones(len(rest), bool)
            kept[[*range(b.variables), *(k - 1 for k in squares)]] = False
            rest, even = rest[kept], even[kept[: K - 1]]
        size, m = np.abs(rest), len(even)
        one_sided = even[:, None, None]
        low = low - np.where(one_sided, np.maximum(-rest[:m], 0.0), size[:m]).sum(axis=0) - size[m:].sum(axis=0)
        high = high + np.where(one_sided, np.maximum(rest[:m], 0.0), size[:m]).sum(axis=0) + size[m:].sum(axis=0)
        doubt = (self.error + gamma(len(self.terms) + 12) * self.size()) * UP + TINY
        return self.terms[0] + low - doubt, self.terms[0] + high + doubt


def charged(b: Basis, terms: Array, error: Array) -> Model:
    return Model(b, terms, error * UP + TINY)


def interval(b: Basis, low: Array, high: Array) -> Model:
    """Nothing but bounds (B, n)."""
    terms = np.zeros((len(b), *low.shape))
    terms[0] = np.where(low == high, low, 0.5 * low + 0.5 * high)
    radius = np.maximum(high - terms[0], terms[0] - low)
    return Model(b, terms, np.where(low == high, 0.0, radius * UP + TINY))


def box(b: Basis, low: Array, high: Array, variables: Sequence[int | None]) -> Model:
    """Boxes (B, n) whose component i is moved by a variable, or (None) by none."""
    model = interval(b, low, high)
    for i, v in enumerate(variables):
        if v is not None:
            model.terms[1 + v, :, i], model.error[:, i] = model.error[:, i], 0.0
    return model


def exact_box(b: Basis, boxes: Sequence[Sequence[tuple[Fraction, Fraction]]], variables: Sequence[int | None]) -> Model:
    """The same for exact ends."""
    low, high = (np.array([enclosing([pair[side] for pair in one], bool(side)) for one in boxes]) for side in (0, 1))
    return box(b, low.reshape(len(boxes), -1), high.reshape(len(boxes), -1), variables)


def aligned(models: Sequence[Model]) -> list[Model]:
    """With as many symbols each; those that are missing have no part."""
    most = max(len(m.terms) for m in models)
    gaps = [np.zeros((most - len(m.terms), *m.error.shape)) for m in models]
    return [
        Model(m.basis, np.concatenate([m.terms, g]), m.error) if len(g) else m
        for m, g in zip(models, gaps, strict=True)
    ]


def side_by_side(models: Sequence[Model]) -> Model:
    """Vectors, one behind the other."""
    models = aligned(models)
    terms = np.concatenate([m.terms for m in models], axis=2)
    return Model(models[0].basis, terms, np.concatenate([m.error for m in models], axis=1))


def stacked(models: Sequence[Model]) -> Model:
    """Batches, one behind the other."""
    models = aligned(models)
    return Model(
        models[0].basis, np.concatenate([m.terms for m in models], axis=1), np.concatenate([m.error for m in models])
    )


def weighted(models: Sequence[Model], weights: Sequence[Fraction | float]) -> Model:
    """sum of weight times model; a weight that is no float64 number is off by a rounding."""
    models = aligned(models)
    factors = [float(w) for w in weights]
    terms = sum((m.terms * w for m, w in zip(models[1:], factors[1:], strict=True)), models[0].terms * factors[0])
    sizes = [m.size() for m in models]
    whole: Array = np.sum(sizes, axis=0)
    size = sum(m * abs(w) for m, w in zip(sizes, factors, strict=True))
    error = sum(m.error * abs(w) for m, w in zip(models, factors, strict=True))
    return charged(models[0].basis, terms, error + gamma(len(models) + 2) * size + TINY * whole)


def shifted(m: Model, by: Array | float) -> Model:
    terms = m.terms.copy()
    terms[0] = terms[0] + by
    return charged(m.basis, terms, m.error + 2 * UNIT * np.abs(terms[0]))


def scaled(m: Model, factor: Array) -> Model:
    """factor (B, n) times m; the factor may be off by two roundings."""
    return charged(m.basis, m.terms * factor, m.error * np.abs(factor) + gamma(3) * (m.size() * np.abs(factor)))


def times(x: Model, y: Model) -> Model:
    """Element by element. Products of too high a degree, and of symbols with anything but the constant term, go to the error."""
    x, y = aligned([x, y])
    b, K = x.basis, len(x.basis)
    p, q, g, h = x.terms[:K], y.terms[:K], x.symbols, y.symbols
    P, Q, G, H = np.abs(p), np.abs(q), np.abs(g).sum(axis=0), np.abs(h).sum(axis=0)
    whole_p, whole_q = P.sum(axis=0), Q.sum(axis=0)
    terms = np.add.reduceat(p[b.left] * q[b.right], b.first, axis=0) if K > 1 else p * q
    lost = np.zeros(x.error.shape)
    if K > 1:
        of_p, of_q = (np.add.reduceat(S, b.starts, axis=0) for S in (P, Q))  # by degree
        for d in range(1, b.degree + 1):
            lost = lost + of_p[d] * of_q[b.degree + 1 - d :].sum(axis=0)
    if len(g):
        terms = np.concatenate([terms, p[0] * h + q[0] * g])
        lost = lost + (P[1:].sum(axis=0) + G) * H + G * Q[1:].sum(axis=0)
    size_x, size_y = whole_p + G, whole_q + H
    lost = lost + size_x * y.error + size_y * x.error + x.error * y.error
    return charged(b, terms, lost + gamma(b.most + 3) * (size_x * size_y))


def linear(node: Node, models: Sequence[Model], constant: bool = True) -> Model:
    """A linear node; `constant`: with its bias."""
    models, what = aligned(models), node.linear
    assert what is not None
    (R, B), b = models[0].terms.shape[:2], models[0].basis
    terms = what.apply([m.terms.reshape(R * B, -1) for m in models]).reshape(R, B, -1)
    error = what.magnitude([m.error for m in models])
    bias = what.bias if constant else None
    if what.exact and bias is None and what.doubt is None:
        return Model(b, terms, error)
    sizes = [m.size() for m in models]
    size, doubt = what.magnitude(sizes), np.zeros(1)
    if what.doubt is not None:
        doubt = what.doubt.magnitude(sizes)
        if constant and what.doubt.bias is not None:
            doubt = doubt + what.doubt.bias
    if bias is not None:
        terms[0] += bias
        size = size + np.abs(bias)
    return charged(b, terms, error + gamma(what.terms + 4) * size + doubt)


def symbolic(m: Model, after: int = 0, floor: float = 0.0) -> Model:
    """Errors become symbols behind the first `after` ones, one for each element whose error is more than a share of the largest value."""
    count, (B, n) = max(len(m.symbols), after), m.error.shape
    chosen = np.flatnonzero((m.error > floor * np.abs(m.terms[0]).max(axis=1, keepdims=True, initial=0.0)).any(axis=0))
    terms = np.zeros((len(m.basis) + count + len(chosen), B, n))
    terms[: len(m.terms)] = m.terms
    terms[len(m.basis) + count + np.arange(len(chosen)), :, chosen] = m.error[:, chosen].T
    error = m.error.copy()
    error[:, chosen] = 0.0
    return Model(m.basis, terms, error)


def kept(m: Model, symbols: int) -> Model:
    """Symbols behind the first ones join the error."""
    rows = len(m.basis) + symbols
    return charged(m.basis, m.terms[:rows], m.error + np.abs(m.terms[rows:]).sum(axis=0))


def reduced(m: Model, limit: int) -> Model:
    """The error becomes a symbol for each element; of more than `limit` symbols the smaller half joins the error before."""
    if len(m.symbols) + m.error.shape[1] > limit:
        size = np.abs(m.symbols)
        weight = (size / np.maximum(size.sum(axis=0), TINY)).max(axis=(1, 2))
        order = np.argsort(-weight)
        K, half = len(m.basis), limit // 2
        few = np.concatenate([np.arange(K), K + np.sort(order[:half])])
        m = charged(m.basis, m.terms[few], m.error + size[order[half:]].sum(axis=0))
    return symbolic(m)
