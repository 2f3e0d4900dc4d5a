"""`holdfast bound`: regions are enclosed, printed bounds enclose the certified ones."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli.bound import parse_region
from holdfast.errors import InputError


def test_table_and_json(engine: Any, run: Any, files: Path) -> None:
    ended = run("bound", files / "net.onnx", "-0.1:0.2,0.5", "--method", "interval", "--json", files / "b.json")
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout.split() == ["output", "lower", "upper", "y[0]", "-0.123457", "inf"]
    call = engine.calls[0]
    assert call["lower"].shape == (1, 2) and (call["method"], call["semantics"]) == ("interval", "real")
    box = json.loads((files / "b.json").read_text())["boxes"][0]
    assert (box["lower"], box["upper"], box["input_upper"]) == (
        [-0.12345678],
        ["inf"],
        [np.nextafter(0.2, 1) if Fraction(0.2) < Fraction("0.2") else 0.2, 0.5],
    )


def test_boxes_of_a_property_each_once(engine: Any, run: Any, files: Path) -> None:
    ended = run("bound", files / "net.onnx", files / "prop.vnnlib", "--semantics", "float32")
    assert ended.exit_code == 0 and len(engine.calls) == 1
    assert "box" not in ended.stdout


BAD = ["0:1", "1:0,0:1", "a:b,0:1", "0:inf,0:1", "nan,0", "0:1:2,0:1", "", "1_0,0", "absent.vnnlib", "1e999:1e999,0"]


@pytest.mark.parametrize("region", BAD)
def test_bad_regions(engine: Any, run: Any, files: Path, region: str) -> None:
    ended = run("bound", files / "net.onnx", region)
    assert (ended.exit_code, ended.stdout, ended.stderr.count("\n")) == (2, "", 1), ended.stderr
    assert not engine.calls


DECIMALS = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=20, min_value=-1000, max_value=1000).map(str),
    st.tuples(st.integers(-99, 99), st.integers(-400, 300)).map(lambda pair: f"{pair[0]}e{pair[1]}"),
)


@given(DECIMALS)
def test_a_region_encloses_its_decimals_tightly(text: str) -> None:
    ((lower, upper),) = parse_region(text)
    assert Fraction(lower) <= Fraction(text) <= Fraction(upper)
    assert upper in (lower, np.nextafter(lower, np.inf))


def test_absurd_exponents_cost_nothing() -> None:
    assert parse_region("1e-999999999:-0e-999999999,0")[0][0] == 0.0
    assert parse_region("-1e-999999999") == [(-5e-324, 0.0)]
    with pytest.raises(InputError):
        parse_region("1e999999999")
