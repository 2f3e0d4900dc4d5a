"""Regressions of a soundness review: each case was a false proof, an unproved witness or a crash once.

Exact values come from fractions; executions from onnxruntime.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from holdfast.bounds.bounder import bound
from holdfast.bounds.enclosure import Problem
from holdfast.bounds.propagate import propagate, refine_rows
from holdfast.errors import InputError
from holdfast.graph import Model, Tensor
from holdfast.load.onnx import load_model
from holdfast.load.vnnlib import parse_property
from holdfast.operators import GraphBuilder
from holdfast.rigor import FLOAT64
from holdfast.search.replay import Replay
from holdfast.search.verify import verify
from holdfast.search.workers import Workers
from holdfast.spec.query import bind
from holdfast.verdict import Verdict

DECLARED = "(declare-const X_0 Real)(declare-const Y_0 Real)"
node = helper.make_node


def network(path: Path, nodes: list, constants: dict[str, float], kind: int = TensorProto.FLOAT) -> Model:
    """A network from x (1, 1) to y (1, 1)."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    ends = [helper.make_tensor_value_info(name, kind, [1, 1]) for name in "xy"]
    arrays = [numpy_helper.from_array(np.array([[v]], dtype), k) for k, v in constants.items()]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], arrays), opset_imports=[helper.make_opsetid("", 13)]
    )
    proto.ir_version = 8
    onnx.save(proto, path / "net.onnx")
    return load_model(path / "net.onnx", check=False)


def executed(model: Model, x: float) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.source, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.full((1, 1), x, np.float32)})
    return float(y[0, 0])


def box(low: float, high: float) -> str:
    return f"{DECLARED}(assert (>= X_0 {low}))(assert (<= X_0 {high}))"


def test_constants_that_an_execution_rounds(tmp_path: Path) -> None:
    """(1e8 + 1) - 1e8 is 1 over the reals and 0 in float32; y <= 0.5 was 'verified' to be impossible."""
    nodes = [node("Add", ["a", "b"], ["c"]), node("Sub", ["c", "a"], ["d"]), node("Add", ["x", "d"], ["y"])]
    model = network(tmp_path, nodes, {"a": 1e8, "b": 1.0})
    prop = parse_property(box(0, 0) + "(assert (<= Y_0 0.5))")
    assert executed(model, 0.0) == 0.0
    with pytest.raises(InputError, match="constants that an execution computes"):
        verify(model, prop, semantics="float32", timeout=5, workers=1)
    with pytest.raises(InputError):
        bound(model, np.zeros((1, 1)), np.zeros((1, 1)), semantics="float32")
    assert verify(model, prop, semantics="real", timeout=5, workers=1).verdict is Verdict.VERIFIED


def test_constants_that_no_execution_rounds(tmp_path: Path) -> None:
    nodes = [node("Add", ["a", "b"], ["c"]), node("Mul", ["x", "c"], ["y"])]
    model = network(tmp_path, nodes, {"a": 2.0, "b": 1.0})
    prop = parse_property(box(1, 2) + "(assert (<= Y_0 2.5))")
    assert not model.rounded
    assert verify(model, prop, semantics="float32", timeout=5, workers=1).verdict is Verdict.VERIFIED


def test_float32_executions_that_overflow(tmp_path: Path) -> None:
    """x a a / a / a is x over the reals and infinite in float32: a clip afterwards gives 10, not at most 2."""
    nodes = [
        node("Mul", ["x", "a"], ["b"]), node("Mul", ["b", "a"], ["c"]), node("Div", ["c", "a"], ["d"]),
        node("Div", ["d", "a"], ["e"]), node("Clip", ["e", "low", "high"], ["y"]),
    ]  # fmt: skip
    arrays = {"a": np.array([[3e38]]), "low": np.array(0.0), "high": np.array(10.0)}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in "xy"]
    initializers = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in arrays.items()]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers), opset_imports=[helper.make_opsetid("", 13)]
    )
    proto.ir_version = 8
    onnx.save(proto, tmp_path / "net.onnx")
    model = load_model(tmp_path / "net.onnx", check=False)
    assert executed(model, 1.0) == 10.0
    above = bound(model, np.full((1, 1), 1.0), np.full((1, 1), 2.0), semantics="float32").upper
    assert above >= 10.0
    result = verify(
        model, parse_property(box(1, 2) + "(assert (>= Y_0 5.0))"), semantics="float32", timeout=3, workers=1
    )
    assert result.verdict is not Verdict.VERIFIED


def test_float32_semantics_of_narrower_types(tmp_path: Path) -> None:
    model = network(tmp_path, [node("Mul", ["x", "a"], ["y"])], {"a": 1.1}, TensorProto.FLOAT16)
    with pytest.raises(InputError, match="float16"):
        verify(model, parse_property(box(1.099, 1.0996) + "(assert (<= Y_0 1.209))"), semantics="float32", workers=1)


@pytest.mark.parametrize("other", ["", "(and (<= X_0 1.0) (>= X_0 0.5) (<= Y_0 -1e300))"])
def test_case_without_conditions_that_cannot_be_replayed(tmp_path: Path, other: str) -> None:
    """Every point is a counterexample, but none has finite outputs: padded like a refuted case, it counted as proved."""
    nodes = [node("Mul", ["x", "a"], ["b"]), node("Mul", ["b", "a"], ["c"]), node("Sub", ["c", "c"], ["y"])]
    model = network(tmp_path, nodes, {"a": 3e38})
    text = f"{DECLARED}(assert (or (and (>= X_0 1.0) (<= X_0 2.0)) {other}))"
    result = verify(model, parse_property(text), timeout=5, workers=1)
    assert result.verdict is Verdict.UNKNOWN


def test_region_without_a_varying_input(tmp_path: Path) -> None:
    model = network(tmp_path, [node("Mul", ["x", "a"], ["y"])], {"a": 1.0})
    prop = parse_property(box(0.5, 0.5) + "(assert (<= Y_0 0.499999999999999999999))")
    assert verify(model, prop, timeout=5, workers=1).verdict is Verdict.UNKNOWN


def test_witness_of_a_network_that_cannot_be_replayed_is_proved() -> None:
    """Without onnxruntime the outputs are plain float64 values rounded to float32: no evidence by themselves."""
    builder = GraphBuilder()
    x = builder.input((1,), "x")
    # 1e17 + x - 1e17: plain arithmetic returns 0 for every x of the box, the real value is x
    first = builder.add("scale", [x], [np.ones(1), np.array([1e17])])
    y = builder.add("scale", [first], [np.ones(1), np.array([-1e17])])
    graph, parameters = builder.build([y])
    model = Model(graph, parameters, (Tensor("x", (1,)),), (Tensor("y", (1,)),), "plain", replayable=False)
    query = bind(parse_property(box(1, 2) + "(assert (<= Y_0 0.5))"), model)
    replay = Replay(query, Problem.make(query.graph, query.parameters, query.radii, FLOAT64))
    assert replay.confirm(0, np.array([1.0])) is None
    assert replay.thin == 1


def test_many_merged_branches() -> None:
    """1000 merges of one branch, each losing half an ulp of the coefficient while its charge is lost in the total."""
    count, half_ulp = 1000, 2.0**-53
    builder = GraphBuilder()
    x = builder.input((1,))
    joined = builder.add("concat", [x] * count, axis=0)
    weight = np.full((count, 1), half_ulp)
    weight[0] = 1.0
    y = builder.add("dense", [joined], [weight, np.array([5.0])])
    graph, parameters = builder.build([y])
    state = propagate(Problem.make(graph, parameters, {}, FLOAT64), np.array([[-1.0]]), np.array([[-1.0]]))
    low, high, _ = refine_rows(state, y, np.array([[0]]))
    exact = 5 - sum(Fraction(float(w)) for w in weight[:, 0])
    assert Fraction(float(low[0, 0])) <= exact <= Fraction(float(high[0, 0]))


def test_denormal_weights_count_as_zero_with_a_radius() -> None:
    """Compiled code reads a denormal as zero; times 1e300 that is not negligible."""
    builder = GraphBuilder()
    y = builder.add("scale", [builder.input((1,))], [np.array([1e-310]), np.zeros(1)])
    graph, parameters = builder.build([y])
    problem = Problem.make(graph, parameters, {}, FLOAT64)
    assert all(not p.any() or (np.abs(p[p != 0]) >= FLOAT64.tiny).all() for p in problem.parameters.values())
    state = propagate(problem, np.array([[1e300]]), np.array([[1e300]]))
    exact = Fraction(1e-310) * Fraction(1e300)
    assert Fraction(float(state.lower[y][0, 0])) <= exact <= Fraction(float(state.upper[y][0, 0]))


def test_workers_drop_no_argument() -> None:
    workers = Workers(lambda x: x, 1)
    with pytest.raises(ValueError, match="workers"):
        workers.map([1, 2])
    workers.close()


def test_a_carriage_return_ends_a_comment() -> None:
    """SMT-LIB: either line character does; the second disjunct was lost."""
    prop = parse_property(box(0, 1) + "(assert (or (and (<= Y_0 -1)) ; c\r (and (>= Y_0 0.5))\n))")
    assert len(prop.cases) == 2


def test_a_slice_backwards_from_before_the_first_element(tmp_path: Path) -> None:
    """ONNX clamps the start to the first element, Python to before it."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [k]) for n, k in (("x", 3), ("y", 1))]
    numbers = {"s": [-9], "e": [-20], "a": [0], "d": [-1]}
    arrays = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in numbers.items()]
    graph = helper.make_graph([node("Slice", ["x", "s", "e", "a", "d"], ["y"])], "g", ends[:1], ends[1:], arrays)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(proto, tmp_path / "net.onnx")
    found = bound(load_model(tmp_path / "net.onnx"), [5.0, 6.0, 7.0], [5.0, 6.0, 7.0])
    assert found.lower.ravel().tolist() == [5.0] == found.upper.ravel().tolist()


def test_the_operator_set_is_declared_once(tmp_path: Path) -> None:
    model = network(tmp_path, [node("Relu", ["x"], ["y"])], {})
    proto = onnx.load(tmp_path / "net.onnx")
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 11))
    onnx.save(proto, tmp_path / "twice.onnx")
    with pytest.raises(InputError, match="11, 13"):
        load_model(tmp_path / "twice.onnx")
    assert model.outputs[0].name == "y"


@pytest.mark.parametrize("alpha", [np.nan, np.inf])
def test_slopes_that_are_no_numbers(tmp_path: Path, alpha: float) -> None:
    with pytest.raises(InputError, match="not finite"):
        network(tmp_path, [node("LeakyRelu", ["x"], ["y"], alpha=alpha)], {})


def test_sums_of_neighbours_may_be_computed_as_one(tmp_path: Path) -> None:
    """A MatMul and an Add are one Gemm to onnxruntime: the constant then takes part in every rounding of the sum."""
    n = 1000
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, k]) for name, k in (("x", n), ("y", 1))]
    arrays = [
        numpy_helper.from_array(np.full((n, 1), 2.0**-25, np.float32), "w"),
        numpy_helper.from_array(np.ones(1, np.float32), "c"),
    ]
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "c"], ["y"])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], arrays)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(proto, tmp_path / "net.onnx")
    total = np.float32(1.0)  # a sum that begins with the constant
    for _ in range(n):
        total = total + np.float32(2.0**-25)
    found = bound(load_model(tmp_path / "net.onnx"), np.ones(n), np.ones(n), semantics="float32")
    assert found.lower.item() <= total <= found.upper.item() and total == 1.0


def test_extreme_normalisation_has_no_float32_semantics(tmp_path: Path) -> None:
    """scale / sqrt(variance) underflows in an execution: y is 0 there, and 1e-16 over the reals."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1]) for name in "xy"]
    values = {"scale": 1e-35, "bias": 0.0, "mean": 0.0, "var": 1e38}
    arrays = [numpy_helper.from_array(np.array([v], np.float32), k) for k, v in values.items()]
    graph = helper.make_graph([node("BatchNormalization", ["x", *values], ["y"])], "g", ends[:1], ends[1:], arrays)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(proto, tmp_path / "net.onnx")
    with pytest.raises(InputError, match="does not cover"):
        bound(load_model(tmp_path / "net.onnx"), np.ones((1, 1, 1)), np.ones((1, 1, 1)), semantics="float32")
