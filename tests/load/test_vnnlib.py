"""VNN-LIB 1.0: what is read, what is refused and with which sentence, the published files."""

from __future__ import annotations

import gzip
import os
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from holdfast.errors import PropertyError
from holdfast.load.vnnlib import load_property, parse_property
from holdfast.spec import Constraint, Property

HEAD = "(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"
BOX = "(assert (<= X_0 1))(assert (>= X_0 0))(assert (<= X_1 0.1))(assert (>= X_1 -1e-1))\n"
BENCHMARKS = os.environ.get("HOLDFAST_BENCHMARKS", "")
FILES = sorted(Path(BENCHMARKS, "vnncomp").glob("*/vnnlib/**/*.vnnlib*")) if BENCHMARKS else []


def parse(*assertions: str) -> Property:
    return parse_property(HEAD + BOX + "".join(f"(assert {a})\n" for a in assertions), "p.vnnlib")


def polynomial(constraint: Constraint) -> dict:
    terms = {"*".join(f"{t}_{i}" for t, i in m): c for m, c in constraint.terms}
    return {**terms, "": constraint.constant} if constraint.constant else terms


def test_simple_bounds_make_the_box() -> None:
    p = parse("(<= Y_0 Y_1)")
    (case,) = p.cases
    assert (case.box.lower_text, case.box.upper_text) == (("0", "-1e-1"), ("1", "0.1"))
    assert case.box.upper[1] == np.nextafter(0.1, 1) or Fraction(float(case.box.upper[1])) >= Fraction(1, 10)
    assert [polynomial(c) for c in case.constraints] == [{"Y_0": 1, "Y_1": -1}]
    assert (p.input_size, p.output_size, p.semantics, p.version) == (2, 2, "real", "1.0")


TERMS = [
    ("(<= (+ Y_0 Y_1 1) (- Y_1))", {"Y_0": 1, "Y_1": 2, "": 1}),
    ("(<= (- Y_0 Y_1 2.5) 0)", {"Y_0": 1, "Y_1": -1, "": Fraction(-5, 2)}),
    ("(>= (* 2 Y_0 -3e-1) 1)", {"Y_0": Fraction(6, 10), "": 1}),
    ("(<= (* Y_0 Y_1 X_0) +.5)", {"X_0*Y_0*Y_1": 1, "": Fraction(-1, 2)}),
    ("(<= (* (- Y_0 1) (+ Y_0 1)) 0)", {"Y_0*Y_0": 1, "": -1}),
    ("(<= (/ Y_0 3) 0)", {"Y_0": Fraction(1, 3)}),
    ("(<= (+ X_0 X_1) 1)", {"X_0": 1, "X_1": 1, "": -1}),
    ("(not (> Y_0 0))", {"Y_0": 1}),
    ("(not (or (> Y_0 0) (> Y_0 0)))", {"Y_0": 1}),
]


@pytest.mark.parametrize(("text", "expected"), TERMS, ids=[t for t, _ in TERMS])
def test_terms(text: str, expected: dict) -> None:
    (case,) = parse(text).cases
    assert [polynomial(c) for c in case.constraints] == [expected]


def test_disjuncts_refine_the_box_and_share_it() -> None:
    inputs = "(or (and (<= X_0 0.5) (<= X_0 0.75)) (and (>= X_0 0.50) (<= X_0 5)))"
    p = parse(inputs, "(or (<= Y_0 0) (<= Y_1 0))")
    assert len(p.cases) == 4 and len({id(c.box) for c in p.cases}) == 2
    bounds = {(c.box.lower_text[0], c.box.upper_text[0]) for c in p.cases}
    assert {(Fraction(a), Fraction(b)) for a, b in bounds} == {(0, Fraction(1, 2)), (Fraction(1, 2), 1)}


def test_one_value_written_twice_is_one_region() -> None:
    p = parse("(or (and (<= X_0 0.5) (<= Y_0 0)) (and (<= X_0 0.50) (<= Y_1 0)) (and (<= X_0 5e-1) (<= Y_0 1)))")
    assert len({id(c.box) for c in p.cases}) == 1


def test_strict_input_bounds_stay_strict() -> None:
    p = parse("(< X_0 0.5)")
    assert p.violated([0.49, 0], [0, 0]) and not p.violated([0.5, 0], [0, 0])


def test_equalities_and_their_negation() -> None:
    (case,) = parse("(= Y_0 Y_1)").cases
    assert len(case.constraints) == 2 and not any(c.strict for c in case.constraints)
    cases = parse("(not (= Y_0 Y_1))").cases
    assert len(cases) == 2 and all(c.strict for case in cases for c in case.constraints)
    (case,) = parse("(= X_0 0.3)").cases
    assert (
        case.box.exact_lower(0) == case.box.exact_upper(0) == Fraction(3, 10) and case.box.lower[0] < case.box.upper[0]
    )


def test_empty_disjuncts_are_dropped() -> None:
    (case,) = parse("(or (and (<= X_0 -1) (<= Y_0 0)) (and (>= Y_0 2) (<= Y_0 1)) (<= Y_1 0))").cases
    assert [polynomial(c) for c in case.constraints] == [{"Y_1": 1}]


def test_bounds_implied_by_linear_conditions() -> None:
    text = HEAD + "(assert (<= X_0 1))(assert (>= X_0 0))(assert (= X_1 (+ X_0 0.5)))(assert (<= Y_0 0))"
    (case,) = parse_property(text).cases
    assert [case.box.exact_lower(1), case.box.exact_upper(1)] == [Fraction(1, 2), Fraction(3, 2)]
    assert len(case.constraints) == 3


def test_other_commands_order_and_comments() -> None:
    text = f"; c\n(set-logic QF_LRA)\n{BOX}(assert (<= Y_0 0)) ; (assert (<= Y_0 y\n{HEAD}(declare-fun Y_2 () Real)(check-sat)\n"
    assert parse_property(text).output_size == 3


REFUSED = [
    ("(<= Z_0 1)", "p.vnnlib:6: 'Z_0' is neither a declared variable nor a number"),
    ("(<= Y_7 1)", "p.vnnlib:6: 'Y_7' is neither"),
    ("(<= X_0 nan)", "'nan' is neither a declared variable nor a number"),
    ("(<= Y_0 -inf)", "'-inf' is not a number"),
    ("(<= Y_0 1_0)", "'1_0' is not a number"),
    ("(<= Y_0 1e99999)", "more than 1000 digits"),
    ("(<= X_0 1e400)", "exceeds the range of float64"),
    ("(<= Y_0 1e400)", "exceeds the range"),
    ("(<= Y_0)", "a comparison takes two terms"),
    ("(<= Y_0 1 2)", "<= compares two terms, found 3"),
    ("(<= (<= Y_0 1) 2)", "<= takes terms only"),
    ("(and Y_0)", "and takes conditions only"),
    ("(and)", "and without conditions"),
    ("(not (<= Y_0 1) (<= Y_0 1))", "not takes one condition, found 2"),
    ("(=> (<= Y_0 1) (<= Y_0 1))", "unknown operator '=>'"),
    ("((<= Y_0 1))", r"expected an operator behind the parenthesis, found '\('"),
    ("Y_0", "an assertion needs a condition"),
    ("(+ Y_0 1)", "an assertion needs a condition"),
    ("(<= Y_0 1) (<= Y_0 1)", "exactly one condition"),
    ("(<= Y_0 1", "exactly one condition|not closed"),
    ("(<= (/ 1 Y_0) 1)", "division by a constant"),
    ("(<= (/ Y_0 0) 1)", "division by a constant"),
    ("(<= X_0 -0.1)", "input X_0 has lower bound 0 above its upper bound -1e-1"),
    ("(or (<= X_0 -0.1) (>= X_0 2))", "can hold nowhere: input X_0"),
    ("(and (<= Y_0 1) (>= Y_0 2))", "Y_0 cannot lie between 2.0 and 1.0"),
    ("(and (< Y_0 1) (>= Y_0 1))", "Y_0 cannot lie between 1.0 and 1.0"),
    ("(<= 1 0)", "contradict"),
    ("(< Y_0 Y_0)", "contradict"),
]


@pytest.mark.parametrize(("assertion", "message"), REFUSED, ids=[a for a, _ in REFUSED])
def test_bad_assertions_are_refused_in_one_sentence(assertion: str, message: str) -> None:
    with pytest.raises(PropertyError, match=message) as caught:
        parse(assertion)
    assert str(caught.value).startswith("p.vnnlib") and "\n" not in str(caught.value)


TEXTS = [
    ("", "no input X_0 is declared"),
    (HEAD, "there is no assertion"),
    ("(declare-const X_0 Real)(assert (<= X_0 1))", "no output Y_0 is declared"),
    (HEAD + "(declare-const X_0 Real)", ":5: X_0 is declared twice"),
    (HEAD + "(declare-const X_3 Real)", "X_2 is not declared, but X_3 is"),
    (HEAD + "(declare-const Z_3 Real)", ":5: the variable 'Z_3' is neither an input X_i nor an output Y_i"),
    (HEAD + "(declare-const X_2 Int)", "must be declared as a constant of type Real, found 'Int'"),
    (HEAD + "(declare-const X_2", "a declaration reads"),
    (HEAD + "(assert (<= X_0 1))", "input X_0 has no lower bound"),
    (HEAD + BOX + "(assert (<= Y_0", ":6: the file ends inside an assertion"),
    (HEAD + BOX + ")", r":6: expected a command in parentheses, found '\)'"),
    (HEAD + BOX + "assert", "expected a command"),
    (HEAD + BOX + "(push 1)", "unknown command 'push'"),
    (HEAD + BOX + "(assert " + "(and " * 3000 + "(<= Y_0 1)" + ")" * 3001, "nested deeper than 2000"),
    (HEAD + BOX + "(vnnlib-version <1.0>)", "unknown command"),
    ("(vnnlib-version <7.0>)" + HEAD, "version 7.0 is unknown"),
]


@pytest.mark.parametrize(("text", "message"), TEXTS, ids=range(len(TEXTS)))
def test_bad_files_are_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(PropertyError, match=message) as caught:
        parse_property(text, "p.vnnlib")
    assert "\n" not in str(caught.value)


def test_explosion_is_refused_quickly() -> None:
    fork = "(or " + " ".join(f"(<= Y_0 {i})" for i in range(20)) + ")"
    start = time.perf_counter()
    with pytest.raises(PropertyError, match="at most 200000 are accepted"):
        parse(*[fork] * 30)
    assert time.perf_counter() - start < 5


def test_deep_and_long_terms() -> None:
    (case,) = parse("(<= " + "(+ Y_0 " * 1500 + "1" + ")" * 1500 + " 0)").cases
    assert polynomial(case.constraints[0]) == {"Y_0": 1500, "": 1}


def test_files(tmp_path: Path) -> None:
    text = HEAD + BOX + "(assert (<= Y_0 0))"
    plain, packed = tmp_path / "a.vnnlib", tmp_path / "a.vnnlib.gz"
    plain.write_text("\ufeff" + text)
    packed.write_bytes(gzip.compress(text.encode()))
    assert load_property(plain).cases[0].constraints == load_property(packed).cases[0].constraints
    packed.write_bytes(gzip.compress(text.encode())[:-9])
    with pytest.raises(PropertyError, match="cannot be read"):
        load_property(packed)
    plain.write_bytes(b"\xff\xfe\x00")
    for path, message in ((plain, "is not text"), (tmp_path, "cannot be read"), (tmp_path / "none", "No such file")):
        with pytest.raises(PropertyError, match=message):
            load_property(path)


SHAPES = {  # folder: inputs, outputs of its files
    "acasxu": {(5, 5)},
    "mnist_fc": {(784, 10)},
    "oval21": {(3072, 10)},
    "tllverifybench": {(2, 1)},
    "safenlp": {(30, 2)},
}


@pytest.mark.skipif(not FILES, reason="HOLDFAST_BENCHMARKS is not set")
def test_published_files() -> None:
    largest: dict[str, Path] = {}
    for path in FILES:  # the largest and the first of each folder; all of the small ones
        folder = path.relative_to(Path(BENCHMARKS, "vnncomp")).parts[0]
        if folder not in largest or path.stat().st_size > largest[folder].stat().st_size:
            largest[folder] = path
    small = [path for path in FILES if path.stat().st_size < 3000]
    for path in sorted({*largest.values(), *small}):
        folder = path.relative_to(Path(BENCHMARKS, "vnncomp")).parts[0]
        prop = load_property(path)
        assert (prop.input_size, prop.output_size) in SHAPES.get(folder, {(prop.input_size, prop.output_size)})
        assert 1 <= len(prop.cases) <= 2000
        for box in {id(c.box): c.box for c in prop.cases}.values():
            assert np.all(box.lower <= box.upper) and np.all(np.isfinite(box.lower)) and np.all(np.isfinite(box.upper))
            middle = (
                [(box.exact_lower(i) + box.exact_upper(i)) / 2 for i in range(len(box))] if len(box) < 100 else None
            )
            assert middle is None or box.contains(middle)


@pytest.mark.skipif(not FILES, reason="HOLDFAST_BENCHMARKS is not set")
def test_acas_property_6_has_two_regions_and_four_ways() -> None:
    prop = load_property(Path(BENCHMARKS, "vnncomp/acasxu/vnnlib/prop_6.vnnlib.gz"))
    assert len(prop.cases) == 8 and len({id(c.box) for c in prop.cases}) == 2
