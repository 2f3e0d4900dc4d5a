"""Constraints and properties: exact evaluation at points, disjunctions, strictness."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.load.vnnlib import parse_property
from holdfast.spec import Box, Case, Constraint, Declaration, NetworkDeclaration, Property, Role
from holdfast.spec.cases import MAX_CASES, TooLargeError, comparison, conjunction, disjunction, multiply

Y0, Y1 = ("Y", 0), ("Y", 1)


def prop(*cases: Case) -> Property:
    declarations = (Declaration("N", "X", Role.INPUT, 1), Declaration("N", "Y", Role.OUTPUT, 2))
    return Property(declarations, cases, (NetworkDeclaration("N"),), name="p")


def test_a_constraint_is_exact() -> None:
    third = Constraint.of({(Y0,): Fraction(1), (): Fraction(-1, 3)})
    box = Box.of([0], [1])
    assert prop(Case(box, (third,))).violated([0.5], [Fraction(1, 3), 0])
    assert not prop(Case(box, (third,))).violated([0.5], [Fraction(1, 3) + Fraction(1, 10**40), 0])
    strict = Constraint.of({(Y0,): Fraction(1), (): Fraction(-1, 3)}, strict=True)
    assert not prop(Case(box, (strict,))).violated([0.5], [Fraction(1, 3), 0])


def test_one_case_is_enough_and_the_region_counts() -> None:
    low = Case(Box.of([0], [1]), (Constraint.of({(Y0,): Fraction(1)}),))
    high = Case(Box.of([2], [3]), (Constraint.of({(Y0, Y1): Fraction(-1), (): Fraction(6)}),))
    p = prop(low, high)
    assert p.violated([1], [-1, 0]) and p.violated([2], [2, 3])
    assert not p.violated([2], [-1, 0]) and not p.violated([1.5], [-1, 0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_satisfies_nothing(bad: float) -> None:
    p = prop(Case(Box.of([0], [1]), (Constraint.of({(Y0,): Fraction(-1)}),)))
    assert not p.violated([0.5], [bad, 0])
    assert p.violated([0.5], [1, bad])  # Y_1 is not read


def test_wrong_numbers_of_values() -> None:
    with pytest.raises(ValueError, match="expected 1 inputs and 2 outputs"):
        prop(Case(Box.of([0], [1]))).violated([0, 1], [0, 0])


RELATIONS = {
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@given(st.sampled_from(sorted(RELATIONS)), st.integers(-2, 2), st.integers(-2, 2), st.integers(-2, 2))
def test_comparisons_mean_what_they_say(relation: str, slope: int, a: int, b: int) -> None:
    left = {(Y0,): Fraction(slope), (): Fraction(1)}
    formula = comparison(relation, left, {(Y1,): Fraction(1)}, {})
    values = {Y0: Fraction(a), Y1: Fraction(b)}
    found = any(all(c.holds(c.value(values.__getitem__)) for c in case.constraints) for case in formula)
    assert found == RELATIONS[relation](slope * a + 1, b)


def test_explosions_are_refused() -> None:
    fork = disjunction([comparison("<=", {(Y0,): Fraction(1)}, {(): Fraction(i)}, {}) for i in range(10)])
    with pytest.raises(TooLargeError, match=str(MAX_CASES)):
        conjunction([fork] * 6)
    with pytest.raises(TooLargeError, match="degree"):
        power = {(Y0,): Fraction(1)}
        for _ in range(20):
            power = multiply(power, {(Y0,): Fraction(1)})


FORMULAS = st.recursive(
    st.tuples(st.sampled_from(["<=", ">=", "<", ">", "="]), st.sampled_from(["X_0", "Y_0", "Y_1"]), st.integers(-2, 2)),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("not"), inner),
    ),
    max_leaves=8,
)


def written(f: tuple) -> str:
    if f[0] in ("and", "or"):
        return f"({f[0]} {' '.join(map(written, f[1]))})"
    return f"(not {written(f[1])})" if f[0] == "not" else f"({f[0]} {f[1]} {f[2]})"


def truth(f: tuple, values: dict[str, int]) -> bool:
    if f[0] == "and":
        return all(truth(g, values) for g in f[1])
    if f[0] == "or":
        return any(truth(g, values) for g in f[1])
    if f[0] == "not":
        return not truth(f[1], values)
    return RELATIONS[f[0].replace("=", "==") if f[0] == "=" else f[0]](values[f[1]], f[2])


@given(FORMULAS)
def test_normal_form_keeps_the_meaning(formula: tuple) -> None:
    from holdfast.errors import PropertyError

    text = "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)(assert (>= X_0 -3))(assert (<= X_0 3))"
    points = [(x, y, z) for x in (-3, -2, 0, 1, 3) for y in (-2, -1, 0, 2) for z in (-1, 0, 1)]
    expected = {p: truth(formula, {"X_0": p[0], "Y_0": p[1], "Y_1": p[2]}) for p in points}
    try:
        parsed = parse_property(f"{text}(assert {written(formula)})")
    except PropertyError:
        assert not any(expected.values())
        return
    assert {p: parsed.violated([p[0]], [p[1], p[2]]) for p in points} == expected
    boxes = {id(c.box): (c.box.lower_text, c.box.upper_text) for c in parsed.cases}
    assert len(set(boxes.values())) == len(boxes)  # equal regions share one box
