"""Arrays of numbered variables over a graph under construction: what a traced computation is lowered through.

Used by `load.jaxpr`. Every scalar has a number; all nodes are flat vectors, and moving numbers about costs no nodes
until somebody computes with them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from holdfast.load.constants import divide, real
from holdfast.operators import OPERATORS, GraphBuilder


class NoTranslation(Exception):
    """The primitive, or this use of it, has no card; the argument says which use."""


@dataclass(frozen=True, eq=False)
class Elements:
    """An array of variables: the number of each."""

    ids: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.ids.shape


Value = np.ndarray | Elements  # a constant, or variables


@dataclass(eq=False)
class Translation:
    """State of one translation. ``fractions``: arrays of quotients that float64 cannot hold -> their divisors.

    ``missing``: what cannot be translated, with source lines. All nodes are flat vectors; ``starts`` is the number of
    the first element of each.
    """

    builder: GraphBuilder = field(default_factory=GraphBuilder)
    starts: list[int] = field(default_factory=list)
    fractions: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    where: str = ""  # source line of what is being translated: the name of its nodes
    _total: int = 0
    _made: dict[Hashable, int] = field(default_factory=dict)
    _constants: dict[int, np.ndarray] = field(default_factory=dict)  # constant nodes: their values
    _limited: dict[tuple[int, str], tuple[int, float]] = field(default_factory=dict)  # max(x, c), min(x, c): x and c

    def input(self, size: int, name: str) -> Elements:
        """A variable vector."""
        return self._claim(self.builder.input((size,), name))

    def _claim(self, position: int) -> Elements:
        while len(self.starts) < len(self.builder):
            self.starts.append(self._total)
            self._total += int(np.prod(self.builder.shape(len(self.starts) - 1), dtype=np.int64))
        start = self.starts[position]
        return Elements(np.arange(start, start + int(np.prod(self.builder.shape(position), dtype=np.int64))))

    def node(
        self, op: str, inputs: Sequence[int], parameters: Sequence[np.ndarray] = (),
        radii: Sequence[np.ndarray | None] = (), mark: bytes = b"", **attributes: Any,
    ) -> int:  # fmt: skip
        """Position of a node; an equal one is not made twice. ``mark``: tells apart what only exact numbers do."""
        if op not in OPERATORS:
            raise NoTranslation(f"no card {op}")
        for p in parameters:
            if not np.isfinite(p).all():
                raise ValueError("a constant that is not finite is used")
        key = (
            op, tuple(inputs), tuple((p.shape, p.tobytes()) for p in parameters),
            tuple(None if r is None else r.tobytes() for r in radii), mark, tuple(sorted(attributes.items())),
        )  # fmt: skip
        if key not in self._made:
            self._made[key] = self.builder.add(op, inputs, parameters, name=self.where, radii=radii, **attributes)
            self._claim(self._made[key])
        return self._made[key]

    def elements(self, value: Value) -> Elements:
        """The value as variables; a constant becomes a node."""
        if isinstance(value, Elements):
            return value
        array = np.asarray(value, np.float64)
        position = self.node("constant", (), [array.reshape(-1)])
        self._constants[position] = array.reshape(-1)
        return Elements(self._claim(position).ids.reshape(array.shape))

    def settle(self, ids: np.ndarray) -> Value:
        """Variables, or a constant where all of them are known."""
        owners = np.searchsorted(self.starts, ids, side="right") - 1
        if ids.size and all(int(owner) in self._constants for owner in np.unique(owners)):
            flat = [
                self._constants[int(o)][i - self.starts[int(o)]] for o, i in zip(owners.flat, ids.flat, strict=True)
            ]
            return np.array(flat).reshape(ids.shape)
        return Elements(ids)

    def vector(self, value: Value, shape: Sequence[int] | None = None) -> int:
        """The position of a flat node that holds the value, broadcast to a shape."""
        ids = self.elements(value).ids
        ids = (ids if shape is None else np.broadcast_to(ids, tuple(shape))).reshape(-1)
        if not ids.size:
            raise NoTranslation("on empty arrays")
        owners = np.searchsorted(self.starts, ids, side="right") - 1
        sources, first = np.unique(owners, return_index=True)
        if len(sources) == 1:
            return self._take(int(sources[0]), ids - self.starts[int(sources[0])])
        parts, place = [], np.zeros(ids.size, np.int64)
        offset = 0
        for source in sources[np.argsort(first)].tolist():  # in order of appearance: often nothing is left to permute
            mine = owners == source
            chosen, back = np.unique(ids[mine], return_inverse=True)
            parts.append(self._take(source, chosen - self.starts[source]))
            place[mine] = offset + back
            offset += chosen.size
        return self._take(self.node("concat", parts, axis=0), place)

    def _take(self, position: int, offsets: np.ndarray) -> int:
        size = self.builder.shape(position)[0]
        if np.array_equal(offsets, np.arange(size)):
            return position
        if np.array_equal(offsets, np.arange(offsets[0], offsets[0] + offsets.size)):
            return self.node("slice", (position,), slices=((int(offsets[0]), offsets.size, 1),))
        return self.node("gather", (position,), axis=0, indices=tuple(int(i) for i in offsets))

    def shaped(self, position: int, shape: Sequence[int]) -> Elements:
        """A flat node's elements in a shape."""
        return Elements(self._claim(position).ids.reshape(tuple(shape)))

    def unary(self, op: str, x: Value, **attributes: Any) -> Elements:
        """A card of one input, element by element."""
        return self.shaped(self.node(op, (self.vector(x),), **attributes), np.shape(array_of(x)))

    def scale(self, x: Value, slope: Any = 1.0, shift: Any = 0.0, divisor: Any = None) -> Value:
        """slope x + shift, or x / divisor."""
        constants = (slope, shift) if divisor is None else (divisor,)
        shape = np.broadcast_shapes(np.shape(array_of(x)), *(np.shape(c) for c in constants))
        flat = [_flat(c, shape) for c in constants]
        if divisor is None:
            if isinstance(x, Elements) and not np.any(flat[1]) and np.all(flat[0] == 1.0):
                return Elements(np.broadcast_to(x.ids, shape))
            return self.shaped(self.node("scale", (self.vector(x, shape),), flat), shape)
        inverse = divide(real(1.0), real(flat[0]))
        position = self.node(
            "scale", (self.vector(x, shape),), [inverse.value, np.zeros(1)], [inverse.radius, None], flat[0].tobytes()
        )
        if inverse.radius is not None:
            self.fractions.append((inverse.value, flat[0]))
        return self.shaped(position, shape)

    def add(self, a: Value, b: Value, sign: int = 1) -> Value:
        """a + b or a - b."""
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            return a + sign * b
        if isinstance(b, np.ndarray):
            return self.scale(a, 1.0, sign * np.asarray(b, np.float64))
        if isinstance(a, np.ndarray):
            return self.scale(b, float(sign), a)
        shape = np.broadcast_shapes(a.shape, b.shape)
        return self.shaped(self.node("add", (self.vector(a, shape), self.vector(b, shape)), signs=(1, sign)), shape)

    def multiply(self, a: Value, b: Value) -> Value:
        """a * b."""
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            return a * b
        if isinstance(b, np.ndarray):
            return self.scale(a, b)
        if isinstance(a, np.ndarray):
            return self.scale(b, a)
        shape = np.broadcast_shapes(a.shape, b.shape)
        x, y = sorted((self.vector(a, shape), self.vector(b, shape)))
        return self.shaped(self.node("square", (x,)) if x == y else self.node("product", (x, y)), shape)

    def divide(self, a: Value, b: Value) -> Value:
        """a / b."""
        if isinstance(b, np.ndarray):
            return self.scale(a, divisor=b)
        return self.multiply(a, self.unary("reciprocal", b))

    def larger(self, a: Value, b: Value, sign: int = 1) -> Value:
        """max(a, b) = b + relu(a - b); with sign -1 min(a, b) = b - relu(b - a). Of both limits, `clip`."""
        if isinstance(a, np.ndarray):
            a, b = b, a
        shape = np.broadcast_shapes(np.shape(array_of(a)), np.shape(array_of(b)))
        limit = float(b.flat[0]) if isinstance(b, np.ndarray) and np.all(b == b.flat[0]) else None
        if limit is not None and isinstance(a, Elements):
            x = self.vector(a, shape)
            inner = self._limited.get((x, "min" if sign > 0 else "max"))
            if inner is not None and sign * limit <= sign * inner[1]:
                low, high = sorted((limit, inner[1]))
                return self.shaped(self.node("clip", (inner[0],), low=low, high=high), shape)
        gap = self.unary("relu", self.scale(self.add(a, b, -1), float(sign)))
        result = self.add(b, gap, sign)
        if limit is not None and isinstance(a, Elements):
            self._limited[self.vector(result), "max" if sign > 0 else "min"] = (self.vector(a, shape), limit)
        return result

    def step(self, x: Value) -> Elements:
        """1 for x > 0, 0 for x <= 0; to the bounds everything in between at 0."""
        return self.unary("heaviside", x)

    def total(self, x: Elements, axes: Sequence[int]) -> Value:
        """Sum over axes."""
        kept = [i for i in range(len(x.shape)) if i not in axes]
        shape = tuple(x.shape[i] for i in kept)
        moved = x.ids.transpose(*kept, *axes).reshape(max(1, int(np.prod(shape, dtype=np.int64))), -1)
        if moved.shape[1] == 1:
            return Elements(moved.reshape(shape))
        matrix = self.node("reshape", (self.vector(Elements(moved)),), shape=moved.shape)
        return self.shaped(self.node("reduce_sum", (matrix,), axes=(1,)), shape)

    def power(self, x: Value, exponent: int) -> Value:
        """x^n, n any integer."""
        if exponent == 0:
            return np.ones(np.shape(array_of(x)))
        n = abs(exponent)
        y = x if n == 1 else self.unary("square", x) if n == 2 else self.unary("power", x, exponent=n)
        return self.unary("reciprocal", y) if exponent < 0 else y


def array_of(value: Value) -> np.ndarray:
    """The numbers of the variables, or the constant itself."""
    return value.ids if isinstance(value, Elements) else np.asarray(value)


def _flat(constant: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A constant as a parameter of a flat vector: one number where all are the same."""
    array = np.asarray(constant, np.float64)
    if array.size and np.all(array == array.flat[0]):
        return array.reshape(-1)[:1].copy()
    return np.broadcast_to(array, shape).reshape(-1).copy()
