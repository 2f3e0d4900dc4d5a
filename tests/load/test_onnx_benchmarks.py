"""Every network of the benchmark folders loads with the self-check passed, or is refused with what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from holdfast.errors import UnsupportedOperatorError
from holdfast.load import load_model
from holdfast.operators import OPERATORS
from holdfast.transforms import evaluate

BENCHMARKS = os.environ.get("HOLDFAST_BENCHMARKS")
FOLDERS = (
    [p for name in ("vnncomp", "closedloop", "invariance") for p in sorted((Path(BENCHMARKS) / name).glob("*/"))]
    if BENCHMARKS
    else []
)


@pytest.mark.skipif(not BENCHMARKS, reason="HOLDFAST_BENCHMARKS is not set")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_benchmark_networks(folder: Path) -> None:
    """Every network loads with the self-check passed, or is refused with operators that are really missing."""
    for path in sorted(folder.rglob("*.onnx*")):
        try:
            model = load_model(path)
        except UnsupportedOperatorError as refusal:
            assert refusal.missing
            continue
        assert all(node.op in OPERATORS or node.op == "input" for node in model.graph.nodes)
        assert model.replayable or folder.name.startswith(("sherlock", "acc"))


@pytest.mark.skipif(not BENCHMARKS, reason="HOLDFAST_BENCHMARKS is not set")
def test_early_exporter_files_mean_what_they_say() -> None:
    """Files that onnxruntime refuses (rank-4 Gemm) against a direct evaluation of their nodes."""
    refused = 0
    for path in sorted((Path(BENCHMARKS or "") / "closedloop").glob("*/*.onnx")):
        model = load_model(path)
        if model.replayable:
            continue
        refused += 1
        x = np.random.default_rng(0).standard_normal(model.inputs[0].shape)
        values = evaluate(model.graph, model.parameters, [x])
        got = values[model.graph.outputs[0]].reshape(-1)
        assert np.allclose(got, _by_definition(onnx.load(path), x), rtol=1e-12, atol=1e-12), path
    assert refused == 9


def _by_definition(file: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    known = {i.name: numpy_helper.to_array(i).astype(np.float64) for i in file.graph.initializer}
    known |= {i.name: x for i in file.graph.input if i.name not in known}
    for node in file.graph.node:
        a = [known[name] for name in node.input]
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "Gemm":
            matrix = a[1].reshape(a[1].shape[-2:])
            matrix = matrix.T if attributes.get("transB") else matrix
            product = attributes.get("alpha", 1.0) * a[0].reshape(1, -1) @ matrix
            known[node.output[0]] = product + attributes.get("beta", 1.0) * a[2].reshape(1, -1)
        else:
            assert node.op_type in ("Sub", "Relu")
            known[node.output[0]] = a[0] - a[1] if node.op_type == "Sub" else np.maximum(a[0], 0.0)
    return known[file.graph.output[0].name].reshape(-1)
