"""Damaged network files: whatever is done to the bytes or the fields, the answer is a model or one clear sentence."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from holdfast.errors import InputError
from holdfast.load import load_model

_RNG = np.random.default_rng(3)
_SETTINGS = settings(
    max_examples=150,
    deadline=20_000,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _small(*shape: int) -> np.ndarray:
    return _RNG.normal(size=shape).astype(np.float32)


def _network() -> onnx.ModelProto:
    """A little of everything that has sizes in it."""
    n = helper.make_node
    constants = {
        "k": _small(3, 2, 3, 3), "b": _small(3), "pads": np.array([0, 0, 1, 0, 0, 0, 1, 0]), "t": np.array([0, -1]),
        "w": _small(18, 8), "i": np.array([3, -1, 0, 5]), "starts": np.array([0]), "ends": np.array([8]), "s": np.array([1, 4]),
        "scales": np.array([1, 1, 2, 2], np.float32), "empty": np.array([], np.float32), "reps": np.array([1, 2]),
        "v": np.abs(_small(3)), "low": np.float32(-1),
    }  # fmt: skip
    nodes = [
        n("Pad", ["x", "pads"], ["p"]),
        n(
            "Conv",
            ["p", "k", "b"],
            ["c"],
            pads=[1, 1, 1, 1],
            strides=[2, 2],
            kernel_shape=[3, 3],
            dilations=[1, 1],
            group=1,
        ),
        n("BatchNormalization", ["c", "b", "b", "b", "v"], ["bn"], epsilon=0.1),
        n("Relu", ["bn"], ["r"]),
        n("Resize", ["r", "empty", "scales"], ["up"], mode="nearest"),
        n("MaxPool", ["up"], ["m"], kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0], ceil_mode=0),
        n("AveragePool", ["m"], ["a"], kernel_shape=[2, 2], strides=[1, 1], pads=[0, 1, 0, 0]),
        n("Reshape", ["a", "t"], ["f"]),
        n("Gemm", ["f", "w"], ["g"], transB=0, alpha=0.5),
        n("Slice", ["g", "starts", "ends", "starts"], ["sl"]),
        n("Gather", ["g", "i"], ["ga"], axis=1),
        n("Expand", ["ga", "s"], ["e"]),
        n("Tile", ["e", "reps"], ["ti"]),
        n("Concat", ["ti", "g"], ["co"], axis=1),
        n("Clip", ["co", "low"], ["cl"]),
        n("ReduceSum", ["cl", "starts"], ["rs"], keepdims=1),
        n("Split", ["rs"], ["y", "z"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 4, 6))],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in ("y", "z")],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


_MODEL = _network()
_DATA = _MODEL.SerializeToString()


def _accepts_or_refuses(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # overflow in a damaged network's values is not at issue
            load_model(path, size_limit=10_000_000)
    except InputError as refusal:
        assert "\n" not in str(refusal) and path.name in str(refusal)


def test_the_network_itself_loads(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(_DATA)
    assert load_model(path).replayable


@_SETTINGS
@given(st.lists(st.tuples(st.integers(0, len(_DATA) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    data = bytearray(_DATA)
    for position, byte in changes:
        data[position] = byte
    _accepts_or_refuses(tmp_path / "net.onnx", bytes(data))


@_SETTINGS
@given(st.integers(0, len(_DATA)))
def test_truncation(tmp_path: Path, length: int) -> None:
    _accepts_or_refuses(tmp_path / "net.onnx", _DATA[:length])


_SIZES = st.sampled_from([-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 7, 100, 2**16, 2**24, 2**31, 2**40, 2**63 - 1])


@_SETTINGS
@given(st.data())
def test_changed_fields(tmp_path: Path, data: st.DataObject) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(_MODEL)
    graph = model.graph
    for _ in range(data.draw(st.integers(1, 3))):
        node = data.draw(st.sampled_from(list(graph.node)))
        tensor = data.draw(st.sampled_from(list(graph.initializer)))
        size = data.draw(_SIZES)
        match data.draw(st.integers(0, 9)):
            case 0 if len(tensor.dims):
                tensor.dims[data.draw(st.integers(0, len(tensor.dims) - 1))] = size
            case 1:
                tensor.dims.append(size)
            case 2:
                tensor.data_type = data.draw(st.integers(0, 20))
            case 3 if node.attribute:
                attribute = data.draw(st.sampled_from(list(node.attribute)))
                if attribute.ints:
                    attribute.ints[data.draw(st.integers(0, len(attribute.ints) - 1))] = size
                else:
                    attribute.i, attribute.f = size, data.draw(st.floats(width=32))
            case 4 if node.attribute:
                data.draw(st.sampled_from(list(node.attribute))).type = data.draw(st.integers(0, 14))
            case 5 if node.input:
                names = [t.name for t in graph.initializer] + [o for n in graph.node for o in n.output] + ["", "?"]
                node.input[data.draw(st.integers(0, len(node.input) - 1))] = data.draw(st.sampled_from(names))
            case 6:
                node.op_type = data.draw(
                    st.sampled_from([n.op_type for n in graph.node] + ["Flatten", "MatMul", "Softmax", "Div", "Range"])
                )
            case 7:
                model.opset_import[0].version = data.draw(st.integers(-1, 30))
            case 8:
                graph.input[0].type.tensor_type.shape.dim[data.draw(st.integers(0, 3))].dim_value = size
            case 9 if tensor.data_type == TensorProto.INT64 and tensor.dims:
                values = (
                    numpy_helper.to_array(tensor).copy()
                    if np.prod(tensor.dims) * 8 == len(tensor.raw_data)
                    else np.zeros(0, np.int64)
                )
                if values.size:
                    values.flat[data.draw(st.integers(0, values.size - 1))] = size
                    tensor.raw_data = values.tobytes()
            case _:
                del graph.node[data.draw(st.integers(0, len(graph.node) - 1))]
                if not graph.node:
                    return
    _accepts_or_refuses(tmp_path / "net.onnx", model.SerializeToString())


@pytest.mark.parametrize("name", ["w", "empty"])
@pytest.mark.parametrize("dims", [(100_000, 100_000), (2**40,), (2**62, 4), (0, 2**62)])
def test_absurd_claims_allocate_nothing(tmp_path: Path, dims: tuple[int, ...], name: str) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(_MODEL)
    tensor = next(t for t in model.graph.initializer if t.name == name)
    del tensor.dims[:]
    tensor.dims.extend(dims)
    with pytest.raises(InputError):
        path = tmp_path / "net.onnx"
        path.write_bytes(model.SerializeToString())
        load_model(path)
