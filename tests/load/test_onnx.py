"""The ONNX loader against onnxruntime, operator by operator and on the benchmark networks; and what it refuses."""

from __future__ import annotations

import gzip
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from holdfast.errors import ModelError, UnsupportedOperatorError
from holdfast.load import load_model, operators_of
from holdfast.load.onnx import Initializers
from holdfast.load.selfcheck import session
from holdfast.transforms.evaluate import evaluate

RNG = np.random.default_rng(7)


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def build(
    nodes, inputs, constants=None, outputs=("y",), opset=13, dtype=TensorProto.FLOAT, ir_version=8, declared=None
):
    """A model: ``inputs`` maps names to shapes, ``constants`` names to arrays."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, dtype, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, dtype, declared) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def save(path: Path, model) -> Path:
    path = path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def agree(path: Path, low: float = -3.0, high: float = 3.0, points: int = 12) -> None:
    """The graph equals onnxruntime on random points, up to float32 rounding."""
    model = load_model(path)
    assert model.replayable
    runtime = session(model.source)
    for _ in range(points):
        point = [RNG.uniform(low, high, t.shape).astype(t.dtype) for t in model.inputs]
        expected = runtime.run(
            [t.name for t in model.outputs], {t.name: x for t, x in zip(model.inputs, point, strict=True)}
        )
        values = evaluate(model.graph, model.parameters, [x.astype(np.float64) for x in point])
        for position, tensor, theirs in zip(model.graph.outputs, model.outputs, expected, strict=True):
            assert values[position].shape == tensor.shape == theirs.shape
            np.testing.assert_allclose(values[position], theirs, rtol=2e-4, atol=2e-4)


N = helper.make_node
ints = np.array
IMAGE, ROW = (1, 2, 6, 7), (1, 6)
f = np.float32

# name: (node attributes and constants, input shape, opset[, low, high])
ONE_INPUT = {
    "Relu": ({}, [], ROW, 13), "LeakyRelu": ({"alpha": 0.3}, [], ROW, 13), "LeakyRelu default": ({}, [], ROW, 13),
    "PRelu": ({}, [f([0.2])], ROW, 13), "PRelu channels": ({}, [weights(2, 1, 1)], IMAGE, 13),
    "Abs": ({}, [], ROW, 13), "Neg": ({}, [], ROW, 13), "Sign": ({}, [], ROW, 13), "Identity": ({}, [], ROW, 13),
    "Sigmoid": ({}, [], ROW, 13), "Tanh": ({}, [], ROW, 13), "Atan": ({}, [], ROW, 13), "Exp": ({}, [], ROW, 13), "Sin": ({}, [], ROW, 13),
    "Cos": ({}, [], ROW, 13), "Softplus": ({}, [], ROW, 13), "HardSigmoid": ({"alpha": 0.3, "beta": 0.4}, [], ROW, 13),
    "HardSwish": ({}, [], ROW, 14), "Softmax": ({"axis": -1}, [], (1, 3, 4), 13), "Softmax old": ({"axis": 1}, [], (2, 3, 4), 11),
    "Clip": ({}, [f(-1.0), f(0.5)], ROW, 13), "Clip old": ({"min": -1.0, "max": 2.0}, [], ROW, 6),
    "Clip low": ({}, [f(0.5)], ROW, 13), "Clip high old": ({"max": 0.5}, [], ROW, 10), "Clip none": ({}, [], ROW, 12),
    "Pow 2": ({}, [f(2.0)], ROW, 13), "Pow 3": ({}, [f(3.0)], ROW, 13), "Pow 1": ({}, [f([1.0])], ROW, 13),
    "Add": ({}, [weights(6)], ROW, 13), "Add wide": ({}, [weights(3, 1, 6)], ROW, 13), "Sub": ({}, [weights(1, 6)], ROW, 13),
    "Mul": ({}, [weights(6)], ROW, 13), "Div": ({}, [f([1, 2, 3, 4, 5, 6])], ROW, 13),
    "Max": ({}, [weights(6)], ROW, 13), "Min": ({}, [weights(6)], ROW, 13), "Sum": ({}, [weights(6), weights(6)], ROW, 13),
    "Mean": ({}, [weights(6), weights(1)], ROW, 13),
    "MatMul": ({}, [weights(6, 4)], ROW, 13), "MatMul batch": ({}, [weights(3, 6, 4)], (1, 2, 6), 13),
    "MatMul vector": ({}, [weights(6)], ROW, 13), "MatMul row vector": ({}, [weights(1, 6, 4)], (6,), 13), "MatMul one": ({}, [weights(1, 6, 4)], ROW, 13),
    "Gemm": ({"alpha": 0.3, "beta": 0.7, "transB": 1}, [weights(4, 6), weights(4)], ROW, 13),
    "Gemm transposed": ({"transA": 1, "alpha": 2.0}, [weights(3, 4), weights(2, 4)], (3, 2), 13),
    "Gemm scalar bias": ({}, [weights(6, 4), weights(1, 1)], ROW, 11), "Gemm no bias": ({}, [weights(6, 4)], ROW, 11),
    "BatchNormalization": ({"epsilon": 0.01}, [weights(2), weights(2), weights(2), f([0.3, 2.0])], IMAGE, 15),
    "BatchNormalization row": ({}, [weights(6), weights(6), weights(6), f([1, 2, 3, 4, 5, 6])], ROW, 9),
    "Conv": ({"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}, [weights(3, 2, 2, 3), weights(3)], IMAGE, 13),
    "Conv groups": ({"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]}, [weights(4, 1, 3, 3)], IMAGE, 13),
    "Conv lower": ({"auto_pad": "SAME_LOWER"}, [weights(4, 2, 2, 2)], IMAGE, 13), "Conv line": ({}, [weights(3, 2, 4)], (1, 2, 8), 11),
    "ConvTranspose": ({"strides": [2, 3], "pads": [1, 0, 1, 1], "output_padding": [1, 2]}, [weights(2, 3, 3, 3), weights(3)], IMAGE, 13),
    "ConvTranspose groups": ({"group": 2, "dilations": [2, 1]}, [weights(2, 2, 2, 2)], IMAGE, 13),
    "ConvTranspose shape": ({"output_shape": [12, 14], "strides": [2, 2]}, [weights(2, 1, 3, 3)], IMAGE, 13),
    "AveragePool": ({"kernel_shape": [3, 2], "strides": [2, 2]}, [], IMAGE, 11),
    "AveragePool exclude": ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, [], IMAGE, 11),
    "AveragePool include": ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, [], IMAGE, 11),
    "AveragePool ceil": ({"kernel_shape": [4, 4], "strides": [3, 3], "ceil_mode": 1}, [], IMAGE, 11),
    "GlobalAveragePool": ({}, [], IMAGE, 13), "GlobalMaxPool": ({}, [], IMAGE, 13),
    "MaxPool": ({"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 1, 1, 0]}, [], IMAGE, 12),
    "MaxPool ceil": ({"kernel_shape": [4, 4], "strides": [3, 3], "ceil_mode": 1}, [], IMAGE, 12),
    "MaxPool dilated": ({"kernel_shape": [2, 2], "dilations": [2, 3]}, [], IMAGE, 12), "MaxPool line": ({"kernel_shape": [5]}, [], (1, 2, 9), 12),
    "Pad": ({}, [ints([0, 0, 1, 2, 0, 0, 0, 1])], IMAGE, 13), "Pad old": ({"pads": [0, 1, 2, 0], "value": 0.3}, [], ROW, 9),
    "Pad value": ({}, [ints([0, 1, 0, 2]), f(-1.5)], ROW, 13), "Pad negative": ({}, [ints([0, -1, 1, -2])], ROW, 13),
    "Pad reflect": ({"mode": "reflect"}, [ints([0, 2, 0, 1])], ROW, 13), "Pad edge": ({"mode": "edge"}, [ints([1, 2, 0, 1])], ROW, 13),
    "Pad axes": ({}, [ints([1, 2]), f(0.0), ints([-1])], ROW, 18),
    "Reshape": ({}, [ints([0, 2, -1])], ROW, 13), "Flatten": ({"axis": 2}, [], IMAGE, 13), "Flatten negative": ({"axis": -1}, [], IMAGE, 13),
    "Transpose": ({"perm": [0, 2, 3, 1]}, [], IMAGE, 13), "Transpose default": ({}, [], IMAGE, 13),
    "Slice": ({}, [ints([-1, 5]), ints([-100, 0]), ints([2, -1]), ints([-2, -2])], IMAGE, 13),
    "Slice old": ({"starts": [1, 0], "ends": [-1, 9223372036854775807], "axes": [3, 2]}, [], IMAGE, 9),
    "Gather": ({"axis": 1}, [ints([[0, -1], [2, 2]])], ROW, 13), "Gather scalar": ({"axis": 1}, [ints(-2)], ROW, 13),
    "GatherND": ({}, [ints([[0, 1], [0, -1]])], IMAGE, 13), "Tile": ({}, [ints([2, 1, 3, 1])], IMAGE, 13),
    "Squeeze": ({"axes": [0]}, [], ROW, 11), "Squeeze input": ({}, [ints([0])], ROW, 13), "Unsqueeze": ({"axes": [0, 3]}, [], ROW, 11),
    "Unsqueeze input": ({}, [ints([-1])], ROW, 13), "Expand": ({}, [ints([3, 1, 6])], ROW, 13),
    "ReduceSum": ({"keepdims": 0}, [ints([1, -1])], IMAGE, 13), "ReduceSum old": ({"axes": [1]}, [], IMAGE, 11),
    "ReduceSum all": ({"keepdims": 0}, [], IMAGE, 11), "ReduceMean": ({"axes": [-1]}, [], IMAGE, 13),
    "ReduceMean new": ({"keepdims": 0}, [ints([2])], IMAGE, 18), "ReduceMax": ({"axes": [2]}, [], IMAGE, 13),
    "ReduceMin": ({"axes": [3], "keepdims": 0}, [], IMAGE, 13), "Dropout": ({"ratio": 0.5}, [], ROW, 11), "Dropout new": ({}, [f(0.5)], ROW, 13),
    "Upsample": ({}, [f([1, 1, 2, 3])], IMAGE, 9), "Resize ten": ({}, [f([1, 1, 2, 1.5])], IMAGE, 10),
    "Resize half": ({"mode": "nearest"}, [f([]), f([1, 1, 2, 3])], IMAGE, 13),
    "Resize floor": ({"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}, [f([]), f([1, 1, 2, 2])], IMAGE, 13),
    "Resize align": ({"coordinate_transformation_mode": "align_corners"}, [f([]), f([]), ints([1, 2, 11, 5])], IMAGE, 13),
    "Cast": ({"to": TensorProto.FLOAT}, [], ROW, 13), "Where": None,
}  # fmt: skip
POSITIVE = {
    "Log": ({}, [], ROW, 13),
    "Sqrt": ({}, [], ROW, 13),
    "Reciprocal": ({}, [], ROW, 13),
    "Pow -2": ({}, [f(-2.0)], ROW, 13),
    "Pow half": ({}, [f(0.5)], ROW, 13),
}
ONE_INPUT.pop("Where")


def one_node(case: str, table) -> onnx.ModelProto:
    attributes, constants, shape, opset = table[case]
    op = case.split()[0]
    names = [f"c{i}" for i in range(len(constants))]
    return build(
        [N(op, ["x", *names], ["y"], name="n", **attributes)],
        {"x": shape},
        dict(zip(names, constants, strict=True)),
        opset=opset,
    )


def skip_if_missing(path: Path) -> None:
    missing = operators_of(path).missing
    if missing:
        pytest.skip(f"no card yet for {missing}")


@pytest.mark.parametrize("case", ONE_INPUT)
def test_operator(case: str, tmp_path: Path) -> None:
    path = save(tmp_path, one_node(case, ONE_INPUT))
    skip_if_missing(path)
    agree(path)


@pytest.mark.parametrize("case", POSITIVE)
def test_operator_on_positive_inputs(case: str, tmp_path: Path) -> None:
    path = save(tmp_path, one_node(case, POSITIVE))
    skip_if_missing(path)
    agree(path, 0.1, 5.0)


@pytest.mark.parametrize("case", ["Tan", "Asin", "Acos"])
def test_operator_on_small_inputs(case: str, tmp_path: Path) -> None:
    agree(save(tmp_path, one_node(case, {case: ({}, [], ROW, 13)})), -0.99, 0.99)


TWO_INPUTS = {
    "Add": ((1, 6), (3, 1, 6)), "Sub": ((1, 6), (1, 6)), "Mul": ((1, 6), (1, 1)), "Max": ((1, 6), (1, 6)), "Min": ((1, 6), (1, 1)),
    "MatMul": ((2, 3, 4), (2, 4, 5)), "MatMul broadcast": ((3, 4), (2, 4, 5)), "Gemm": ((2, 3), (3, 4)), "Concat": ((1, 6), (1, 2)),
    "Div": ((1, 6), (1, 6)),
}  # fmt: skip


@pytest.mark.parametrize("case", TWO_INPUTS)
def test_operator_of_two_variables(case: str, tmp_path: Path) -> None:
    a, b = TWO_INPUTS[case]
    attributes = {"axis": 1} if case == "Concat" else {"alpha": 0.3} if case == "Gemm" else {}
    path = save(tmp_path, build([N(case.split()[0], ["a", "b"], ["y"], **attributes)], {"a": a, "b": b}))
    skip_if_missing(path)
    agree(path, 0.5, 3.0)


SEVERAL = {
    "constant on the left": ([N("MatMul", ["w", "x"], ["h"]), N("Sub", ["c", "h"], ["y"])], {"w": weights(4, 6), "c": weights(4, 1)}, (6, 2)),
    "batch of one on the left": ([N("MatMul", ["w", "x"], ["y"])], {"w": weights(1, 4, 6)}, (6, 2)),
    "batched constant on the left": ([N("MatMul", ["w", "x"], ["y"])], {"w": weights(3, 4, 6)}, (6, 2)),
    "constant Gemm": ([N("Gemm", ["w", "x", "c"], ["y"], alpha=0.3, beta=0.5, transB=1)], {"w": weights(4, 6), "c": weights(4, 1)}, (2, 6)),
    "variable bias": ([N("Gemm", ["x", "w", "x"], ["y"], beta=0.5)], {"w": weights(6, 6)}, (1, 6)),
    "split": ([N("Split", ["x", "s"], ["a", "b"], axis=1), N("Concat", ["b", "w", "a"], ["y"], axis=-1)], {"s": ints([2, 4]), "w": weights(1, 3)}, (1, 6)),
    "shape arithmetic": (
        [N("Shape", ["x"], ["s"]), N("Gather", ["s", "i"], ["n"]), N("Unsqueeze", ["n", "z"], ["u"]), N("Concat", ["u", "m"], ["t"], axis=0),
         N("Reshape", ["x", "t"], ["y"])], {"i": ints(0), "z": ints([0]), "m": ints([3, -1])}, (2, 6)),
    "constant chain": (
        [N("Mul", ["a", "b"], ["c"]), N("Add", ["c", "b"], ["d"]), N("Div", ["d", "a"], ["e"]), N("Sqrt", ["g"], ["h"]),
         N("Add", ["x", "e"], ["k"]), N("Mul", ["k", "h"], ["y"])], {"a": weights(6), "b": weights(6), "g": f([2.0])}, (1, 6)),
    "folded weights": ([N("Transpose", ["w"], ["v"]), N("MatMul", ["x", "v"], ["y"])], {"w": weights(4, 6)}, (1, 6)),
    "where": ([N("Where", ["m", "x", "c"], ["y"])], {"m": ints([True, False] * 3), "c": weights(1, 6)}, (1, 6)),
    "equal on constants": ([N("Equal", ["i", "j"], ["m"]), N("Where", ["m", "x", "c"], ["y"])],
                           {"i": ints([1, 2, 3, 4, 5, 6]), "j": ints([1, 0, 3, 0, 5, 0]), "c": f(0.5)}, (1, 6)),
    "softmax of exp of a constant": ([N("Abs", ["w"], ["v"]), N("Relu", ["v"], ["u"]), N("Add", ["x", "u"], ["y"])], {"w": weights(6)}, (1, 6)),
    "max of four": ([N("Max", ["x", "c", "w", "x"], ["y"])], {"w": weights(1, 6), "c": weights(6)}, (1, 6)),
}  # fmt: skip


@pytest.mark.parametrize("case", SEVERAL)
def test_several_nodes(case: str, tmp_path: Path) -> None:
    nodes, constants, shape = SEVERAL[case]
    path = save(tmp_path, build(nodes, {"x": shape}, constants))
    skip_if_missing(path)
    agree(path)


def test_outputs_inputs_and_dead_nodes(tmp_path: Path) -> None:
    nodes = [
        N("Relu", ["a"], ["y"]),
        N("Add", ["a", "b"], ["z"]),
        N("LSTM", ["a"], ["dead"]),
        N("Mul", ["w", "a"], ["gone"]),
    ]
    path = save(
        tmp_path, build(nodes, {"a": (1, 2), "b": (1, 2), "unread": (1, 1)}, {"w": weights(2)}, outputs=("z", "y"))
    )
    model = load_model(path, check=False)  # onnxruntime would refuse the dead LSTM
    assert [t.name for t in model.inputs] == ["a", "b", "unread"]
    assert [t.name for t in model.outputs] == ["z", "y"]
    assert len(model.graph) == 5 and not model.parameters


def test_constants_are_exact_and_shared(tmp_path: Path) -> None:
    w = weights(6, 6)
    model = load_model(
        save(tmp_path, build([N("MatMul", ["x", "w"], ["h"]), N("MatMul", ["h", "w"], ["y"])], {"x": ROW}, {"w": w}))
    )
    assert list(model.parameters) == ["p0"] and not model.radii
    assert np.array_equal(model.parameters["p0"], w.astype(np.float64))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types(dtype, tmp_path: Path) -> None:
    w = RNG.normal(size=(6, 4)).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = load_model(save(tmp_path, build([N("MatMul", ["x", "w"], ["y"])], {"x": ROW}, {"w": w}, dtype=kind)))
    assert (
        np.array_equal(model.parameters["p0"], w.astype(np.float64)) and model.inputs[0].dtype == np.dtype(dtype).name
    )


def test_narrowing_cast_of_a_variable_is_refused(tmp_path: Path) -> None:
    for to in (TensorProto.FLOAT16, TensorProto.INT64):
        path = save(
            tmp_path, build([N("Cast", ["x"], ["h"], to=to), N("Cast", ["h"], ["y"], to=TensorProto.FLOAT)], {"x": ROW})
        )
        with pytest.raises(UnsupportedOperatorError, match="Cast"):
            load_model(path)


def test_symbolic_batch_becomes_one_and_other_axes_are_refused(tmp_path: Path) -> None:
    model = load_model(save(tmp_path, build([N("Relu", ["x"], ["y"])], {"x": ("batch", 3)})))
    assert model.inputs[0].shape == (1, 3) and model.replayable
    with pytest.raises(ModelError, match="axis 1"):
        load_model(save(tmp_path, build([N("Relu", ["x"], ["y"])], {"x": (1, "length")})))


def test_initializers_listed_as_inputs(tmp_path: Path) -> None:
    model = build([N("Mul", ["x", "w"], ["y"])], {"x": ROW, "w": (6,)}, {"w": weights(6)}, ir_version=3, opset=8)
    assert [t.name for t in load_model(save(tmp_path, model)).inputs] == ["x"]


def test_early_matlab_export(tmp_path: Path) -> None:
    """Rank 4 into Gemm with a `broadcast` attribute, operator set 6: onnxruntime refuses it, its meaning is plain."""
    mean, w, b = weights(1, 1, 1, 3), weights(4, 3), weights(4)
    nodes = [
        N("Sub", ["x", "mean"], ["h"], broadcast=1),
        N("Gemm", ["h", "w", "b"], ["g"], alpha=1.0, beta=1.0, broadcast=1, transA=0, transB=1),
        N("Relu", ["g"], ["y"]),
    ]
    model = load_model(
        save(tmp_path, build(nodes, {"x": (1, 1, 1, 3)}, {"mean": mean, "w": w, "b": b}, opset=6, ir_version=3))
    )
    assert not model.replayable and model.outputs[0].shape == (1, 4)
    x = RNG.normal(size=(1, 1, 1, 3))
    expected = np.maximum((x - mean).reshape(1, 3) @ w.T.astype(np.float64) + b, 0)
    values = evaluate(model.graph, model.parameters, [x])
    np.testing.assert_allclose(values[model.graph.outputs[0]], expected, rtol=1e-12, atol=1e-12)


def test_unsupported_operators_are_collected(tmp_path: Path) -> None:
    nodes = [
        N("Erf", ["x"], ["a"], name="first"), N("LSTM", ["a"], ["b"], name="second"), N("Erf", ["b"], ["c"]),
        N("Strange", ["c"], ["y"], domain="com.example", name="third"),
    ]  # fmt: skip
    path = save(tmp_path, build(nodes, {"x": ROW}))
    with pytest.raises(UnsupportedOperatorError) as caught:
        load_model(path)
    assert caught.value.missing == {"Erf": ["first", "c"], "LSTM": ["second"], "com.example.Strange": ["third"]}
    report = operators_of(path)
    assert report.missing == caught.value.missing and report.used == {"Erf": 2, "LSTM": 1, "com.example.Strange": 1}


def test_gzip_and_size_limit(tmp_path: Path) -> None:
    data = build([N("Mul", ["x", "w"], ["y"])], {"x": ROW}, {"w": np.zeros((6,), f)}).SerializeToString()
    path = tmp_path / "net.onnx.gz"
    path.write_bytes(gzip.compress(data))
    assert load_model(path).source == data
    with pytest.raises(ModelError, match="limit"):
        load_model(path, size_limit=20)
    path.write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(ModelError, match="limit"):
        load_model(path, size_limit=1_000_000)
    path.write_bytes(gzip.compress(data)[:-12])
    with pytest.raises(ModelError, match="truncated"):
        load_model(path)


REFUSED = {
    "dangling": (lambda m: m.graph.node[0].input.__setitem__(0, "nowhere"), "nothing computes"),
    "output": (lambda m: setattr(m.graph.output[0], "name", "nowhere"), "nothing computes the output"),
    "cycle": (lambda m: m.graph.node[0].input.__setitem__(0, "y"), "depends on itself"),
    "duplicate": (lambda m: m.graph.node[1].output.__setitem__(0, "h"), "two values are called"),
    "nan": (lambda m: setattr(m.graph.initializer[0], "raw_data", np.full((6, 6), np.nan, f).tobytes()), "not finite"),
    "claim": (lambda m: m.graph.initializer[0].dims.__setitem__(0, 2**31), "at most"),
    "claim within limits": (lambda m: m.graph.initializer[0].dims.__setitem__(0, 60), "has 144 bytes"),
    "negative": (lambda m: m.graph.initializer[0].dims.__setitem__(0, -6), "negative"),
    "shape": (lambda m: m.graph.initializer[0].dims.__setitem__(slice(None), [4, 9]), "fit"),
    "opset": (lambda m: setattr(m.opset_import[0], "version", 5), "operator set 5"),
    "integers": (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 7), "element type int64"),
    "no operator set": (lambda m: m.ClearField("opset_import"), "operator set 0"),
    "string weights": (lambda m: setattr(m.graph.initializer[0], "data_type", 8), "element type"),
    "no nodes": (lambda m: m.ClearField("graph"), "not an ONNX file"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_malformed(case: str, tmp_path: Path) -> None:
    model = build([N("MatMul", ["x", "w"], ["h"]), N("Relu", ["h"], ["y"])], {"x": ROW}, {"w": weights(6, 6)})
    change, message = REFUSED[case]
    change(model)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(save(tmp_path, model))
    assert "\n" not in str(caught.value)


def test_not_an_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    for data in (b"", b"hello, this is text", bytes(100)):
        path.write_bytes(data)
        with pytest.raises(ModelError):
            load_model(path)
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(tmp_path)


def external(location: str) -> onnx.ModelProto:
    model = build([N("MatMul", ["x", "w"], ["y"])], {"x": ROW}, {"w": np.zeros((6, 6), f)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    tensor.external_data.add(key="location", value=location)
    return model


def test_external_data(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    w = weights(6, 6)
    (folder / "w.bin").write_bytes(w.tobytes())
    (tmp_path / "secret.bin").write_bytes(w.tobytes())
    model = load_model(save(folder, external("w.bin")))
    assert model.replayable and np.array_equal(model.parameters["p0"], w)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin", "absent.bin", "", "a/../w.bin"):
        with pytest.raises(ModelError, match="initializer 'w'"):
            load_model(save(folder, external(location)))
    (folder / "w.bin").write_bytes(w.tobytes()[:-1])
    with pytest.raises(ModelError, match="143 bytes"):
        load_model(save(folder, external("w.bin")))


def test_initializers_are_converted_once() -> None:
    tensors = [numpy_helper.from_array(weights(3), "w")]
    ready = Initializers(tensors, "net")
    assert ready["w"] is ready["w"] and len(ready) == 1


def test_radii_reach_the_model(tmp_path: Path) -> None:
    constants = [f([3.0]), f([0.1]), f([0.3]), f([0.7])]
    nodes = [N("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"])]
    model = load_model(save(tmp_path, build(nodes, {"x": (1, 1)}, dict(zip("sbmv", constants, strict=True)))))
    (key,) = model.radii
    slope, radius = Fraction(float(model.parameters[key][0])), Fraction(float(model.radii[key][0]))
    spread = Fraction(float(f(0.7))) + Fraction(float(f(1e-5)))
    low, high = slope - radius, slope + radius
    assert low**2 * spread <= 9 <= high**2 * spread and 0 < radius < Fraction(1, 10**14)
