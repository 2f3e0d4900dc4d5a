"""Shortened numbers never claim more than the exact ones; full texts are the exact ones."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.report.decimals import exact_text, round_down, round_up

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE, st.integers(1, 17))
def test_rounding_is_outward_and_tight(value: float, digits: int) -> None:
    low, high = Fraction(round_down(value, digits)), Fraction(round_up(value, digits))
    assert low <= Fraction(value) <= high
    assert high - low <= abs(Fraction(value)) * Fraction(10) ** (2 - digits)


def test_texts() -> None:
    assert round_down(0.123456789) == "0.123456" and round_up(0.123456789) == "0.123457"
    assert round_down(-0.123456789) == "-0.123457" and round_up(-0.123456789) == "-0.123456"
    assert [round_down(x) for x in (0.0, -0.0, 100.0, 1e300, 1e-300)] == ["0", "0", "100", "1e+300", "1e-300"]
    assert (round_down(-math.inf), round_up(math.inf), round_up(math.nan)) == ("-inf", "inf", "nan")


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_binary32_reads_back_at_either_width(value: float) -> None:
    text = exact_text(np.float32(value))
    assert float(text) == value and np.float32(text) == np.float32(value)
    assert Fraction(text) == Fraction(value)


@pytest.mark.parametrize("value", [0.1, -0.0, 5e-324, 1.7976931348623157e308])
def test_binary64_reads_back(value: float) -> None:
    assert float(exact_text(value)) == value and Fraction(exact_text(value)) == Fraction(value)
    assert math.copysign(1, float(exact_text(value))) == math.copysign(1, value)
