"""Derivatives of nodes along a direction, as further nodes (forward mode).

The value of node i moves by t_i when the inputs move by t: linear maps carry t as they carry values, a product moves by x t_y + y t_x,
a function f(z) by f'(z) t_z. At a kink f' is any number between those of both sides (Clarke, Optimization and Nonsmooth Analysis,
1983): the node `window`, which has all these values there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from holdfast_check.formula import Formulas
from holdfast_check.linear import Sum as Weighted
from holdfast_check.network import Node, demand


def ancestors(nodes: list[Node], places: set[int]) -> set[int]:
    """These nodes and all that they depend on."""
    found = set(places)
    for i in range(max(found), -1, -1):
        if i in found:
            found.update(nodes[i].inputs)
    return found


@dataclass
class Derivatives:
    """Appends nodes; `factors`: f'(z) of functions, by node."""

    formulas: Formulas
    factors: dict[int, int] = field(default_factory=dict)

    def add(self, kind: str, inputs: tuple[int, ...], size: int, *parameters: float) -> int:
        return self.formulas.append(kind, inputs, size, parameters=parameters, rounds=True).place

    def affine(self, place: int, factor: float, constant: float = 0.0) -> int:
        """factor x + constant, both float64 numbers."""
        size = self.formulas.nodes[place].size
        bias = np.full(size, constant) if constant else None
        linear = Weighted(weights=np.array([factor]), bias=bias, exact=abs(factor) == 1)
        return self.formulas.append("linear", (place,), size, linear=linear).place

    def factor(self, i: int) -> int:
        """The node of f'(z), z the argument of the function of node i."""
        if i in self.factors:
            return self.factors[i]
        node = self.formulas.nodes[i]
        (z,), size, p = node.inputs, node.size, node.parameters

        def one(kind: str, x: int = z, *parameters: float) -> int:
            return self.add(kind, (x,), size, *parameters)

        table: dict[str, Callable[[], int]] = {
            "relu": lambda: one("window", z, 0.0, np.inf),
            "abs": lambda: self.affine(one("window", z, 0.0, np.inf), 2.0, -1.0),
            "clip": lambda: one("window", z, *p),
            "leaky_relu": lambda: self.leaky(one("window", z, 0.0, np.inf), p[0]),
            "exp": lambda: i,
            "log": lambda: one("reciprocal"),
            "sqrt": lambda: self.affine(one("reciprocal", i), 0.5),
            "square": lambda: self.affine(z, 2.0),
            "power": lambda: self.affine(one("square") if p[0] == 3 else one("power", z, p[0] - 1), p[0]),
            "reciprocal": lambda: self.affine(one("square", i), -1.0),
            "softplus": lambda: one("sigmoid"),
            "sigmoid": lambda: one("sigmoid_slope"),
            "tanh": lambda: one("tanh_slope"),
            "sin": lambda: one("cos"),
            "cos": lambda: self.affine(one("sin"), -1.0),
            "tan": lambda: self.affine(one("square", i), 1.0, 1.0),
            "atan": lambda: one("reciprocal", self.affine(one("square"), 1.0, 1.0)),
            "asin": lambda: one("reciprocal", one("sqrt", self.affine(one("square"), -1.0, 1.0))),
        }
        demand(node.kind in table, f"the function {node.kind} has no derivative here")
        self.factors[i] = table[node.kind]()
        return self.factors[i]

    def leaky(self, step: int, alpha: float) -> int:
        """alpha + (1 - alpha) step; 1 - alpha is rounded once."""
        size = self.formulas.nodes[step].size
        doubt = Weighted(weights=np.array([abs(1 - alpha) * 2.0**-50]))
        linear = Weighted(weights=np.array([1 - alpha]), bias=np.full(size, alpha), doubt=doubt)
        return self.formulas.append("linear", (step,), size, linear=linear).place

    def along(self, target: int, seeds: Mapping[int, int]) -> int | None:
        """The derivative of node `target` when the nodes in `seeds` move by the values of those that they stand for, and the inputs do not
        unless they are among them; None: it is zero."""
        nodes, moves = self.formulas.nodes, dict[int, int | None]()
        for i in sorted(ancestors(nodes, {target})):
            node = nodes[i]
            moved = [moves[j] for j in node.inputs]
            if i in seeds:
                moves[i] = seeds[i]
            elif all(m is None for m in moved):
                moves[i] = None
            elif node.linear is not None:
                doubt = replace(node.linear.doubt, bias=None) if node.linear.doubt else None
                linear = replace(node.linear, bias=None, doubt=doubt)
                inputs = [self.zero(nodes[j].size) if m is None else m for j, m in zip(node.inputs, moved, strict=True)]
                moves[i] = self.formulas.append("linear", inputs, node.size, linear=linear).place
            elif node.kind == "product":
                (x, y), (dx, dy) = node.inputs, moved
                pairs = [(a, b) for a, b in ((x, dy), (y, dx)) if b is not None]
                terms = [self.add("product", pair, node.size) for pair in pairs]
                moves[i] = terms[0] if len(terms) == 1 else self.total(terms)
            elif moved[0] is not None:
                moves[i] = self.add("product", (self.factor(i), moved[0]), node.size)
        return moves[target]

    def total(self, terms: list[int]) -> int:
        linear = Weighted(weights=np.ones(len(terms)), terms=len(terms))
        return self.formulas.append("linear", terms, self.formulas.nodes[terms[0]].size, linear=linear).place

    def zero(self, size: int) -> int:
        return self.formulas.gather([None] * size).place
