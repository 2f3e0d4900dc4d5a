"""Counterexamples: what is not certainly one is not accepted, be it by a bit."""

from fractions import Fraction as F

import numpy as np
import pytest
from evaluation import CASES_OF_FUNCTIONS, dense_model, header, model

from holdfast_check.arithmetic import Invalid, Unreadable
from holdfast_check.container import Certificate
from holdfast_check.property import read_property
from holdfast_check.query import join
from holdfast_check.witness import satisfied

BOX = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(assert (and (>= X_0 -1) (<= X_0 1) (>= X_1 -1) (<= X_1 0.1)))"


def say(data, rows, point, semantics="real", names=("x",), text=None):
    text = (text or BOX + f"(assert (and {rows}))").encode()
    query = join(read_property(text), dict.fromkeys([n.name for n in read_property(text).networks], data))
    witness = dict.fromkeys(names, point) if isinstance(point, list) else point
    head = header(data, text, witness=witness, semantics=semantics)
    satisfied(query, Certificate(head, np.empty(0), [], []))


def exact(data, point):
    """The output of `dense_model(0, (2, 6, 1))` in rationals."""
    from evaluation import loaded
    from onnx import numpy_helper

    constants = {i.name: numpy_helper.to_array(i).astype(np.float64) for i in loaded(data).graph.initializer}
    rational = {
        name: np.array([F(v) for v in c.ravel()], dtype=object).reshape(c.shape) for name, c in constants.items()
    }
    hidden = rational["w0"] @ np.array(point, dtype=object) + rational["b0"]
    return (rational["w1"] @ np.maximum(hidden, F(0)) + rational["b1"])[0]


def decimal(q):
    digits = q.denominator.bit_length() + 5
    return str(q.numerator * 10**digits // q.denominator) + f"e-{digits}"


DATA = dense_model(0, (2, 6, 1))
POINT = ["0.25", "0x1.8p-4"]
VALUE = exact(DATA, [F(1, 4), F(3, 32)])


def test_equality_is_undecided_and_a_bit_more_is_not():
    value, step = float(VALUE), 1e-14
    say(DATA, f"(<= Y_0 {value + step!r}) (>= Y_0 {value - step!r})", POINT)
    for rows in (f"(<= Y_0 {decimal(VALUE)})", f"(>= Y_0 {value + step!r})", f"(< Y_0 {value - step!r})"):
        with pytest.raises(Invalid, match="rounding decides"):
            say(DATA, rows, POINT)


def test_float32_demands_every_execution():
    value = float(VALUE)
    say(DATA, f"(<= Y_0 {value + 1e-4})", POINT, semantics="float32")
    say(DATA, f"(<= Y_0 {value + 1e-8})", POINT)
    with pytest.raises(Invalid, match="rounding decides"):
        say(DATA, f"(<= Y_0 {value + 1e-8})", POINT, semantics="float32")
    with pytest.raises(Invalid, match="float32 input"):
        say(DATA, "(<= Y_0 1000)", ["0.25", "0.1"], semantics="float32")


def test_containment_is_exact():
    say(DATA, "(<= Y_0 1000)", ["0.25", "0.1"])
    for last in (repr(0.1), "0.1000000000000000000000001", "0x1.999999999999ap-4"):
        ok = F(last) <= F(1, 10) if not last.startswith("0x") else False
        if ok:
            say(DATA, "(<= Y_0 1000)", ["0.25", last])
        else:
            with pytest.raises(Invalid, match="lies in no region"):
                say(DATA, "(<= Y_0 1000)", ["0.25", last])


def test_all_rows_of_one_case():
    one, other = f"(<= Y_0 {float(VALUE) - 1})", f"(>= Y_0 {float(VALUE) - 1})"
    say(DATA, f"(or {one} {other})", POINT)
    with pytest.raises(Invalid):
        say(DATA, f"(or {one} (and {other} (< X_0 0.25)))", POINT)


@pytest.mark.parametrize(
    "witness",
    [{}, {"z": POINT}, {"x": ["0"]}, {"x": ["0", "0", "0"]}, {"x": ["0", "nan"]}, {"x": ["0", "1e99999"]}, {"x": ["0", ""]}, {"x": ["0", "0x"]}, {"x": [0, 0]}, {"x": 0}],
)  # fmt: skip
def test_other_witnesses_are_refused(witness):
    with pytest.raises((Invalid, Unreadable, ArithmeticError, AttributeError, TypeError, ValueError)):
        say(DATA, "(<= Y_0 1000)", witness)


@pytest.mark.parametrize("name", CASES_OF_FUNCTIONS)
def test_functions_are_enclosed(name):
    operator, attributes, function = CASES_OF_FUNCTIONS[name]
    data = model(
        [("Gemm", ["x", "w"], ["z"], {"transB": 1}), (operator, ["z"], ["y"], attributes)],
        {"x": [1, 2]},
        {"w": np.float32([[1, 0.5]])},
    )
    value = float(function(np.float64(0.25 + 0.5 * 0.0625)))
    say(data, f"(<= Y_0 {value + 1e-12:.17g}) (>= Y_0 {value - 1e-12:.17g})", ["0.25", "0.0625"])
    for rows in (f"(>= Y_0 {value + 1e-12:.17g})", f"(<= Y_0 {value - 1e-12:.17g})"):
        with pytest.raises(Invalid):
            say(data, rows, ["0.25", "0.0625"])


def test_version_two_names_its_tensors():
    text = """(vnnlib-version <2.0>)(declare-network f (declare-input A real [1,2]) (declare-output B real [1,1]))
    (assert (and (<= 0 A[0,0] ) (<= A[0,0] 1) (== A[0,1] 0.09375) (<= B[0,0] 1000)))"""
    say(DATA, "", POINT, names=("A",), text=text)
    with pytest.raises(Invalid):
        say(DATA, "", POINT, names=("x",), text=text)


def test_doubtful_constants_are_charged():
    data = model(
        [("Mul", ["x", "c"], ["z"], {}), ("Div", ["z", "d"], ["y"], {})],
        {"x": [1, 2]},
        {"c": np.float32([[2, 0]]), "d": np.float32(3)},
    )
    text = BOX.replace("(declare-const Y_0 Real)", "(declare-const Y_0 Real)(declare-const Y_1 Real)")
    say(data, "", POINT, text=text + "(assert (<= Y_0 0.16666666666676))")
    for row in ("(<= Y_0 0.16666666666656)", "(< (* 6 Y_0) 1)"):
        with pytest.raises(Invalid):
            say(data, "", POINT, text=text + f"(assert {row})")
