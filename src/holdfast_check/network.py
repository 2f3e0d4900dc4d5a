"""ONNX (operator sets 6 to 21) -> nodes, in topological order, over the real numbers.

Every value is a flat vector, the row-major order of an ONNX tensor. What is linear is a `Linear`, what is not a product of two
values or one of a few functions of one variable (section 4 of the format says which, and how they are counted).
What operators that only move elements do is seen by running ONNX's reference implementation on the numbers 1, 2, 3, ...
Operators, attributes and types that are not read here are refused, never ignored; so is arithmetic on constants alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx.helper import get_attribute_value, make_graph, make_model, make_node
from onnx.reference import ReferenceEvaluator

from holdfast_check.arithmetic import Unreadable
from holdfast_check.linear import Dense, Gather, Linear, Sum

EXACT = {"relu", "abs", "clip"}  # functions that do not round in float32 (section 8)
IGNORED = {"ratio", "seed", "momentum", "storage_order"}  # attributes of training, and of outputs that are not read
HARMLESS: dict[str, Any] = {"spatial": 1, "ceil_mode": 0, "training_mode": 0, "is_test": 1, "broadcast": 1, "transA": 0}
HARMLESS |= {"alpha": 1, "beta": 1, "noop_with_empty_axes": 0, "auto_pad": b"NOTSET"}  # they say what is assumed here


@dataclass(frozen=True, eq=False)
class Node:
    """One step of the computation; its value is a vector of `size` numbers."""

    kind: str  # "input", "linear", "product", or a function of one variable
    inputs: tuple[int, ...]
    size: int
    linear: Linear | None = None
    parameters: tuple[float, ...] = ()  # leaky_relu: (alpha,), clip: (low, high), power: (n,)
    label: tuple[str, str, int] = ("", "", 0)  # network, node name, part
    rounds: bool = True  # whether a float32 execution rounds here
    start: int = 0  # kind "input": where its elements stand among the flat inputs of the property
    place: int = 0  # among the nodes
    shape: tuple[int, ...] = ()  # of the ONNX tensor


def demand(condition: Any, reason: str) -> None:
    if not condition:
        raise Unreadable(reason)


def constant(value: Any) -> np.ndarray:
    """A constant tensor; real numbers become float64, which is exact."""
    array = np.asarray(value)
    demand(array.dtype in (np.float32, np.float64) or array.dtype.kind in "iub", f"it has the type {array.dtype}")
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def real(value: Any) -> np.ndarray:
    demand(isinstance(value, np.ndarray) and value.dtype == np.float64, "an input is not a constant real number")
    demand(np.isfinite(value).all(), "a constant is not finite")
    return value


def reference(opsets: Any, node: onnx.NodeProto) -> Callable[..., Any]:
    """ONNX's own implementation of one node, as a function of its different inputs."""
    names = list(dict.fromkeys(name for name in node.input if name))
    before, after = ([onnx.ValueInfoProto(name=name) for name in some] for some in (names, node.output))
    run = ReferenceEvaluator(make_model(make_graph([node], "one", before, after), opset_imports=opsets)).run
    return lambda *arrays: run(None, dict(zip(names, arrays, strict=True)))


def flat(a: np.ndarray) -> np.ndarray:
    return a.reshape(len(a), -1)


MOVES = """Constant ConstantOfShape Shape Identity Flatten Reshape Transpose Squeeze Unsqueeze Expand Concat Split Slice
    Gather Pad"""
FUNCTIONS = {name: name.lower() for name in ("Relu", "Abs", "Sigmoid", "Tanh", "Exp", "Log", "Sqrt", "Sin", "Cos")}
FUNCTIONS |= {"Reciprocal": "reciprocal", "Softplus": "softplus"}
OPERATORS: dict[str, Callable[..., Any]] = {
    "Dropout": lambda r, x, ratio=None: x,
    "Add": lambda r, a, b: r.combined([a, b], [1.0, 1.0]),
    "Sub": lambda r, a, b: r.combined([a, b], [1.0, -1.0]),
    "Sum": lambda r, *xs: r.combined(xs, [1.0] * len(xs)),
    "Neg": lambda r, x: r.combined([x], [-1.0]),
    "Mul": lambda r, a, b: r.product(a, b),
    "Div": lambda r, a, b: r.product(a, r.function("reciprocal", b)) if isinstance(b, Node) else r.divided(a, b),
    "Pow": lambda r, x, n: r.power(x, n),
    "Max": lambda r, *xs: r.largest(xs, 1.0),
    "Min": lambda r, *xs: r.largest(xs, -1.0),
    "LeakyRelu": lambda r, x: r.function("leaky_relu", x, float(r.take("alpha", default=np.float32(0.01)))),
    "Clip": lambda r, x, *_: r.function("clip", x, *(float(np.ravel(r.take(*s))[0]) for s in (("min", 1), ("max", 2)))),
    "MatMul": lambda r, a, b: r.dense(a, b.T) if isinstance(a, Node) else r.turned(r.dense(r.turned(b), a)),
    "Gemm": lambda r, a, b, c=None: r.dense(r.move(flat, a), b if r.take("transB") else b.T, c),
    "Conv": lambda r, x, w, b=None: r.convolved(x, real(w), r.take("group", default=1), b),
    "AveragePool": lambda r, x: r.averaged(x, r.take("kernel_shape")),
    "MaxPool": lambda r, x: r.pooled(x, r.take("kernel_shape")),
    "BatchNormalization": lambda r, x, *constants: r.normalized(x, *constants),
    "ReduceSum": lambda r, x, *_: r.reduced(x),
    "ReduceMean": lambda r, x, *_: r.divided(y := r.reduced(x), np.array(math.prod(x.shape) / math.prod(y.shape))),
}


@dataclass
class Reader:
    """Appends the nodes of one network to `nodes`. The last fields speak of the ONNX node that is being read."""

    network: str
    nodes: list[Node]
    opsets: Any = ()
    opset: int = 0
    values: dict[str, Any] = field(default_factory=dict)  # by name: arrays, and nodes
    inputs: dict[str, Node] = field(default_factory=dict)
    outputs: list[Node] = field(default_factory=list)
    here: str = ""
    parts: int = 0  # functions so far
    xs: Sequence[Any] = ()  # its inputs, None where one is left out
    attributes: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # attributes that have been read

    def take(self, name: str, place: int = 99, default: Any = None) -> Any:
        """An attribute, or what newer operator sets give as an input instead."""
        self.used.add(name)
        value = self.attributes.get(name, self.xs[place] if place < len(self.xs) else None)
        value = tuple(np.ravel(value).tolist()) if isinstance(value, list | np.ndarray) else value
        return default if value is None else value

    def append(self, kind: str, xs: Sequence[Node], shape: Sequence[int], **more: Any) -> Node:
        size, label = math.prod(shape), (self.network, self.here, self.parts)
        demand(0 < size < 2**27, f"a tensor of shape {tuple(shape)} is not supported")
        usual: dict[str, Any] = {"place": len(self.nodes), "shape": tuple(shape), "rounds": kind not in EXACT}
        self.nodes.append(Node(kind, tuple(x.place for x in xs), size, label=label, **(usual | more)))
        self.parts += kind not in ("input", "linear")
        return self.nodes[-1]

    def function(self, kind: str, x: Node, *parameters: float) -> Node:
        demand(np.isfinite(parameters).all() and list(parameters) == sorted(parameters), "its bounds are not in order")
        return self.append(kind, [x], x.shape, parameters=parameters)

    def move(self, work: Callable[..., Any], *values: Any) -> Any:
        """`work(*arrays)` moves elements and inserts constants: what it makes of zeros, and of 1, 2, ..., says which."""
        free = [v for v in values if isinstance(v, Node)]
        sizes = tuple(v.size for v in free)

        def result(numbers: np.ndarray) -> np.ndarray:
            parts = iter(np.split(numbers, np.cumsum(sizes[:-1], dtype=int)))
            return constant(work(*(next(parts).reshape(v.shape) if isinstance(v, Node) else v for v in values)))

        held, shifted = (result(factor * np.arange(1, sum(sizes) + 1)) for factor in (0.0, 1.0))
        # where operators clamp, ONNX and its reference implementation may differ in what is empty
        demand(held.size or not free, "its result is empty")
        if np.array_equal(held, shifted):
            return held  # it does not depend on the inputs
        index = (shifted - real(held)).astype(np.int64).ravel() - 1
        if len(free) == 1 and np.array_equal(index, np.arange(sizes[0])):
            return replace(free[0], shape=held.shape)
        back, bias = int(np.bincount(index[index >= 0]).max()), held.ravel() if held.any() else None
        made = Gather(sizes=sizes, index=index, back=back, exact=True, bias=bias)
        return self.append("linear", free, held.shape, linear=made, rounds=False)

    def expanded(self, x: Node, shape: Sequence[int]) -> Node:
        return self.move(lambda a: np.broadcast_to(a, shape), x)

    def turned(self, x: Node) -> Node:
        return self.move(lambda a: np.swapaxes(a, -1, -2), x)

    def dense(self, x: Node, matrix: Any, bias: Any = None) -> Node:
        """The last axis of x times a matrix (m, k), plus a bias that is broadcast to the result."""
        m, k = real(matrix).shape
        demand(x.shape[-1] == k, f"the shapes {x.shape} and {matrix.shape} do not fit")
        terms, back = (int(np.count_nonzero(matrix, axis=a).max()) for a in (1, 0))
        flat = None if bias is None else np.broadcast_to(real(bias), (*x.shape[:-1], m)).ravel()
        made = Dense(weights=np.ascontiguousarray(matrix), bias=flat, terms=terms, back=back)
        return self.append("linear", [x], (*x.shape[:-1], m), linear=made)

    def combined(self, xs: Sequence[Any], factors: Sequence[Any], near: bool = False, rounds: bool = True) -> Node:
        """sum_i factor_i x_i, with broadcasting. One x_i may be constant: the bias. `near`: factors are results of at most
        four operations, each of which errs by 2^-53 |value| or underflows; they have radii, and round in float32 too."""
        shape = np.broadcast_shapes(*(x.shape for x in xs), *map(np.shape, factors))
        pairs = [(x, np.broadcast_to(f, shape).ravel()) for x, f in zip(xs, factors, strict=True)]
        bias = [np.broadcast_to(real(x), shape).ravel() * f for x, f in pairs if not isinstance(x, Node)]
        weights = real(np.array([f for x, f in pairs if isinstance(x, Node)]))
        x, plain = xs[0], len(bias) == len(weights) == 1 and rounds and not near and bool(np.all(weights == 1))
        if plain and isinstance(x, Node) and isinstance(x.linear, Dense) and x.linear.bias is None and x.shape == shape:
            joined = replace(x.linear, bias=bias[0])  # a product and a bias are one sum, in whatever order
            return self.append("linear", [self.nodes[x.inputs[0]]], shape, linear=joined)
        demand(len(bias) <= 1 <= len(weights), "it computes on constants")
        doubt = Sum(weights=np.abs(weights) * 2.0**-50 + 2.0**-1000) if near else None
        exact = len(weights) == 1 and not near and bool(np.all(np.abs(weights) == 1))
        terms, known = len(weights) + 4 * near, bias[0] if bias else None
        made = Sum(weights=weights, bias=known, terms=terms, exact=exact, doubt=doubt)
        free = [self.expanded(x, shape) for x in xs if isinstance(x, Node)]
        return self.append("linear", free, shape, linear=made, rounds=rounds and not (exact and not bias))

    def divided(self, x: Node, divisor: Any) -> Node:
        return self.combined([x], [1.0 / real(divisor)], near=True)

    def product(self, a: Any, b: Any) -> Node:
        if not isinstance(a, Node) or not isinstance(b, Node):
            return self.combined([a], [real(b)]) if isinstance(a, Node) else self.combined([b], [real(a)])
        shape = np.broadcast_shapes(a.shape, b.shape)
        return self.append("product", [self.expanded(a, shape), self.expanded(b, shape)], shape)

    def power(self, x: Node, n: Any) -> Node:
        demand(n.ndim <= len(x.shape) and n in range(2, 65), "this exponent is not supported")
        return self.function("square", x) if n == 2 else self.function("power", x, float(n.item()))

    def largest(self, values: Sequence[Any], sign: float) -> Node:
        """max(a, b) = b + relu(a - b) (sign 1), min(a, b) = b - relu(b - a) (-1), as a balanced tree, constants last."""
        queue = sorted(values, key=lambda v: not isinstance(v, Node))
        while len(queue) > 1:
            joined = []
            for a, b in zip(queue[::2], queue[1::2], strict=False):
                gap = self.combined([a, b], [sign, -sign], rounds=False)
                over = self.append("relu", [gap], gap.shape)
                joined.append(self.combined([b, over], [1.0, sign], rounds=False))
            queue = joined + queue[2 * len(joined) :]
        return queue[0]

    def patches(self, x: Any, kernel: Sequence[int]) -> Any:
        """(windows, ..., channels, elements of the kernel): what convolutions of each channel with 1, 0, 0, ... give."""
        names = ("auto_pad", "dilations", "pads", "strides", "kernel_shape")
        given = {name: self.take(name) for name in names if name in self.attributes}
        node = make_node("Conv", ["x", "w"], ["y"], **given)
        run, ones = reference(self.opsets, node), np.eye(math.prod(kernel)).reshape(-1, 1, *kernel)
        return self.move(lambda a: np.moveaxis(run(a.swapaxes(0, 1), ones)[0], (0, 1), (-2, -1)), x)

    def convolved(self, x: Node, weights: np.ndarray, group: int, bias: Any) -> Node:
        """The patches times one matrix, which is zero between groups."""
        wide, deep, *kernel = weights.shape
        demand(x.shape[:2] == (1, group * deep), "the shapes of the weights do not fit")
        matrix = np.zeros((group, wide // group, group, deep * math.prod(kernel)))
        matrix[range(group), :, range(group)] = weights.reshape(group, wide // group, -1)
        rows = self.move(lambda a: a.reshape(*a.shape[:-2], -1), self.patches(x, kernel))
        return self.move(lambda a: np.moveaxis(a, -1, 0)[None], self.dense(rows, matrix.reshape(wide, -1), bias))

    def averaged(self, x: Node, kernel: Sequence[int]) -> Node:
        demand(x.shape[0] == 1, "its input is not one image")
        total = self.dense(self.patches(x, kernel), np.ones((1, math.prod(kernel))))
        counts = self.patches(np.ones(x.shape), kernel).sum(axis=-1, keepdims=True)  # elements of x in each window
        y = self.divided(total, np.array(1.0 * math.prod(kernel)) if self.take("count_include_pad") else counts)
        return self.move(lambda a: np.moveaxis(a[..., 0], -1, 0)[None], y)

    def pooled(self, x: Node, kernel: Sequence[int]) -> Node:
        """MaxPool, one spatial axis after the other."""
        strides, ones = (self.take(name, default=(1,) * len(kernel)) for name in ("strides", "dilations"))
        demand(not np.any(self.take("pads")) and set(ones) == {1}, "its padding or dilation is not supported")
        for axis, (k, stride) in enumerate(zip(kernel, strides, strict=True), 2):
            places = [range(i, x.shape[axis] - k + i + 1, stride) for i in range(k)]
            x = self.largest([self.move(lambda a, p=p, i=axis: np.take(a, p, i), x) for p in places], 1.0)
        return x

    def reduced(self, x: Node) -> Node:
        axes = self.take("axes", 1, tuple(range(len(x.shape))))
        demand(axes, "its axes are empty")
        shape = np.zeros(x.shape).sum(axes, keepdims=bool(self.take("keepdims", default=1))).shape
        last = self.move(lambda a: np.moveaxis(a, axes, range(-len(axes), 0)).reshape(math.prod(shape), -1), x)
        return self.move(lambda a: a.reshape(shape), self.dense(last, np.ones((1, last.shape[1]))))

    def normalized(self, x: Node, *constants: Any) -> Node:
        """x - mean, then times scale / sqrt(variance + epsilon), plus shift."""
        scale, shift, mean, variance = (real(v).reshape(-1, *[1] * (len(x.shape) - 2)) for v in constants)
        factor = scale / np.sqrt(variance + self.take("epsilon", default=float(np.float32(1e-5))))
        usual = (scale == 0) | (np.abs(np.log2(np.abs(factor))) < 100)
        demand(usual.all() and np.all(np.abs(factor * mean) < 2.0**100), "its factors are extreme")
        demand(self.opset > 6 or self.take("is_test"), "it is in training mode")
        return self.combined([self.combined([x, mean], [1.0, -1.0]), shift], [factor, 1.0], near=True)

    def read(self, node: onnx.NodeProto) -> list[Any]:
        """The outputs of one ONNX node."""
        self.here, self.parts, self.used, kind = node.name or node.output[0], 0, set(), node.op_type
        self.xs = [self.values[name] if name else None for name in node.input]
        self.attributes = {a.name: get_attribute_value(a) for a in node.attribute}
        demand(node.domain in ("", "ai.onnx"), f"the domain {node.domain} is not supported")
        demand(len(self.attributes) == len(node.attribute), "an attribute is given twice")
        if kind in MOVES.split():
            plain = kind == "Concat" or not any(isinstance(x, Node) for x in self.xs[1:])
            plain &= kind != "Squeeze" or self.take("axes", 1) != ()
            demand(plain, "its indices vary, or its axes are empty")
            xs, run = [self.values[name] for name in dict.fromkeys(node.input) if name], reference(self.opsets, node)
            return [self.move(lambda *arrays, k=k: run(*arrays)[k], *xs) for k in range(len(node.output))]
        demand(kind in OPERATORS or kind in FUNCTIONS, f"the operator {kind} is not supported")
        result = OPERATORS[kind](self, *self.xs) if kind in OPERATORS else self.function(FUNCTIONS[kind], *self.xs)
        for name, value in self.attributes.items():
            fine = name in self.used | IGNORED or value == HARMLESS.get(name, ...)
            demand(fine, f"the attribute {name} of {kind} is not supported")
        usual = self.opset > 6 if kind == "Dropout" else len(node.output) == 1
        demand(usual, "it may be in training mode, or its further outputs are not supported")
        return [result]


@np.errstate(all="ignore")
def read_network(data: bytes, network: str, nodes: list[Node], start: int) -> Reader:
    """Append the nodes of an ONNX file to `nodes`; its flat inputs begin at `start`."""
    reader = Reader(network, nodes)
    try:
        read_graph(reader, onnx.load_model_from_string(data), start)
    except MemoryError:
        raise
    except Exception as error:  # whatever it is, the network is not understood
        raise Unreadable(f"network {network}, node {reader.here}: {error}") from None
    return reader


def read_graph(reader: Reader, model: onnx.ModelProto, start: int) -> None:
    graph, values, reader.opsets = model.graph, reader.values, model.opset_import
    (reader.opset,) = {o.version for o in model.opset_import if o.domain in ("", "ai.onnx")}
    demand(6 <= reader.opset <= 21, f"it is written in operator set {reader.opset}, not 6 to 21")
    demand(not model.functions and not graph.sparse_initializer, "functions and sparse constants are not supported")
    for proto in graph.initializer:
        demand(proto.data_location == 0 and not proto.external_data, "a constant is kept in another file")
        values[proto.name] = constant(onnx.numpy_helper.to_array(proto))
    free = [info for info in graph.input if info.name not in values]
    for info in free:
        reader.here, kind = info.name, info.type.tensor_type
        shape = [d.dim_value for d in kind.shape.dim]
        shape[:1] = [max(1, n) for n in shape[:1]]  # a symbolic first axis means 1
        demand(kind.HasField("shape") and kind.elem_type in (1, 11), "its shape or its element type is not supported")
        values[info.name] = reader.inputs[info.name] = reader.append("input", [], shape, rounds=False, start=start)
        start += math.prod(shape)
    for node in graph.node:
        for name, result in zip(node.output, reader.read(node), strict=False):
            demand(name not in values, f"the value {name} is defined twice")
            values[name] = result
    reader.outputs = [values[o.name] for o in graph.output]
    demand(all(isinstance(v, Node) for v in reader.outputs), "an output is constant")
