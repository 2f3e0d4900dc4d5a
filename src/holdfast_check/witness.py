"""The claim "sat": one input lies in a region, and all rows of one case are satisfied there (section 9 of the format).

The input is exact, and so is its comparison with the box. Values of the network are first ranges on the smallest float64 box around it
(`bounds`, with what a float32 execution may add); then, over the reals, balls of 128, 1024 and 8192 bits by python-flint. ReLU
networks come out exactly: all their numbers are multiples of powers of two. A row counts only if it holds for the whole range.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from flint import arb, ctx

from holdfast_check.arithmetic import Invalid, Limit
from holdfast_check.bounds import forward, graph_of
from holdfast_check.constants import ball
from holdfast_check.container import Certificate
from holdfast_check.network import Node
from holdfast_check.property import NUMBER, enclosing
from holdfast_check.query import Query

HEXADECIMAL = re.compile(r"([+-]?)0[xX]([0-9a-fA-F]*)\.?([0-9a-fA-F]*)(?:[pP]([+-]?\d{1,4}))?", re.ASCII)
PRODUCTS = 10**8  # beyond it balls of many bits would take minutes


def number(text: str) -> Fraction:
    """A decimal or hexadecimal (C99) number, exactly."""
    if len(text) <= 2000 and NUMBER.fullmatch(text):
        return Fraction(text)
    match = HEXADECIMAL.fullmatch(text) if len(text) <= 2000 else None
    if match is None or not match[2] + match[3]:
        raise Invalid(f"the witness holds {text[:40]!r}, which is not a number")
    value = int(match[2] + match[3], 16) * Fraction(2) ** (int(match[4] or 0) - 4 * len(match[3]))
    return -value if match[1] == "-" else value


def function(node: Node, x: arb) -> arb:
    """A ball around the function's values on a ball."""
    p, zero, one = node.parameters, arb(0), arb(1)
    values: dict[str, Callable[[], arb]] = {
        "relu": lambda: x.max(zero),
        "leaky_relu": lambda: x.max(zero) + arb(p[0]) * x.min(zero),
        "abs": lambda: abs(x),
        "clip": lambda: x.max(arb(p[0])).min(arb(p[1])),
        "step": lambda: x.sgn(),
        "sigmoid": lambda: one / (one + (-x).exp()),
        "softplus": lambda: x.exp().log1p(),
        "reciprocal": lambda: one / x,
        "square": lambda: x * x,
        "power": lambda: x ** int(p[0]),
    }
    return values[node.kind]() if node.kind in values else getattr(x, node.kind)()  # exp, log, sqrt, sin, cos, tanh


def balls(nodes: Sequence[Node], point: Sequence[Fraction], tick: Callable[[], None]) -> np.ndarray:
    """The values of the last node at the point, in the precision set."""
    values: list[np.ndarray] = []
    lift = np.frompyfunc(arb, 1, 1)
    for node in nodes:
        tick()
        xs = [values[i] for i in node.inputs]
        if node.kind == "input":
            flat = point[node.start : node.start + node.size]
            value = np.array([[ball(q) for q in flat]], dtype=object)
        elif node.linear is not None:
            doubt = node.linear.doubt
            value = node.linear.mapped(lift).apply(xs) + lift(
                np.zeros(node.size) if node.linear.bias is None else node.linear.bias
            )
            if doubt is not None:
                spread = doubt.mapped(lift).apply([np.frompyfunc(lambda x: abs(arb(x)).upper(), 1, 1)(x) for x in xs])
                spread = spread + lift(np.zeros(node.size) if doubt.bias is None else doubt.bias)
                value = value + np.frompyfunc(lambda r: arb(0, arb(r).upper()), 1, 1)(spread)
        else:
            value = (
                xs[0] * xs[1]
                if node.kind == "product"
                else np.frompyfunc(lambda x, n=node: function(n, arb(x)), 1, 1)(xs[0])
            )
        values.append(value)
    return values[-1][0]


def satisfied(query: Query, certificate: Certificate, *, deadline: float) -> None:
    """Raises Invalid unless the witness certainly is a counterexample."""
    given, float32 = certificate.header["witness"], certificate.header["semantics"] == "float32"
    if set(given) != {name for name, _ in query.names} or any(len(given[name]) != size for name, size in query.names):
        wanted = ", ".join(f"{name} ({size})" for name, size in query.names)
        raise Invalid(f"the witness does not have the input tensors {wanted}")
    point = [number(text) for name, _ in query.names for text in given[name]]
    if float32 and any(Fraction(float(np.float32(float(q)))) != q for q in point):
        raise Invalid("the witness is not a float32 input")
    inside = [
        r
        for r in query.regions
        if all(a <= x <= b for a, x, b in zip(r.exact_lower, point, r.exact_upper, strict=True))
    ]
    cases = [case for region in inside for case in region.cases]
    if not cases:
        raise Invalid("the witness lies in no region of the property")

    def tick() -> None:
        if time.monotonic() > deadline:
            raise Limit("the time ran out while the witness was evaluated")

    def proved(below: np.ndarray, at_most: np.ndarray) -> bool:
        holds = np.where(query.strict, below, at_most)
        return any(all(holds[row] for row in case) for case in cases)

    ends = [np.array([[enclosing(x, side) for x in point]]) for side in (False, True)]
    with np.errstate(all="ignore"):
        graph = graph_of(query.nodes, query.inputs, float32, tick)
        top = forward(graph, (ends[0], ends[1]), {}).upper[query.output][0]
    if proved(top < 0, top <= 0):
        return
    if float32:
        raise Invalid("the witness does not certainly satisfy one case in every float32 execution")
    if sum(node.size * node.linear.terms for node in query.nodes if node.linear) > PRODUCTS:
        raise Invalid("the witness is undecided in float64, and the network is too large for more bits")
    for bits in (128, 1024, 8192):
        with ctx.workprec(bits):
            found = dict(zip(query.used, map(arb, balls(query.nodes[:-1], point, tick)), strict=True))
            margins = [sum((ball(w) * found[v] for v, w in terms), ball(c)) for terms, c, _ in query.rows]
            if proved(np.array([bool(m < 0) for m in margins]), np.array([bool(m <= 0) for m in margins])):
                return
    raise Invalid("the witness does not satisfy all rows of a case")
