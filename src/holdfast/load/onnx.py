"""Reading ONNX files (.onnx, .onnx.gz) into a `Model`: the entry point of the loader.

bytes -> protobuf -> live nodes in order -> lowering -> pruned graph -> self-check. Format: the ONNX specification
(IR), operator sets 6 to 21. The packages onnx and onnxruntime are imported when first needed.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holdfast.errors import ModelError, UnsupportedOperatorError
from holdfast.graph import Graph, Model, Shape, Tensor
from holdfast.load.constants import FLOATS, Constant
from holdfast.load.context import OnnxNode
from holdfast.load.lowering import Lowering, lower
from holdfast.load.selfcheck import self_check
from holdfast.load.tensors import element_count, element_type, inline_external_data, read_tensor

SIZE_LIMIT = 4 * 2**30  # bytes of a file, after decompression
_PROTOBUF_LIMIT = 2**31 - 1  # no single ONNX file can be larger
OPSETS = (6, 21)
_SYMBOLIC_BATCH = 1


@dataclass(frozen=True)
class OperatorReport:
    """Operators of a network: how often each is used, and the nodes of those that cannot be translated."""

    used: Mapping[str, int]
    missing: Mapping[str, list[str]]


def load_model(path: str | Path, *, check: bool = True, size_limit: int = SIZE_LIMIT) -> Model:
    """Read a network.

    Float constants are taken exactly; a constant that float64 cannot hold gets a radius. A symbolic batch axis
    becomes 1. With ``check`` the graph is compared with onnxruntime at sample points. Raises ModelError (one
    sentence), or UnsupportedOperatorError with all operators that have no translation.
    """
    path = Path(path)
    where = path.name
    proto, source = _read(path, size_limit)
    lowering, outputs = _lowered(proto, where)
    if lowering.missing:
        raise UnsupportedOperatorError(where, dict(lowering.missing))
    ctx, names = lowering.context, list(outputs)
    for name in names:
        value = lowering.values[name]
        if isinstance(value, Constant) and not value.is_float:
            raise ModelError(f"{where}: output '{name}' is a constant of type {value.dtype}; accepted are floats")
    try:
        positions = [ctx.variable(lowering.values[name]) for name in names]
    except ValueError as fault:
        raise ModelError(f"{where}: an output: {fault}") from fault
    inputs = tuple(
        Tensor(ctx.builder[i].name, ctx.builder.shape(i), lowering.dtypes[ctx.builder[i].name])
        for i in ctx.builder.inputs
    )
    tensors = tuple(Tensor(n, ctx.builder.shape(p), lowering.dtypes[n]) for n, p in zip(names, positions, strict=True))
    for tensor in tensors:
        _check_declared(where, tensor, outputs[tensor.name])
    graph, parameters = ctx.builder.build(positions)
    graph, parameters, radii = prune(graph, parameters, ctx.builder.radii)
    model = Model(
        graph, parameters, inputs, tensors, where, hashlib.sha256(source).hexdigest(), source,
        replayable=not ctx.irregular, radii=radii, rounded=tuple(ctx.rounded),
        operators=frozenset(node.op_type for node in proto.graph.node),
    )  # fmt: skip
    if check and model.replayable and not self_check(model, where):
        model = replace(model, replayable=False)
    return model


def operators_of(path: str | Path, *, size_limit: int = SIZE_LIMIT) -> OperatorReport:
    """What a network uses and what of it is missing, without loading it for good."""
    path = Path(path)
    proto, _ = _read(path, size_limit)
    used = Counter(
        f"{n.domain}.{n.op_type}" if n.domain not in ("", "ai.onnx") else n.op_type for n in proto.graph.node
    )
    lowering, _ = _lowered(proto, path.name)
    return OperatorReport(dict(sorted(used.items())), {op: list(nodes) for op, nodes in lowering.missing.items()})


def _read(path: Path, size_limit: int) -> tuple[Any, bytes]:
    """The parsed file, and its uncompressed bytes (with external data inlined)."""
    where = path.name
    source = _bytes(path, size_limit)
    import onnx
    from google.protobuf.message import DecodeError

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(source)
    except DecodeError:
        raise ModelError(f"{where}: this is not an ONNX file, or it is truncated or damaged") from None
    if not proto.graph.node and not proto.graph.output:
        raise ModelError(f"{where}: this is not an ONNX file (it holds no graph)")
    if inline_external_data(proto, path.parent, where, min(size_limit, 2**31 - 2**20)):
        source = proto.SerializeToString(deterministic=True)
    return proto, source


def _bytes(path: Path, size_limit: int) -> bytes:
    where = path.name
    size_limit = min(size_limit, _PROTOBUF_LIMIT)
    too_large = f"{where}: the network is larger than the limit of {size_limit} bytes"
    try:
        with path.open("rb") as handle:
            packed = handle.read(2) == b"\x1f\x8b"
        if not packed:
            if path.stat().st_size > size_limit:
                raise ModelError(too_large)
            return path.read_bytes()
        with gzip.open(path, "rb") as stream:
            data = stream.read(size_limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise ModelError(f"{where}: the gzip file is truncated or damaged") from None
    except OSError as fault:
        raise ModelError(f"{where}: cannot be read: {fault.strerror or fault}") from None
    if len(data) > size_limit:
        raise ModelError(too_large)
    return data


def _lowered(proto: Any, where: str) -> tuple[Lowering, dict[str, Any]]:
    """Lower what the outputs depend on; also the declared outputs by name."""
    graph = proto.graph
    versions = {o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")}
    if len(versions) > 1:
        raise ModelError(f"{where}: it declares the ONNX operator sets {sorted(versions)}; accepted is one")
    opset = max(versions, default=0)
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ModelError(f"{where}: it declares the ONNX operator set {opset}; accepted are {OPSETS[0]} to {OPSETS[1]}")
    if graph.sparse_initializer:
        raise ModelError(f"{where}: it has sparse initializers, which are not accepted")
    initializers = Initializers(graph.initializer, where)
    inputs = dict(_inputs(graph, initializers, where))
    nodes = [_decode(node, where) for node in graph.node]
    outputs = {o.name: o for o in graph.output}
    if not outputs or len(outputs) != len(graph.output):
        raise ModelError(f"{where}: its outputs are missing, or two have the same name")
    live = _live(nodes, list(outputs), {*inputs, *initializers.names}, where)
    lowering = lower(where, opset, inputs, initializers, live)
    for name in outputs:
        if name in initializers.names:
            constant = initializers[name]
            lowering.values[name], lowering.dtypes[name] = constant, constant.dtype  # type: ignore[index]
    return lowering, outputs


class Initializers(Mapping[str, Constant]):
    """Initializers by name, converted when first read; the raw bytes are dropped then."""

    def __init__(self, tensors: Any, where: str) -> None:
        self._tensors = {t.name: t for t in tensors}
        self._ready: dict[str, Constant] = {}
        self._where = where
        if len(self._tensors) != len(tensors):
            raise ModelError(f"{where}: two initializers have the same name")
        self.names = set(self._tensors)
        for name, tensor in self._tensors.items():
            element_count(tensor.dims, f"{where}: initializer '{name}'")

    def __getitem__(self, name: str) -> Constant:
        if name not in self._ready:
            tensor = self._tensors.pop(name)
            self._ready[name] = read_tensor(tensor, f"{self._where}: initializer '{name}'")
            tensor.ClearField("raw_data")
        return self._ready[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _inputs(graph: Any, initializers: Initializers, where: str) -> Iterator[tuple[str, tuple[Shape, str]]]:
    seen = set()
    for value in graph.input:
        if value.name in seen:
            raise ModelError(f"{where}: two inputs are called '{value.name}'")
        seen.add(value.name)
        if value.name in initializers.names:
            continue
        what = f"{where}: input '{value.name}'"
        kind = value.type.tensor_type
        dtype = element_type(kind.elem_type)
        if dtype not in FLOATS:
            raise ModelError(f"{what} has the element type {dtype or kind.elem_type}; accepted are {', '.join(FLOATS)}")
        if not kind.HasField("shape"):
            raise ModelError(f"{what} has no shape")
        shape = []
        for axis, dimension in enumerate(kind.shape.dim):
            size = dimension.dim_value if dimension.HasField("dim_value") else 0
            if size <= 0 and axis == 0:
                size = _SYMBOLIC_BATCH
            if size <= 0:
                raise ModelError(f"{what} has no fixed size along axis {axis}; only the first axis may be symbolic")
            shape.append(size)
        element_count(shape, what)
        yield value.name, (tuple(shape), dtype)


def _decode(node: Any, where: str) -> OnnxNode:
    label = node.name or next(iter(node.output), "?")
    attributes: dict[str, Any] = {}
    for a in node.attribute:
        try:
            if a.type == 1:
                attributes[a.name] = a.f
            elif a.type == 2:
                attributes[a.name] = a.i
            elif a.type == 3:
                attributes[a.name] = a.s.decode()
            elif a.type == 4:
                attributes[a.name] = read_tensor(a.t, f"{where}: attribute '{a.name}' of node '{label}'")
            elif a.type == 6:
                attributes[a.name] = list(a.floats)
            elif a.type == 7:
                attributes[a.name] = list(a.ints)
            elif a.type == 8:
                attributes[a.name] = [s.decode() for s in a.strings]
            elif a.type == 0:  # files older than typed attributes
                filled = [f for f in ("f", "i", "s", "t") if a.HasField(f)]
                if filled == ["f"] or filled == ["i"]:
                    attributes[a.name] = getattr(a, filled[0])
                elif len(a.ints):
                    attributes[a.name] = list(a.ints)
        except UnicodeDecodeError:
            raise ModelError(f"{where}: attribute '{a.name}' of node '{label}' is not text") from None
    return OnnxNode(node.op_type, node.name, tuple(node.input), tuple(node.output), attributes, node.domain)


def _live(nodes: list[OnnxNode], outputs: list[str], known: set[str], where: str) -> list[OnnxNode]:
    """The nodes that the outputs depend on, each after those that it reads."""
    maker: dict[str, int] = {}
    for position, node in enumerate(nodes):
        for name in node.outputs:
            if not name:
                continue
            if name in maker or name in known:
                raise ModelError(f"{where}: two values are called '{name}'")
            maker[name] = position
    for name in outputs:
        if name not in maker and name not in known:
            raise ModelError(f"{where}: nothing computes the output '{name}'")
    needed: set[int] = set()
    pending = [maker[name] for name in outputs if name in maker]
    while pending:
        position = pending.pop()
        if position in needed:
            continue
        needed.add(position)
        node = nodes[position]
        for name in node.inputs:
            if name in maker:
                pending.append(maker[name])
            elif name and name not in known:
                raise ModelError(
                    f"{where}: node '{node.name or node.outputs[0]}' ({node.op}) reads '{name}', which nothing computes"
                )
    return [nodes[i] for i in _ordered(nodes, sorted(needed), maker, where)]


def _ordered(nodes: list[OnnxNode], needed: list[int], maker: dict[str, int], where: str) -> list[int]:
    """Depth-first in the order of the file: a file that is in order stays as it is."""
    order: list[int] = []
    state: dict[int, int] = {}  # 1: being visited, 2: done
    for first in needed:
        stack = [first]
        while stack:
            position = stack[-1]
            if state.get(position) == 2:
                stack.pop()
                continue
            sources = [maker[n] for n in nodes[position].inputs if n in maker]
            if state.get(position) == 1:
                state[position] = 2
                order.append(position)
                stack.pop()
                continue
            state[position] = 1
            for source in sources:
                if state.get(source) == 1:
                    raise ModelError(
                        f"{where}: node '{nodes[source].name or nodes[source].outputs[0]}' depends on itself"
                    )
                if source not in state:
                    stack.append(source)
    return order


def _check_declared(where: str, tensor: Tensor, declared: Any) -> None:
    """A fully declared output shape must hold as many elements as the graph computes."""
    kind = declared.type.tensor_type
    if not kind.HasField("shape"):
        return
    sizes = [d.dim_value for d in kind.shape.dim]
    if sizes and all(s > 0 for s in sizes):
        declared_count = element_count(sizes, f"{where}: output '{tensor.name}'")
        computed = element_count(tensor.shape, f"{where}: output '{tensor.name}'")
        if declared_count != computed:
            raise ModelError(
                f"{where}: output '{tensor.name}' is declared with the shape {tuple(sizes)} but has {tensor.shape}"
            )


def prune(
    graph: Graph, parameters: Mapping[str, Any], radii: Mapping[str, Any]
) -> tuple[Graph, dict[str, Any], dict[str, Any]]:
    """Without the nodes that no output depends on (inputs stay), parameters renamed p0, p1, ... in order."""
    needed = set(graph.outputs) | set(graph.inputs)
    for position in range(len(graph) - 1, -1, -1):
        if position in needed:
            needed.update(graph[position].inputs)
    kept = sorted(needed)
    place = {old: new for new, old in enumerate(kept)}
    keys: dict[str, str] = {}
    nodes = []
    for old in kept:
        node = graph[old]
        for key in node.parameters:
            keys.setdefault(key, f"p{len(keys)}")
        nodes.append(
            replace(
                node, inputs=tuple(place[i] for i in node.inputs), parameters=tuple(keys[k] for k in node.parameters)
            )
        )
    pruned = Graph(tuple(nodes), tuple(place[i] for i in graph.inputs), tuple(place[o] for o in graph.outputs))
    return (
        pruned,
        {new: parameters[old] for old, new in keys.items()},
        {keys[k]: r for k, r in radii.items() if k in keys},
    )
