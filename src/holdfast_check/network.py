"""ONNX -> nodes in topological order, over the real numbers, constants exact.

Every value is a flat vector, the row-major order of the ONNX tensor. What is linear becomes a `Linear`, what is not a product of
two values or one of a few functions of one variable (section 4 of the format says which, and how they are counted).
Constants are folded exactly: float64 arrays, or arrays of fractions where float64 cannot hold a result.
Operators and attributes that are not read here are refused, never ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import onnx
from onnx import numpy_helper

from holdfast_check.arithmetic import Unreadable
from holdfast_check.linear import Convolution, Dense, Gather, Linear, Scale, Sum

FUNCTIONS = {"Relu": "relu", "Abs": "abs", "Sigmoid": "sigmoid", "Tanh": "tanh", "Exp": "exp", "Log": "log", "Sqrt": "sqrt",
             "Sin": "sin", "Cos": "cos", "Reciprocal": "reciprocal", "Softplus": "softplus", "Sign": "step"}  # fmt: skip
OPERATORS = """Constant Identity Dropout Cast Shape ConstantOfShape Add Sub Mul Div Sum Neg Max Min Gemm MatMul Conv ConvTranspose
    AveragePool GlobalAveragePool MaxPool BatchNormalization LeakyRelu PRelu Clip Pow Softmax Flatten Reshape Squeeze Unsqueeze Transpose
    Expand Concat Split Slice Gather Pad ReduceSum ReduceMean"""
IGNORED = {"ratio", "seed", "momentum"}  # attributes of training
HARMLESS = {
    "spatial": 1,
    "ceil_mode": 0,
    "auto_pad": b"NOTSET",
    "storage_order": 0,
    "training_mode": 0,
    "is_test": 1,
    "broadcast": 1,
}  # accepted values
EXACT = {"relu", "abs", "clip", "step"}  # functions that do not round in float32 (section 8)
LARGEST = 2**27  # elements of one value


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
class Network:
    """Names, shapes and nodes of the inputs and outputs; why float32 executions cannot be covered, or ""."""

    inputs: tuple[tuple[str, tuple[int, ...], int], ...]
    outputs: tuple[tuple[str, tuple[int, ...], int], ...]
    obstacle: str


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


def tidy(values: np.ndarray) -> np.ndarray:
    """An array of fractions as float64 where that is exact for all of them."""
    near = values.astype(np.float64)
    same = all(math.isfinite(a) and Fraction(a) == q for a, q in zip(near.flat, values.flat, strict=True))
    return near if same else values


def rationals(array: np.ndarray) -> np.ndarray:
    if array.size > 10**7:
        raise Unreadable("arithmetic on constants of more than 10^7 elements is not supported")
    return np.array([Fraction(a) for a in array.ravel().tolist()], dtype=object).reshape(array.shape)


def enclosed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """float64 values and radii that enclose fractions or balls; no radii where the values are exact."""
    if values.dtype.kind == "f" or (values.dtype.kind in "iub" and np.all(np.abs(values.astype(np.float64)) < 2.0**53)):
        if not np.all(np.isfinite(values)):
            raise Unreadable("a constant is not finite")
        return values.astype(np.float64), None
    middles, radii = np.empty(values.shape), np.empty(values.shape)
    with flint.ctx.workprec(128):
        for place, q in np.ndenumerate(values):
            ball = q if isinstance(q, flint.arb) else flint.arb(flint.fmpq(int(q.numerator), int(q.denominator)))
            middles[place] = float(ball.mid())
            # the distance of the ball's far end, upwards: the factor exceeds the rounding of float()
            radii[place] = float(abs(ball - middles[place]).upper()) * (1 + 2.0**-50) + 2.0**-1000
    if not np.all(np.isfinite(middles) & np.isfinite(radii)):
        raise Unreadable("a constant is not finite")
    return middles, radii


def doubtful(linear: Linear, weights: np.ndarray | None, bias: np.ndarray | None) -> Linear:
    """`linear` with radii of its weights and of its bias."""
    if weights is None and bias is None:
        return linear
    radii = linear.mapped(lambda w: np.zeros(w.shape) if weights is None else np.broadcast_to(weights, w.shape))
    return replace(linear, exact=False, doubt=replace(radii, bias=bias))


def fold(operator: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Exact arithmetic on constants."""
    whole = a.dtype.kind in "iub" and b.dtype.kind in "iub"
    compute = {
        "Add": np.add,
        "Sub": np.subtract,
        "Mul": np.multiply,
        "Div": np.floor_divide if whole else np.true_divide,
    }[operator]
    if whole:
        if operator == "Div" and np.any((a < 0) | (b <= 0)):
            raise Unreadable("Div of negative integers is not supported")
        return compute(a, b)
    small = all(x.dtype.kind == "f" and np.array_equal(x.astype(np.float32), x) for x in (a, b))
    if operator == "Mul" and small:
        return a * b  # 24 + 24 bits fit into 53
    return tidy(np.asarray(compute(rationals(a), rationals(b)), dtype=object))


@dataclass
class Reader:
    """Appends the nodes of one network to `nodes`; its flat inputs begin at `start`."""

    network: str
    nodes: list[Node]
    start: int
    opset: int = 0
    values: dict[str, Value] = field(default_factory=dict)
    here: tuple[str, str] = ("", "")  # operator and name of the ONNX node being read
    attributes: dict[str, Any] = field(default_factory=dict)
    double: bool = False
    obstacle: str = ""

    def define(self, name: str, value: Value) -> None:
        if name in self.values:
            raise Unreadable(f"the value {name} is defined twice")
        self.values[name] = value

    def append(self, kind: str, inputs: Sequence[Value], shape: Sequence[int], part: int = 0, **more: Any) -> Value:
        shape = tuple(int(n) for n in shape)
        if math.prod(shape) > LARGEST or any(v.node < 0 for v in inputs):
            raise Unreadable(f"a tensor of shape {shape} is too large, or is computed from constants alone")
        more.setdefault("rounds", kind not in EXACT)
        label = (self.network, self.here[1], part)
        self.nodes.append(Node(kind, tuple(v.node for v in inputs), math.prod(shape), label=label, **more))
        return Value(shape, len(self.nodes) - 1)

    def linear(
        self, linear: Linear, inputs: Sequence[Value], shape: Sequence[int], rounds: bool | None = None
    ) -> Value:
        rounds = (not linear.exact or linear.bias is not None) if rounds is None else rounds
        return self.append("linear", inputs, shape, linear=linear, rounds=rounds)

    def function(self, kind: str, x: Value, part: int = 0, parameters: tuple[float, ...] = ()) -> Value:
        return self.append(kind, [x], x.shape, part, parameters=parameters)

    def move(self, work: Callable[..., np.ndarray], *values: Value, blank: float = 0.0) -> Value:
        """`work(*arrays, blank)` only moves elements: what it does to the numbers 0, 1, ... says which it reads."""
        if all(v.constant is not None for v in values):
            return constant(work(*(v.constant for v in values), blank))
        numbers, known, sizes = [], [], []
        for v in values:
            free = v.constant is None
            numbers.append(np.arange(v.size).reshape(v.shape) + sum(sizes) if free else np.full(v.shape, -1))
            known.append(np.zeros(v.shape) if free else enclosed(v.constant))  # type: ignore[arg-type]
            sizes += [v.size] if free else []
        if any(isinstance(k, tuple) and k[1] is not None for k in known) or not math.isfinite(blank):
            raise Unreadable("a constant that float64 cannot hold is joined to other values")
        index = np.asarray(work(*numbers, -1))
        filled = index.size and index.min() < 0
        bias = work(*(k[0] if isinstance(k, tuple) else k for k in known), blank).ravel() if filled else np.zeros(0)
        most = int(np.bincount(index[index >= 0].ravel(), minlength=1).max()) if index.size else 1
        gather = Gather(
            sizes=tuple(sizes), index=index.ravel(), back=max(1, most), exact=True, bias=bias if bias.any() else None
        )
        return self.linear(gather, [v for v in values if v.constant is None], index.shape, rounds=False)

    def shaped(self, x: Value, shape: Sequence[int]) -> Value:
        """The same elements in the same order."""
        if math.prod(shape) != x.size or min(shape, default=1) < 0:
            raise Unreadable(f"{x.shape} cannot be given the shape {tuple(shape)}")
        return replace(x, shape=tuple(shape), constant=None if x.constant is None else x.constant.reshape(tuple(shape)))

    def expanded(self, x: Value, shape: Sequence[int]) -> Value:
        if math.prod(shape) > LARGEST:
            raise Unreadable(f"a tensor of shape {tuple(shape)} is too large")
        return x if x.shape == tuple(shape) else self.move(lambda a, _: np.broadcast_to(a, tuple(shape)), x)

    def scaled(
        self, x: Value, weights: np.ndarray, bias: np.ndarray | None = None, rounds: bool | None = None
    ) -> Value:
        """x * weights + bias, where x has the size of the result."""
        w, radius = enclosed(weights)
        b, spread = (None, None) if bias is None else enclosed(np.broadcast_to(bias, x.shape).ravel())
        w, radius = (None if a is None else np.broadcast_to(a, x.shape).ravel() for a in (w, radius))
        linear = Scale(weights=w, bias=b, exact=bool(np.all(np.abs(w) == 1)))
        return self.linear(doubtful(linear, radius, spread), [x], x.shape, rounds)

    def binary(self, operator: str, a: Value, b: Value, part: int = 0, rounds: bool | None = None) -> Value:
        if a.constant is not None and b.constant is not None:
            result = fold(operator, a.constant, b.constant)
            if result.dtype.kind == "O" or (
                result.dtype.kind == "f" and not np.array_equal(result.astype(np.float32), result)
            ):
                self.obstacle = self.obstacle or f"{' '.join(self.here)} computes constants that float32 cannot hold"
            return constant(result)
        shape = np.broadcast_shapes(a.shape, b.shape)
        if operator == "Div" and b.constant is None:
            return self.binary("Mul", a, self.function("reciprocal", b), 0 if a.constant is not None else 1)
        if operator == "Div":
            assert b.constant is not None
            inverse = tidy(np.asarray(Fraction(1) / rationals(b.constant), dtype=object))
            return self.scaled(self.expanded(a, shape), inverse)
        if operator == "Mul" and (a.constant is not None or b.constant is not None):
            x, c = (b, a) if a.constant is not None else (a, b)
            return self.scaled(self.expanded(x, shape), c.constant)  # type: ignore[arg-type]
        if operator == "Mul":
            return self.append("product", [self.expanded(a, shape), self.expanded(b, shape)], shape, part)
        sign = -1.0 if operator == "Sub" else 1.0
        if b.constant is not None:
            c = b.constant if sign > 0 else fold("Mul", b.constant, np.asarray(sign))
            return self.scaled(self.expanded(a, shape), np.ones(()), c, rounds)
        if a.constant is not None:
            return self.scaled(self.expanded(b, shape), np.full((), sign), a.constant, rounds)
        return self.linear(
            Sum(weights=np.array([1.0, sign]), terms=2), [self.expanded(v, shape) for v in (a, b)], shape, rounds
        )

    def dense(self, x: Value, weights: np.ndarray, bias: np.ndarray | None = None) -> Value:
        """The last axis of x times weights (m, k), plus a bias of the size of the result."""
        shape = (*x.shape[:-1], weights.shape[0])
        w, radius = enclosed(weights)
        b, spread = (None, None) if bias is None else enclosed(np.broadcast_to(bias, shape).ravel())
        most = [int(np.count_nonzero(w, axis=axis).max(initial=1)) for axis in (1, 0)]
        return self.linear(doubtful(Dense(weights=w, bias=b, terms=most[0], back=most[1]), radius, spread), [x], shape)

    def summed(self, x: Value, axes: Sequence[int], keep: bool) -> Value:
        axes = sorted({a % len(x.shape) for a in axes})
        rest = [a for a in range(len(x.shape)) if a not in axes]
        last = self.move(lambda a, _: a.transpose(rest + axes), x) if rest + axes != sorted(rest + axes) else x
        count = math.prod(x.shape[a] for a in axes)
        total = self.dense(self.shaped(last, (math.prod(x.shape[a] for a in rest), count)), np.ones((1, count)))
        return self.shaped(total, [1 if a in axes else n for a, n in enumerate(x.shape) if keep or a not in axes])

    def product(self, a: Value, b: Value, bias: np.ndarray | None = None) -> Value:
        """MatMul, plus a constant."""
        if len(a.shape) == 1 or len(b.shape) == 1:
            left, right = len(a.shape) == 1, len(b.shape) == 1
            y = self.product(
                self.shaped(a, (1, *a.shape)) if left else a, self.shaped(b, (*b.shape, 1)) if right else b
            )
            return self.shaped(y, [*y.shape[: -2 if left else -1], *([] if right else y.shape[-1:])])
        if a.shape[-1] != b.shape[-2]:
            raise Unreadable(f"the shapes {a.shape} and {b.shape} do not fit")
        if a.constant is None and b.constant is not None and len(b.shape) == 2:
            return self.dense(a, b.constant.T, bias)
        flip: Callable[[Value], Value] = lambda v: self.move(lambda x, _: np.swapaxes(x, -1, -2), v)  # noqa: E731
        if b.constant is None and a.constant is not None and len(a.shape) == 2:
            return flip(
                self.dense(
                    flip(b), a.constant, None if bias is None else np.broadcast_to(bias, (a.shape[0], b.shape[1])).T
                )
            )
        left = self.move(lambda x, _: x[..., :, None, :], a)
        right = self.move(lambda x, _: np.swapaxes(x, -1, -2)[..., None, :, :], b)
        y = self.summed(self.binary("Mul", left, right), [-1], False)
        return y if bias is None else self.binary("Add", y, constant(bias))

    def largest(self, values: Sequence[Value], part: int = 0, least: bool = False) -> tuple[Value, int]:
        """Maximum (or minimum) as a balanced tree; and the number of the next part."""
        queue = sorted(values, key=lambda v: v.constant is not None)  # constants last
        shape = np.broadcast_shapes(*(v.shape for v in queue))
        while len(queue) > 1:
            joined = []
            for a, b in zip(queue[::2], queue[1::2], strict=False):
                if a.constant is not None and b.constant is not None:
                    joined.append(constant((np.minimum if least else np.maximum)(a.constant, b.constant)))
                    continue
                gap = self.binary("Sub", *((b, a) if least else (a, b)), rounds=False)  # max(a, b) = b + relu(a - b)
                joined.append(self.binary("Sub" if least else "Add", b, self.function("relu", gap, part), rounds=False))
                part += 1
            queue = joined + queue[len(joined) * 2 :]
        return self.expanded(queue[0], shape), part

    def softmax(self, x: Value, axis: int) -> Value:
        self.obstacle = self.obstacle or "the rounding of Softmax is not described by the format"
        shape = x.shape
        if self.opset < 13:  # of the matrix with the axes before and from `axis` on
            axis %= len(shape)
            x, axis = self.shaped(x, (math.prod(shape[:axis]), math.prod(shape[axis:]))), 1
        powers = self.function("exp", x)
        inverse = self.function("reciprocal", self.summed(powers, [axis], True), 1)
        return self.shaped(self.binary("Mul", powers, inverse, 2), shape)

    def normalised(
        self, x: Value, scale: np.ndarray, shift: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float
    ) -> Value:
        """BatchNormalization: x - mean, then times scale / sqrt(variance + eps), plus shift."""
        with flint.ctx.workprec(128):
            roots = [flint.arb(v) + flint.arb(eps) for v in variance.tolist()]
            factors = np.array(
                [flint.arb(s) / r.sqrt() for s, r in zip(scale.tolist(), roots, strict=True)], dtype=object
            )
        wide: Callable[[np.ndarray], np.ndarray] = lambda a: a.reshape(-1, *[1] * (len(x.shape) - 2))  # noqa: E731
        return self.scaled(self.scaled(x, np.ones(()), wide(-mean)), wide(factors), wide(shift))

    def windows(self, x: Value, kernel: Sequence[int]) -> tuple[list[int], list[int], list[tuple[int, int]], list[int]]:
        """strides, dilations, pads and spatial shape of the result of a convolution or of a pool."""
        take, rank = self.attributes.pop, len(kernel)
        strides, dilations = (list(take(name, None) or [1] * rank) for name in ("strides", "dilations"))
        pads, auto = list(take("pads", None) or [0] * 2 * rank), take("auto_pad", b"NOTSET")
        if auto in (b"SAME_UPPER", b"SAME_LOWER"):
            axes = zip(x.shape[2:], strides, kernel, dilations, strict=True)
            total = [max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n) for n, s, k, d in axes]
            less, more = [t // 2 for t in total], [t - t // 2 for t in total]
            pads = less + more if auto == b"SAME_UPPER" else more + less
        pairs = list(zip(pads[:rank], pads[rank:], strict=True))
        axes = zip(x.shape[2:], pairs, strides, kernel, dilations, strict=True)
        out = [(n + a + b - (k - 1) * d - 1) // s + 1 for n, (a, b), s, k, d in axes]
        if (
            auto not in (b"NOTSET", b"VALID", b"SAME_UPPER", b"SAME_LOWER")
            or x.shape[0] != 1
            or min(pads) < 0
            or min(strides + dilations + out) < 1
        ):
            raise Unreadable(f"a kernel {tuple(kernel)} on an input of shape {x.shape} is not supported")
        return strides, dilations, pairs, out

    def convolved(
        self, x: Value, weights: np.ndarray, bias: np.ndarray | None, group: int, geometry: Sequence[Any]
    ) -> Value:
        """weights (channels of y, channels of a group of x, kernel); geometry as `windows` returns it."""
        if weights.shape[1] * group != x.shape[1] or weights.shape[0] % group:
            raise Unreadable("the shapes of the weights do not fit")
        w, radius = enclosed(
            weights.reshape(group, weights.shape[0] // group, weights.shape[1], -1).transpose(3, 0, 1, 2)
        )
        strides, dilations, pads, out = (tuple(g) for g in geometry)
        most = [int(np.count_nonzero(w, axis=axes).max(initial=1)) for axes in ((0, 3), (0, 2))]
        shape = [1, weights.shape[0], *out]
        b, spread = (None, None) if bias is None else enclosed(np.repeat(bias, math.prod(out)))
        linear = Convolution(weights=np.ascontiguousarray(w), bias=b, terms=most[0], back=most[1], shape=x.shape[1:], out=out,
                             kernel=weights.shape[2:], strides=strides, dilations=dilations, pads=pads)  # fmt: skip
        return self.linear(doubtful(linear, radius, spread), [x], shape)

    def transposed(self, x: Value, weights: np.ndarray, bias: np.ndarray | None, group: int) -> Value:
        """ConvTranspose: zeros between the elements of x and around them, then the convolution with the kernel turned round."""
        take, rank = self.attributes.pop, len(weights.shape) - 2
        strides, dilations, more = (
            list(take(a, None) or [b] * rank) for a, b in (("strides", 1), ("dilations", 1), ("output_padding", 0))
        )
        pads = list(take("pads", None) or [0] * 2 * rank)
        inside = tuple(slice(None, None, s) for s in strides)

        def spread(a: np.ndarray, blank: float) -> np.ndarray:
            room = np.full(
                (*a.shape[:2], *((n - 1) * s + 1 for n, s in zip(a.shape[2:], strides, strict=True))), blank, a.dtype
            )
            room[(slice(None), slice(None), *inside)] = a
            reach = [(k - 1) * d for k, d in zip(weights.shape[2:], dilations, strict=True)]
            sides = [(r - a, r - b + e) for r, a, b, e in zip(reach, pads[:rank], pads[rank:], more, strict=True)]
            room = np.pad(room, [(0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in sides)], constant_values=blank)
            return room[
                (
                    slice(None),
                    slice(None),
                    *(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(room.shape[2:], sides, strict=True)),
                )
            ]

        wide = self.move(spread, x)
        turned = np.flip(weights, axis=tuple(range(2, rank + 2))).reshape(group, -1, *weights.shape[1:]).swapaxes(1, 2)
        turned = turned.reshape(-1, *turned.shape[2:])
        axes = zip(wide.shape[2:], turned.shape[2:], dilations, strict=True)
        out = [n - (k - 1) * d for n, k, d in axes]
        return self.convolved(wide, turned, bias, group, ([1] * rank, dilations, [(0, 0)] * rank, out))

    def averaged(self, x: Value, kernel: Sequence[int]) -> Value:
        padding, geometry = self.attributes.pop("count_include_pad", 0), self.windows(x, kernel)
        total = self.convolved(x, np.ones((x.shape[1], 1, *kernel)), None, x.shape[1], geometry)
        linear = self.nodes[-1].linear
        assert linear is not None
        count = linear.apply([np.ones((1, x.size))]).reshape(total.shape)  # elements of the input in each window
        return self.binary("Div", total, constant(np.full((), math.prod(kernel)) if padding else count))

    def pooled(self, x: Value) -> Value:
        kernel, part = self.attributes.pop("kernel_shape"), 0
        strides, dilations, pads, out = self.windows(x, kernel)
        for axis in range(len(kernel)):
            n, s, d, (a, _), at = x.shape[2 + axis], strides[axis], dilations[axis], pads[axis], 2 + axis
            place = s * np.arange(out[axis])[:, None] + d * np.arange(kernel[axis]) - a
            inside = (place >= 0) & (place < n)
            if not inside.any(axis=1).all():
                raise Unreadable("a window lies outside its input")
            first, last = np.where(inside, place, n).min(axis=1), np.where(inside, place, -1).max(axis=1)
            columns = list(dict.fromkeys(map(tuple, np.clip(place, first[:, None], last[:, None]).T.tolist())))
            operands = [self.move(lambda v, _, c=column, i=at: np.take(v, list(c), axis=i), x) for column in columns]
            x, part = self.largest(operands, part)
        return x

    def read(self, node: onnx.NodeProto, xs: list[Value | None]) -> list[Value]:
        """The outputs of one ONNX node; what is in `attributes` and is not taken is refused by the caller."""
        take, kind, known = self.attributes.pop, node.op_type, [None if v is None else v.constant for v in xs]

        def setting(name: str, place: int, default: Any = None) -> Any:
            """A list that older operator sets give as an attribute, later ones as an input."""
            value = take(name, None)
            value = given(place) if value is None else value
            return default if value is None else value.tolist() if isinstance(value, np.ndarray) else value

        def given(place: int) -> Any:
            """A constant input, or None where it is left out."""
            return needed(known[place]) if place < len(xs) and xs[place] is not None else None

        x = xs[0] if xs and xs[0] is not None else Value((), constant=np.zeros(()))
        rank = len(x.shape)
        match kind:
            case "Constant":
                name = next(iter(self.attributes))
                value = take(name)
                single = name in ("value_float", "value_floats")
                return [
                    constant(
                        tensor(value)
                        if name == "value"
                        else np.asarray(value, dtype=np.float64 if single else np.int64)
                    )
                ]
            case "Identity" | "Dropout":
                if np.any(given(2) or False):
                    raise Unreadable("it is in training mode")
                return [x]
            case "Cast":
                return [self.cast(x, take("to"))]
            case "Shape":
                return [constant(np.array(x.shape[take("start", 0) : take("end", rank)], dtype=np.int64))]
            case "ConstantOfShape":
                fill = take("value", None)
                return [
                    self.expanded(
                        constant(np.zeros(1) if fill is None else tensor(fill).reshape(1)), needed(known[0]).tolist()
                    )
                ]
            case "Add" | "Sub" | "Mul" | "Div":
                a, b = x, needed(xs[1])
                axis = take("axis", None)
                if take("broadcast", 0) and axis is not None:
                    b = self.shaped(b, [*b.shape, *[1] * (rank - axis % rank - len(b.shape))])
                return [self.binary(kind, a, b)]
            case "Sum":
                shape = np.broadcast_shapes(*(needed(v).shape for v in xs))
                if any(k is not None for k in known):
                    raise Unreadable("Sum with constants is not supported")
                linear = Sum(weights=np.ones(len(xs)), terms=len(xs), exact=len(xs) == 1)
                return [self.linear(linear, [self.expanded(needed(v), shape) for v in xs], shape)]
            case "Neg" if x.constant is not None:
                return [constant(-x.constant)]
            case "Neg":
                return [self.scaled(x, np.full((), -1.0))]
            case "Max" | "Min":
                return [self.largest([needed(v) for v in xs], least=kind == "Min")[0]]
            case "Gemm":
                a, b = x, needed(xs[1])
                alpha, beta = np.asarray(take("alpha", 1.0)), np.asarray(take("beta", 1.0))
                a = (
                    a if len(a.shape) == 2 else self.shaped(a, (a.shape[0], math.prod(a.shape[1:])))
                )  # early exporters give images
                a, b = (
                    self.move(lambda m, _: m.T, v) if take(name, 0) else v for v, name in ((a, "transA"), (b, "transB"))
                )
                b = b if alpha == 1 else self.binary("Mul", constant(alpha), b)
                c = xs[2] if len(xs) > 2 and xs[2] is not None and beta != 0 else constant(np.zeros(()))
                c = c if beta == 1 else self.binary("Mul", constant(beta), c)
                y = self.product(a, b, c.constant)
                return [y if c.constant is not None else self.binary("Add", y, c)]
            case "MatMul":
                return [self.product(x, needed(xs[1]))]
            case "Conv" | "ConvTranspose":
                weights, bias, group = needed(known[1]), given(2), take("group", 1)
                if tuple(take("kernel_shape", weights.shape[2:])) != weights.shape[2:]:
                    raise Unreadable("kernel_shape is not the shape of the weights")
                if kind == "ConvTranspose":
                    return [self.transposed(x, weights, bias, group)]
                return [self.convolved(x, weights, bias, group, self.windows(x, weights.shape[2:]))]
            case "AveragePool":
                return [self.averaged(x, take("kernel_shape"))]
            case "GlobalAveragePool":
                return [self.averaged(x, x.shape[2:])]
            case "MaxPool":
                return [self.pooled(x)]
            case "BatchNormalization":
                scale, shift, mean, variance = (needed(k) for k in known[1:5])
                return [self.normalised(x, scale, shift, mean, variance, take("epsilon", float(np.float32(1e-5))))]
            case "LeakyRelu":
                return [self.function("leaky_relu", x, parameters=(float(take("alpha", float(np.float32(0.01)))),))]
            case "PRelu" if needed(known[1]).size and np.ptp(needed(known[1]).astype(np.float64)) == 0:
                return [self.function("leaky_relu", x, parameters=(float(needed(known[1]).ravel()[0]),))]
            case "Clip":
                edge = math.inf if self.opset > 10 else float(np.finfo(np.float32).max)
                low, high = (
                    float(np.asarray(setting(n, i, d)).item()) for n, i, d in (("min", 1, -edge), ("max", 2, edge))
                )
                if not low <= high:
                    raise Unreadable("the bounds are in the wrong order")
                return [self.function("clip", x, parameters=(low, high))]
            case "Pow":
                n, x = float(needed(known[1]).item()), self.shaped(x, np.broadcast_shapes(x.shape, known[1].shape))  # type: ignore[union-attr]
                if n in (1, 2, 0.5, -1):
                    return [x if n == 1 else self.function({2: "square", 0.5: "sqrt", -1: "reciprocal"}[n], x)]
                if n != int(n) or not 3 <= n <= 64:
                    raise Unreadable(f"the exponent {n} is not supported")
                return [self.function("power", x, parameters=(n,))]
            case "Softmax":
                return [self.softmax(x, take("axis", 1 if self.opset < 13 else -1))]
            case "Flatten":
                axis = take("axis", 1)
                axis += rank if axis < 0 else 0
                return [self.shaped(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))]
            case "Reshape":
                keep = take("allowzero", 0)
                wanted = [x.shape[i] if n == 0 and not keep else n for i, n in enumerate(setting("shape", 1))]
                return [self.shaped(x, [-x.size // math.prod(wanted) if n == -1 else n for n in wanted])]
            case "Squeeze":
                axes = {a % rank for a in setting("axes", 1, [a for a, n in enumerate(x.shape) if n == 1])}
                return [self.shaped(x, [n for a, n in enumerate(x.shape) if a not in axes])]
            case "Unsqueeze":
                return [self.shaped(x, np.expand_dims(np.empty(x.shape), tuple(setting("axes", 1))).shape)]
            case "Transpose":
                order = take("perm", list(range(rank))[::-1])
                return [self.move(lambda a, _: a.transpose(order), x)]
            case "Expand":
                return [self.expanded(x, np.broadcast_shapes(x.shape, tuple(setting("shape", 1))))]
            case "Concat":
                axis = take("axis", 1)
                return [self.move(lambda *a: np.concatenate(a[:-1], axis=axis), *(needed(v) for v in xs))]
            case "Split":
                axis, count = take("axis", 0), take("num_outputs", len(node.output))
                size = x.shape[axis]
                parts = setting(
                    "split", 1, [-(-size // count)] * (count - 1) + [size - -(-size // count) * (count - 1)]
                )
                if sum(parts) != size or min(parts) < 0:
                    raise Unreadable("the parts do not add up")
                places = np.split(np.arange(size), np.cumsum(parts)[:-1])
                return [self.move(lambda a, _, p=place: np.take(a, p, axis=axis), x) for place in places]
            case "Slice":
                starts, ends = setting("starts", 1), setting("ends", 2)
                axes, steps = setting("axes", 3, list(range(len(starts)))), setting("steps", 4, [1] * len(starts))
                cut = [slice(None)] * rank
                for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
                    cut[axis] = slice(start, end, step)
                return [self.move(lambda a, _: a[tuple(cut)], x)]
            case "Gather":
                axis, places = take("axis", 0), needed(known[1]).astype(np.int64)
                return [self.move(lambda a, _: np.take(a, places, axis=axis), x)]
            case "Pad":
                mode, blank = (
                    {b"constant": "constant", b"reflect": "reflect", b"edge": "edge"}[take("mode", b"constant")],
                    np.asarray(setting("value", 2, 0.0)).item(),
                )
                pads, axes = setting("pads", 1), setting("axes", 3, list(range(rank)))
                widths = [(0, 0)] * rank
                for axis, a, b in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
                    widths[axis] = (a, b)
                more = lambda blank: {"constant_values": blank} if mode == "constant" else {}  # noqa: E731
                return [self.move(lambda a, blank: np.pad(a, widths, mode, **more(blank)), x, blank=blank)]
            case "ReduceSum" | "ReduceMean":
                over, keep = setting("axes", 1), take("keepdims", 1)
                if not over and take("noop_with_empty_axes", 0):
                    return [x]
                y = self.summed(x, over or list(range(rank)), bool(keep))
                count = constant(np.full((), x.size // max(1, y.size)))
                return [self.binary("Div", y, count) if kind == "ReduceMean" else y]
            case _ if kind in FUNCTIONS:
                return [self.function(FUNCTIONS[kind], x)]
        raise Unreadable("this operator is not supported")

    def cast(self, x: Value, to: int) -> Value:
        target = onnx.helper.tensor_dtype_to_np_dtype(to)
        if x.constant is None:
            self.double = self.double or to == onnx.TensorProto.DOUBLE
            if to not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE) or (
                to == onnx.TensorProto.FLOAT and self.double
            ):
                raise Unreadable("only widening casts are supported")
            return x
        cast = x.constant.astype(target)
        if not np.array_equal(cast.astype(x.constant.dtype), x.constant):
            raise Unreadable("a cast changes constants")
        return constant(cast)


def needed(value: Any) -> Any:
    """An input that must be there and, for settings, constant."""
    if value is None:
        raise Unreadable("an input is missing, or is not constant")
    return value


def tensor(proto: onnx.TensorProto) -> np.ndarray:
    if proto.data_location == onnx.TensorProto.EXTERNAL or proto.external_data:
        raise Unreadable(f"constant {proto.name} is kept in another file")
    array = np.asarray(numpy_helper.to_array(proto))
    if array.dtype.kind not in "fiub":
        raise Unreadable(f"constant {proto.name} has an element type that is not supported")
    return array


def read_network(data: bytes, network: str, nodes: list[Node], start: int) -> Network:
    """Append the nodes of an ONNX file to `nodes`; its flat inputs begin at `start`."""
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise Unreadable(f"network {network} is not an ONNX file ({type(error).__name__})") from None
    graph = model.graph
    reader = Reader(
        network, nodes, start, max([o.version for o in model.opset_import if o.domain in ("", "ai.onnx")], default=1)
    )
    unknown = {n.op_type for n in graph.node} - {*FUNCTIONS, *OPERATORS.split()}
    if unknown or any(n.domain not in ("", "ai.onnx") for n in graph.node) or len(graph.sparse_initializer):
        raise Unreadable(
            f"network {network} uses operators that are not supported: {', '.join(sorted(unknown)) or 'of other domains'}"
        )
    try:
        return read_graph(reader, graph)
    except Unreadable as error:
        raise Unreadable(f"network {network}, {' '.join(reader.here)}: {error}") from None
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Unreadable(f"network {network}, {' '.join(reader.here)}: it cannot be read ({error})") from None


def read_graph(reader: Reader, graph: onnx.GraphProto) -> Network:
    for proto in graph.initializer:
        reader.here = ("initializer", proto.name)
        reader.define(proto.name, constant(tensor(proto)))
    inputs, start = [], reader.start
    for info in (i for i in graph.input if i.name not in reader.values):
        reader.here, kind = ("input", info.name), info.type.tensor_type
        sizes = [d.dim_value for d in kind.shape.dim]
        shape = tuple(1 if n <= 0 and axis == 0 else n for axis, n in enumerate(sizes))  # a symbolic first axis means 1
        if (
            not kind.HasField("shape")
            or kind.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
            or min(shape, default=1) < 1
        ):
            raise Unreadable(f"its shape {shape} or its element type is not supported")
        reader.double = reader.double or kind.elem_type == onnx.TensorProto.DOUBLE
        reader.define(info.name, reader.append("input", [], shape, rounds=False, start=start))
        inputs.append((info.name, shape, len(reader.nodes) - 1))
        start += math.prod(shape)
    for node in graph.node:
        reader.here = (node.op_type, node.name or node.output[0])
        reader.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        outputs = reader.read(node, [reader.values[name] if name else None for name in node.input])
        for name, value in reader.attributes.items():
            if name not in IGNORED and value != HARMLESS.get(name, ...):
                raise Unreadable(f"its attribute {name} is not supported")
        for name, result in zip(node.output, outputs, strict=False):
            if name:
                reader.define(name, result)
    reader.here = ("its", "outputs")
    results = [(o.name, reader.values[o.name]) for o in graph.output]
    if any(v.constant is not None for _, v in results):
        raise Unreadable("an output is constant")
    return Network(tuple(inputs), tuple((name, v.shape, v.node) for name, v in results), reader.obstacle)
