"""Taylor coefficients in time of the solutions of x' = f(x, p), where x, p are Taylor models: automatic differentiation through a graph.

Order by order: the k-th coefficient of f is known from the first k coefficients of x, and x_(k+1) = f_k / (k + 1).
Moore, Interval Analysis, 1966, chapter 11; the recurrences in Griewank, Walther, Evaluating Derivatives, 2nd ed., section 13.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from holdfast.bounds.enclosure import Problem
from holdfast.bounds.taylor import function, linear
from holdfast.graph import Node
from holdfast.operators import INPUT, OPERATORS, LinearOperator, ProductOperator, UnaryOperator
from holdfast.rigor import FLOAT64
from holdfast.sets.taylor_model import TaylorModel, add, aligned, multiply, scaled, shifted

Array = np.ndarray
Series = list[TaylorModel]


class Jets:
    """One expansion: ``problem`` reads (x, parameters) flat and gives f (n,); `advance` computes one more coefficient."""

    def __init__(self, problem: Problem, states: TaylorModel, rest: TaylorModel | None):
        self.problem = problem
        self.solution: Series = [states]
        self._rest = rest
        self._at: list[Series] = [[] for _ in problem.graph.nodes]
        self._companions: list[dict[str, Series]] = [{} for _ in problem.graph.nodes]
        self._batch = len(states.error)

    def to(self, order: int) -> Series:
        """Coefficients x_0 ... x_order."""
        while len(self.solution) <= order:
            self.advance()
        return self.solution[: order + 1]

    def advance(self) -> None:
        """The next coefficient of all nodes, and of the solution."""
        k = len(self.solution) - 1
        graph = self.problem.graph
        for position, node in enumerate(graph.nodes):
            self._at[position].append(self._next(position, node, k))
        (output,) = graph.outputs
        self.solution.append(scaled(self._at[output][k], 1.0 / (k + 1)))

    def _next(self, position: int, node: Node, k: int) -> TaylorModel:
        if node.op == INPUT:
            return self._input(k)
        card = OPERATORS[node.op]
        inputs = [self._at[i] for i in node.inputs]
        if isinstance(card, LinearOperator):
            return self._linear(position, inputs, k)
        if isinstance(card, ProductOperator):
            return convolution(inputs[0], inputs[1], k)
        assert isinstance(card, UnaryOperator)
        own = self._at[position]
        if k == 0:
            return function(node, inputs[0][0])
        rule = RULES.get(node.op)
        if rule is not None:
            return rule(node, inputs[0], own, self._companions[position], k)
        return _pieces(card, node, inputs[0], k)

    def _input(self, k: int) -> TaylorModel:
        x = self.solution[k]
        if self._rest is None:
            return x
        rest = self._rest if k == 0 else _zero(self._rest)
        x, rest = aligned([x, rest])
        return TaylorModel(
            x.basis, np.concatenate([x.terms, rest.terms], axis=2), np.concatenate([x.error, rest.error], axis=1)
        )

    def _linear(self, position: int, inputs: Sequence[Series], k: int) -> TaylorModel:
        like = self.solution[0]
        if k == 0:
            return linear(self.problem, position, [s[0] for s in inputs], like, self._batch)
        return linear(self.problem, position, [s[k] for s in inputs], like, self._batch, shift=False)


def _zero(model: TaylorModel) -> TaylorModel:
    return TaylorModel(model.basis, np.zeros_like(model.terms), np.zeros_like(model.error))


def convolution(
    x: Series, y: Series, k: int, first: int = 0, last: int | None = None, weighted: bool = False
) -> TaylorModel:
    """sum over first <= j <= last of (j if weighted) x_j y_(k - j), last = k where not given; one batched product."""
    last = k if last is None else last
    if last < first:
        return _zero(x[0])
    js = range(first, last + 1)
    left, right = [x[j] for j in js], [y[k - j] for j in js]
    if weighted:
        left = [scaled(m, float(j)) if j > 1 else m for j, m in zip(js, left, strict=True)]
    if len(left) == 1:
        return multiply(left[0], right[0])
    products = multiply(_stacked(left), _stacked(right))
    count, batch = len(left), len(left[0].error)
    terms = products.terms.reshape(-1, count, batch, *left[0].shape).sum(1)
    error = products.error.reshape(count, batch, *left[0].shape).sum(0)
    lost = (
        2
        * count
        * FLOAT64.unit
        * abs(products.terms).sum(0).reshape(error.shape if count == 0 else (count, batch, *left[0].shape)).sum(0)
    )
    return TaylorModel(x[0].basis, terms, (error + lost) * (1 + 8 * (count + 4) * FLOAT64.unit))


def _stacked(models: Sequence[TaylorModel]) -> TaylorModel:
    models = aligned(models)
    return TaylorModel(
        models[0].basis, np.concatenate([m.terms for m in models], axis=1), np.concatenate([m.error for m in models])
    )


def _over(model: TaylorModel, k: int) -> TaylorModel:
    return scaled(model, 1.0 / k)


def _companion(store: dict[str, Series], name: str, start: Callable[[], TaylorModel]) -> Series:
    if name not in store:
        store[name] = [start()]
    return store[name]


def _renamed(node: Node, op: str) -> Node:
    return replace(node, op=op)


def _exp(node: Node, x: Series, y: Series, store: dict[str, Series], k: int) -> TaylorModel:
    return _over(convolution(x, y, k, 1, weighted=True), k)


def _wave(other: str, own_sign: float) -> Callable[..., TaylorModel]:
    def rule(node: Node, x: Series, y: Series, store: dict[str, Series], k: int) -> TaylorModel:
        z = _companion(store, other, lambda: function(_renamed(node, other), x[0]))
        while len(z) < k:  # coefficients of the other wave, up to k - 1
            j = len(z)
            z.append(scaled(_over(convolution(x, y, j, 1, weighted=True), j), -own_sign))
        return scaled(_over(convolution(x, z, k, 1, weighted=True), k), own_sign)

    return rule


def _own_slope(linear_part: float, sign: float, shift: float) -> Callable[..., TaylorModel]:
    """y' = (shift + linear_part y + sign y^2) x'."""

    def rule(node: Node, x: Series, y: Series, store: dict[str, Series], k: int) -> TaylorModel:
        slopes = store.setdefault("slope", [])
        while len(slopes) < k:
            j = len(slopes)
            square = scaled(convolution(y, y, j), sign)
            value = add(square, scaled(y[j], linear_part)) if linear_part else square
            if j == 0 and shift:
                value = shifted(value, shift)
            slopes.append(value)
        return _over(convolution(x, slopes, k, 1, weighted=True), k)

    return rule


def _reciprocal(node: Node, x: Series, y: Series, store: dict[str, Series], k: int) -> TaylorModel:
    return multiply(scaled(convolution(x, y, k, 1), -1.0), y[0])


def _square(node: Node, x: Series, y: Series, store: dict[str, Series], k: int) -> TaylorModel:
    return convolution(x, x, k)


def _power(node: Node, x: Series, y: Series, store: dict[str, Series], k: int) -> TaylorModel:
    """x^n by repeated products x^2, x^3, ... of whole series."""
    n = node["exponent"]
    previous = x
    for exponent in range(2, n):
        series = store.setdefault(str(exponent), [])
        while len(series) <= k:
            series.append(convolution(previous, x, len(series)))
        previous = series
    return convolution(previous, x, k)


def _inverse_first(store: dict[str, Series], node: Node, value: TaylorModel) -> TaylorModel:
    return _companion(store, "inverse", lambda: function(_renamed(node, "reciprocal"), value))[0]


def _log(node: Node, x: Series, y: Series, store: dict[str, Series], k: int) -> TaylorModel:
    rest = _over(convolution(y, x, k, 1, k - 1, weighted=True), k)
    return multiply(add(x[k], rest, -1.0), _inverse_first(store, node, x[0]))


def _sqrt(node: Node, x: Series, y: Series, store: dict[str, Series], k: int) -> TaylorModel:
    rest = convolution(y, y, k, 1, k - 1)
    return scaled(multiply(add(x[k], rest, -1.0), _inverse_first(store, node, y[0])), 0.5)


def _atan(node: Node, x: Series, y: Series, store: dict[str, Series], k: int) -> TaylorModel:
    """(1 + x^2) y' = x'."""
    squares = store.setdefault("squares", [])
    while len(squares) <= k:
        squares.append(convolution(x, x, len(squares)))

    def start() -> TaylorModel:
        return function(_renamed(node, "reciprocal"), shifted(squares[0], 1.0))

    inverse = _companion(store, "inverse", start)[0]
    rest = _over(convolution(y, squares, k, 1, k - 1, weighted=True), k)
    return multiply(add(x[k], rest, -1.0), inverse)


def _pieces(card: UnaryOperator, node: Node, x: Series, k: int) -> TaylorModel:
    """Piecewise linear functions, k >= 1: linear on one side of their kinks. Across one the first derivative in time exists almost
    everywhere and lies in Clarke's set; of higher ones nothing is known."""
    low, high = x[0].range()
    known = (low <= high) & np.isfinite(low) & np.isfinite(high)
    if not card.piecewise_linear:
        known &= False
    low, high = np.where(known, low, 0.0), np.where(known, high, 0.0)
    crossing = card.crosses_kink(node, low, high)
    touching = np.zeros_like(known)
    slopes = [card.gradient(np, node, low), card.gradient(np, node, high)]
    for kink in card.split_points(node):
        here = (low <= kink) & (high >= kink)
        touching |= here
        for side in (np.nextafter(kink, -np.inf), np.nextafter(kink, np.inf)):
            slopes.append(np.where(here, card.gradient(np, node, np.full_like(low, side)), slopes[0]))
    if k > 1:
        known &= ~crossing & ~(touching & (low < high))
    most, least = np.stack(slopes).max(0), np.stack(slopes).min(0)
    middle = 0.5 * most + 0.5 * least
    radius = np.maximum(most - middle, middle - least)
    value = scaled(x[k], middle)
    error = value.error + radius * x[k].size * (1 + 16 * FLOAT64.unit)
    return TaylorModel(value.basis, value.terms, np.where(known, error, np.inf))


RULES: dict[str, Callable[..., TaylorModel]] = {
    "exp": _exp, "sin": _wave("cos", 1.0), "cos": _wave("sin", -1.0), "tanh": _own_slope(0.0, -1.0, 1.0),
    "sigmoid": _own_slope(1.0, -1.0, 0.0), "tan": _own_slope(0.0, 1.0, 1.0), "reciprocal": _reciprocal, "square": _square,
    "power": _power, "log": _log, "sqrt": _sqrt, "atan": _atan,
}  # fmt: skip
