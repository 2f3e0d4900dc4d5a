"""The public functions, as the README and the guide show them, on the networks of the examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import holdfast

EXAMPLES = Path(__file__).parent.parent / "examples"
PENDULUM = EXAMPLES / "pendulum" / "pendulum.onnx"


def test_load_and_verify() -> None:
    network = holdfast.load(EXAMPLES / "digits" / "digits.onnx")
    for name, verdict in (("robust_3_060", holdfast.Verdict.VERIFIED), ("robust_0_060", holdfast.Verdict.FALSIFIED)):
        result = holdfast.verify(network, EXAMPLES / "digits" / f"{name}.vnnlib", timeout=60, workers=1)
        assert result.verdict is verdict


def test_declared_float32_is_the_default() -> None:
    folder = EXAMPLES / "digits"
    result = holdfast.verify(folder / "digits.onnx", folder / "robust_3_060_v2.vnnlib", timeout=60, workers=1)
    assert (result.verdict, result.semantics) == (holdfast.Verdict.VERIFIED, "float32")


@pytest.mark.parametrize("method", ["interval", "backward", "optimised"])
def test_many_boxes_at_once(method: Any) -> None:
    """A batch gives the shapes that the documentation says, whatever its front axes, and bounds that hold."""
    network = holdfast.load(PENDULUM)
    lower = np.random.default_rng(0).uniform(-1, 0.9, (2, 3, 2))
    bounds = holdfast.bound(network, lower, lower + 0.1, method=method)
    assert bounds.lower.shape == bounds.upper.shape == (2, 3, 1, 1)
    shaped = holdfast.bound(network, lower[:, :, None], lower[:, :, None] + 0.1, method=method)
    assert shaped.lower.shape == (2, 3, 1, 1)
    assert holdfast.bound(network, lower[:1, 0], lower[:1, 0] + 0.1, method=method).lower.shape == (1, 1)
    point = holdfast.bound(network, lower + 0.05, lower + 0.05, method=method)
    assert (bounds.lower <= point.upper).all() and (point.lower <= bounds.upper).all()


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ([0, 0, 0], [1, 1, 1]),
        ([[0, 0]] * 3, [1, 1]),
        ([], []),
        ("x", [1, 1]),
        ([[0, 0], [0]], [1, 1]),
        ([np.nan, 0], [1, 1]),
        ([-np.inf, 0], [1, 1]),
        ([3, 3], [1, 1]),
    ],
)
def test_bad_boxes(lower: Any, upper: Any) -> None:
    with pytest.raises(holdfast.InputError) as error:
        holdfast.bound(PENDULUM, lower, upper)
    assert "\n" not in str(error.value)
