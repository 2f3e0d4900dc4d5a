"""Nodes, and how they are built: what an ONNX operator is made of.

Every value is a flat vector, the row-major order of an ONNX tensor. What is linear is a `Linear`, what is not a product of two
values or one of a few functions of one variable (section 4 of the format says which, and how they are counted).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from holdfast_check.arithmetic import Unreadable
from holdfast_check.constants import enclosed, fold, rationals, single, tidy
from holdfast_check.linear import Convolution, Dense, Gather, Geometry, Linear, Scale, Sum

EXACT = {"relu", "abs", "clip", "step"}  # functions that do not round in float32 (section 8)
LARGEST = 2**27  # elements of one value
PLANE: tuple[slice, ...] = (slice(None), slice(None))  # all of the first two axes: batch and channels


@dataclass(frozen=True, eq=False)
class Node:
    """One step of the computation; its value is a vector of `size` numbers."""

    kind: str  # "input", "linear", "product", or a function of one variable; "step" is the sign: -1, 0 or 1
    inputs: tuple[int, ...]
    size: int
    linear: Linear | None = None
    parameters: tuple[float, ...] = ()  # leaky_relu: (alpha,), clip: (low, high), power: (n,)
    label: tuple[str, str, int] = ("", "", 0)  # network, node name, part
    rounds: bool = True  # whether a float32 execution rounds here
    start: int = 0  # kind "input": where its elements stand among the flat inputs of the property


@dataclass(frozen=True, eq=False)
class Value:
    """An ONNX tensor: the position of a node, or a constant."""

    shape: tuple[int, ...]
    node: int = -1
    constant: np.ndarray | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def constant(array: Any) -> Value:
    """Floating-point numbers are widened to float64, which is exact; integers, booleans and fractions stay."""
    array = np.asarray(array)
    return Value(array.shape, constant=array.astype(np.float64) if array.dtype.kind == "f" else array)


def doubtful(linear: Linear, weights: np.ndarray | None, bias: np.ndarray | None) -> Linear:
    """`linear` with radii of its weights and of its bias."""
    if weights is None and bias is None:
        return linear
    radii = linear.mapped(lambda w: np.zeros(w.shape) if weights is None else np.broadcast_to(weights, w.shape))
    return replace(linear, exact=False, doubt=replace(radii, bias=bias))


def offset(bias: np.ndarray | None, shape: Sequence[int]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """A bias, broadcast to the shape of the result and flat, and its radii."""
    pair = (None, None) if bias is None else enclosed(bias)
    return pair[0] if pair[0] is None else np.broadcast_to(pair[0], shape).ravel(), pair[1] if pair[
        1
    ] is None else np.broadcast_to(pair[1], shape).ravel()


def counts(weights: np.ndarray, *axes: int | tuple[int, ...]) -> tuple[int, ...]:
    """The largest number of weights that are not zero, along each of these axes."""
    return tuple(int(np.count_nonzero(weights, axis=a).max(initial=1)) for a in axes)


def sized(shape: Sequence[int]) -> tuple[int, ...]:
    if math.prod(shape) > LARGEST or min(shape, default=1) < 0:
        raise Unreadable(f"a tensor of shape {tuple(shape)} is too large")
    return tuple(int(n) for n in shape)


@dataclass
class Builder:
    """Appends the nodes of one network to `nodes`; its flat inputs begin at `start`."""

    network: str
    nodes: list[Node]
    start: int
    here: tuple[str, str] = ("", "")  # operator and name of the ONNX node being read
    attributes: dict[str, Any] = field(default_factory=dict)  # those not yet read
    obstacle: str = ""  # why float32 executions cannot be covered

    def append(self, kind: str, inputs: Sequence[Value], shape: Sequence[int], part: int = 0, **more: Any) -> Value:
        shape = sized(shape)
        if any(v.node < 0 for v in inputs):
            raise Unreadable("it computes on constants alone")
        label, rounds = (self.network, self.here[1], part), more.pop("rounds", kind not in EXACT)
        self.nodes.append(
            Node(kind, tuple(v.node for v in inputs), math.prod(shape), label=label, rounds=rounds, **more)
        )
        return Value(shape, len(self.nodes) - 1)

    def linear(
        self, linear: Linear, inputs: Sequence[Value], shape: Sequence[int], rounds: bool | None = None
    ) -> Value:
        """Numbers that are only moved or negated do not round in float32 either."""
        rounds = (not linear.exact or linear.bias is not None) if rounds is None else rounds
        return self.append("linear", inputs, shape, linear=linear, rounds=rounds)

    def move(self, work: Callable[..., np.ndarray], *values: Value, blank: float = 0.0) -> Value:
        """`work(*arrays, blank)` only moves elements: what it does to the numbers 0, 1, ... says which it reads."""
        free = [v for v in values if v.constant is None]
        if not free:
            return constant(work(*(v.constant for v in values), blank))
        known = [(np.zeros(v.shape), None) if v.constant is None else enclosed(v.constant) for v in values]
        if any(radius is not None for _, radius in known) or not math.isfinite(blank):
            raise Unreadable("a constant that float64 cannot hold is joined to other values")
        starts = dict(zip(map(id, free), np.cumsum([0, *(v.size for v in free)]).tolist(), strict=False))
        numbers = (
            np.arange(v.size).reshape(v.shape) + starts[id(v)] if id(v) in starts else np.full(v.shape, -1)
            for v in values
        )
        index = np.asarray(work(*numbers, -1))
        bias = work(*(array for array, _ in known), blank).ravel() if np.any(index < 0) else np.zeros(1)
        readers = int(np.bincount(index[index >= 0].ravel(), minlength=1).max(initial=1))
        sizes, added = tuple(v.size for v in free), bias if bias.any() else None
        return self.linear(
            Gather(sizes=sizes, index=index.ravel(), back=readers, exact=True, bias=added), free, index.shape, False
        )

    def shaped(self, x: Value, shape: Sequence[int]) -> Value:
        """The same elements in the same order."""
        if math.prod(shape) != x.size or min(shape, default=1) < 0:
            raise Unreadable(f"{x.shape} cannot be given the shape {tuple(shape)}")
        return replace(x, shape=tuple(shape), constant=None if x.constant is None else x.constant.reshape(tuple(shape)))

    def expanded(self, x: Value, shape: Sequence[int]) -> Value:
        return x if x.shape == tuple(shape) else self.move(lambda a, _: np.broadcast_to(a, sized(shape)), x)

    def scaled(self, x: Value, factor: Any, bias: np.ndarray | None = None, rounds: bool | None = None) -> Value:
        """x * factor + bias, where x has the shape of the result."""
        (weights, radius), (b, spread) = offset(np.asarray(factor), x.shape), offset(bias, x.shape)
        linear = Scale(weights=weights, bias=b, exact=bool(np.all(np.abs(weights) == 1)))  # type: ignore[arg-type]
        return self.linear(doubtful(linear, radius, spread), [x], x.shape, rounds)

    def binary(self, operator: str, a: Value, b: Value, part: int = 0, rounds: bool | None = None) -> Value:
        """Add, Sub, Mul, Div with broadcasting."""
        left, right = a.constant, b.constant
        if left is not None and right is not None:
            result = fold(operator, left, right)
            if result.dtype.kind in "fO" and not single(result):
                self.obstacle = (
                    self.obstacle or f"{' '.join(map(str, self.here))} computes constants that float32 cannot hold"
                )
            return constant(result)
        shape = np.broadcast_shapes(a.shape, b.shape)
        if operator == "Div" and right is None:  # reciprocal and product
            return self.binary("Mul", a, self.append("reciprocal", [b], b.shape), 0 if left is not None else 1)
        a, b = (v if v.constant is not None else self.expanded(v, shape) for v in (a, b))
        if operator == "Div":
            assert right is not None
            return self.scaled(a, tidy(np.asarray(Fraction(1) / rationals(right), dtype=object)))
        if operator == "Mul":
            if left is None and right is None:
                return self.append("product", [a, b], shape, part)
            return self.scaled(a, right) if left is None else self.scaled(b, left)
        sign = -1.0 if operator == "Sub" else 1.0
        if right is not None:
            return self.scaled(a, 1.0, right if sign > 0 else fold("Mul", right, np.asarray(-1.0)), rounds)
        if left is not None:
            return self.scaled(b, sign, left, rounds)
        return self.linear(Sum(weights=np.array([1.0, sign]), terms=2), [a, b], shape, rounds)

    def dense(self, x: Value, matrix: np.ndarray, bias: np.ndarray | None = None) -> Value:
        """The last axis of x times a matrix (m, k), plus a bias that is broadcast to the result."""
        shape, (weights, radius) = (*x.shape[:-1], len(matrix)), enclosed(matrix)
        (b, spread), (terms, back) = offset(bias, shape), counts(weights, 1, 0)
        return self.linear(doubtful(Dense(weights=weights, bias=b, terms=terms, back=back), radius, spread), [x], shape)

    def summed(self, x: Value, axes: Sequence[int], keep: bool) -> Value:
        rank = len(x.shape)
        axes = sorted({a % rank for a in axes})
        order = [a for a in range(rank) if a not in axes] + axes
        last = self.move(lambda a, _: a.transpose(order), x) if order != sorted(order) else x
        count = math.prod(x.shape[a] for a in axes)
        total = self.dense(self.shaped(last, (x.size // max(1, count), count)), np.ones((1, count)))
        return self.shaped(total, [1 if a in axes else n for a, n in enumerate(x.shape) if keep or a not in axes])

    def product(self, a: Value, b: Value) -> Value:
        """MatMul; of two variables: all products, and their sums."""
        if len(b.shape) == 1:
            y = self.product(a, self.shaped(b, (*b.shape, 1)))
            return self.shaped(y, y.shape[:-1])
        if a.shape[-1] != b.shape[-2]:
            raise Unreadable(f"the shapes {a.shape} and {b.shape} do not fit")
        if b.constant is not None and len(b.shape) == 2:
            return self.dense(a, b.constant.T)
        turned = self.move(lambda x, _: np.swapaxes(x, -1, -2), b)
        if a.constant is not None and len(a.shape) == 2:
            return self.move(lambda x, _: np.swapaxes(x, -1, -2), self.dense(turned, a.constant))
        left, right = self.move(lambda x, _: x[..., :, None, :], a), self.move(lambda x, _: x[..., None, :, :], turned)
        return self.summed(self.binary("Mul", left, right), [-1], False)

    def largest(self, values: Sequence[Value], part: int = 0, least: bool = False) -> tuple[Value, int]:
        """Maximum (or minimum) as a balanced tree, constants last; and the number of the next part."""
        queue = sorted(values, key=lambda v: v.constant is not None)
        shape = np.broadcast_shapes(*(v.shape for v in queue))
        while len(queue) > 1:
            joined = []
            for a, b in zip(queue[::2], queue[1::2], strict=False):
                if a.constant is not None and b.constant is not None:
                    joined.append(constant((np.minimum if least else np.maximum)(a.constant, b.constant)))
                    continue
                gap = self.binary("Sub", *((b, a) if least else (a, b)), rounds=False)
                over = self.append("relu", [gap], gap.shape, part)  # max(a, b) = b + relu(a - b), min = b - relu(b - a)
                joined.append(self.binary("Sub" if least else "Add", b, over, rounds=False))
                part += 1
            queue = joined + queue[len(joined) * 2 :]
        return self.expanded(queue[0], shape), part

    def geometry(self, x: Value, kernel: Sequence[int]) -> Geometry:
        """strides, dilations, pads, and spatial shape of the result, of a convolution or a pool."""
        take, rank = self.attributes.pop, len(kernel)
        strides, dilations = (tuple(take(name, None) or [1] * rank) for name in ("strides", "dilations"))
        pads, auto = take("pads", None) or [0] * 2 * rank, take("auto_pad", b"NOTSET")
        steps = list(zip(x.shape[2:], kernel, strides, dilations, strict=True))
        if auto in (b"SAME_UPPER", b"SAME_LOWER") and max(dilations) == 1:  # as many windows as strides begun
            total = [max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n) for n, k, s, d in steps]
            less, more = [t // 2 for t in total], [t - t // 2 for t in total]
            pads, auto = less + more if auto == b"SAME_UPPER" else more + less, b"NOTSET"
        pairs = tuple(zip(pads[:rank], pads[rank:], strict=True))
        out = tuple((n + a + b - (k - 1) * d - 1) // s + 1 for (n, k, s, d), (a, b) in zip(steps, pairs, strict=True))
        if auto not in (b"NOTSET", b"VALID") or x.shape[0] != 1 or min(pads) < 0 or min(strides + dilations + out) < 1:
            raise Unreadable(f"a kernel {tuple(kernel)} on an input of shape {x.shape} is not supported")
        return Geometry(strides, dilations, pairs, out)

    def convolved(self, x: Value, kernel: np.ndarray, bias: np.ndarray | None, group: int, geometry: Geometry) -> Value:
        """kernel (channels of y, channels of a group of x, spatial axes)."""
        if kernel.shape[1] * group != x.shape[1] or kernel.shape[0] % group:
            raise Unreadable("the shapes of the weights do not fit")
        grouped = kernel.reshape(group, kernel.shape[0] // group, kernel.shape[1], -1).transpose(3, 0, 1, 2)
        weights, radius = enclosed(np.ascontiguousarray(grouped))
        (terms, back), shape = counts(weights, (0, 3), (0, 2)), (1, kernel.shape[0], *geometry.out)
        b, spread = offset(None if bias is None else bias.reshape(-1, *[1] * len(geometry.out)), shape)
        linear = Convolution(
            weights=weights,
            shape=x.shape[1:],
            kernel=kernel.shape[2:],
            geometry=geometry,
            bias=b,
            terms=terms,
            back=back,
        )
        return self.linear(doubtful(linear, radius, spread), [x], shape)

    def transposed(self, x: Value, kernel: np.ndarray, bias: np.ndarray | None, group: int) -> Value:
        """ConvTranspose: zeros between the elements of x and around them, then the convolution with the kernel turned round."""
        take, rank = self.attributes.pop, len(kernel.shape) - 2
        settings = (("strides", 1), ("dilations", 1), ("output_padding", 0))
        strides, dilations, more = (tuple(take(name, None) or [one] * rank) for name, one in settings)
        pads, reach = (
            take("pads", None) or [0] * 2 * rank,
            [(k - 1) * d for k, d in zip(kernel.shape[2:], dilations, strict=True)],
        )
        sides = [(r - a, r - b + e) for r, a, b, e in zip(reach, pads[:rank], pads[rank:], more, strict=True)]
        if min(map(min, sides)) < 0 or min(pads + list(more)) < 0:
            raise Unreadable("a transposed convolution with this padding is not supported")

        def spread(a: np.ndarray, blank: float) -> np.ndarray:
            sizes = ((n - 1) * s + 1 for n, s in zip(a.shape[2:], strides, strict=True))
            room = np.full((*a.shape[:2], *sizes), blank, a.dtype)
            room[(*PLANE, *(slice(None, None, s) for s in strides))] = a
            return np.pad(room, [(0, 0), (0, 0), *sides], constant_values=blank)

        wide = self.move(spread, x)
        turned = np.flip(kernel, axis=tuple(range(2, rank + 2))).reshape(group, -1, *kernel.shape[1:]).swapaxes(1, 2)
        out = tuple(n - r for n, r in zip(wide.shape[2:], reach, strict=True))
        once = Geometry((1,) * rank, dilations, ((0, 0),) * rank, out)
        return self.convolved(wide, turned.reshape(-1, *turned.shape[2:]), bias, group, once)

    def averaged(self, x: Value, kernel: Sequence[int]) -> Value:
        padding, geometry = self.attributes.pop("count_include_pad", 0), self.geometry(x, kernel)
        total = self.convolved(x, np.ones((x.shape[1], 1, *kernel)), None, x.shape[1], geometry)
        linear = self.nodes[-1].linear
        assert linear is not None
        count = linear.apply([np.ones((1, x.size))]).reshape(total.shape)  # elements of the input in each window
        return self.binary("Div", total, constant(math.prod(kernel) if padding else count))

    def pooled(self, x: Value, kernel: Sequence[int]) -> Value:
        """MaxPool, one spatial axis after the other; equal operands are taken once."""
        part, g = 0, self.geometry(x, kernel)
        axes = zip(kernel, x.shape[2:], g.strides, g.dilations, g.pads, g.out, strict=True)
        for axis, (k, n, s, d, (a, _), m) in enumerate(axes, 2):
            place = s * np.arange(m)[:, None] + d * np.arange(k) - a
            inside = (place >= 0) & (place < n)
            if not inside.any(axis=1).all():
                raise Unreadable("a window lies outside its input")
            ends = np.where(inside, place, n).min(axis=1), np.where(inside, place, -1).max(axis=1)
            columns = dict.fromkeys(map(tuple, np.clip(place, ends[0][:, None], ends[1][:, None]).T.tolist()))
            x, part = self.largest(
                [self.move(lambda v, _, c=c, i=axis: np.take(v, c, axis=i), x) for c in columns], part
            )
        return x
