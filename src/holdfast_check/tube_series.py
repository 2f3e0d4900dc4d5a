"""Taylor coefficients in time of all values of a computation, in the arithmetic of models (section 4 of the format of tubes).

y = g(x(t)) has y' = x' s, where s is made of x and y by products: k y_k = sum_(j = 1..k) j x_j s_(k-j) (Moore, Interval Analysis, 1966). What s
needs beside x and y, as a cosine beside a sine, is a node of its own here. With x = c + t the same gives the derivatives of g itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from holdfast_check.arithmetic import Invalid
from holdfast_check.network import Node
from holdfast_check.relaxations import function
from holdfast_check.tube_model import Model, charged, linear, scaled, shifted, times, weighted

Source = Callable[[int], Model | None]  # order -> coefficient of the input, None: zero
PIECES = ("relu", "leaky_relu", "abs", "clip")
BESIDE = {"sin": "cos", "cos": "sin", "log": "reciprocal", "softplus": "sigmoid"}  # of the same argument


class Series:
    """Coefficients of the nodes, made when they are asked for; `value(node, model)` is a function of one variable at order 0."""

    def __init__(self, nodes: Sequence[Node], source: Source, value: Callable[[Node, Model], Model]):
        self.nodes, self.source, self.value = list(nodes), source, value
        self.known: dict[tuple[int, int], Model | None] = {}
        self.beside: dict[int, int] = {}
        self.powers: dict[tuple[int, int, int], Model | None] = {}
        for i, node in enumerate(nodes):
            if node.kind in BESIDE:
                self.beside[i] = self.add(replace(node, kind=BESIDE[node.kind], parameters=()))
                if node.kind in ("sin", "cos"):
                    self.beside[self.beside[i]] = i
            elif node.kind == "sqrt":
                self.beside[i] = self.add(replace(node, kind="reciprocal", inputs=(i,)))
            elif node.kind == "atan":
                square = self.add(replace(node, kind="square"))
                self.beside[i] = self.add(replace(node, kind="one over one plus", inputs=(square,)))

    def add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def at(self, i: int, k: int) -> Model | None:
        """Coefficient k of node i."""
        if (i, k) not in self.known:
            self.known[i, k] = self.made(i, k)
        return self.known[i, k]

    def made(self, i: int, k: int) -> Model | None:
        node = self.nodes[i]
        if node.kind == "input":
            return self.source(k)
        if node.kind == "linear":
            return linear(node, [m for j in node.inputs if (m := self.at(j, k)) is not None], constant=k == 0)
        x = node.inputs[0]
        if node.kind == "product":
            return self.convolved((self.at, x), (self.at, node.inputs[1]), k)
        if node.kind == "square":
            return self.convolved((self.at, x), (self.at, x), k)
        if node.kind == "power":
            return self.power(x, int(node.parameters[0]), k)
        first = self.at(x, 0)
        assert first is not None
        if k == 0:
            if node.kind == "one over one plus":
                return self.value(replace(node, kind="reciprocal"), shifted(first, 1.0))
            return self.value(node, first)
        if node.kind in PIECES:
            return self.piece(node, first, self.at(x, k), k)
        return over(self.convolved((self.at, x), (self.slope, i), k, weigh=True), k)

    def slope(self, i: int, m: int) -> Model | None:
        """Coefficient m of s, where y' = x' s."""
        kind = self.nodes[i].kind
        if kind in ("exp",):
            return self.at(i, m)
        if kind in ("sin", "log", "softplus", "atan"):
            return self.at(self.beside[i], m)
        if kind == "cos":
            return negated(self.at(self.beside[i], m))
        if kind == "sqrt":
            return over(self.at(self.beside[i], m), 2)
        if kind not in ("tanh", "tan", "sigmoid", "reciprocal", "one over one plus"):
            raise Invalid(f"derivatives in time of {kind} are not part of version 1")
        square = self.convolved((self.at, i), (self.at, i), m)
        if kind == "tan":
            return shifted(square, 1.0) if m == 0 and square is not None else square
        if kind == "tanh":
            return shifted(minus, 1.0) if m == 0 and (minus := negated(square)) is not None else negated(square)
        own = self.at(i, m)
        if kind == "sigmoid" and own is not None and square is not None:
            return weighted([own, square], [1.0, -1.0])
        return own if kind == "sigmoid" and square is None else negated(square)

    def convolved(
        self,
        x: tuple[Callable[..., Model | None], int],
        y: tuple[Callable[..., Model | None], int],
        k: int,
        weigh: bool = False,
    ) -> Model | None:
        """sum of x_j y_(k - j), j from 0; `weigh`: of j x_j y_(k - j)."""
        found: list[Model] = []
        weights: list[float] = []
        for j in range(1 if weigh else 0, k + 1):
            a = x[0](x[1], j)
            b = y[0](y[1], k - j) if a is not None else None
            if a is not None and b is not None:
                found.append(times(a, b))
                weights.append(float(j) if weigh else 1.0)
        return weighted(found, weights) if found else None

    def power(self, x: int, n: int, k: int) -> Model | None:
        if n == 1:
            return self.at(x, k)
        if (x, n, k) not in self.powers:
            self.powers[x, n, k] = self.convolved((lambda i, j: self.power(i, n - 1, j), x), (self.at, x), k)
        return self.powers[x, n, k]

    def piece(self, node: Node, first: Model, x: Model | None, k: int) -> Model | None:
        """Pieces of lines. Where a kink may be met the derivative is any between those of both sides, and nothing is known of further ones."""
        if x is None:
            return None
        f, (low, high) = function(node), first.range()
        places = [low, high]
        met = np.zeros(low.shape, bool)
        for b in f.breaks:  # type: ignore[union-attr]
            here = ~((high < b) | (low > b))
            met |= here
            places += [np.where(here, np.nextafter(b, side), low) for side in (-np.inf, np.inf)]
        slopes = np.array([f.slope(z) for z in places])
        middle, radius = (0.5 * (slopes.max(axis=0) + sign * slopes.min(axis=0)) for sign in (1, -1))
        made = scaled(x, middle)
        unknown = np.where(met & (k > 1), np.inf, 0.0)
        return charged(made.basis, made.terms, made.error + radius * x.size() + unknown)


def over(m: Model | None, k: int) -> Model | None:
    return None if m is None else m if k == 1 else weighted([m], [Fraction(1, k)])


def negated(m: Model | None) -> Model | None:
    return None if m is None else Model(m.basis, -m.terms, m.error)
