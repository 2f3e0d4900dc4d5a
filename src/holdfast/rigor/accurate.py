"""Products and sums of constants in twice the working precision, each with a bound on what float64 could not hold.

Used when constants are merged (a normalisation folded into a convolution, ...), on NumPy only: a NumPy operation
rounds once and to nearest, which error-free transformations rest on; compiled code does not promise that.
Ogita, Rump, Oishi, Accurate Sum and Dot Product, SIAM J. Sci. Comput. 26(6), 2005: algorithm 5.3, proposition 5.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import numpy as np

from holdfast.rigor.rounding import FLOAT64, gamma, round_up

# Inside this range nothing below underflows or overflows: two factors are multiples of 2^-452, their products and all
# error terms multiples of 2^-904, sums stay under 2^900.
_SMALLEST, _LARGEST = 2.0**-400, 2.0**400
_SPLITTER = 2.0**27 + 1


class Ball(NamedTuple):
    """A constant: the stored ``value``, and a bound on |real value - stored value| (None: the value is exact)."""

    value: np.ndarray
    radius: np.ndarray | None = None


def safe(x: np.ndarray) -> bool:
    """Whether all non-zero entries are finite and of a magnitude that cannot underflow or overflow here."""
    magnitude = np.abs(x)
    return bool(np.all((magnitude == 0) | ((magnitude >= _SMALLEST) & (magnitude <= _LARGEST))))


def two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a + b = value + error exactly (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _split(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shifted = _SPLITTER * a
    high = shifted - (shifted - a)
    return high, a - high


def two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a * b = value + error exactly (Dekker and Veltkamp), for factors in the safe range."""
    product = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def multiply(a: Ball, b: Ball) -> Ball | None:
    """a * b, or None where a factor is out of range."""
    return _sum_of_products([(a, b)], 1) if _all_safe(a, b) else None


def multiply_add(a: Ball, b: Ball, c: Ball) -> Ball | None:
    """a * b + c, or None where an argument is out of range."""
    return _sum_of_products([(a, b), (c, _ONE)], 2) if _all_safe(a, b, c) else None


def matrix_product(a: Ball, b: Ball, c: Ball | None = None, *, limit: int | None = None) -> Ball | None:
    """a (n, k) @ b (k, m) (+ c, broadcastable); None where a number is out of range, or for more work than ``limit``.

    Work, in multiplications: n m times the largest number of entries of a column of ``b`` that are not zero and meet
    a column of ``a`` that is not. Selection matrices, however large, cost next to nothing.
    """
    n, m = a.value.shape[0], b.value.shape[1]
    present = _present(b) & np.any(_present(a), axis=0)[:, None]
    depth = int(np.count_nonzero(present, axis=0).max(initial=0))
    if limit is not None and n * m * depth > limit:
        return None
    rows, columns = np.nonzero(present)
    entries = take(b, (rows, columns))
    if not _all_safe(a, entries, *([c] if c else [])):
        return None
    # the s-th entry of every column: its row (0 where there is none) and its value (0 there)
    order = np.argsort(columns, kind="stable")
    columns = columns[order]
    slot = np.arange(columns.size) - np.searchsorted(columns, columns)
    chosen = np.zeros((depth, m), np.intp)
    chosen[slot, columns] = rows[order]
    value, radius = np.zeros((depth, m)), None if entries.radius is None else np.zeros((depth, m))
    value[slot, columns] = entries.value[order]
    if radius is not None and entries.radius is not None:
        radius[slot, columns] = entries.radius[order]
    factors = Ball(value, radius)
    pairs = ((take(a, (slice(None), chosen[s])), take(factors, (s,))) for s in range(depth))
    start = Ball(np.zeros((n, m))) if c is None else broadcast(c, (n, m))
    return _sum_of_products(chain([(start, _ONE)], pairs), depth + 1)


def _present(a: Ball) -> np.ndarray:
    return a.value != 0 if a.radius is None else (a.value != 0) | (a.radius != 0)


def row_products(a: Ball, b: Ball, c: Ball) -> Ball | None:
    """sum_k a[i, k] b[i, k] + c[i], or None where an argument is out of range."""
    if not _all_safe(a, b, c):
        return None
    columns = [(slice(None), k) for k in range(a.value.shape[1])]
    return _sum_of_products([(c, _ONE)] + [(take(a, k), take(b, k)) for k in columns], len(columns) + 1)


def negate(a: Ball) -> Ball:
    """-a."""
    return Ball(-a.value, a.radius)


def take(a: Ball, index: tuple) -> Ball:
    """Indexing, of value and radius alike; a part that is exact has no radius."""
    radius = None if a.radius is None else a.radius[index]
    return Ball(a.value[index], radius if radius is not None and np.any(radius) else None)


def reshape(a: Ball, shape: tuple[int, ...]) -> Ball:
    """Same elements, new shape."""
    return Ball(a.value.reshape(shape), None if a.radius is None else a.radius.reshape(shape))


def stack(a: Ball, b: Ball) -> Ball:
    """The rows of a, then those of b."""
    radii = [np.zeros(x.value.shape) if x.radius is None else x.radius for x in (a, b)]
    exact = a.radius is None and b.radius is None
    return Ball(np.concatenate([a.value, b.value]), None if exact else np.concatenate(radii))


def broadcast(a: Ball, shape: tuple[int, ...]) -> Ball:
    """Copies along axes of size 1 and new axes in front (a view)."""
    radius = None if a.radius is None else np.broadcast_to(a.radius, shape)
    return Ball(np.broadcast_to(a.value, shape), radius)


_ONE = Ball(np.ones(()))


def _all_safe(*balls: Ball) -> bool:
    # the radii are only bounded from above: no error-free transformation touches them
    return all(safe(b.value) and (b.radius is None or bool(np.all(b.radius <= _LARGEST))) for b in balls)


def _sum_of_products(pairs: Iterable[tuple[Ball, Ball]], terms: int) -> Ball:
    """Dot2: |result - sum a_i b_i| <= u |sum a_i b_i| + gamma_n^2 sum |a_i| |b_i|; exact where no error term arose."""
    total = correction = magnitude = inherited = np.zeros(())
    rounded = uncertain = np.zeros((), bool)
    for a, b in pairs:
        product, low = two_product(a.value, b.value)
        total, carry = two_sum(total, product)
        correction = correction + (carry + low)
        rounded = rounded | (low != 0) | (carry != 0)
        magnitude = magnitude + np.abs(product)
        for x, y in ((a, b), (b, a)):
            if x.radius is not None:  # (x +- rx)(y +- ry) - xy is within rx |y| + ry |x| + rx ry, counted once
                other = np.abs(y.value) + (y.radius if y.radius is not None and x is a else 0.0)
                inherited = inherited + x.radius * other
                uncertain = uncertain | ((x.radius != 0) & (other != 0))
    value = np.where(rounded, total + correction, total)
    if not (np.any(rounded) or np.any(uncertain)):
        return Ball(value)
    growth = gamma(terms, FLOAT64)
    # 2 u |value| covers u |exact| / (1 - u), growth is more than twice gamma_n: room for the roundings of this line
    radius = np.where(rounded, 2.0 * FLOAT64.unit * np.abs(value) + growth * growth * magnitude, 0.0)
    radius = np.where(uncertain, round_up(radius + inherited, FLOAT64, 4 * terms + 2), radius)
    return Ball(value, np.broadcast_to(radius, value.shape))
