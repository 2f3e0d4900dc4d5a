"""Exact truth about tiny ReLU networks: all linear pieces of the network, as polytopes with rational vertices.

Independent of the engine: boxes, half-spaces and affine maps over Fractions only. A polytope is kept as a set of points
whose convex hull it is; cutting it by a half-space keeps the points inside and adds the crossings of pairs that share
enough tight constraints to be an edge (a few more do no harm: they lie inside).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

Point = tuple[Fraction, ...]
Affine = tuple[tuple[Fraction, ...], Fraction]  # slopes, constant
Vertices = dict[Point, frozenset[int]]  # point -> numbers of the constraints that are tight there


@dataclass(frozen=True)
class Layer:
    """y = relu(W x + b), or without relu."""

    weights: tuple[tuple[Fraction, ...], ...]  # one row per output
    bias: tuple[Fraction, ...]
    relu: bool


def value(a: Affine, x: Point) -> Fraction:
    """a(x)."""
    return sum((s * v for s, v in zip(a[0], x, strict=True)), a[1])


def box_vertices(low: Sequence[Fraction], high: Sequence[Fraction]) -> Vertices:
    """Corners of a box; constraint 2 i is x_i >= low_i, 2 i + 1 is x_i <= high_i."""
    result: Vertices = {}
    for corner in itertools.product(*zip(low, high, strict=True)):
        tight = {2 * i for i, v in enumerate(corner) if v == low[i]} | {
            2 * i + 1 for i, v in enumerate(corner) if v == high[i]
        }
        result[corner] = frozenset(tight)
    return result


def cut(vertices: Vertices, a: Affine, number: int, dimension: int) -> Vertices:
    """The part where a(x) <= 0."""
    at = {x: value(a, x) for x in vertices}
    kept = {x: tight | {number} if at[x] == 0 else tight for x, tight in vertices.items() if at[x] <= 0}
    inside, beyond = [x for x in vertices if at[x] < 0], [x for x in vertices if at[x] > 0]
    for x, y in itertools.product(inside, beyond):
        shared = vertices[x] & vertices[y]
        if len(shared) >= dimension - 1:
            t = at[x] / (at[x] - at[y])
            point = tuple(p + t * (q - p) for p, q in zip(x, y, strict=True))
            kept[point] = kept.get(point, frozenset()) | shared | {number}
    return kept


def pieces(
    layers: Sequence[Layer], low: Sequence[Fraction], high: Sequence[Fraction]
) -> Iterator[tuple[Vertices, list[Affine]]]:
    """Polytopes that cover the box, each with the affine functions that the outputs are on it."""
    n = len(low)
    identity = [(tuple(Fraction(int(i == j)) for j in range(n)), Fraction(0)) for i in range(n)]
    yield from _from_layer(layers, 0, box_vertices(low, high), identity, n, 2 * n)


def _from_layer(
    layers: Sequence[Layer], depth: int, cell: Vertices, maps: list[Affine], n: int, number: int
) -> Iterator[tuple[Vertices, list[Affine]]]:
    if depth == len(layers):
        yield cell, maps
        return
    layer = layers[depth]
    before = [_compose(row, b, maps, n) for row, b in zip(layer.weights, layer.bias, strict=True)]
    if not layer.relu:
        yield from _from_layer(layers, depth + 1, cell, before, n, number)
        return
    zero: Affine = ((Fraction(0),) * n, Fraction(0))
    cells: list[tuple[Vertices, list[Affine]]] = [(cell, [])]
    for z in before:
        split = []
        minus: Affine = (tuple(-s for s in z[0]), -z[1])
        for part, chosen in cells:
            signs = [value(z, x) for x in part]
            if any(s > 0 for s in signs):
                active = cut(part, minus, number, n) if any(s < 0 for s in signs) else part
                split.append((active, [*chosen, z]))
            if any(s < 0 for s in signs) or all(s == 0 for s in signs):
                idle = cut(part, z, number, n) if any(s > 0 for s in signs) else part
                split.append((idle, [*chosen, zero]))
        cells = split
        number += 1
    for part, chosen in cells:
        yield from _from_layer(layers, depth + 1, part, chosen, n, number)


def _compose(row: Sequence[Fraction], b: Fraction, maps: Sequence[Affine], n: int) -> Affine:
    slopes = tuple(sum((w * m[0][j] for w, m in zip(row, maps, strict=True)), Fraction(0)) for j in range(n))
    return slopes, sum((w * m[1] for w, m in zip(row, maps, strict=True)), b)


def forward(layers: Sequence[Layer], x: Point) -> list[Fraction]:
    """Exact outputs at a point."""
    values = list(x)
    for layer in layers:
        values = [
            sum((w * v for w, v in zip(row, values, strict=True)), b)
            for row, b in zip(layer.weights, layer.bias, strict=True)
        ]
        values = [max(v, Fraction(0)) for v in values] if layer.relu else values
    return values


def exact_range(
    layers: Sequence[Layer], low: Sequence[Fraction], high: Sequence[Fraction], output: int
) -> tuple[Fraction, Fraction]:
    """The least and the largest value of an output over the box."""
    at = [value(maps[output], x) for cell, maps in pieces(layers, low, high) for x in cell]
    return min(at), max(at)


@dataclass(frozen=True)
class Row:
    """outputs . y + inputs . x + constant <= 0, or < 0."""

    outputs: tuple[Fraction, ...]
    inputs: tuple[Fraction, ...]
    constant: Fraction
    strict: bool

    def on(self, maps: Sequence[Affine], n: int) -> Affine:
        """The left side as a function of the input, on one piece."""
        slopes, constant = _compose(self.outputs, self.constant, maps, n)
        return tuple(s + t for s, t in zip(slopes, self.inputs, strict=True)), constant

    def holds(self, x: Point, y: Sequence[Fraction]) -> bool:
        """Whether a point satisfies it."""
        left = sum((c * v for c, v in zip((*self.outputs, *self.inputs), (*y, *x), strict=True)), self.constant)
        return left < 0 if self.strict else left <= 0


def satisfiable(
    layers: Sequence[Layer], low: Sequence[Fraction], high: Sequence[Fraction], cases: Sequence[Sequence[Row]]
) -> bool:
    """Whether some point of the box satisfies all rows of some case: exactly."""
    n = len(low)
    for cell, maps in pieces(layers, low, high):
        for case in cases:
            rows = [row.on(maps, n) for row in case]
            part = cell
            for k, row in enumerate(rows):
                part = cut(part, row, 10_000 + k, n)
                if not part:
                    break
            # the centre of points, one per strict row, where that row is negative satisfies all of them
            strict = [r for r, row in zip(rows, case, strict=True) if row.strict]
            if part and all(any(value(r, x) < 0 for x in part) for r in strict):
                return True
    return False


def least(layers: Sequence[Layer], low: Sequence[Fraction], high: Sequence[Fraction], row: Row) -> Fraction:
    """The least left side of a row over the box."""
    return min(value(row.on(maps, len(low)), x) for cell, maps in pieces(layers, low, high) for x in cell)
