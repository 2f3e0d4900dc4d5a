"""The checker's nodes evaluated in plain float64, and small ONNX models, for the tests."""

import gzip
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from holdfast_check.network import Node, read_network

FUNCTIONS = {
    "relu": lambda z: np.maximum(z, 0),
    "abs": np.abs,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "reciprocal": lambda z: 1 / z,
    "softplus": lambda z: np.logaddexp(0, z),
    "square": np.square,
}


def evaluate(nodes: list[Node], x: np.ndarray) -> list[np.ndarray]:
    """Values (B, size) of all nodes at inputs (B, n)."""
    values: list[np.ndarray] = []
    for node in nodes:
        xs = [values[i] for i in node.inputs]
        if node.kind == "input":
            value = x[:, node.start : node.start + node.size]
        elif node.linear is not None:
            value = node.linear.apply(xs) + (0 if node.linear.bias is None else node.linear.bias)
        elif node.kind == "product":
            value = xs[0] * xs[1]
        elif node.kind == "leaky_relu":
            value = np.where(xs[0] > 0, xs[0], xs[0] * node.parameters[0])
        elif node.kind == "clip":
            value = np.clip(xs[0], *node.parameters)
        elif node.kind == "power":
            value = xs[0] ** node.parameters[0]
        else:
            value = FUNCTIONS[node.kind](xs[0])
        assert value.shape == (len(x), node.size), node.kind
        values.append(value)
    return values


def model(steps, inputs, constants=None, outputs=("y",), opset=13, ir=8) -> bytes:
    """An ONNX file; steps are (operator, inputs, outputs, attributes)."""
    graph = helper.make_graph(
        [helper.make_node(op, list(ins), list(outs), **attributes) for op, ins, outs, attributes in steps],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir).SerializeToString()


def replayed(data: bytes, x: np.ndarray) -> np.ndarray:
    """Flat outputs (B, m) of onnxruntime at flat inputs (B, n)."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    shapes = {i.name: [n if isinstance(n, int) and n > 0 else 1 for n in i.shape] for i in session.get_inputs()}
    results = []
    for flat in x.astype(np.float32):
        ends = np.cumsum([int(np.prod(s)) for s in shapes.values()])
        parts = np.split(flat, ends[:-1])
        feed = {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        results.append(np.concatenate([y.ravel() for y in session.run(None, feed)]))
    return np.array(results)


def agrees(data: bytes, x: np.ndarray, tolerance: float = 1e-5) -> list[Node]:
    """Asserts that the nodes compute what onnxruntime computes; returns them."""
    nodes: list[Node] = []
    network = read_network(data, "N", nodes, 0)
    values = evaluate(nodes, x.astype(np.float32).astype(np.float64))
    mine, theirs = np.concatenate([values[v.place] for v in network.outputs], axis=1), replayed(data, x)
    assert mine.shape == theirs.shape
    assert np.abs(mine - theirs).max(initial=0) <= tolerance * np.abs(theirs).max(initial=1)
    assert [nodes[v.place].size for v in network.outputs] == [int(np.prod(v.shape)) for v in network.outputs]
    return nodes


def unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def benchmarks() -> Path:
    """The folder of the competition's files, or a skip that says so."""
    folder = os.environ.get("HOLDFAST_BENCHMARKS")
    if not folder:
        pytest.skip("HOLDFAST_BENCHMARKS does not name the folder of the benchmarks")
    root = Path(folder)
    return root / "vnncomp" if (root / "vnncomp").is_dir() else root


def dense_model(seed: int = 0, widths=(2, 6, 1)) -> bytes:
    """A small ReLU network."""
    rng = np.random.default_rng(seed)
    steps, constants, last = [], {}, "x"
    for k, (n, m) in enumerate(pairwise(widths)):
        constants |= {
            f"w{k}": rng.normal(size=(m, n)).astype(np.float32),
            f"b{k}": rng.normal(size=m).astype(np.float32),
        }
        out = "y" if k == len(widths) - 2 else f"z{k}"
        steps.append(("Gemm", [last, f"w{k}", f"b{k}"], [out], {"transB": 1, "name": f"layer{k}"}))
        last = f"a{k}"
        steps += [] if out == "y" else [("Relu", [out], [last], {"name": f"relu{k}"})]
    return model(steps, {"x": [1, widths[0]]}, constants)


def loaded(data: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(data)


KINDS = {"ROOT": 0, "LEAF": 1, "INPUT": 2, "NEURON": 3, "AGAIN": 4}


def records(*rows) -> bytes:
    """A chunk of records; rows are (node, kind, place, element, at)."""
    columns = list(zip(*((n, KINDS[k], p, e, a) for n, k, p, e, a in rows), strict=True)) or [()] * 5
    return b"".join(np.array(c, t).tobytes() for c, t in zip(columns, ("<u4", "u1", "<u4", "<u4", "<f8"), strict=True))


def header(data: bytes, text: bytes, **more) -> dict:
    import hashlib

    claim = {
        "format": "holdfast-certificate",
        "version": 1,
        "claim": "unsat",
        "semantics": "real",
        "producer": "a test",
    }
    hashes = {"networks": {"N": hashlib.sha256(data).hexdigest()}, "property": hashlib.sha256(text).hexdigest()}
    return claim | hashes | ({"mode": "boxes"} if "witness" not in more else {"claim": "sat"}) | more


def archive(path: Path, head: dict, members: dict[str, bytes], end: dict | None = None) -> Path:
    """Write a certificate; `end` replaces keys of end.json."""
    import hashlib
    import json
    import zipfile

    contents = {"header.json": json.dumps(head).encode()} | members
    kinds = b"".join(m[4 * (len(m) // 21) : 5 * (len(m) // 21)] for n, m in members.items() if n.startswith("records/"))
    last = {"records": len(kinds), "leaves": kinds.count(1)}
    last |= {"members": {n: hashlib.sha256(m).hexdigest() for n, m in contents.items()}}
    contents["end.json"] = json.dumps(last | (end or {})).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return path


CASES_OF_FUNCTIONS = {
    "relu": ("Relu", {}, FUNCTIONS["relu"]),
    "abs": ("Abs", {}, np.abs),
    "leaky": ("LeakyRelu", {"alpha": 0.25}, lambda z: np.where(z > 0, z, 0.25 * z)),
    "sigmoid": ("Sigmoid", {}, FUNCTIONS["sigmoid"]),
    "tanh": ("Tanh", {}, np.tanh),
    "exp": ("Exp", {}, np.exp),
    "log": ("Log", {}, np.log),
    "sqrt": ("Sqrt", {}, np.sqrt),
    "sin": ("Sin", {}, np.sin),
    "cos": ("Cos", {}, np.cos),
    "reciprocal": ("Reciprocal", {}, FUNCTIONS["reciprocal"]),
    "softplus": ("Softplus", {}, FUNCTIONS["softplus"]),
}
