"""Ranges of all values front to back, and linear functions carried backwards, for B boxes at once (section 7 of the format).

Forward, y = W x + b on [c - r, c + r] is within |W| r of W c + b. Backward (CROWN), a function sum_i a_i y_i + c that is at most a
margin becomes one of earlier values: y = W x + b is put in; y = f(z) is replaced by a line below where a_i > 0, above where a_i < 0.

Rounding. The coefficients carried back are ordinary floating-point numbers; the difference to the exact ones is paid for at once,
out of the constant c, with the sizes X >= |x| of the values that they multiply:

    a W in float64 is off by at most gamma |a| |W| in each element, which costs at most |a| . (gamma |W| X),
    a s (s the slope of a line) by at most u |a| |s|, which costs at most |a| . (u |s| X),
    a + a' (a value used twice) by at most u |fl(a + a')|, which costs at most u |fl(a + a')| . X,
    underflow by at most TINY in all elements of a together, which costs at most TINY (1 + sum X).

What a float32 execution adds at a node (section 8), |noise| <= E, costs |a| . E. So each node has one vector of cost that meets |a|.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from holdfast_check.arithmetic import TINY, UNIT, dot, down, gamma, plus, settle, size, up
from holdfast_check.linear import Linear
from holdfast_check.network import Node
from holdfast_check.relaxations import Line, Pair, bent, image, lines

ROOM = 2**18  # numbers in one array of coefficients


@dataclass(frozen=True, eq=False)
class Graph:
    """The nodes, the semantics, and the pre-activations that are worth narrowing: those whose interval is not exact."""

    nodes: tuple[Node, ...]
    inputs: int
    float32: bool
    loose: frozenset[int]
    tick: Callable[[], None]  # called before every long computation; raises `Limit`


@dataclass(frozen=True, eq=False)
class Ranges:
    """lower[i], upper[i]: (B, size) of node i; `empty`: boxes on which no input is left."""

    lower: list[np.ndarray]
    upper: list[np.ndarray]
    box: Pair
    empty: np.ndarray
    bare: dict[int, Pair] = field(default_factory=dict)  # ranges of functions before rounding in float32
    noise: dict[int, np.ndarray] = field(default_factory=dict)
    cost: dict[int, np.ndarray] = field(default_factory=dict)  # of linear nodes
    lines: dict[int, tuple[Line, Line]] = field(default_factory=dict)  # without evidence

    def of(self, node: Node) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return [self.lower[i] for i in node.inputs], [self.upper[i] for i in node.inputs]


def graph_of(nodes: tuple[Node, ...], inputs: int, float32: bool, tick: Callable[[], None]) -> Graph:
    """The interval of W x + b is exact where each x is used once and is an input, or one input times a number."""
    plain: set[int] = set()
    loose: set[int] = set()
    for i, node in enumerate(nodes):
        direct = node.linear is not None and len(node.inputs) == 1 and node.inputs[0] in plain
        if node.kind == "input" or (node.linear and direct and node.linear.terms == 1 and node.linear.back == 1):
            plain.add(i)
        elif not direct:
            loose.add(i)
    arguments = {j for node in nodes if node.kind not in ("input", "linear") for j in node.inputs}
    return Graph(nodes, inputs, float32, frozenset(loose & arguments), tick)


def _noise(node: Node, total: np.ndarray) -> np.ndarray:
    """Section 8: what a float32 execution of the node adds; `total` is the sum of all |terms|, or the size of the value."""
    unit, least = 2.0**-24, 2.0**-126
    if node.linear:
        k = node.linear.terms + 2
        noise = (k * unit / (1 - k * unit) if k * unit < 0.5 else np.inf) * total + 2 * k * least
    elif node.kind in ("product", "leaky_relu"):
        noise = 2 * unit * total + 2 * least
    else:
        noise = 64 * unit * total + 2.0**-20 + 2 * least
    return np.where(total + noise < 3.4e38, noise * (1 + 2.0**-40), np.inf)


def _linear(node: Node, linear: Linear, ranges: Ranges, i: int, noisy: bool) -> Pair:
    """The range of a linear node; and the cost of carrying coefficients back through it, which meets their absolute values."""
    lows, highs = ranges.of(node)
    bias = np.zeros(node.size) if linear.bias is None else linear.bias
    sizes = [size(low, high) for low, high in zip(lows, highs, strict=True)]
    absolute = linear.magnitude(sizes)  # sum |W| X
    doubt = np.zeros(node.size)
    if linear.doubt is not None:
        doubt = 2 * linear.doubt.magnitude(sizes) + (0.0 if linear.doubt.bias is None else 2 * linear.doubt.bias)
    cost = gamma(linear.back) * absolute + doubt + gamma(node.size + 4) * np.abs(bias)  # a . bias: node.size products
    if linear.exact and linear.doubt is None:  # numbers moved or negated
        ends = [linear.apply(lows), linear.apply(highs)]
        lower, upper = np.minimum(*ends), np.maximum(*ends)
        lower, upper = np.where(bias == 0, lower, down(lower + bias)), np.where(bias == 0, upper, up(upper + bias))
    else:
        middles = [0.5 * low + 0.5 * high for low, high in zip(lows, highs, strict=True)]
        middles = [np.where(np.isfinite(m), m, 0.0) for m in middles]
        radii = [up(np.maximum(high - m, m - low)) for m, low, high in zip(middles, lows, highs, strict=True)]
        centre, spread = linear.apply(middles), linear.magnitude(radii)
        spread = spread + gamma(linear.terms + 4) * (absolute + spread + np.abs(bias)) + doubt + TINY  # |c| <= X
        lower, upper = down(centre + bias - spread), up(centre + bias + spread)
    if noisy and node.rounds:
        noise = _noise(node, (absolute + np.abs(bias)) * (1 + gamma(linear.terms + 4)) + doubt)
        lower, upper, cost = down(lower - noise), up(upper + noise), cost + noise
    ranges.cost[i] = np.where(np.isnan(cost), np.inf, cost * (1 + 2.0**-20))
    return settle(lower, upper)


def forward(
    graph: Graph, box: Pair, known: Mapping[int, Pair], narrow: Callable[[Graph, Ranges, int], None] | None = None
) -> Ranges:
    """Ranges of all values on boxes (B, inputs), intersected with those known; before the function of node i is evaluated,
    `narrow(graph, ranges, i)` may tighten its pre-activations."""
    ranges = Ranges([], [], box, np.any(~(box[0] <= box[1]), axis=1))
    for i, node in enumerate(graph.nodes):
        if node.kind == "input":
            lower, upper = (end[:, node.start : node.start + node.size] for end in box)
        elif node.linear is not None:
            lower, upper = _linear(node, node.linear, ranges, i, graph.float32)
        else:
            if narrow is not None:
                narrow(graph, ranges, i)
            lower, upper = ranges.bare[i] = image(node, *ranges.of(node))
            if graph.float32 and node.rounds:
                ranges.noise[i] = _noise(node, size(lower, upper))
                lower, upper = settle(down(lower - ranges.noise[i]), up(upper + ranges.noise[i]))
        low, high = known.get(i, (lower, upper))
        ranges.lower.append(np.maximum(lower, low))
        ranges.upper.append(np.minimum(upper, high))
        ranges.empty[:] |= np.any(ranges.lower[i] > ranges.upper[i], axis=1)
    return ranges


def _function(
    graph: Graph, ranges: Ranges, i: int, given: np.ndarray | None, rows: np.ndarray | None
) -> tuple[Line, Line]:
    """Lines of the function of node i whose constants have paid for what carrying coefficients through them costs."""
    if given is None and i in ranges.lines:
        return ranges.lines[i]
    node, (lows, highs) = graph.nodes[i], ranges.of(graph.nodes[i])
    below, above = lines(node, lows, highs, ranges.bare[i], given, rows)
    paid = []
    for sign, line in ((-1, below), (1, above)):
        # u |s| X for each factor, gamma_size |c| for the sum of all a . c, and the noise, all within a factor 2
        cost = gamma(node.size + 4) * np.abs(line.constant) + ranges.noise.get(i, 0.0) * (1 + 2.0**-20)
        for s, low, high in zip(line.slopes, lows, highs, strict=True):
            cost = cost + np.where(s == 0, 0.0, 4 * UNIT * np.abs(s) * size(low, high))
        paid.append(Line(line.slopes, line.constant + sign * cost))
    if given is None:
        ranges.lines[i] = paid[0], paid[1]
    return paid[0], paid[1]


def substitute(
    graph: Graph, ranges: Ranges, start: Mapping[int, np.ndarray], evidence: Mapping[int, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """a (B, R, inputs) and c (B, R) with a . x + c <= sum of start[i] . (value of node i) for all x of the box.
    start[i]: (B, R, size); `evidence`: unit values or slopes (B, size) of functions, B boxes or one box for all, then R = 1."""
    graph.tick()
    pending = dict(start)
    batch, count = next(iter(start.values())).shape[:2]
    total, constant = np.zeros((batch, count, graph.inputs)), np.zeros((batch, count))

    def add(old: np.ndarray, new: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        nonlocal constant
        both = old + new
        constant = plus(constant, -4 * UNIT * dot(np.abs(both), size(low, high)) - TINY)
        return both

    for i in range(max(pending), -1, -1):
        rows = pending.pop(i, None)
        if rows is None:
            continue
        node, (lows, highs) = graph.nodes[i], ranges.of(graph.nodes[i])
        if node.kind == "input":
            part = slice(node.start, node.start + node.size)
            old = total[:, :, part]  # not zero where two networks share inputs
            total[:, :, part] = add(old, rows, ranges.lower[i], ranges.upper[i]) if np.any(old) else rows
            continue
        if node.linear is not None:
            gain = -dot(np.abs(rows), ranges.cost[i])
            if node.linear.bias is not None:
                gain = gain + dot(rows, node.linear.bias[None])
            carried = [r.reshape(batch, count, -1) for r in node.linear.transpose(rows.reshape(1, batch * count, -1))]
            used = [np.ones(1, bool)] * len(lows)
        else:
            given = None if evidence is None else evidence.get(i)
            below, above = _function(graph, ranges, i, given, rows[:, 0] if given is not None else None)
            positive, negative = np.maximum(rows, 0.0), np.minimum(rows, 0.0)
            gain = dot(positive, below.constant) + dot(negative, above.constant)
            carried = [positive * s[:, None] for s in below.slopes]
            for new, t in zip(carried, above.slopes, strict=True):
                new += negative * t[:, None]  # one of the two is zero
            used = [(s != 0) | (t != 0) for s, t in zip(below.slopes, above.slopes, strict=True)]
        sizes = [np.where(u, size(low, high), 0.0).sum(axis=1) for u, low, high in zip(used, lows, highs, strict=True)]
        constant = plus(constant, gain - TINY * (1.0 + 2 * sum(sizes))[:, None])
        for j, new, low, high in zip(node.inputs, carried, lows, highs, strict=True):
            pending[j] = add(pending[j], new, low, high) if j in pending else new
    return total, constant


def least(box: Pair, a: np.ndarray, c: np.ndarray) -> np.ndarray:
    """At most a . x + c on the box: positive coefficients meet the lower end, negative ones the upper. (B, R)"""
    error = gamma(a.shape[2] + 4) * size(*box)
    return plus(c, dot(np.maximum(a, 0.0), box[0] - error) + dot(np.minimum(a, 0.0), box[1] + error) - TINY)


def narrow(graph: Graph, ranges: Ranges, i: int) -> None:
    """Narrows, in place, the pre-activations of the function of node i where it is not linear, by carrying z and -z back."""
    node = graph.nodes[i]
    wanted = bent(node, *ranges.of(node))
    for j in sorted(graph.loose.intersection(node.inputs)):
        batch, width = wanted.shape
        count = int(wanted.sum(axis=1).max(initial=0))
        chosen = np.argsort(~wanted, axis=1, kind="stable")[:, :count]  # those wanted of each box; others fill up
        widest = max(n.size for n in graph.nodes[: j + 1])
        step = max(1, ROOM // (2 * batch * widest))
        for part in (chosen[:, k : k + step] for k in range(0, count, step)):
            rows = np.zeros((batch, 2, part.shape[1], width))
            np.put_along_axis(rows[:, 0], part[:, :, None], 1.0, axis=2)
            np.put_along_axis(rows[:, 1], part[:, :, None], -1.0, axis=2)
            a, c = substitute(graph, ranges, {j: rows.reshape(batch, -1, width)})
            bound = least(ranges.box, a, c).reshape(batch, 2, -1)
            for values, found in ((ranges.lower[j], bound[:, 0]), (ranges.upper[j], -bound[:, 1])):
                better = np.fmax if values is ranges.lower[j] else np.fmin  # which ignore what is no number
                np.put_along_axis(values, part, better(np.take_along_axis(values, part, axis=1), found), axis=1)
