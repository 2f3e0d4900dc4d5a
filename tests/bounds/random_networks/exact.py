"""Values of a graph over the reals, as balls of several hundred bits (python-flint).

A ball is the exact value wherever additions, products and selections of dyadic numbers fit; elsewhere it encloses the
value some 250 bits wide of nothing. A bound is violated only where the whole ball lies beyond it: no tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flint
import numpy as np

from holdfast.graph import Graph, Node
from holdfast.operators import INPUT, OPERATORS, LinearOperator

flint.ctx.prec = 320
ZERO, ONE, HALF = flint.arb(0), flint.arb(1), flint.arb(0.5)
Balls = np.ndarray  # of dtype object, elements flint.arb


def balls(x: Any) -> Balls:
    """The same numbers as exact balls."""
    x = np.asarray(x)
    out = np.empty(x.shape, object)
    out.reshape(-1)[:] = [v if isinstance(v, flint.arb) else flint.arb(_plain(v)) for v in x.reshape(-1)]
    return out


def _plain(v: Any) -> Any:
    return v.item() if isinstance(v, np.generic) else v


def each(f: Callable[[flint.arb], flint.arb], x: Balls) -> Balls:
    """f of every element."""
    out = np.empty(x.shape, object)
    out.reshape(-1)[:] = [f(flint.arb(v)) for v in x.reshape(-1)]
    return out


def heaviside(z: flint.arb) -> flint.arb:
    """0 or 1; 1/2 at zero, which the set [0, 1] there contains."""
    return ONE if z > 0 else ZERO if z < 0 else HALF if z == 0 else flint.arb(HALF, HALF)


def sigmoid(z: flint.arb) -> flint.arb:
    """1 / (1 + exp(-z)) without overflow."""
    if z > 0:
        return 1 / (1 + (-z).exp())
    e = z.exp()
    return e / (1 + e)


def softplus(z: flint.arb) -> flint.arb:
    """log(1 + exp(z)) without overflow."""
    return z + (-z).exp().log1p() if z > 0 else z.exp().log1p()


def leaky(z: flint.arb, alpha: float) -> flint.arb:
    """z for z >= 0, alpha z below."""
    return z if z >= 0 else flint.arb(alpha) * z if z <= 0 else z.union(flint.arb(alpha) * z).union(ZERO)


def unary(node: Node) -> Callable[[flint.arb], flint.arb]:
    """The function of a unary node."""
    simple: dict[str, Callable[[flint.arb], flint.arb]] = {
        "relu": lambda z: z.max(ZERO), "abs": abs, "heaviside": heaviside, "sigmoid": sigmoid, "softplus": softplus,
        "tanh": lambda z: z.tanh(), "exp": lambda z: z.exp(), "log": lambda z: z.log(), "sqrt": lambda z: z.sqrt(),
        "square": lambda z: z * z, "reciprocal": lambda z: 1 / z, "sin": lambda z: z.sin(), "cos": lambda z: z.cos(),
        "tan": lambda z: z.tan(), "asin": lambda z: z.asin(), "acos": lambda z: z.acos(), "atan": lambda z: z.atan(),
        "atan_derivative": lambda z: 1 / (1 + z * z), "tanh_derivative": lambda z: z.sech() ** 2,
        "sigmoid_derivative": lambda z: (z / 2).sech() ** 2 / 4,
    }  # fmt: skip
    if node.op in simple:
        return simple[node.op]
    if node.op == "leaky_relu":
        return lambda z: leaky(z, node["alpha"])
    if node.op == "clip":
        low, high = flint.arb(node["low"]), flint.arb(node["high"])
        return lambda z: z.max(low).min(high)
    assert node.op == "power", node.op
    return lambda z: z ** node["exponent"]


def values(graph: Graph, parameters: Mapping[str, Balls], inputs: Sequence[Balls]) -> list[Balls]:
    """Values of all nodes at one point (no leading axes)."""
    result: list[Any] = [None] * len(graph)
    for position, x in zip(graph.inputs, inputs, strict=True):
        result[position] = x.reshape(graph[position].shape)
    for position, node in enumerate(graph.nodes):
        if node.op == INPUT:
            continue
        arguments = [result[i] for i in node.inputs]
        card = OPERATORS[node.op]
        if isinstance(card, LinearOperator):
            result[position] = balls(card.evaluate(np, node, [parameters[k] for k in node.parameters], arguments))
        elif node.op == "product":
            result[position] = balls(arguments[0] * arguments[1])
        else:
            result[position] = each(unary(node), arguments[0])
    return result


def outside(value: Balls, lower: Any, upper: Any) -> np.ndarray:
    """Where a value certainly leaves [lower, upper] (flat mask); bounds may be infinite, never NaN."""
    flat = zip(value.reshape(-1), np.reshape(lower, -1), np.reshape(upper, -1), strict=True)
    return np.array([bool(not (lo <= hi) or v < float(lo) or v > float(hi)) and _known(v) for v, lo, hi in flat], bool)


def _known(v: flint.arb) -> bool:
    return bool(v.is_finite())
