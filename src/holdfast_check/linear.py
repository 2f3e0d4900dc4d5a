"""Linear maps y = W x + bias between flat vectors, x split in one or several inputs x_i.

`apply` computes W x (without bias), `magnitude` |W| x, `transpose` carries rows r of coefficients back: r W_i. All of them
are plain float64 arithmetic; who uses them accounts for rounding with `terms` and `back`, the largest number of products
summed for one element of y and of r W. Adding exact zeros does not round, so only weights that are not zero are counted.
`mapped` is the same map with other weights: the absolute ones, the radii of uncertain ones, or balls of any precision.
Constants that float64 cannot hold (1/3) have a `doubt`: |true W - W| <= doubt.W and |true bias - bias| <= doubt.bias.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear:
    """A linear map; xs are arrays (B, n_i), rows an array (B, R, m)."""

    bias: np.ndarray | None = None
    terms: int = 1
    back: int = 1
    exact: bool = False  # numbers are only moved or negated
    doubt: Linear | None = None
    weights: np.ndarray | None = None

    def apply(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        raise NotImplementedError

    def transpose(self, rows: np.ndarray) -> list[np.ndarray]:
        raise NotImplementedError

    def mapped(self, change: Callable[[np.ndarray], np.ndarray]) -> Linear:
        return self if self.weights is None else replace(self, weights=change(self.weights))

    @cached_property
    def absolute(self) -> Linear:
        return self.mapped(np.abs)

    def magnitude(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        return self.absolute.apply(xs)


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Linear):
    """One matrix (m, k), applied to each of the consecutive blocks of k elements of x."""

    weights: np.ndarray

    def apply(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        return (xs[0].reshape(-1, self.weights.shape[1]) @ self.weights.T).reshape(len(xs[0]), -1)

    def transpose(self, rows: np.ndarray) -> list[np.ndarray]:
        return [(rows.reshape(-1, self.weights.shape[0]) @ self.weights).reshape(*rows.shape[:2], -1)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scale(Linear):
    """y_e = w_e x_e."""

    weights: np.ndarray

    def apply(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        return xs[0] * self.weights

    def transpose(self, rows: np.ndarray) -> list[np.ndarray]:
        return [rows * self.weights]


@dataclass(frozen=True, eq=False, kw_only=True)
class Sum(Linear):
    """y = sum_i w_i x_i with numbers w_i = 1 or -1, all x_i of one size."""

    weights: np.ndarray

    def apply(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        return sum((x * w for x, w in zip(xs[1:], self.weights[1:], strict=True)), xs[0] * self.weights[0])

    def transpose(self, rows: np.ndarray) -> list[np.ndarray]:
        return [rows * w for w in self.weights]


@dataclass(frozen=True, eq=False, kw_only=True)
class Gather(Linear):
    """y_e = x[index_e], x the inputs one behind the other; index -1 reads a zero."""

    sizes: tuple[int, ...]
    index: np.ndarray

    def apply(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([*xs, np.zeros((len(xs[0]), 1))], axis=1)[:, self.index]  # -1: the zero at the end

    @cached_property
    def _readers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        order = np.argsort(self.index, kind="stable")
        return order, *np.unique(self.index[order], return_index=True)

    def transpose(self, rows: np.ndarray) -> list[np.ndarray]:
        order, read, starts = self._readers  # elements of x that are read, and where their readers begin in `order`
        carried = np.zeros((*rows.shape[:2], sum(self.sizes) + 1))
        if self.index.size:
            injective = len(read) == len(order)
            moved = rows[:, :, order]
            carried[:, :, read] = moved if injective else np.add.reduceat(moved, starts, axis=2)
        ends = list(itertools.accumulate(self.sizes))
        return [carried[:, :, end - size : end] for size, end in zip(self.sizes, ends, strict=True)]


@dataclass(frozen=True)
class Geometry:
    """Of a convolution; `out`: the spatial axes of its result."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    out: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Convolution(Linear):
    """weights (K, G, O, I): kernel positions in row-major order, groups, channels of a group of y and of x."""

    weights: np.ndarray
    shape: tuple[int, ...]  # of x: channels and spatial axes
    kernel: tuple[int, ...]
    geometry: Geometry

    def _padded(self, batch: int, kind: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """A zero array with room for the padding, and the view of its inside."""
        room = np.zeros(
            (batch, self.shape[0], *(n + a + b for n, (a, b) in zip(self.shape[1:], self.geometry.pads, strict=True))),
            kind,
        )
        inside = (slice(a, a + n) for n, (a, _) in zip(self.shape[1:], self.geometry.pads, strict=True))
        return room, room[(slice(None), slice(None), *inside)]

    def _positions(self) -> Iterator[tuple[int, tuple[slice, ...]]]:
        """For each kernel position: its number, and the places of the padded x that meet it, one for each element of y."""
        for k, offset in enumerate(np.ndindex(*self.kernel)):
            starts = [o * d for o, d in zip(offset, self.geometry.dilations, strict=True)]
            spans = zip(starts, self.geometry.strides, self.geometry.out, strict=True)
            yield k, (slice(None), slice(None), *(slice(a, a + s * (n - 1) + 1, s) for a, s, n in spans))

    def apply(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        batch, (_, groups, wide, deep) = len(xs[0]), self.weights.shape
        room, inside = self._padded(batch, xs[0].dtype)
        inside[...] = xs[0].reshape(inside.shape)
        y = np.zeros((batch, groups, wide, int(np.prod(self.geometry.out))), np.result_type(xs[0], self.weights))
        for k, places in self._positions():
            y += self.weights[k] @ room[places].reshape(batch, groups, deep, -1)
        return y.reshape(batch, -1)

    def transpose(self, rows: np.ndarray) -> list[np.ndarray]:
        batch, (_, groups, wide, _) = rows.shape[0] * rows.shape[1], self.weights.shape
        room, inside = self._padded(batch, np.result_type(rows, self.weights))
        y = rows.reshape(batch, groups, wide, -1)
        for k, places in self._positions():
            room[places] += (np.swapaxes(self.weights[k], 1, 2) @ y).reshape(batch, self.shape[0], *self.geometry.out)
        return [inside.reshape(*rows.shape[:2], -1)]
