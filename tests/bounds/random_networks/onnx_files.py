"""Random ONNX files that use every operator the loader lowers, and their exact values (`onnx_semantics`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from random_networks.graphs import LARGEST, wild

KINKS = ("Relu", "Relu", "Relu", "LeakyRelu", "PRelu", "Abs", "Sign", "Clip", "Max", "Min", "HardSigmoid", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin")  # fmt: skip
SMOOTH = ("Sigmoid", "Tanh", "Exp", "Softplus", "Sin", "Cos", "Pow", "Softmax", "HardSwish", "Mul", "Div", "Reciprocal", "Log", "Sqrt", "Tan", "Asin", "Acos", "Atan", "MatMul")  # fmt: skip
MOVES = (
    "Reshape", "Flatten", "Squeeze", "Transpose", "Slice", "Split", "Concat", "Gather", "GatherND", "Tile", "Expand", "Identity", "Dropout",
    "Pad", "Resize", "Upsample", "Where", "Constant", "Cast", "Shape", "Size",
)  # fmt: skip
LINEAR = (
    "Gemm", "MatMul", "MatMul left", "Add", "Sub", "Mul", "Div", "Sum", "Mean", "Neg", "Conv", "ConvTranspose", "AveragePool",
    "GlobalAveragePool", "BatchNormalization", "ReduceSum", "ReduceMean",
)  # fmt: skip


class Writer:
    """Writes one ONNX graph of random nodes."""

    def __init__(self, rng: np.random.Generator, mild: bool, opset: int = 13):
        self.rng, self.mild, self.opset = rng, mild, opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.order: list[str] = []

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weights(self, *shape: int) -> np.ndarray:
        return np.asarray(np.clip(wild(self.rng, shape, self.mild), -1e30, 1e30), np.float32)

    def node(self, op: str, inputs: list[str], shape: tuple[int, ...], outputs: int = 1, **attributes: object) -> str:
        names = [f"v{len(self.order) + i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}", **attributes))
        for name in names:
            self.shapes[name] = tuple(shape)
            self.order.append(name)
        return names[0]

    def pick(self) -> str:
        return self.order[-1] if self.rng.random() < 0.75 else self.order[self.rng.integers(len(self.order))]

    def like(self, x: str) -> str:
        """Another value of the same shape."""
        same = [v for v in self.order if self.shapes[v] == self.shapes[x]]
        other = same[self.rng.integers(len(same))]
        return (
            other if other != x else self.node("Mul", [x, self.constant(self.weights(*self.shapes[x]))], self.shapes[x])
        )

    def matrix(self, x: str) -> str:
        """The value as (1, size)."""
        size = math.prod(self.shapes[x])
        return self.node("Reshape", [x, self.constant(np.array([1, size]))], (1, size))

    def image(self, x: str) -> str:
        """The value as (1, C, ...) with one or two spatial axes."""
        size = math.prod(self.shapes[x])
        c = 2 if size % 2 == 0 and size > 2 else 1
        space = (
            (2, size // c // 2) if size // c % 2 == 0 and size // c > 2 and self.rng.random() < 0.6 else (size // c,)
        )
        return self.node("Reshape", [x, self.constant(np.array([1, c, *space]))], (1, c, *space))

    def bounded(self, x: str, shape: tuple[int, ...], op: str, inputs: list[str], **attributes: object) -> str | None:
        return self.node(op, inputs, shape, **attributes) if 0 < math.prod(shape) <= LARGEST else None

    def write(self, op: str) -> None:
        """One node of the operator, with what it needs before it."""
        method: Callable[[str, str], object] = getattr(self, "_" + op.split()[0].lower(), self._plain)
        method(self.pick(), op)

    def _plain(self, x: str, op: str) -> object:
        return self.node(op, [x], self.shapes[x])

    def _leakyrelu(self, x: str, op: str) -> object:
        return self.node(op, [x], self.shapes[x], alpha=float(self.rng.choice([0.01, 0.1, 1.0, 2.5, -0.5, 0.0, 1e-20])))

    def _prelu(self, x: str, op: str) -> object:
        shape = self.shapes[x][-1:] if self.rng.random() < 0.7 else (1,)
        return self.node(op, [x, self.constant(self.weights(*shape))], self.shapes[x])

    def _clip(self, x: str, op: str) -> object:
        low, high = np.sort(self.weights(2))
        ends = [
            self.constant(low) if self.rng.random() < 0.8 else "",
            self.constant(high) if self.rng.random() < 0.8 else "",
        ]
        return self.node(op, [x, *ends], self.shapes[x])

    def _max(self, x: str, op: str) -> object:
        others = [self.like(x), self.constant(self.weights(*self.shapes[x][-1:]))]
        return self.node(op, [x, *others[: self.rng.integers(1, 3)]], self.shapes[x])

    _min = _max

    def _sum(self, x: str, op: str) -> object:
        return self.node(op, [x, self.like(x), self.constant(self.weights(*self.shapes[x]))], self.shapes[x])

    _mean = _sum

    def _add(self, x: str, op: str) -> object:
        kind = self.rng.integers(3)
        other = (
            self.like(x) if kind == 0 else self.constant(self.weights(*self.shapes[x]) if kind == 1 else self.weights())
        )
        pair = [x, other] if self.rng.random() < 0.7 else [other, x]
        return self.node(op, pair, self.shapes[x])

    _sub = _mul = _add

    def positive(self, x: str) -> str:
        """A value away from zero."""
        x = self.node(str(self.rng.choice(["Abs", "Sigmoid", "Relu"])), [x], self.shapes[x])
        return self.node("Add", [x, self.constant(np.float32(10.0 ** self.rng.uniform(-1, 1)))], self.shapes[x])

    def _div(self, x: str, op: str) -> object:
        if self.rng.random() < 0.5:
            w = self.weights(*self.shapes[x])
            return self.node(op, [x, self.constant(np.where(np.abs(w) < 1e-6, np.float32(3.0), w))], self.shapes[x])
        return self.node(op, [x, self.positive(x)], self.shapes[x])

    def _reciprocal(self, x: str, op: str) -> object:
        return self.node(op, [self.positive(x)], self.shapes[x])

    _log = _sqrt = _reciprocal

    def _asin(self, x: str, op: str) -> object:
        """Of a value inside of (-0.95, 0.95), where all three are smooth."""
        x = self.node(
            "Mul", [self.node("Tanh", [x], self.shapes[x]), self.constant(np.float32(0.9375))], self.shapes[x]
        )
        return self.node(op, [x], self.shapes[x])

    _acos = _tan = _asin

    def _pow(self, x: str, op: str) -> object:
        e = float(self.rng.choice([1.0, 2.0, 2.0, 3.0, 4.0, 0.5, -1.0, -2.0]))
        x = self.positive(x) if e in (0.5, -1.0, -2.0) else x
        return self.node(op, [x, self.constant(np.float32(e))], self.shapes[x])

    def _hardsigmoid(self, x: str, op: str) -> object:
        return self.node(op, [x], self.shapes[x], alpha=float(np.float32(0.3)), beta=float(np.float32(0.4)))

    def _hardswish(self, x: str, op: str) -> object:
        return self.node(op, [x], self.shapes[x]) if self.opset >= 14 else None

    def _softmax(self, x: str, op: str) -> object:
        return self.node(op, [x], self.shapes[x], axis=-1)

    def _gemm(self, x: str, op: str) -> object:
        x = self.matrix(x)
        k, m = self.shapes[x][1], int(self.rng.integers(1, 6))
        turned = int(self.rng.integers(2))
        w = self.constant(self.weights(m, k) if turned else self.weights(k, m))
        plain = self.rng.random() < 0.5
        scale = {} if plain else {"alpha": float(self.rng.normal()), "beta": float(self.rng.normal())}
        return self.node(op, [x, w, self.constant(self.weights(m))], (1, m), transB=turned, **scale)

    def _matmul(self, x: str, op: str) -> object:
        x = self.matrix(x)
        k = self.shapes[x][1]
        if op.endswith("left"):
            x = self.node("Reshape", [x, self.constant(np.array([k, 1]))], (k, 1))
            return self.node("MatMul", [self.constant(self.weights(3, k)), x], (3, 1))
        if self.rng.random() < 0.3 and k <= 5:  # of two variables
            y = self.node("Reshape", [self.like(x), self.constant(np.array([k, 1]))], (k, 1))
            return self.node("MatMul", [y, x], (k, k)) if k * k <= LARGEST else None
        return self.node("MatMul", [x, self.constant(self.weights(k, 4))], (1, 4))

    def _kernel(self, x: str) -> tuple[tuple[int, ...], list[int], list[int], tuple[int, ...]]:
        space = self.shapes[x][2:]
        kernel = tuple(int(self.rng.integers(1, min(n, 3) + 1)) for n in space)
        strides = [int(self.rng.integers(1, 3)) for _ in space]
        pads = [int(self.rng.integers(0, (k + 1) // 2 + 1)) if k > 1 else 0 for k in (*kernel, *kernel)]
        pads = [min(p, k - 1) for p, k in zip(pads, (*kernel, *kernel), strict=True)]
        r = len(space)
        out = tuple((n + pads[i] + pads[i + r] - kernel[i]) // strides[i] + 1 for i, n in enumerate(space))
        return kernel, strides, pads, out

    def _conv(self, x: str, op: str) -> object:
        x = self.image(x)
        c = self.shapes[x][1]
        group = 2 if c == 2 and self.rng.random() < 0.4 else 1
        kernel, strides, pads, out = self._kernel(x)
        p = [self.constant(self.weights(2, c // group, *kernel))] + (
            [self.constant(self.weights(2))] if self.rng.random() < 0.6 else []
        )
        return self.bounded(x, (1, 2, *out), op, [x, *p], strides=strides, pads=pads, group=group)

    def _convtranspose(self, x: str, op: str) -> object:
        x = self.image(x)
        c, space = self.shapes[x][1], self.shapes[x][2:]
        kernel, s = tuple(int(self.rng.integers(1, 3)) for _ in space), int(self.rng.integers(1, 3))
        out = tuple((n - 1) * s + k for n, k in zip(space, kernel, strict=True))
        p = [self.constant(self.weights(c, 2, *kernel)), self.constant(self.weights(2))]
        return self.bounded(x, (1, 2, *out), op, [x, *p], strides=[s] * len(space))

    def _averagepool(self, x: str, op: str) -> object:
        x = self.image(x)
        kernel, strides, pads, out = self._kernel(x)
        extra = {"count_include_pad": int(self.rng.integers(2))} if op == "AveragePool" else {}
        return self.node(
            op, [x], (1, self.shapes[x][1], *out), kernel_shape=list(kernel), strides=strides, pads=pads, **extra
        )

    _maxpool = _averagepool

    def _globalaveragepool(self, x: str, op: str) -> object:
        x = self.image(x)
        return self.node(op, [x], (1, self.shapes[x][1], *(1,) * (len(self.shapes[x]) - 2)))

    _globalmaxpool = _globalaveragepool

    def _batchnormalization(self, x: str, op: str) -> object:
        x = self.image(x)
        c = self.shapes[x][1]
        p = [self.weights(c), self.weights(c), self.weights(c), np.abs(self.weights(c))]
        return self.node(
            op, [x, *map(self.constant, p)], self.shapes[x], epsilon=float(np.float32(10.0 ** self.rng.uniform(-5, -1)))
        )

    def _reducesum(self, x: str, op: str) -> object:
        shape = self.shapes[x]
        axes = [i for i in range(len(shape)) if self.rng.random() < 0.5] or [len(shape) - 1]
        keep = int(self.rng.integers(2)) if len(axes) < len(shape) else 1
        out = tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes)
        if op == "ReduceSum" and self.opset >= 13:
            return self.node(op, [x, self.constant(np.array(axes))], out, keepdims=keep)
        return self.node(op, [x], out, axes=axes, keepdims=keep)

    _reducemean = _reducemax = _reducemin = _reducesum

    def _reshape(self, x: str, op: str) -> object:
        return self.image(x)

    def _flatten(self, x: str, op: str) -> object:
        axis = int(self.rng.integers(0, len(self.shapes[x]) + 1))
        return self.node(op, [x], (math.prod(self.shapes[x][:axis]), math.prod(self.shapes[x][axis:])), axis=axis)

    def _squeeze(self, x: str, op: str) -> object:
        shape = self.shapes[x]
        y = self.node("Unsqueeze", [x, self.constant(np.array([1]))], (shape[0], 1, *shape[1:])) if shape else x
        return self.node(op, [y, self.constant(np.array([1]))], shape)

    def _transpose(self, x: str, op: str) -> object:
        perm = [int(i) for i in self.rng.permutation(len(self.shapes[x]))]
        return self.node(op, [x], tuple(self.shapes[x][i] for i in perm), perm=perm)

    def _slice(self, x: str, op: str) -> object:
        axis = len(self.shapes[x]) - 1
        n = self.shapes[x][axis]
        start, end, step = ((0, n, 2), (n - 1, -n - 1, -1), (n // 2, 2**62, 1))[self.rng.integers(3)]
        out = (*self.shapes[x][:-1], len(range(n)[start:end:step]))
        return self.bounded(x, out, op, [x, *(self.constant(np.array([v])) for v in (start, end, axis, step))])

    def _split(self, x: str, op: str) -> object:
        *front, n = self.shapes[x]
        if n < 2:
            return None
        k = int(self.rng.integers(1, n))
        name = self.node(op, [x, self.constant(np.array([k, n - k]))], (*front, n - k), outputs=2, axis=len(front))
        self.shapes[name] = (*front, k)
        return name

    def _concat(self, x: str, op: str) -> object:
        *front, n = self.shapes[x]
        return self.bounded(
            x, (*front, 3 * n), op, [x, self.constant(self.weights(*front, n)), self.like(x)], axis=len(front)
        )

    def _gather(self, x: str, op: str) -> object:
        *front, n = self.shapes[x]
        i = self.rng.integers(-n, n, 3)
        return self.bounded(x, (*front, 3), op, [x, self.constant(i)], axis=len(front))

    def _gathernd(self, x: str, op: str) -> object:
        x = self.matrix(x)
        i = np.stack([np.zeros(4, int), self.rng.integers(0, self.shapes[x][1], 4)], 1)
        return self.node(op, [x, self.constant(i)], (4,))

    def _tile(self, x: str, op: str) -> object:
        return self.bounded(
            x,
            (2 * self.shapes[x][0], *self.shapes[x][1:]),
            op,
            [x, self.constant(np.array([2] + [1] * (len(self.shapes[x]) - 1)))],
        )

    def _expand(self, x: str, op: str) -> object:
        shape = (2, *self.shapes[x])
        return self.bounded(x, shape, op, [x, self.constant(np.array(shape))])

    def _pad(self, x: str, op: str) -> object:
        *front, n = self.shapes[x]
        zeros = [0] * len(front)
        if self.rng.random() < 0.3 and n > 2:
            return self.bounded(
                x, (*front, n + 2), op, [x, self.constant(np.array([*zeros, 1, *zeros, 1]))], mode="reflect"
            )
        return self.bounded(
            x, (*front, n + 3), op, [x, self.constant(np.array([*zeros, 1, *zeros, 2])), self.constant(self.weights())]
        )

    def _resize(self, x: str, op: str) -> object:
        x = self.image(x)
        shape = self.shapes[x]
        factors = np.array([1, 1, *(int(self.rng.integers(1, 3)) for _ in shape[2:])])
        out = tuple(int(n) for n in np.array(shape) * factors)
        empty, scales = self.constant(np.zeros(0, np.float32)), self.constant(factors.astype(np.float32))
        return self.bounded(
            x, out, "Resize", [x, empty, scales], nearest_mode="floor", coordinate_transformation_mode="asymmetric"
        )

    _upsample = _resize  # gone from operator set 10 on: tests/load

    def _where(self, x: str, op: str) -> object:
        mask = self.constant(self.rng.random(self.shapes[x]) < 0.5)
        return self.node(op, [mask, x, self.constant(self.weights(*self.shapes[x]))], self.shapes[x])

    def _constant(self, x: str, op: str) -> object:
        w = numpy_helper.from_array(self.weights(*self.shapes[x]))
        self.nodes.append(helper.make_node("Constant", [], [f"k{len(self.nodes)}"], value=w))
        return self.node("Sub", [x, self.nodes[-1].output[0]], self.shapes[x])

    def _cast(self, x: str, op: str) -> object:
        return self.node(op, [x], self.shapes[x], to=TensorProto.FLOAT)

    def _shape(self, x: str, op: str) -> object:
        name = f"k{len(self.nodes)}"
        self.nodes.append(helper.make_node("Shape", [x], [name]))
        return self.node("Reshape", [self.like(x), name], self.shapes[x])

    def _size(self, x: str, op: str) -> object:
        return None  # of no use but on constants: tests/load


def random_onnx(rng: np.random.Generator, *, smooth: bool = True, mild: bool | None = None) -> onnx.ModelProto:
    """A random model; one or two inputs, one output of shape (1, m)."""
    mild = bool(rng.random() < 0.7) if mild is None else mild
    w = Writer(rng, mild, opset=int(rng.choice([13, 14, 17])))
    shapes = [(1, int(rng.integers(1, 7)))] + ([(1, int(rng.integers(1, 3)))] if rng.random() < 0.2 else [])
    for i, shape in enumerate(shapes):
        w.shapes[f"x{i}"] = shape
        w.order.append(f"x{i}")
    if len(shapes) > 1:
        w.node("Concat", ["x0", "x1"], (1, shapes[0][1] + shapes[1][1]), axis=1)
    w._gemm(w.order[-1], "Gemm")
    curved = smooth and rng.random() < 0.5
    for _ in range(rng.integers(1, 5)):
        kind = rng.random()
        w.write(str(rng.choice(LINEAR if kind < 0.6 else MOVES)))
        w.write(str(rng.choice([*KINKS, *SMOOTH] if curved else KINKS)))
    last = w.matrix(w.order[-1])
    w.node("Gemm", [last, w.constant(w.weights(w.shapes[last][1], int(rng.integers(1, 4))))], (1, 0))
    inputs = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, s) for i, s in enumerate(shapes)]
    output = helper.make_tensor_value_info(w.order[-1], TensorProto.FLOAT, None)
    graph = helper.make_graph(w.nodes, "random", inputs, [output], w.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", w.opset)], ir_version=8)


def save(model: onnx.ModelProto, folder: Path) -> Path:
    """The file."""
    path = folder / "random.onnx"
    path.write_bytes(model.SerializeToString())
    return path
