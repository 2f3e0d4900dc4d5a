"""Boxes: the float64 enclosure against exact fractions, membership without tolerance."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.spec import Box
from holdfast.spec.region import number

DECIMALS = st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,25})?([eE]-?[0-9]{1,2})?", fullmatch=True)
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(DECIMALS)
def test_number_is_the_tightest_enclosure(text: str) -> None:
    exact, found = Fraction(text), number(text)
    assert Fraction(found.lower) <= exact <= Fraction(found.upper)
    if found.lower == found.upper:
        assert Fraction(found.lower) == exact
    else:
        assert math.nextafter(found.lower, math.inf) == found.upper


@given(st.fractions())
def test_fractions_are_enclosed(value: Fraction) -> None:
    found = number(value)
    assert Fraction(found.lower) <= value <= Fraction(found.upper)
    assert Fraction(found.text) == value


@pytest.mark.parametrize("text", ["1e400", "-1e309", "1.7976931348623158e308"])
def test_numbers_beyond_float64_are_refused(text: str) -> None:
    with pytest.raises(OverflowError):
        number(text)


@pytest.mark.parametrize("text", ["1e-400", "4.9e-324", "0.1", "-0", "1.7976931348623157e308"])
def test_extremes(text: str) -> None:
    found = number(text)
    assert Fraction(found.lower) <= Fraction(text) <= Fraction(found.upper)


@given(st.lists(st.tuples(DECIMALS, DECIMALS), min_size=1, max_size=4), st.data())
def test_contains_is_exact(pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    pairs = [tuple(sorted(p, key=Fraction)) for p in pairs]
    box = Box.of([a for a, _ in pairs], [b for _, b in pairs])
    near = [
        [
            v
            for t in pair
            for f in (number(t).lower, number(t).upper)
            for v in (f, math.nextafter(f, 9e99), math.nextafter(f, -9e99))
        ]
        for pair in pairs
    ]
    x = np.array([data.draw(st.sampled_from(values)) for values in near])
    expected = all(Fraction(a) <= Fraction(float(v)) <= Fraction(b) for (a, b), v in zip(pairs, x, strict=True))
    assert box.contains(x) == expected
    assert box.contains([float(v) for v in x]) == expected
    assert box.contains([Fraction(float(v)) for v in x]) == expected
    assert box.contains([a for a, _ in pairs]) and box.contains([b for _, b in pairs])


def test_contains_refuses_what_is_no_number() -> None:
    box = Box.of([0, 0], [1, 1])
    assert not box.contains(np.array([math.nan, 0.5]))
    assert not box.contains([math.inf, 0.5])
    assert box.contains(["0.5", Fraction(1, 3)])
    with pytest.raises(ValueError, match="3 components"):
        box.contains([0, 0, 0])


def test_decimal_bound_between_two_floats() -> None:
    box = Box.of(["0.1"], ["0.3"])  # 0.1 lies below its nearest float64, 0.3 above
    assert box.contains(np.array([0.1])) and not box.contains(np.array([math.nextafter(0.1, 0)]))
    assert box.contains(np.array([0.3])) and not box.contains(np.array([math.nextafter(0.3, 1)]))
    assert box.lower[0] < Fraction(1, 10) < Fraction(0.1)
    assert not Box.of([0.1], [0.3]).contains(["0.1"])  # floats are taken exactly


@given(st.lists(st.tuples(DECIMALS, DECIMALS), min_size=1, max_size=3))
def test_inside_is_the_extreme_float32(pairs: list[tuple[str, str]]) -> None:
    pairs = [tuple(sorted(p, key=Fraction)) for p in pairs if abs(Fraction(p[0])) < 10**38 > abs(Fraction(p[1]))]
    if not pairs:
        return
    low, high = Box.of([a for a, _ in pairs], [b for _, b in pairs]).inside()
    for (a, b), x, y in zip(pairs, low, high, strict=True):
        assert x.dtype == np.float32
        assert Fraction(float(x)) >= Fraction(a) > Fraction(float(np.nextafter(x, np.float32(-np.inf))))
        assert Fraction(float(y)) <= Fraction(b) < Fraction(float(np.nextafter(y, np.float32(np.inf))))


@given(FINITE, FINITE)
def test_floats_are_taken_exactly(a: float, b: float) -> None:
    low, high = sorted((a, b))
    box = Box.of([low], [high])
    assert box.lower[0] == low and box.upper[0] == high
    assert box.contains(np.array([low], np.float32)) and box.contains(np.array([high], np.float32))


def test_inverted_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match="component 1"):
        Box.of([0, "0.30000000000000001"], [1, "0.3"])


def test_boxes_are_frozen_and_equal_by_identity() -> None:
    box = Box.of([0], [1])
    assert box != Box.of([0], [1])
    with pytest.raises(ValueError, match="read-only"):
        box.lower[0] = -1
