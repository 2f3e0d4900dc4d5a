"""VNN-LIB 2.0: types, several networks, polynomial and strict conditions, honest refusals."""

from __future__ import annotations

from fractions import Fraction

import pytest

from holdfast.errors import PropertyError
from holdfast.load.vnnlib import parse_property
from holdfast.spec import Property

HEAD = "; comment\n(vnnlib-version <2.0>)\n"
NET = "(declare-network f\n (declare-input X TYPE [1,2])\n (declare-output Y TYPE [2,2]))\n"
BOX = "(assert (and (<= X[0,0] 1.0) (>= X[0,0] 0.0) (<= X[0,1] 0.1) (>= X[0,1] -1.5e-3)))\n"


def parse(*assertions: str, dtype: str = "float32", net: str = NET) -> Property:
    return parse_property(HEAD + net.replace("TYPE", dtype) + BOX + "".join(f"(assert {a})\n" for a in assertions), "p")


def test_indices_and_polynomials() -> None:
    (case,) = parse("(<= (* 2.0 Y[1,0] Y[1,1]) (- X[0,1] 0.1 Y[0,1]))").cases
    terms = {m: c for m, c in case.constraints[0].terms}
    assert terms == {(("Y", 2), ("Y", 3)): 2, (("X", 1),): -1, (("Y", 1),): 1}
    assert case.constraints[0].constant == Fraction(1, 10)
    assert case.box.exact_lower(1) == Fraction(-3, 2000)


def test_relations() -> None:
    assert [len(parse(f"({r} Y[0,0] 0.5)").cases) for r in ("<=", "<", ">=", ">", "==", "!=")] == [1, 1, 1, 1, 1, 2]
    (case,) = parse("(== Y[0,0] 0.5)").cases
    assert len(case.constraints) == 2
    p = parse("(< Y[0,0] 0.5)")
    assert p.violated([0, 0], [0.4, 0, 0, 0]) and not p.violated([0, 0], [0.5, 0, 0, 0])


def test_nested_conditions() -> None:
    p = parse("(or (and (<= Y[0,0] 0.0) (or (<= Y[0,1] 0.0) (<= Y[1,0] 0.0))) (> X[0,0] 0.5))")
    assert len(p.cases) == 3 and len({id(c.box) for c in p.cases}) == 2


@pytest.mark.parametrize(("dtype", "semantics"), [("float32", "float32"), ("Real", "real"), ("real", "real")])
def test_semantics_follow_the_types(dtype: str, semantics: str) -> None:
    assert parse("(<= Y[0,0] 1)", dtype=dtype).semantics == semantics


def test_two_networks_and_bounds_through_equal_inputs() -> None:
    second = "(declare-network g (isomorphic-to f) (declare-input U TYPE [1,2]) (declare-output V TYPE [2,2]))\n"
    p = parse("(== U[0,0] X[0,0])", "(== U[0,1] X[0,1])", "(> Y[0,0] V[0,0])", net=NET + second)
    assert [(n.name, n.isomorphic_to) for n in p.networks] == [("f", None), ("g", "f")]
    assert p.input_size == 4 and p.output_size == 8
    (case,) = p.cases
    assert [case.box.exact_upper(i) for i in range(4)] == [1, Fraction(1, 10)] * 2
    assert p.violated([0.5, 0, 0.5, 0], [1, *[0] * 7]) and not p.violated([0.5, 0, 0.25, 0], [1, *[0] * 7])


def test_scalars_and_names() -> None:
    net = '(declare-network f (declare-input X real [] "a/b.0:1") (declare-output Y real [1] "out"))\n'
    p = parse_property(HEAD + net + "(assert (<= X 1))(assert (>= X 0.25))(assert (<= Y[0] X))")
    assert [d.onnx_name for d in p.declarations] == ["a/b.0:1", "out"]
    assert p.inputs[0].shape == () and p.violated([0.5], [0.5])


REFUSED = [
    ("(<= Z[0] 1.0)", NET, "p:7: Undeclared variable Z"),
    ("(<= X[0,7] 1.0)", NET, "p:7: Index out of bounds"),
    ("(<= X[0] 1.0)", NET, "p:7: "),
    ("(not (<= X[0,0] 1.0))", NET, "p:7: Parse error"),
    ("(<= X[0,0] 1.0", NET, "Parse error"),
    ("(<= X[0,0] -1.0)", NET, r"X\[0,0\] has lower bound 0 above its upper bound -1"),
    ("(<= Y[0,0] 1.0)", NET.replace("TYPE", "float64"), "element type F64, float32 and real are supported"),
    ("(<= Y[0,0] 1.0)", NET.replace("[2,2]", "[0]"), "Dimensions must be positive"),
    ("(<= Y[0,0] 1.0)", NET.replace("[2,2]", "[99999999,99999]"), "at most 10000000"),
    ("(<= Y[0,0] 1.0)", NET.replace("[2,2]", "[99999999999999999999]"), "out of range"),
    (
        "(<= Y[0,0] 1.0)",
        NET.replace(" (declare-output", ' (declare-hidden H TYPE [2] "h")(declare-output'),
        "hidden tensor H",
    ),
    ("(<= Y[0,0] 1.0)", NET.replace("[1,2])", '[1,2] "in")'), "maps some tensors by ONNX name"),
    ("(<= Y[0,0] 1.0)", NET + NET, "Duplicate"),
    ("(<= Y[0,0] 1e5000)", NET, "more than 1000 digits"),
    ("(<= Y[0,0] 1e400)", NET, "out of range"),
    ("(<= " + "(- " * 300 + "1.0" + ")" * 300 + " 0.0)", NET, "nested deeper than 200"),
]


@pytest.mark.parametrize(("assertion", "net", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refusals(assertion: str, net: str, message: str) -> None:
    with pytest.raises(PropertyError, match=message) as caught:
        parse(assertion, net=net)
    assert "\n" not in str(caught.value)


def test_missing_bounds_and_versions() -> None:
    with pytest.raises(PropertyError, match=r"input X\[0,0\] has no upper bound|input X\[0,0\] has no lower bound"):
        parse_property(HEAD + NET.replace("TYPE", "real") + "(assert (<= Y[0,0] 1.0))")
    with pytest.raises(PropertyError, match=r"only version <2\.0>"):
        parse_property("(vnnlib-version <2.9>)")
