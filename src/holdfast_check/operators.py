"""ONNX operators (sets 6 to 21) -> nodes, in topological order, over the real numbers, constants exact.

Each case says what an operator means in terms of a few maps and functions. Operators, attributes and types that are not read here are
refused, never ignored: what is left in `attributes` after a node has been read makes the network unreadable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from flint import arb, ctx
from onnx import TensorProto, numpy_helper

from holdfast_check.arithmetic import Unreadable
from holdfast_check.linear import Sum
from holdfast_check.network import Builder, Node, Value, constant, sized

FUNCTIONS = {
    "Relu": "relu",
    "Abs": "abs",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
}
FUNCTIONS |= {"Sin": "sin", "Cos": "cos", "Reciprocal": "reciprocal", "Softplus": "softplus", "Sign": "step"}
OPERATORS = """Constant Identity Dropout Cast Shape ConstantOfShape Add Sub Mul Div Sum Neg Max Min Gemm MatMul Conv ConvTranspose
    AveragePool GlobalAveragePool MaxPool BatchNormalization LeakyRelu PRelu Clip Pow Softmax Flatten Reshape Squeeze Unsqueeze
    Transpose Expand Concat Split Slice Gather Pad ReduceSum ReduceMean"""
IGNORED = {"ratio", "seed", "momentum", "storage_order"}  # attributes of training, and of outputs that are not read
HARMLESS = {"spatial": 1, "ceil_mode": 0, "auto_pad": b"NOTSET", "training_mode": 0, "is_test": 1, "broadcast": 1}
MODES = {b"constant": "constant", b"reflect": "reflect", b"edge": "edge"}
Tensors = tuple[tuple[str, tuple[int, ...], int], ...]  # name, shape, node


@dataclass(frozen=True, eq=False)
class Network:
    """The inputs and outputs; why float32 executions cannot be covered, or ""."""

    inputs: Tensors
    outputs: Tensors
    obstacle: str


def needed(value: Any) -> Any:
    """An input that must be there and, for settings, constant."""
    if value is None:
        raise Unreadable("an input is missing, or is not constant")
    return value


def tensor(proto: TensorProto) -> np.ndarray:
    if proto.data_location == TensorProto.EXTERNAL or proto.external_data:
        raise Unreadable(f"constant {proto.name} is kept in another file")
    array = np.asarray(numpy_helper.to_array(proto))
    if array.dtype.kind not in "fiub":
        raise Unreadable(f"constant {proto.name} has an element type that is not supported")
    return array


def sliced(start: int, end: int, step: int, n: int) -> np.ndarray:
    """Places that Slice reads of n: ends count from behind if negative, and are clamped to what the step can reach."""
    back = int(step < 0)
    start, end = (min(max(e + n if e < 0 else e, low), n - back) for e, low in ((start, 0), (end, -back)))
    return np.arange(start, end, step)


@dataclass
class Reader(Builder):
    opset: int = 1
    double: bool = False  # whether a variable may be a float64
    values: dict[str, Value] = field(default_factory=dict)

    def define(self, name: str, value: Value) -> None:
        if name in self.values:
            raise Unreadable(f"the value {name} is defined twice")
        self.values[name] = value

    def read(self, node: onnx.NodeProto, xs: list[Value | None]) -> list[Value]:
        """The outputs of one ONNX node."""
        take, kind, known = self.attributes.pop, node.op_type, [None if v is None else v.constant for v in xs]

        def given(place: int) -> Any:
            """A constant input, or None where it is left out."""
            return needed(known[place]) if place < len(xs) and xs[place] is not None else None

        def setting(name: str, place: int, default: Any = None) -> Any:
            """What older operator sets give as an attribute, later ones as an input."""
            value = take(name, None)
            value = given(place) if value is None else value
            return default if value is None else value.tolist() if isinstance(value, np.ndarray) else value

        x = xs[0] if xs and xs[0] is not None else Value((), constant=np.zeros(()))
        rank = len(x.shape)
        match kind:
            case "Constant":
                name = next(iter(self.attributes))
                value = tensor(take(name)) if name == "value" else np.asarray(take(name))
                if value.dtype.kind not in "fi" and name != "value":
                    raise Unreadable(f"a constant by {name} is not supported")
                return [constant(value)]
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
                    self.expanded(constant(np.zeros(1) if fill is None else tensor(fill).reshape(1)), given(0).tolist())
                ]
            case "Add" | "Sub" | "Mul" | "Div":
                b, axis = needed(xs[1]), take("axis", None)
                if take("broadcast", 0) and axis is not None:
                    b = self.shaped(b, [*b.shape, *[1] * (rank - axis % rank - len(b.shape))])
                return [self.binary(kind, x, b)]
            case "Sum":
                shape = np.broadcast_shapes(*(needed(v).shape for v in xs))
                parts = [self.expanded(needed(v), shape) for v in xs]
                return [self.linear(Sum(weights=np.ones(len(xs)), terms=len(xs), exact=len(xs) == 1), parts, shape)]
            case "Neg":
                return [self.scaled(x, -1.0) if x.constant is None else constant(-x.constant)]
            case "Max" | "Min":
                return [self.largest([needed(v) for v in xs], least=kind == "Min")[0]]
            case "Gemm":
                return [self.gemm(x, needed(xs[1]), xs[2] if len(xs) > 2 else None)]
            case "MatMul":
                return [self.product(x, needed(xs[1]))]
            case "Conv" | "ConvTranspose":
                weights, bias, group = needed(known[1]), given(2), take("group", 1)
                if tuple(take("kernel_shape", weights.shape[2:])) != weights.shape[2:] or len(weights.shape) != rank:
                    raise Unreadable("the shape of the weights does not fit")
                if kind == "ConvTranspose":
                    return [self.transposed(x, weights, bias, group)]
                return [self.convolved(x, weights, bias, group, self.geometry(x, weights.shape[2:]))]
            case "AveragePool" | "GlobalAveragePool":
                return [self.averaged(x, take("kernel_shape") if kind == "AveragePool" else x.shape[2:])]
            case "MaxPool":
                return [self.pooled(x, take("kernel_shape"))]
            case "BatchNormalization":  # x - mean, then times scale / sqrt(variance + epsilon), plus shift
                scale, shift, mean, variance = (needed(k).reshape(-1, *[1] * (rank - 2)) for k in known[1:5])
                epsilon, lift = take("epsilon", float(np.float32(1e-5))), np.frompyfunc(arb, 1, 1)
                with ctx.workprec(128):
                    factor = lift(scale) / np.frompyfunc(lambda v: (arb(v) + epsilon).sqrt(), 1, 1)(variance)
                return [self.scaled(self.scaled(x, 1.0, -mean), factor, shift)]
            case "LeakyRelu":
                return [self.append("leaky_relu", [x], x.shape, parameters=(float(take("alpha", np.float32(0.01))),))]
            case "PRelu":
                (slope,) = set(needed(known[1]).ravel().tolist())  # one slope for all elements
                return [self.append("leaky_relu", [x], x.shape, parameters=(float(slope),))]
            case "Clip":
                edge = math.inf if self.opset > 10 else float(np.finfo(np.float32).max)
                bounds = np.array([setting("min", 1, -edge), setting("max", 2, edge)], dtype=np.float64).reshape(2)
                if not bounds[0] <= bounds[1]:
                    raise Unreadable("the bounds are in the wrong order")
                return [self.append("clip", [x], x.shape, parameters=tuple(bounds.tolist()))]
            case "Pow":
                n, x = float(given(1).item()), self.shaped(x, np.broadcast_shapes(x.shape, given(1).shape))
                if n == 1:
                    return [x]
                special = {2: "square", 0.5: "sqrt", -1: "reciprocal"}.get(n)
                if special is None and not (n == int(n) and 3 <= n <= 64):
                    raise Unreadable(f"the exponent {n} is not supported")
                return [self.append(special or "power", [x], x.shape, parameters=() if special else (n,))]
            case (
                "Softmax"
            ):  # exp(x) * (1 / sum exp(x)); before set 13 of the matrix with the axes before and from `axis` on
                self.obstacle = self.obstacle or "the format does not say how Softmax rounds"
                axis, shape = take("axis", 1 if self.opset < 13 else -1), x.shape
                if self.opset < 13:
                    cut, axis = axis % rank, 1
                    x = self.shaped(x, (math.prod(shape[:cut]), math.prod(shape[cut:])))
                powers = self.append("exp", [x], x.shape)
                total = self.summed(powers, [axis], True)
                inverse = self.append("reciprocal", [total], total.shape, 1)
                return [self.shaped(self.binary("Mul", powers, inverse, 2), shape)]
            case "Flatten":
                axis = take("axis", 1)
                axis += rank if axis < 0 else 0
                return [self.shaped(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))]
            case "Reshape":
                zero = take("allowzero", 0)
                wanted = [x.shape[i] if n == 0 and not zero else n for i, n in enumerate(setting("shape", 1))]
                return [self.shaped(x, [-x.size // math.prod(wanted) if n == -1 else n for n in wanted])]
            case "Squeeze":
                gone = {a % rank for a in setting("axes", 1, [a for a, n in enumerate(x.shape) if n == 1])}
                return [self.shaped(x, [n for a, n in enumerate(x.shape) if a not in gone])]
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
                size, each = x.shape[axis], -(-x.shape[axis] // count)
                sizes = setting("split", 1, [each] * (count - 1) + [size - each * (count - 1)])
                if sum(sizes) != size or min(sizes) < 0 or len(sizes) != len(node.output):
                    raise Unreadable("the parts do not add up")
                places = np.split(np.arange(size), np.cumsum(sizes)[:-1])
                return [self.move(lambda a, _, p=place: np.take(a, p, axis=axis), x) for place in places]
            case "Slice":
                starts, ends = setting("starts", 1), setting("ends", 2)
                axes, steps = setting("axes", 3, list(range(len(starts)))), setting("steps", 4, [1] * len(starts))
                for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
                    read = sliced(start, end, step, x.shape[axis])
                    x = self.move(lambda a, _, c=read, i=axis: np.take(a, c, axis=i), x)
                return [x]
            case "Gather":
                axis, index = take("axis", 0), needed(known[1]).astype(np.int64)
                return [self.move(lambda a, _: np.take(a, index, axis=axis), x)]
            case "Pad":
                mode, blank = MODES[take("mode", b"constant")], float(np.asarray(setting("value", 2, 0.0)).item())
                pads, axes = setting("pads", 1), setting("axes", 3, list(range(rank)))
                widths = [(0, 0)] * rank
                for axis, a, b in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
                    widths[axis] = (a, b)
                sized([n + a + b for n, (a, b) in zip(x.shape, widths, strict=True)])
                more: Any = (lambda c: {"constant_values": c}) if mode == "constant" else (lambda _: {})
                return [self.move(lambda a, c: np.pad(a, widths, mode, **more(c)), x, blank=blank)]  # type: ignore[call-overload]
            case "ReduceSum" | "ReduceMean":
                over, keep, skip = setting("axes", 1), take("keepdims", 1), take("noop_with_empty_axes", 0)
                if not over and skip:
                    return [x]
                y = self.summed(x, over or list(range(rank)), bool(keep))
                return [self.binary("Div", y, constant(x.size // max(1, y.size))) if kind == "ReduceMean" else y]
            case _ if kind in FUNCTIONS:
                return [self.append(FUNCTIONS[kind], [x], x.shape)]
        raise Unreadable("this operator is not supported")

    def cast(self, x: Value, to: int) -> Value:
        if x.constant is not None:
            result = x.constant.astype(onnx.helper.tensor_dtype_to_np_dtype(to))
            if x.constant.dtype.kind == "O" or not np.array_equal(result.astype(x.constant.dtype), x.constant):
                raise Unreadable("a cast changes constants")
            return constant(result)
        self.double = self.double or to == TensorProto.DOUBLE
        if to not in (TensorProto.FLOAT, TensorProto.DOUBLE) or (to == TensorProto.FLOAT and self.double):
            raise Unreadable("only widening casts are supported")
        return x

    def gemm(self, a: Value, b: Value, c: Value | None) -> Value:
        take = self.attributes.pop
        alpha, beta = constant(take("alpha", 1.0)), constant(take("beta", 1.0))
        if len(a.shape) != 2:  # early exporters give images
            a = self.shaped(a, (a.shape[0], math.prod(a.shape[1:])))
        a, b = (self.move(lambda m, _: m.T, v) if take(name, 0) else v for v, name in ((a, "transA"), (b, "transB")))
        if alpha.constant != 1:
            self.obstacle = self.obstacle or "a float32 execution may overflow before it multiplies by Gemm's alpha"
            b = self.binary("Mul", alpha, b)
        if c is not None and beta.constant != 1:
            c = self.binary("Mul", beta, c)
        if c is not None and c.constant is not None and a.constant is None and b.constant is not None:
            return self.dense(a, b.constant.T, c.constant)
        y = self.product(a, b)
        return y if c is None else self.binary("Add", y, c)


def read_network(data: bytes, network: str, nodes: list[Node], start: int) -> Network:
    """Append the nodes of an ONNX file to `nodes`; its flat inputs begin at `start`."""
    try:
        model = onnx.load_model_from_string(data)
    except MemoryError:
        raise
    except Exception:  # of the decoder, which has a class of its own
        raise Unreadable(f"network {network} is not an ONNX file") from None
    graph = model.graph
    unknown = {n.op_type for n in graph.node} - {*FUNCTIONS, *OPERATORS.split()}
    if unknown or any(n.domain not in ("", "ai.onnx") for n in graph.node) or len(graph.sparse_initializer):
        raise Unreadable(
            f"network {network} uses what is not supported: {', '.join(sorted(map(str, unknown))) or 'other domains'}"
        )
    reader = Reader(network, nodes, start)
    reader.opset = max([o.version for o in model.opset_import if o.domain in ("", "ai.onnx")], default=1)
    if not 6 <= reader.opset <= 21:
        raise Unreadable(f"network {network} is written in operator set {reader.opset}, not 6 to 21")
    try:
        return read_graph(reader, graph)
    except (Unreadable, ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Unreadable(f"network {network}, {' '.join(map(str, reader.here))}: {error}") from None


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
            or kind.elem_type not in (TensorProto.FLOAT, TensorProto.DOUBLE)
            or min(shape, default=1) < 1
        ):
            raise Unreadable(f"its shape {shape} or its element type is not supported")
        reader.double = reader.double or kind.elem_type == TensorProto.DOUBLE
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
