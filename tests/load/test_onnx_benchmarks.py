"""Every network of the benchmark folders loads with the self-check passed, or is refused with what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.errors import UnsupportedOperatorError
from holdfast.load import load_model
from holdfast.operators import OPERATORS

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
