"""Ranges of all values front to back, and linear functions carried backwards, for B boxes at once (section 7 of the format).

Forward, y = W x + b on [c - r, c + r] is within |W| r of W c + b. Backward (CROWN), a function sum_i a_i y_i + c that is at most a
margin becomes one of earlier values: y = W x + b is put in; y = f(z) is replaced by a line below where a_i > 0, above where a_i < 0.

The coefficients carried back are ordinary floating-point numbers; the difference to the exact ones is paid for at once, out of the
constant c, with the sizes X >= |x| of the values that they multiply:

    a W is off by at most gamma |a| |W|, which costs |a| . (gamma |W| X);     a s (s the slope of a line) costs |a| . (u |s| X);
    a + a' (a value used twice) costs u |fl(a + a')| . X;     underflow in all of a together costs TINY (1 + sum X);
    what a float32 execution adds at a node (section 8), |noise| <= E, costs |a| . E.

So each node has one vector of cost that meets |a|.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from holdfast_check.arithmetic import TINY, UNIT, dot, gamma, outward, plus, size
from holdfast_check.linear import Dense, Linear
from holdfast_check.network import Node
from holdfast_check.relaxations import SIDES, Line, Pair, bent, image, line

Values = Mapping[int, np.ndarray]  # by node
ROOM = 2**16  # numbers in one array of coefficients


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
    cost: dict[int, np.ndarray] = field(default_factory=dict)  # of linear nodes
    noise: dict[int, np.ndarray] = field(default_factory=dict)  # of functions that round in float32
    sums: dict[int, tuple[int, np.ndarray]] = field(default_factory=dict)  # float32: products summed, their sizes
    lines: dict[int, tuple[Line, Line]] = field(default_factory=dict)  # below and above, without evidence

    def of(self, node: Node) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return [self.lower[i] for i in node.inputs], [self.upper[i] for i in node.inputs]


def graph_of(nodes: tuple[Node, ...], inputs: int, float32: bool, tick: Callable[[], None]) -> Graph:
    """The interval of W x + b is exact where each x is used once and is an input, or one input times a number (`plain`)."""
    plain: set[int] = set()
    loose = {j for node in nodes if node.kind not in ("input", "linear") for j in node.inputs}
    for i, node in enumerate(nodes):
        if node.kind == "input" or (node.linear and len(node.inputs) == 1 and node.inputs[0] in plain):
            loose.discard(i)
            plain.update([i] if node.linear is None or node.linear.terms == node.linear.back == 1 else [])
    return Graph(nodes, inputs, float32, frozenset(loose), tick)


def float32_noise(node: Node, total: np.ndarray, count: int = -1) -> np.ndarray:
    """Section 8: what a float32 execution of the node adds; `total` is the sum of all |terms|, of `count` products, or the
    size of the value."""
    unit, least, k = 2.0**-24, 2.0**-126, count + 2
    relative = (k * unit / (1 - k * unit) if k * unit < 0.5 else np.inf) if node.linear else 2 * unit
    noise = relative * total + 2 * k * least
    if not (node.linear or node.kind in ("product", "leaky_relu")):
        noise = 64 * unit * total + 2.0**-20 + 2 * least
    return np.where(total + noise < 3.4e38, noise * (1 + 2.0**-40), np.inf)


def linear_range(node: Node, linear: Linear, ranges: Ranges, i: int, noisy: bool) -> Pair:
    """The range of a linear node; and the cost of carrying coefficients back through it, which meets their absolute values."""
    lows, highs = ranges.of(node)
    bias = np.zeros(node.size) if linear.bias is None else linear.bias
    sizes = [size(low, high) for low, high in zip(lows, highs, strict=True)]
    total, doubt = linear.magnitude(sizes) + np.abs(bias), np.zeros(node.size)  # sum |W| X + |b|
    if linear.doubt is not None:
        doubt = 2 * linear.doubt.magnitude(sizes) + (0.0 if linear.doubt.bias is None else 2 * linear.doubt.bias)
    noise, count, whole = np.zeros(1), linear.terms, total
    if noisy:
        if not isinstance(linear, Dense):  # it may be computed in one sum with the linear nodes that it reads
            fused = [ranges.sums.get(j, (0, x)) for j, x in zip(node.inputs, sizes, strict=True)]
            count = linear.terms + max(k for k, _ in fused)
            whole = linear.magnitude([x for _, x in fused]) + np.abs(bias)
        ranges.sums[i] = count, whole * (1 + gamma(linear.terms + 4)) + doubt
        noise = float32_noise(node, ranges.sums[i][1], count) if node.rounds else noise
    # a . bias: node.size products
    cost = gamma(linear.back) * total + gamma(node.size + 4) * np.abs(bias) + doubt + noise
    ranges.cost[i] = np.where(np.isnan(cost), np.inf, cost * (1 + 2.0**-20))
    if linear.exact and linear.doubt is None and linear.bias is None and not np.any(noise):  # numbers moved or negated
        ends = linear.apply(lows), linear.apply(highs)
        return np.minimum(*ends), np.maximum(*ends)
    middles = [np.where(np.isfinite(a + b), 0.5 * a + 0.5 * b, 0.0) for a, b in zip(lows, highs, strict=True)]
    radii = [np.maximum(b - m, m - a) for m, a, b in zip(middles, lows, highs, strict=True)]
    centre, spread = linear.apply(middles) + bias, linear.magnitude(radii)  # |c| <= X
    spread = spread + gamma(linear.terms + 6) * (total + spread) + doubt + noise + TINY  # two sums of terms + 4 numbers
    return outward(centre - spread, centre + spread)


def forward(graph: Graph, box: Pair, known: Mapping[int, Pair], narrow: Callable[..., None] | None = None) -> Ranges:
    """Ranges of all values on boxes (B, inputs), intersected with those known; before the function of node i is evaluated,
    `narrow(graph, ranges, i)` may tighten its pre-activations."""
    ranges = Ranges([], [], box, np.any(~(box[0] <= box[1]), axis=1))
    for i, node in enumerate(graph.nodes):
        if node.kind == "input":
            lower, upper = (end[:, node.start : node.start + node.size] for end in box)
        elif node.linear is not None:
            lower, upper = linear_range(node, node.linear, ranges, i, graph.float32)
        else:
            if narrow is not None:
                narrow(graph, ranges, i)
            lower, upper = image(node, *ranges.of(node))
            if graph.float32 and node.rounds:
                ranges.noise[i] = float32_noise(node, size(lower, upper))
                lower, upper = outward(lower - ranges.noise[i], upper + ranges.noise[i])
        low, high = known.get(i, (lower, upper))
        ranges.lower.append(np.maximum(lower, low))
        ranges.upper.append(np.minimum(upper, high))
        ranges.empty[:] |= np.any(ranges.lower[i] > ranges.upper[i], axis=1)
    return ranges


def lines(node: Node, ranges: Ranges, i: int, given: np.ndarray | None, rows: np.ndarray) -> tuple[Line, Line]:
    """Lines below and above the function of node i; with evidence (R = 1) the one that each coefficient asks for, twice."""
    facts = (*ranges.of(node), (ranges.lower[i], ranges.upper[i]), ranges.noise.get(i, 0.0), given)
    if given is not None:
        return (line(node, np.where(rows[:, 0] < 0, -1.0, 1.0), *facts),) * 2
    if i not in ranges.lines:
        slopes, constants = line(node, SIDES, *facts)
        ranges.lines[i] = ([s[0] for s in slopes], constants[0]), ([s[1] for s in slopes], constants[1])
    return ranges.lines[i]


def substitute(graph: Graph, ranges: Ranges, start: Values, evidence: Values | None = None) -> Pair:
    """a (B, R, inputs) and c (B, R) with a . x + c <= sum of start[i] . (value of node i) for all x of the box.
    start[i]: (B, R, size); `evidence`: unit values or slopes (B, size) of functions, then R = 1."""
    graph.tick()
    pending = dict(start)
    batch, count = next(iter(start.values())).shape[:2]
    total, constant = np.zeros((batch, count, graph.inputs)), np.zeros((batch, count))

    def add(old: np.ndarray, new: np.ndarray, j: int) -> np.ndarray:
        nonlocal constant
        both = old + new
        constant = plus(constant, -4 * UNIT * dot(np.abs(both), size(ranges.lower[j], ranges.upper[j])) - TINY)
        return both

    for i in range(max(pending), -1, -1):
        rows, node = pending.pop(i, None), graph.nodes[i]
        if rows is None:
            continue
        if node.kind == "input":
            part = slice(node.start, node.start + node.size)
            old = total[:, :, part]  # not zero where two networks share inputs
            total[:, :, part] = add(old, rows, i) if np.any(old) else rows
            continue
        if node.linear is not None:
            gain = -dot(np.abs(rows), ranges.cost[i])
            if node.linear.bias is not None:
                gain = gain + dot(rows, node.linear.bias[None])
            carried = [r.reshape(batch, count, -1) for r in node.linear.transpose(rows.reshape(1, batch * count, -1))]
        else:
            below, above = lines(node, ranges, i, evidence.get(i) if evidence else None, rows)
            positive, negative = np.maximum(rows, 0.0), np.minimum(rows, 0.0)  # one of the two is zero
            gain = dot(positive, below[1]) + dot(negative, above[1])
            carried = [positive * s[:, None] for s in below[0]]
            for new, t in zip(carried, above[0], strict=True):
                new += negative * t[:, None]
        for j, new in zip(node.inputs, carried, strict=True):
            gain = gain - TINY * (1 + 2 * size(ranges.lower[j], ranges.upper[j]).sum(axis=1))[:, None]
            pending[j] = add(pending[j], new, j) if j in pending else new
        constant = plus(constant, gain)
    return total, constant


def least(box: Pair, a: np.ndarray, c: np.ndarray) -> np.ndarray:
    """At most a . x + c on the box: positive coefficients meet the lower end, negative ones the upper. (B, R)"""
    error = gamma(a.shape[2] + 4) * size(*box)
    return plus(c, dot(np.maximum(a, 0.0), box[0] - error) + dot(np.minimum(a, 0.0), box[1] + error) - TINY)


def narrow(graph: Graph, ranges: Ranges, i: int) -> None:
    """Narrows, in place, the pre-activations of the function of node i where it is not linear, by carrying z and -z back."""
    node = graph.nodes[i]
    wanted = bent(node, *ranges.of(node))
    # those wanted first
    order, count = np.argsort(~wanted, axis=1, kind="stable"), int(wanted.sum(axis=1).max(initial=0))
    for j in sorted(graph.loose.intersection(node.inputs)):
        step = max(1, ROOM // (2 * len(wanted) * max(n.size for n in graph.nodes[: j + 1])))
        for first in range(0, count, step):
            part = order[:, first : min(first + step, count)]
            unit = np.zeros((*part.shape, node.size))
            np.put_along_axis(unit, part[:, :, None], 1.0, axis=2)
            a, c = substitute(graph, ranges, {j: np.concatenate([unit, -unit], axis=1)})
            below, above = np.split(least(ranges.box, a, c), 2, axis=1)
            filling = ~np.take_along_axis(wanted, part, axis=1)  # the ranges of a box do not depend on its batch
            for ends, better, found in ((ranges.lower[j], np.fmax, below), (ranges.upper[j], np.fmin, -above)):
                found = np.where(filling, np.nan, found)  # what is no number is ignored
                tighter = better(np.take_along_axis(ends, part, axis=1), found)
                np.put_along_axis(ends, part, tighter, axis=1)


@np.errstate(all="ignore")
def enclose(nodes: tuple[Node, ...], output: int, box: Pair, tick: Callable[[], None]) -> Pair:
    """The best that is known of the elements of one node on boxes (B, inputs), without cutting these."""
    graph = graph_of(nodes, box[0].shape[1], False, tick)
    ranges = forward(graph, box, {}, narrow)
    unit = np.broadcast_to(np.eye(nodes[output].size), (len(box[0]), nodes[output].size, nodes[output].size))
    below, above = (least(box, *substitute(graph, ranges, {output: sign * unit})) for sign in (1.0, -1.0))
    return np.fmax(below, ranges.lower[output]), np.fmin(-above, ranges.upper[output])
