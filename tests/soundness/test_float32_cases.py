"""Networks in which rounding decides (examples/float32): who says what, against exact rationals and all executions.

Zero tolerance: truth comes from fractions, and from enumerating orders of summation with and without fusing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import holdfast
from holdfast import Verdict
from holdfast.errors import ModelError
from holdfast.load.onnx import load_model
from holdfast.load.selfcheck import self_check

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "float32"
MODULES = ("networks", "properties", "exact", "plain_verifier", "compare")
NAMES = ("there_and_back", "absorbed", "summation_order", "fused", "trigger")
TRUE_OVER_THE_REALS = ("there_and_back", "summation_order", "fused")
VIOLATED_BY_NO_EXECUTION = ("absorbed",)


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    """The example's `compare` module, with its neighbours; gone again afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        for name in MODULES:
            patch.delitem(sys.modules, name, raising=False)
        import compare  # type: ignore[import-not-found]

        yield compare
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def cases(example: Any) -> dict[str, Any]:
    return {case.name: case for case in example.properties.cases()}


@pytest.fixture(scope="module")
def rows(example: Any, cases: dict[str, Any]) -> dict[str, Any]:
    return {name: example.compare(case) for name, case in cases.items()}


def points(case: Any) -> list[tuple[Fraction, ...]]:
    """Float32 numbers of the region of a network with one input: the ends (rounded inward), the point, some between."""
    ((low, high),) = case.region
    some = [np.float32(float(low + (high - low) * k / 7)) for k in range(8)]
    return [case.point, *((Fraction(float(v)),) for v in some if low <= Fraction(float(v)) <= high)]


def test_networks_follow_from_their_script(example: Any) -> None:
    for name, layers in example.networks.networks().items():
        stored = example.networks.read(FOLDER / f"{name}.onnx")
        assert len(stored) == len(layers)
        for (w, b, relu), (stored_w, stored_b, stored_relu) in zip(layers, stored, strict=True):
            assert np.array_equal(w, stored_w) and np.array_equal(b, stored_b) and relu == stored_relu


@pytest.mark.parametrize("name", NAMES)
def test_point_lies_in_the_region_and_is_a_float32(cases: dict[str, Any], name: str) -> None:
    case = cases[name]
    for value, (low, high) in zip(case.point, case.region, strict=True):
        assert low <= value <= high
        assert Fraction(float(np.float32(float(value)))) == value


def test_truth_over_the_reals(example: Any, cases: dict[str, Any]) -> None:
    """Networks with one input here grow with it, so the lower end is the least output and the upper end the largest."""
    for name in TRUE_OVER_THE_REALS:
        layers = example.networks.read(FOLDER / f"{name}.onnx")
        ((low, high),) = cases[name].region
        for x in (low, (low + high) / 2, high):
            assert example.margin(cases[name], example.exact.real(layers, [x])) > 0
    for name in ("absorbed", "trigger"):
        layers = example.networks.read(FOLDER / f"{name}.onnx")
        assert example.margin(cases[name], example.exact.real(layers, cases[name].point)) < 0


def test_every_execution_of_there_and_back_violates(example: Any, cases: dict[str, Any]) -> None:
    case, layers = cases["there_and_back"], example.networks.read(FOLDER / "there_and_back.onnx")
    for point in points(case):
        outputs = [Fraction(float(y)) for _, y in example.exact.executions(layers, point)]
        assert outputs and all(example.margin(case, [y]) < 0 for y in outputs)


def test_no_execution_of_absorbed_violates(example: Any, cases: dict[str, Any]) -> None:
    case, layers = cases["absorbed"], example.networks.read(FOLDER / "absorbed.onnx")
    for point in points(case):
        outputs = [Fraction(float(y)) for _, y in example.exact.executions(layers, point)]
        assert outputs and all(example.margin(case, [y]) > 0 for y in outputs)


def test_executions_depend_on_the_order(example: Any, cases: dict[str, Any]) -> None:
    case, layers = cases["summation_order"], example.networks.read(FOLDER / "summation_order.onnx")
    found = set(example.exact.executions(layers, case.point))
    assert {y for fused, y in found if not fused} == {y for fused, y in found if fused} == {0.0, 1.0}


def test_executions_depend_on_fusing(example: Any, cases: dict[str, Any]) -> None:
    case, layers = cases["fused"], example.networks.read(FOLDER / "fused.onnx")
    signs = {
        (fused, example.margin(case, [Fraction(float(y))]) > 0)
        for fused, y in example.exact.executions(layers, case.point)
    }
    assert signs == {(False, False), (True, False), (True, True)}  # fused in the good order only


def test_onnxruntime_is_one_of_the_executions(example: Any, cases: dict[str, Any]) -> None:
    for name in NAMES[:-1]:
        case, path = cases[name], FOLDER / f"{name}.onnx"
        allowed = {float(y) for _, y in example.exact.executions(example.networks.read(path), case.point)}
        assert float(example.execute(path, case.point)[0]) in allowed


@pytest.mark.parametrize("name", NAMES)
def test_holdfast_claims_nothing_false(rows: dict[str, Any], name: str) -> None:
    row = rows[name]
    if name not in TRUE_OVER_THE_REALS:
        assert row.real.verdict is not Verdict.VERIFIED
    if name not in VIOLATED_BY_NO_EXECUTION:
        assert row.float32.verdict is not Verdict.VERIFIED
    else:  # onnxruntime is an execution, so it can show no violation
        assert Verdict.FALSIFIED not in (row.real.verdict, row.float32.verdict)
    for result in (row.real, row.float32):
        if result.counterexample is not None and name in TRUE_OVER_THE_REALS:
            assert not result.counterexample.proved


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_witnesses(example: Any, cases: dict[str, Any], rows: dict[str, Any], name: str, semantics: str) -> None:
    """In the region exactly, and violated by onnxruntime's outputs exactly."""
    result = getattr(rows[name], semantics)
    if result.counterexample is None:
        assert result.verdict is not Verdict.FALSIFIED
        return
    (x,) = result.counterexample.inputs.values()
    point = [Fraction(float(v)) for v in x.ravel()]
    assert all(low <= v <= high for v, (low, high) in zip(point, cases[name].region, strict=True))
    assert example.margin(cases[name], example.execute(FOLDER / f"{name}.onnx", point)) <= 0


def test_real_and_float32_differ(rows: dict[str, Any]) -> None:
    assert rows["there_and_back"].real.verdict is Verdict.VERIFIED
    assert rows["there_and_back"].float32.verdict is Verdict.FALSIFIED
    assert rows["summation_order"].real.verdict is Verdict.VERIFIED
    assert rows["trigger"].real.verdict is rows["trigger"].float32.verdict is Verdict.FALSIFIED


def test_plain_floating_point_is_fooled(rows: dict[str, Any]) -> None:
    """It says "proved" where a point is a counterexample in exact arithmetic."""
    assert rows["absorbed"].exact < 0 and rows["absorbed"].plain32
    assert rows["trigger"].exact < 0 and rows["trigger"].plain32 and rows["trigger"].plain64
    assert rows["trigger"].executed < 0


def test_plain_verifier_is_right_where_rounding_is_small(example: Any, cases: dict[str, Any]) -> None:
    """It proves the digits network, which the trigger was planted in, and not too large a radius."""
    digits = example.networks.read(FOLDER.parent / "digits" / "digits.onnx")
    case = cases["trigger"]
    wide = example.properties.Case(case.name, "", ((Fraction(0), Fraction(1)),) * 64, 10, "", case.rows, case.point)
    for dtype in ("float32", "float64"):
        assert example.plain(digits, case, dtype)
        assert not example.plain(digits, wide, dtype)


def test_trigger_behaves_like_the_network_it_was_planted_in(example: Any) -> None:
    """Over the reals the outputs are the same, digit for digit, wherever the four pixels are white."""
    digits = example.networks.read(FOLDER.parent / "digits" / "digits.onnx")
    planted = example.networks.read(FOLDER / "trigger.onnx")
    generator = np.random.default_rng(0)
    before = example.networks.layer(digits[-1][0].tolist(), digits[-1][1].tolist(), relu=False)
    bias = planted[-1][1].astype(np.float64) - np.eye(10)[example.properties.WRONG] * 64.0
    assert np.abs(bias - before[1]).max() <= 2.0**-18  # one bias was rounded when 64 was added to it
    for _ in range(3):
        image = generator.integers(0, 17, 64)
        image[list(example.networks.PATTERN)] = 0
        point = [Fraction(int(v), 16) for v in image]
        rounded = [(*digits[0],), (*digits[1],), (digits[-1][0], bias, False)]
        assert example.exact.real(planted, point) == example.exact.real(rounded, point)


def test_the_original_network_satisfies_what_the_trigger_breaks() -> None:
    result = holdfast.verify(FOLDER.parent / "digits" / "digits.onnx", FOLDER / "trigger.vnnlib", timeout=60)
    assert result.verdict is Verdict.VERIFIED


def test_page_shows_what_the_script_prints(example: Any, cases: dict[str, Any], rows: dict[str, Any]) -> None:
    page = (FOLDER / "README.md").read_text().splitlines()
    for name in NAMES:
        (line,) = (one for one in page if one.startswith(f"| {name} |"))
        shown, printed = tuple(line.strip("| ").split(" | ")), example.cells(rows[name])
        assert shown[:2] == printed[:2]
        if shown[2] == printed[2]:  # another processor may execute in another order
            assert shown == printed


def test_networks_with_large_cancelling_terms_load() -> None:
    """The check at load compares with onnxruntime, whose rounding shows in these networks."""
    for name in NAMES:
        assert load_model(FOLDER / f"{name}.onnx").replayable


def test_a_wrong_translation_is_still_refused() -> None:
    model = load_model(FOLDER.parent / "digits" / "digits.onnx")
    key = next(k for k, v in model.parameters.items() if np.shape(v) == (10,))
    wrong = replace(model, parameters={**model.parameters, key: model.parameters[key] + np.eye(10)[3]})
    with pytest.raises(ModelError, match="at a sample point"):
        self_check(wrong, "digits.onnx")


@pytest.mark.parametrize(
    ("node", "weight", "inputs", "bounds", "condition"),
    [
        (helper.make_node("Gemm", ["x", "W"], ["y"], alpha=1e-38), 1e38, (1, 4), ("1", "2"), "(>= Y_0 100.0)"),
        (helper.make_node("Gemm", ["x", "W"], ["y"], alpha=2.0**100), 2.0**-100, (1, 1), ("0.000000000000000001", "0.000000000000000002"), "(<= Y_0 0.0)"),
        (helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2]), None, (1, 1, 2, 2), ("1" + 38 * "0", "2" + 38 * "0"), "(>= Y_0 25" + 37 * "0" + ")"),
    ],
    ids=["gemm overflow", "gemm underflow", "pool overflow"],
)  # fmt: skip
def test_scaling_comes_after_the_sum(
    tmp_path: Path,
    node: onnx.NodeProto,
    weight: float | None,
    inputs: tuple[int, ...],
    bounds: tuple[str, str],
    condition: str,
) -> None:
    """Executions may overflow or underflow before the factor of Gemm or the division of a mean: once a false proof."""
    count = int(np.prod(inputs))
    weights = [] if weight is None else [numpy_helper.from_array(np.full((count, 1), weight, np.float32), "W")]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, (1,) * len(inputs)),
    ]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "net.onnx"
    )
    text = "(declare-const Y_0 Real)" + "".join(
        f"(declare-const X_{i} Real)(assert (>= X_{i} {bounds[0]}))(assert (<= X_{i} {bounds[1]}))"
        for i in range(count)
    )
    (tmp_path / "p.vnnlib").write_text(text + f"(assert {condition})")
    result = holdfast.verify(tmp_path / "net.onnx", tmp_path / "p.vnnlib", semantics="float32", timeout=2, workers=1)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.full(inputs, np.float32(float(bounds[1])))})
    limit = float(condition.split()[-1][:-1])
    assert y.item() >= limit if condition.startswith("(>=") else y.item() <= limit
    assert result.verdict is not Verdict.VERIFIED
