"""Taylor models with symbolic remainders, in batches: x = sum_k c_k xi^a_k + sum_j g_j eps_j + [-error, error].

xi in [-1, 1]^V are the variables shared by everything that started from the same box, eps in [-1, 1]^M symbols of errors made
on the way, known linearly. Makino, Berz, Taylor models and other validated functional inclusion methods, 2003; the symbols as in affine
arithmetic and zonotopes. All rounding is charged a priori to ``error`` (Higham, Accuracy and Stability, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import comb

import numpy as np

from holdfast.rigor import FLOAT64, gamma
from holdfast.sets.monomials import Monomials

Array = np.ndarray
_U, _TINY = FLOAT64.unit, FLOAT64.tiny
FLAT = -0.5  # mean logarithm of a turned box's sides, in those of the box along the coordinates: worth turning
_UP = 1 + 64 * _U  # covers the few roundings of an error term that is computed in plain arithmetic


@dataclass(frozen=True, eq=False)
class TaylorModel:
    """A batch of B Taylor models of arrays: ``terms`` (K + M, B, *shape), ``error`` (B, *shape) >= 0.

    The first K = len(basis) terms are coefficients of the monomials, the others of the symbols. NaN and infinite errors mean that
    nothing is known; every test of an enclosure must be written so that NaN fails it.
    """

    basis: Monomials
    terms: Array
    error: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one member of the batch."""
        return self.error.shape[1:]

    @property
    def symbols(self) -> int:
        """M."""
        return len(self.terms) - len(self.basis)

    @property
    def size(self) -> Array:
        """A bound of the magnitude (B, *shape), rounded up to within `_UP`."""
        return abs(self.terms).sum(0) * (1 + gamma(len(self.terms), FLOAT64)) + self.error

    def spread(self) -> Array:
        """A bound of the distance from the constant term."""
        return abs(self.terms[1:]).sum(0) * (1 + gamma(len(self.terms), FLOAT64)) + self.error

    def range(self) -> tuple[Array, Array]:
        """Lower and upper bounds (B, *shape): squares of single variables are taken together with their linear terms."""
        basis, K = self.basis, len(self.basis)
        terms = self.terms
        low = high = terms[0]
        rest = abs(terms[K:]).sum(0)
        used = np.zeros(K, bool)
        used[0] = True
        V = basis.variables
        if V and basis.degree >= 2:
            a, b = terms[1 : 1 + V], terms[basis.squares]
            used[1 : 1 + V] = True
            used[basis.squares] = True
            size = abs(a)
            with np.errstate(divide="ignore", invalid="ignore"):
                vertex = np.where(size < 2 * abs(b), -(0.25 * a) * (a / b), np.nan)  # a * a might underflow
            ends = np.stack([b + size, b - size])
            below = np.where(np.isnan(vertex) | (b < 0), ends.min(0), vertex)
            above = np.where(np.isnan(vertex) | (b > 0), ends.max(0), vertex)
            low, high = low + below.sum(0), high + above.sum(0)
        more = terms[:K][~used]
        if len(more):
            even = basis.even[~used].reshape(-1, *([1] * (terms.ndim - 1)))
            low = low - np.where(even, np.maximum(-more, 0.0), abs(more)).sum(0)
            high = high + np.where(even, np.maximum(more, 0.0), abs(more)).sum(0)
        rest = rest + self.error + 2 * gamma(len(terms) + 16, FLOAT64) * self.size + 4 * len(terms) * _TINY
        return low - rest * _UP, high + rest * _UP

    def __getitem__(self, chosen: Array | slice) -> TaylorModel:
        """These members of the batch."""
        return TaylorModel(self.basis, self.terms[:, chosen], self.error[chosen])

    def component(self, chosen: int | slice | Array) -> TaylorModel:
        """These elements along the first axis of the shape."""
        return TaylorModel(self.basis, self.terms[:, :, chosen], self.error[:, chosen])


def constant(basis: Monomials, low: Array, high: Array) -> TaylorModel:
    """Intervals [low, high] (B, *shape), of which nothing more is known."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    middle = np.where(low == high, low, 0.5 * low + 0.5 * high)  # halves of denormal numbers are rounded
    terms = np.zeros((len(basis), *middle.shape))
    terms[0] = middle
    return TaylorModel(basis, terms, np.where(low == high, 0.0, _radius(low, high, middle)))


def box(basis: Monomials, low: Array, high: Array, variables: Sequence[int | None]) -> TaylorModel:
    """Boxes (B, n): component i is middle + radius * xi_variables[i] (None: its width goes to the error)."""
    model = constant(basis, low, high)
    terms, error = model.terms.copy(), model.error.copy()
    for i, variable in enumerate(variables):
        if variable is not None:
            terms[1 + variable, :, i], error[:, i] = error[:, i], 0.0
    return TaylorModel(basis, terms, error)


def _radius(low: Array, high: Array, middle: Array) -> Array:
    return np.maximum(high - middle, middle - low) * (1 + 8 * _U) + 4 * _TINY


def aligned(models: Sequence[TaylorModel]) -> list[TaylorModel]:
    """The same models with as many symbols as the one with the most (symbols are numbered; missing ones have no part)."""
    most = max(m.symbols for m in models)
    return [m if m.symbols == most else widened(m, most) for m in models]


def widened(model: TaylorModel, symbols: int) -> TaylorModel:
    """With room for more symbols."""
    more = np.zeros((symbols - model.symbols, *model.error.shape))
    return replace(model, terms=np.concatenate([model.terms, more]))


def add(a: TaylorModel, b: TaylorModel, sign: float = 1.0) -> TaylorModel:
    """a + sign b, ``sign`` 1 or -1."""
    a, b = aligned([a, b])
    terms = a.terms + b.terms if sign > 0 else a.terms - b.terms
    return TaylorModel(a.basis, terms, (a.error + b.error + _U * abs(terms).sum(0) * 2) * _UP)


def shifted(model: TaylorModel, by: Array | float) -> TaylorModel:
    """model + by, for float64 numbers (broadcastable to (B, *shape))."""
    terms = model.terms.copy()
    terms[0] = terms[0] + by
    return replace(model, terms=terms, error=(model.error + 2 * _U * abs(terms[0])) * _UP)


def scaled(model: TaylorModel, factor: Array | float) -> TaylorModel:
    """factor * model, for numbers (broadcastable to (B, *shape)) that may be off by one rounding, as 1 / 3 is."""
    terms = model.terms * factor
    lost = 4 * _U * abs(terms).sum(0) + len(terms) * _TINY
    return TaylorModel(model.basis, terms, (model.error * abs(factor) + lost) * _UP + _TINY)


def multiply(a: TaylorModel, b: TaylorModel) -> TaylorModel:
    """a b element by element: monomials above the degree, and products of symbols with anything but constants, go to the error."""
    a, b = aligned([a, b])
    basis, K = a.basis, len(a.basis)
    p, q = a.terms[:K], b.terms[:K]
    P, Q = abs(p), abs(q)
    a0, b0 = p[0], q[0]
    away, bway = P[1:].sum(0), Q[1:].sum(0)  # of what varies polynomially
    A, B = P[0] + away, Q[0] + bway
    if K == 1:
        terms = p * q
        lost: Array = np.zeros_like(a.error)
    else:
        terms = np.add.reduceat(p[basis.left] * q[basis.right], basis.pairs, axis=0)
        lost = _beyond(basis, P, Q)
    rounding = gamma(basis.most + 4, FLOAT64) * (A * B)
    if a.symbols:
        g, h = a.terms[K:], b.terms[K:]
        G, H = abs(g).sum(0), abs(h).sum(0)
        terms = np.concatenate([terms, a0 * h + b0 * g])
        lost = lost + away * H + bway * G + G * H
        rounding = rounding + 8 * _U * (A * H + B * G)
        A, B = A + G, B + H
    lost = lost + A * b.error + B * a.error + a.error * b.error
    slack = 1 + gamma(2 * len(terms) + 16, FLOAT64)  # sums of magnitudes, each rounded
    floor = (4 * len(basis.left) + 4 * len(terms)) * _TINY * (1 + A + B)
    return TaylorModel(basis, terms, ((lost + rounding) * slack) * _UP + floor)


def _beyond(basis: Monomials, P: Array, Q: Array) -> Array:
    """A bound of the part of a product whose degree exceeds that of the basis, from absolute coefficients."""
    d = basis.degree
    if d == 0:
        return np.zeros_like(P[0])
    starts = basis.degrees[:-1]
    of_a, of_b = np.add.reduceat(P, starts, axis=0), np.add.reduceat(Q, starts, axis=0)
    tail = np.cumsum(of_b[::-1], axis=0)[::-1]  # degree j or more
    total: Array = of_a[1] * tail[d]
    for i in range(2, d + 1):
        total = total + of_a[i] * tail[d + 1 - i]
    return total


def with_symbols(model: TaylorModel, chosen: Array, first: int, total: int) -> TaylorModel:
    """The errors of the ``chosen`` elements (places in the flat shape) become symbols ``first``, ``first + 1``, ... of ``total``."""
    K, B = len(model.basis), len(model.error)
    flat = model.error.reshape(B, -1)
    terms = np.zeros((K + total, B, flat.shape[1]))
    terms[: len(model.terms)] = model.terms.reshape(len(model.terms), B, -1)
    terms[K + first + np.arange(len(chosen)), :, chosen] = flat[:, chosen].T
    error = flat.copy()
    error[:, chosen] = 0.0
    return TaylorModel(model.basis, terms.reshape(-1, *model.error.shape), error.reshape(model.error.shape))


def reduced(model: TaylorModel, limit: int) -> TaylorModel:
    """Vectors (B, n): the error becomes a symbol per component; of more than ``limit`` symbols the smaller ones are joined.

    What is joined is enclosed by a box along its principal axes (Kopetzki, Schürmann, Althoff, Methods for order reduction of
    zonotopes, CDC 2017): errors of stable loops lie along few directions, and boxes along the coordinates would let them grow.
    """
    K, n = len(model.basis), model.error.shape[1]
    symbols, error = model.terms[K:], model.error
    if len(symbols) + n > limit:
        weight = np.nan_to_num(abs(symbols).sum(2) / np.maximum(abs(symbols).sum((0, 2)), 1e-300)).max(1)
        order = np.argsort(-weight, kind="stable")
        keep = max(limit // 2 - 2 * n, 0)
        kept, axes, lost = np.sort(order[:keep]), *_along_axes(symbols[order[keep:]])
        symbols, error = np.concatenate([symbols[kept], axes]), (error + lost) * _UP
    own = np.zeros((n, len(error), n))
    own[np.arange(n), :, np.arange(n)] = error.T
    return TaylorModel(model.basis, np.concatenate([model.terms[:K], symbols, own]), np.zeros_like(error))


def _along_axes(symbols: Array) -> tuple[Array, Array]:
    """n symbols (n, B, n) and an error (B, n) that hold the sum of these (M, B, n)."""
    M, _, n = symbols.shape
    G = np.moveaxis(symbols, 0, 2)  # (B, n, M)
    whole = np.isfinite(G).all((1, 2))
    plain = np.where(whole[:, None, None], G, 0.0)
    scale = np.maximum(abs(plain).sum(2), 1e-300)
    unit = plain / scale[:, :, None]
    _, U = np.linalg.eigh(np.matmul(unit, np.swapaxes(unit, 1, 2)))
    flat = np.log(np.maximum(abs(np.matmul(np.swapaxes(U, 1, 2), unit)).sum(2), 1e-300)).mean(1) < FLAT
    U = np.where(flat[:, None, None], U, np.eye(n))
    axes = U * scale[:, :, None]
    share = np.matmul(np.swapaxes(U / scale[:, :, None], 1, 2), plain)  # in which the symbols are axes @ share, nearly
    rest = abs(plain - np.matmul(axes, share)).sum(2)
    size = np.matmul(abs(axes), abs(share)).sum(2) + abs(plain).sum(2)
    lost = rest * (1 + gamma(M + 2, FLOAT64)) + gamma(2 * n + M + 8, FLOAT64) * size + (M + n) * (n + 4) * _TINY
    length = abs(share).sum(2) * (1 + gamma(M + 2, FLOAT64)) + M * _TINY
    # axes * length, rounded once more
    found = axes * length[:, None, :]
    lost = (lost + 4 * _U * abs(found).sum(2) + n * _TINY) * _UP
    return np.moveaxis(found, 2, 0), np.where(whole[:, None], lost, np.inf)


def halves(model: TaylorModel, variable: int) -> tuple[TaylorModel, TaylorModel]:
    """The same set over both halves of one variable: xi = (xi' - 1) / 2 and (xi' + 1) / 2."""
    basis, K = model.basis, len(model.basis)
    found = []
    for sign in (-1.0, 1.0):
        matrix = _substitution(basis, variable, sign)
        flat = model.terms[:K].reshape(K, -1)
        terms = model.terms.copy()
        terms[:K] = (matrix @ flat).reshape(terms[:K].shape)
        lost = gamma(K + 4, FLOAT64) * abs(model.terms[:K]).sum(0) * 2 + K * _TINY
        found.append(TaylorModel(basis, terms, (model.error + lost) * _UP))
    return found[0], found[1]


def _substitution(basis: Monomials, variable: int, sign: float) -> Array:
    """Columns: monomials with xi_variable = (xi' + sign) / 2, exact in float64 (binomials over powers of two; column sums <= 1)."""
    place = {tuple(row): k for k, row in enumerate(basis.exponents.tolist())}
    matrix = np.zeros((len(basis), len(basis)))
    for k, row in enumerate(basis.exponents.tolist()):
        e = row[variable]
        for j in range(e + 1):
            matrix[place[(*row[:variable], j, *row[variable + 1 :])], k] = comb(e, j) * sign ** (e - j) / 2.0**e
    return matrix


def restricted(model: TaylorModel, low: Array, high: Array) -> TaylorModel:
    """The same set over a sub-box of the variables for each member: ``low`` <= ``high``, each (B, V), within [-1, 1].

    xi = center + radius xi', rounded outward: a little more than the sub-box.
    """
    basis, K = model.basis, len(model.basis)
    center = 0.5 * low + 0.5 * high
    radius = np.where((low <= -1) & (high >= 1), 1.0, _radius(low, high, center))
    center = np.where((low <= -1) & (high >= 1), 0.0, center)
    polynomial, error = model.terms[:K], model.error
    for v in range(basis.variables):
        if not ((center[:, v] != 0) | (radius[:, v] != 1)).any():
            continue
        table = _moves(basis, v)
        powers = [_powers(a[:, v], basis.degree) for a in (center, radius)]
        weights = table.binomials[:, None] * powers[0][table.shifts] * powers[1][table.kept]
        weights = weights.reshape(*weights.shape, *([1] * (error.ndim - 1)))
        # at most degree + 1 summands, each with a weight of at most 2 degree + 2 roundings; columns add up to about 1
        lost = 2 * gamma(4 * basis.degree + 16, FLOAT64) * abs(polynomial).sum(0) + 4 * len(table.left) * _TINY
        polynomial = np.add.reduceat(weights * polynomial[table.left], table.starts, axis=0)
        error = (error + lost) * _UP
    return TaylorModel(basis, np.concatenate([polynomial, model.terms[K:]]), error)


@dataclass(frozen=True, eq=False)
class _Moves:
    """Which monomials xi^a, with (c + r xi')^e in place of one factor, have a part in which others: ``left`` (P,), sorted by what
    they have a part in, which is monomial k from ``starts[k]`` on; the weight of each is binomial c^shift r^kept."""

    left: Array
    starts: Array
    binomials: Array
    shifts: Array
    kept: Array


@lru_cache(maxsize=256)
def _moves(basis: Monomials, variable: int) -> _Moves:
    place = {tuple(row): k for k, row in enumerate(basis.exponents.tolist())}
    found = []
    for k, row in enumerate(basis.exponents.tolist()):
        e = row[variable]
        for j in range(e + 1):
            found.append((place[(*row[:variable], j, *row[variable + 1 :])], k, comb(e, j), e - j, j))
    target, left, binomials, shifts, kept = np.array(sorted(found), np.int64).T
    return _Moves(left, np.searchsorted(target, np.arange(len(basis))), binomials.astype(np.float64), shifts, kept)


def _powers(a: Array, degree: int) -> Array:
    """1, a, a^2, ... (degree + 1, B), each by one product from the one before."""
    return np.cumprod(np.stack([np.ones_like(a)] + [a] * degree), axis=0)


def concatenated(models: Sequence[TaylorModel]) -> TaylorModel:
    """Vectors (B, n_i), one behind the other."""
    if len(models) == 1:
        return models[0]
    models = aligned(models)
    terms = np.concatenate([m.terms for m in models], axis=2)
    return TaylorModel(models[0].basis, terms, np.concatenate([m.error for m in models], axis=1))


def joined(model: TaylorModel, symbols: int) -> TaylorModel:
    """A vector (B, m) whose symbols from number ``symbols`` on, and its error, become one new symbol per component."""
    K, m = len(model.basis), model.error.shape[1]
    own = model.terms[K + symbols :]
    error = (model.error + abs(own).sum(0) * (1 + gamma(len(own) + 2, FLOAT64))) * _UP
    kept = TaylorModel(model.basis, model.terms[: K + symbols], error)
    return with_symbols(kept, np.arange(m), symbols, symbols + m)


def stacked(models: Sequence[TaylorModel]) -> TaylorModel:
    """Batches of models of the same shape, one behind the other."""
    models = aligned(models)
    terms = np.concatenate([m.terms for m in models], axis=1)
    return TaylorModel(models[0].basis, terms, np.concatenate([m.error for m in models]))
