"""Linear maps y = W x + bias between flat vectors, x split in one or several inputs x_i.

`apply` computes W x (without bias), `magnitude` |W| x, `transpose` carries rows r of coefficients back: r W_i. All of them
are plain float64 arithmetic; who uses them accounts for rounding with `terms` and `back`, the largest number of products
summed for one element of y and of r W. Adding exact zeros does not round, so only weights that are not zero are counted.
Constants that float64 cannot hold (1/3) have a `doubt`: |true W - W| <= doubt.W and |true bias - bias| <= doubt.bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear:
    """A linear map; xs are arrays (B, n_i), rows an array (B, R, m)."""

    weights: Any = None
    bias: np.ndarray | None = None
    terms: int = 1
    back: int = 1
    exact: bool = False  # numbers are only moved or negated
    doubt: Linear | None = None

    def apply(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        raise NotImplementedError

    def transpose(self, rows: np.ndarray) -> list[np.ndarray]:
        raise NotImplementedError

    @cached_property
    def absolute(self) -> Linear:
        return replace(self, weights=np.abs(self.weights))

    def magnitude(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        return self.absolute.apply(xs)


class Dense(Linear):
    """One matrix (m, k), applied to each of the consecutive blocks of k elements of x."""

    def apply(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        return (xs[0].reshape(-1, self.weights.shape[1]) @ self.weights.T).reshape(len(xs[0]), -1)

    def transpose(self, rows: np.ndarray) -> list[np.ndarray]:
        return [(rows.reshape(-1, len(self.weights)) @ self.weights).reshape(*rows.shape[:2], -1)]


class Sum(Linear):
    """y = sum_i w_i x_i, all x_i of one size; each w_i is a number, or a vector of factors for the elements of x_i."""

    def apply(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        return sum((x * w for x, w in zip(xs[1:], self.weights[1:], strict=True)), xs[0] * self.weights[0])

    def transpose(self, rows: np.ndarray) -> list[np.ndarray]:
        return [rows * w for w in self.weights]


@dataclass(frozen=True, eq=False, kw_only=True)
class Gather(Linear):
    """y_e = x[index_e], x the inputs one behind the other; index -1 reads a zero. No x is read more than `back` times."""

    sizes: tuple[int, ...]
    index: np.ndarray

    def apply(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([*xs, np.zeros((len(xs[0]), 1))], axis=1)[:, self.index]  # -1: the zero at the end

    magnitude = apply

    def transpose(self, rows: np.ndarray) -> list[np.ndarray]:
        n = sum(self.sizes) + 1
        places = np.arange(rows.shape[0] * rows.shape[1])[:, None] * n + self.index % n
        sums = np.bincount(places.ravel(), rows.ravel(), rows.shape[0] * rows.shape[1] * n)
        return np.split(sums.reshape(*rows.shape[:2], n)[:, :, :-1], np.cumsum(self.sizes)[:-1], axis=2)
