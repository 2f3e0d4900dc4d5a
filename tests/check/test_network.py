"""The nodes read from ONNX files compute what onnxruntime computes; linear maps carry rows back as their matrices do."""

import contextlib
from fractions import Fraction
from itertools import pairwise

import numpy as np
import onnx
import pytest
from evaluation import agrees, benchmarks, dense_model, evaluate, loaded, model, unpacked

from holdfast_check.arithmetic import Unreadable
from holdfast_check.network import read_network

RNG = np.random.default_rng(7)


def weights(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def one(operator, shape, opset=13, constants=None, inputs=None, **attributes):
    """A model of one operator on input x (and others), constants after it."""
    inputs = inputs or {"x": shape}
    return model([(operator, [*inputs, *(constants or {})], ["y"], attributes)], inputs, constants, opset=opset)


INT = np.int64
CASES = {
    **{
        op.lower(): one(op, [1, 7])
        for op in ["Relu", "Abs", "Sigmoid", "Tanh", "Exp", "Sin", "Cos", "Softplus", "Neg", "Identity", "Reciprocal", "LeakyRelu"]
    },
    "leaky": one("LeakyRelu", [1, 7], alpha=0.3),
    "clip": one("Clip", [1, 7], constants={"a": np.float32(-0.5), "b": np.float32(0.7)}),
    "clip6": one("Clip", [1, 7], opset=6, min=-0.5, max=0.7),
    **{f"pow {n}": one("Pow", [1, 7], constants={"n": np.float32(n)}) for n in (2, 3, 5)},
    "pow of one element": one("Pow", [7], constants={"n": np.full(1, 2, np.float32)}),
    "add": one("Add", [2, 3, 4], inputs={"x": [2, 3, 4], "z": [3, 1]}),
    "sub": one("Sub", [1, 4], constants={"c": weights(3, 1)}),
    "sub from": model([("Sub", ["c", "x"], ["y"], {})], {"x": [1, 4]}, {"c": weights(3, 1)}),
    "mul": one("Mul", [1, 4], inputs={"x": [1, 4], "z": [3, 4]}),
    "mul by": one("Mul", [1, 4], constants={"c": weights(4)}),
    "div": one("Div", [1, 4], inputs={"x": [1, 4], "z": [3, 1]}),
    "div of": model([("Div", ["c", "x"], ["y"], {})], {"x": [1, 4]}, {"c": weights(3, 1)}),
    "div by": one("Div", [1, 4], constants={"c": np.array([3, 7, 0.1, 9], np.float32)}),
    "sum": one("Sum", [1, 4], inputs={"x": [1, 4], "z": [3, 4], "t": [1]}),
    "max": one("Max", [1, 4], inputs={"x": [1, 4], "z": [3, 4], "t": [1]}, constants={"c": weights(4)}),
    "min": one("Min", [1, 4], inputs={"x": [1, 4], "z": [3, 4], "t": [1]}, constants={"c": weights(4)}),
    "gemm": one("Gemm", [3, 4], constants={"w": weights(5, 4), "b": weights(5)}, transB=1),
    "matmul": one("MatMul", [2, 3, 4], constants={"w": weights(4, 5)}),
    "matmul left": model([("MatMul", ["w", "x"], ["y"], {})], {"x": [2, 4, 3]}, {"w": weights(5, 4)}),
    "conv": one("Conv", [1, 4, 7, 6], constants={"w": weights(6, 2, 3, 2), "b": weights(6)}, group=2, strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2]),
    "conv depthwise": one("Conv", [1, 3, 5, 5], constants={"w": weights(3, 1, 3, 3)}, group=3, auto_pad="VALID"),
    "conv one axis": one("Conv", [1, 2, 9], constants={"w": weights(3, 2, 4)}, strides=[3]),
    "average": one("AveragePool", [1, 2, 7, 6], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 0]),
    "average padded": one("AveragePool", [1, 2, 7, 6], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 0], count_include_pad=1),
    "max pool": one("MaxPool", [1, 2, 7, 8], kernel_shape=[3, 2], strides=[2, 3]),
    "max pool one axis": one("MaxPool", [1, 1, 9], kernel_shape=[4], dilations=[1], pads=[0, 0]),
    "batch norm": one("BatchNormalization", [1, 3, 2, 2], constants={"s": weights(3), "b": weights(3), "m": weights(3), "v": np.abs(weights(3))}, epsilon=0.01),
    "flatten": one("Flatten", [2, 3, 4], axis=2),
    "reshape": one("Reshape", [2, 3, 4], constants={"s": np.array([0, -1, 2], INT)}),
    "transpose": one("Transpose", [2, 3, 4], perm=[2, 0, 1]),
    "squeeze": one("Squeeze", [1, 3, 1], constants={"a": np.array([0], INT)}),
    "squeeze old": one("Squeeze", [1, 3, 1], opset=9, axes=[2]),
    "unsqueeze": one("Unsqueeze", [3, 2], constants={"a": np.array([0, -1], INT)}),
    "expand": one("Expand", [3, 1], constants={"s": np.array([2, 1, 4], INT)}),
    "concat": one("Concat", [1, 2], inputs={"x": [1, 2], "z": [1, 3]}, constants={"c": weights(1, 2)}, axis=1),
    "slice": one("Slice", [5, 6], constants={"s": np.array([1, -1], INT), "e": np.array([10, -7], INT), "a": np.array([0, 1], INT), "t": np.array([2, -2], INT)}),
    "slice old": one("Slice", [5, 6], opset=9, starts=[1], ends=[-1], axes=[1]),
    "gather": one("Gather", [3, 4], constants={"i": np.array([[0, -1], [2, 0]], INT)}, axis=0),
    "pad": one("Pad", [2, 3], constants={"p": np.array([0, 1, 2, 0], INT), "v": np.float32(0)}),
    "pad old": one("Pad", [2, 3], opset=9, pads=[0, 1, 2, 0], value=0.0),
    "reduce sum": one("ReduceSum", [2, 3, 4], constants={"a": np.array([0, 2], INT)}, keepdims=0),
    "reduce mean": one("ReduceMean", [2, 3, 4], axes=[1]),
    "reduce all": one("ReduceMean", [2, 3]),
    "dropout": one("Dropout", [2, 3]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_onnxruntime_computes(name):
    proto = loaded(CASES[name])
    size = sum(int(np.prod([d.dim_value for d in i.type.tensor_type.shape.dim])) for i in proto.graph.input)
    check_maps(agrees(CASES[name], RNG.normal(size=(3, size)) + 0.1))


def check_maps(nodes):
    """transpose and magnitude against the matrix of the map; terms and back count its entries; doubt covers nothing exact."""
    for node in (n for n in nodes if n.linear is not None):
        linear, sizes = node.linear, [nodes[i].size for i in node.inputs]
        unit = np.eye(sum(sizes))
        ends = np.cumsum([0, *sizes])
        xs = [unit[:, a:b] for a, b in pairwise(ends)]
        matrix = linear.apply(xs).T
        rows = RNG.normal(size=(2, 3, node.size))
        carried = np.concatenate(linear.transpose(rows), axis=2)
        assert carried.shape == (2, 3, sum(sizes)) and np.allclose(carried, rows @ matrix, rtol=1e-12, atol=1e-12)
        assert np.count_nonzero(matrix, axis=1).max(initial=0) <= linear.terms
        # a value used by several inputs of one node is carried back in parts, each counted on its own
        assert np.count_nonzero(matrix, axis=0).max(initial=0) <= linear.back
        if linear.exact:
            assert set(np.unique(matrix)) <= {-1.0, 0.0, 1.0} and linear.terms == 1
        x = [RNG.normal(size=(1, n)) for n in sizes]
        assert np.allclose(linear.magnitude(x), np.concatenate(x, axis=1) @ np.abs(matrix).T)


def test_shapes_are_computed_and_constants_moved():
    steps = [
        ("Shape", ["x"], ["s"], {}),
        ("Gather", ["s", "zero"], ["n"], {"axis": 0}),
        ("Unsqueeze", ["n"], ["n1"], {"axes": [0]}),
        ("Concat", ["n1", "minus"], ["t"], {"axis": 0}),
        ("Reshape", ["x", "t"], ["r"], {}),
        ("Constant", [], ["c"], {"value_floats": [1 / 3]}),
        ("ConstantOfShape", ["n1"], ["e"], {}),
        ("Concat", ["c", "c", "e", "c", "c"], ["d"], {"axis": 0}),
        ("Add", ["r", "d"], ["z"], {}),
        ("Concat", ["z", "z", "half"], ["y"], {"axis": 1}),
    ]
    constants = {"zero": INT(0), "minus": np.array([-1], INT), "half": np.full((2, 1), 0.5, np.float32)}
    nodes = agrees(model(steps, {"x": [2, 3, 2]}, constants, opset=12), RNG.normal(size=(2, 12)))
    assert [type(n.linear).__name__ for n in nodes[1:]] == ["Sum", "Gather"]
    assert nodes[1].linear.exact and nodes[1].rounds and not nodes[2].rounds


def enclosed(linear, k, exact_square):
    """Whether the square root of a number lies within the radius of factor k."""
    low, high = (abs(Fraction(linear.weights[0, k])) + s * Fraction(linear.doubt.weights[0, k]) for s in (-1, 1))
    return low**2 <= exact_square <= high**2 and 0 < high - low < Fraction(1, 2**48) * high


def test_quotients_of_constants_are_enclosed():
    nodes = agrees(CASES["batch norm"], RNG.normal(size=(1, 12)))
    assert [n.kind for n in nodes] == ["input", "linear", "linear"] and nodes[1].linear.doubt is None
    proto = loaded(CASES["batch norm"]).graph
    scale, _, _, variance = (onnx.numpy_helper.to_array(i).astype(np.float64) for i in proto.initializer)
    for k in range(3):
        total = Fraction(float(variance[k])) + Fraction(float(np.float32(0.01)))
        assert enclosed(nodes[2].linear, 4 * k, Fraction(float(scale[k])) ** 2 / total)
    linear = agrees(CASES["div by"], RNG.normal(size=(1, 4)))[1].linear
    for k, divisor in enumerate(np.array([3, 7, 0.1, 9], np.float32).tolist()):
        assert enclosed(linear, k, 1 / Fraction(divisor) ** 2)


def test_labels_and_parts():
    nodes: list = []
    read_network(CASES["div"], "f", nodes, 0)
    assert [(n.kind, n.label) for n in nodes if n.kind not in ("input", "linear")] == [
        ("reciprocal", ("f", "y", 0)),
        ("product", ("f", "y", 1)),
    ]
    nodes.clear()
    read_network(CASES["max pool"], "f", nodes, 0)
    relus = [n for n in nodes if n.kind == "relu"]
    assert [n.label[2] for n in relus] == [0, 1, 2] and not any(n.rounds for n in nodes)
    assert [n.size for n in relus] == [2 * 3 * 8, 2 * 3 * 8, 2 * 3 * 3]


def test_inputs_begin_where_they_are_told():
    nodes: list = []
    network = read_network(CASES["sum"], "f", nodes, 10)
    assert [n.start for n in nodes if n.kind == "input"] == [10, 14, 26]
    assert [v.shape for v in network.inputs.values()] == [(1, 4), (3, 4), (1,)]


REFUSED = {
    "operator": (one("Elu", [1, 2]), "Elu"),
    "attribute": (one("AveragePool", [1, 2, 4], kernel_shape=[2], ceil_mode=1), "ceil_mode"),
    "variable bias": (
        model([("Conv", ["x", "w", "b"], ["y"], {})], {"x": [1, 2, 4], "b": [3]}, {"w": weights(3, 2, 2)}),
        "constant",
    ),
    "twice": (model([("Relu", ["x"], ["x"], {}), ("Relu", ["x"], ["y"], {})], {"x": [1, 2]}), "twice"),
    "missing": (one("Add", [1, 2]), "argument"),
    "constant output": (model([("Identity", ["c"], ["y"], {})], {"x": [1]}, {"c": weights(2)}), "constant"),
    "infinite": (one("Add", [1, 2], constants={"c": np.array([np.inf, 0], np.float32)}), "finite"),
    "symbolic": (model([("Relu", ["x"], ["y"], {})], {"x": [1, "n"]}), "shape"),
    "empty": (one("Slice", [3], constants={"s": np.array([1], INT), "e": np.array([1], INT)}), "empty"),
    "shape": (one("MatMul", [1, 3], constants={"w": weights(2, 2)}), "do not fit"),
    "channels": (one("Conv", [1, 2, 4], constants={"w": weights(3, 1, 2)}), "do not fit"),
    "images": (one("AveragePool", [2, 2, 4], kernel_shape=[2]), "one image"),
    "exponent": (one("Pow", [7], constants={"n": np.full((1, 1), 2, np.float32)}), "exponent"),
    "cube root": (one("Pow", [7], constants={"n": np.float32(1 / 3)}), "exponent"),
    "clip": (one("Clip", [1, 2], constants={"a": np.float32(1), "b": np.float32(0)}), "not in order"),
    "constants": (
        model([("Add", ["c", "c"], ["d"], {}), ("Add", ["x", "d"], ["y"], {})], {"x": [1]}, {"c": weights(1)}),
        "constants",
    ),
    "normalization": (
        one(
            "BatchNormalization",
            [1, 1, 2],
            constants={"s": np.ones(1), "b": np.ones(1), "m": np.ones(1), "v": np.full(1, 1e300)},
        ),
        "extreme",
    ),
    "pool with padding": (one("MaxPool", [1, 1, 9], kernel_shape=[4], pads=[1, 2]), "padding"),
    "batched product": (one("MatMul", [2, 3, 4], constants={"w": weights(2, 4, 5)}), "MatMul|unpack"),
    "opset": (one("Relu", [1], opset=5), "operator set 5"),
    "domain": (model([("Relu", ["x"], ["y"], {"domain": "mine"})], {"x": [1]}), "domain"),
    "infinite padding": (one("Pad", [2], constants={"p": np.array([1, 1], INT), "v": np.float32(np.inf)}), "finite"),
    "zero divisor": (one("Div", [1, 2], constants={"c": np.zeros(2, np.float32)}), "finite"),
    "strings": (one("Add", [1, 2], constants={"c": np.array(["1/2"], object)}), "type"),
    "no file": (b"nothing", "network N"),
    "training": (one("Dropout", [1, 2], constants={"r": np.float32(0.5), "t": np.bool_(True)}), "argument"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_one_sentence(name):
    data, word = REFUSED[name]
    with pytest.raises(Unreadable, match=word):
        read_network(data, "N", [], 0)


def test_too_large_tensors_are_out_of_memory():
    with pytest.raises(MemoryError):
        read_network(one("Expand", [1, 1], constants={"s": np.array([2**20, 2**20], INT)}), "N", [], 0)


def test_constants_in_other_files_are_refused():
    proto = loaded(dense_model())
    proto.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    proto.graph.initializer[0].ClearField("raw_data")
    proto.graph.initializer[0].external_data.add(key="location", value="weights")
    with pytest.raises(Unreadable, match="another file"):
        read_network(proto.SerializeToString(), "N", [], 0)


def test_damaged_files_are_refused_or_read():
    data = bytearray(dense_model())
    for _ in range(200):
        broken = data.copy()
        for place in RNG.integers(0, len(data), 3):
            broken[place] = RNG.integers(0, 256)
        with contextlib.suppress(Unreadable):
            read_network(bytes(broken[: RNG.integers(len(data) // 2, len(data) + 1)]), "N", [], 0)


def test_early_exporters_give_gemm_an_image():
    data = model([("Gemm", ["x", "w"], ["y"], {"transB": 1})], {"x": [1, 2, 2]}, {"w": weights(3, 4)})
    nodes: list = []
    read_network(data, "N", nodes, 0)
    assert evaluate(nodes, np.ones((1, 4)))[-1].shape == (1, 3)


BENCHMARKS = """acasxu rl_benchmarks safenlp collins_rul_cnn mnist_fc dist_shift linearizenn tllverifybench cora_mnist oval21 eran
cifar10_resnet nn4sys marabou_cifar10 sri_resnet_a verivital yolo cifar_biasfield""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", BENCHMARKS)
def test_networks_of_the_competition_compute_what_onnxruntime_computes(name):
    files = sorted((benchmarks() / name / "onnx").rglob("*.onnx*"), key=lambda f: f.stat().st_size)
    for file in [f for f in files if f.is_file() and f.stat().st_size < 700_000][::3][:8]:
        data = unpacked(file)
        size = sum(int(np.prod([max(1, d.dim_value) for d in i.type.tensor_type.shape.dim])) for i in real_inputs(data))
        agrees(data, RNG.random((2, size)), 1e-4)


def real_inputs(data):
    graph = loaded(data).graph
    return [i for i in graph.input if i.name not in {c.name for c in graph.initializer}]


@pytest.mark.parametrize(
    "name", ["reduction of no axis", "squeezing of no axis", "backwards from before", "dropout", "gather"]
)
def test_what_a_review_found_is_refused(name):
    data = {
        "reduction of no axis": one("ReduceSum", [3], constants={"a": np.zeros(0, INT)}),
        "squeezing of no axis": one("Squeeze", [1, 3, 1], constants={"a": np.zeros(0, INT)}),
        "backwards from before": one(
            "Slice", [3], constants={k: np.array([v], INT) for k, v in zip("seat", (-10, -100, 0, -1), strict=True)}
        ),
        "dropout": one("Dropout", [1, 2], opset=6),
        "gather": model(
            [("Constant", [], ["c"], {"value_floats": [0.0, 1.0, 2.0]}), ("Gather", ["c", "x"], ["y"], {})], {"x": [3]}
        ),
    }[name]
    with pytest.raises(Unreadable):
        read_network(data, "N", [], 0)
