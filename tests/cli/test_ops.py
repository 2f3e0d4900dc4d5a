"""`holdfast ops` and the standard's `holdfast supports`."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_supported_operators(engine: Any, run: Any) -> None:
    assert run("ops").stdout.splitlines() == ["Gemm", "OneHot (of constants)", "Relu"]
    assert run("supports", "--onnx-operators").stdout.split() == ["Gemm", "Relu"]


def test_capabilities(engine: Any, run: Any) -> None:
    assert run("supports", "--vnnlib-versions").stdout.split() == ["1.0", "2.0"]
    assert run("supports", "--onnx-opset-versions").stdout.split() == ["6", "21"]
    ended = run("supports", "--no-such-thing")
    assert ended.exit_code == 2 and ended.stderr.count("\n") == 1 and "--onnx-opset-versions" in ended.stderr


def test_operators_of_a_network(engine: Any, run: Any, files: Path) -> None:
    ended = run("ops", files / "net.onnx")
    assert ended.exit_code == 0 and "MISSING" not in ended.stdout
    engine.missing = {"LSTM": ["a", "b"], "Foo with attribute b": ["c"]}
    ended = run("ops", files / "net.onnx")
    assert ended.exit_code == 2
    assert ended.stdout.count("MISSING") == 2 and "Gemm" in ended.stdout
    assert "Foo with attribute b (node c); LSTM (node a, b)" in ended.stderr and ended.stderr.count("\n") == 1
    assert run("ops", files / "absent.onnx").exit_code == 2
