"""VNN-LIB text -> regions, cases and rows, as section 3 of the format orders them."""

import math
import random
import re
from fractions import Fraction as F

import pytest
from evaluation import benchmarks, dense_model, unpacked

from holdfast_check.arithmetic import Unreadable
from holdfast_check.property import enclosing, number, read_property
from holdfast_check.query import join

# what `__main__` turns into one sentence
REFUSED = (Unreadable, ArithmeticError, LookupError, RecursionError, TypeError, ValueError)
HEAD = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)\n"
BOX = "(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= X_1 -0.5))(assert (<= 0.1 X_1 ))(assert (<= X_1 1e-1))\n"


def read(text, head=HEAD):
    return read_property((head + text).encode())


def test_bounds_are_exact_and_enclosed():
    region = read(BOX + "(assert (<= Y_0 Y_1))").regions[0]
    assert region.exact_lower == (0, F(1, 10)) and region.exact_upper == (1, F(1, 10))
    assert region.lower.tolist() == [0.0, math.nextafter(0.1, 0)] and region.upper.tolist() == [1.0, 0.1]
    assert F(region.lower[1]) < F(1, 10) <= F(region.upper[1])


def test_rows_are_differences():
    p = read(BOX + "(assert (>= (+ Y_0 (* 2 X_0) 1) (- (* 3 Y_1) Y_0)))")
    assert p.rows == ((((-2, F(3)), (-1, F(-2)), (0, F(-2))), F(-1), False),)
    assert p.regions[0].cases == ((0,),)
    p = read(BOX + "(assert (<= (* (- 2 0.5 1) (- Y_0 (* X_0 (- 3)) 1)) (- Y_1)))")
    assert p.rows == ((((-2, F(1)), (-1, F(1, 2)), (0, F(3, 2))), F(-1, 2), False),)


def test_strict_bounds_are_closed_bounds_and_rows():
    p = read(BOX + "(assert (< X_0 0.5))(assert (<= Y_0 1))")
    assert p.regions[0].exact_upper[0] == F(1, 2)
    assert p.rows == ((((0, F(1)),), F(-1, 2), True), (((-1, F(1)),), F(-1), False))


def test_negation_and_inequality():
    p = read(BOX + "(assert (not (or (<= Y_0 1) (and (< Y_1 2) (= Y_0 Y_1)))))(assert (!= Y_0 5))")
    over, under = (((-1, F(-1)),), F(1), True), (((-2, F(-1)),), F(2), False)
    assert p.rows[:2] == (over, under) and (((-1, F(1)),), F(-5), True) in p.rows and len(p.regions) == 1
    assert len(p.regions[0].cases) == 6 and all(p.rows[case[0]] == over for case in p.regions[0].cases)


def test_the_last_disjunction_varies_fastest_and_the_joined_part_comes_first():
    p = read(
        BOX + "(assert (or (<= Y_0 1) (<= Y_0 2)))(assert (>= Y_1 7))(assert (or (<= Y_1 3) (<= Y_1 9) (<= Y_0 4)))"
    )
    order = [[str(p.rows[r][1]) for r in case] for case in p.regions[0].cases]
    assert order == [["7", "-1", "-9"], ["7", "-1", "-4"], ["7", "-2", "-9"], ["7", "-2", "-4"]]


def test_regions_and_cases_in_order_of_first_appearance():
    split = "(or (and (<= X_0 0.5) (<= Y_0 1)) (and (>= X_0 0.5) (<= Y_0 1)) (and (<= X_0 0.5) (<= Y_0 2)) (and (>= X_0 2) (<= Y_0 1)))"
    p = read(BOX + f"(assert {split})(assert (<= Y_1 1))")
    assert [r.exact_upper[0] for r in p.regions] == [F(1, 2), 1]
    assert [r.cases for r in p.regions] == [((0, 1), (0, 2)), ((0, 1),)]


@pytest.mark.parametrize(
    ("rows", "left"),
    [
        ("(<= Y_0 1) (>= Y_0 2)", 0),
        ("(<= Y_0 1) (>= Y_0 1)", 1),
        ("(< Y_0 1) (>= Y_0 1)", 0),
        ("(<= (* -2 Y_0) -2) (< (* 3 Y_0) 3)", 0),
        ("(< Y_0 1) (<= Y_0 1) (>= Y_0 0)", 1),
        ("(<= 2 1) (<= Y_0 0)", 0),
        ("(<= (- X_0 X_0) 0) (<= Y_0 0)", 1),
        ("(< (- X_0 X_0) 0) (<= Y_0 0)", 0),
        ("(or) (<= Y_0 0)", 0),
    ],
)
def test_conjunctions_without_values_are_dropped(rows, left):
    assert len(read(BOX + f"(assert (and {rows}))").regions) == left


def test_random_formulas_mean_what_they_say():
    """A point satisfies a formula if and only if it lies in the box of a region and satisfies all rows of one of its cases."""
    rng = random.Random(3)

    def formula(depth):
        if depth == 0 or rng.random() < 0.3:
            v, w = rng.sample(["X_0", "X_1", "Y_0", "Y_1"], 2)
            right = str(rng.randrange(-2, 3)) if rng.random() < 0.7 else f"(+ (* 2 {w}) -1)"
            right = f"(- {-int(right)})" if right.startswith("-") else right
            return f"({rng.choice(['<=', '<', '>=', '>', '=', '!='])} {v} {right})"
        if rng.random() < 0.2:
            return f"(not {formula(depth - 1)})"
        return f"({rng.choice(['and', 'or'])} {' '.join(formula(depth - 1) for _ in range(rng.randrange(1, 4)))})"

    def value(words, point):
        if isinstance(words, str):
            return point[words] if words in point else F(words)
        a = [value(w, point) for w in words[1:]]
        return {
            "and": lambda: all(a),
            "or": lambda: any(a),
            "not": lambda: not a[0],
            "<=": lambda: a[0] <= a[-1],
            "<": lambda: a[0] < a[-1],
            ">=": lambda: a[0] >= a[-1],
            ">": lambda: a[0] > a[-1],
            "=": lambda: a[0] == a[-1],
            "!=": lambda: a[0] != a[-1],
            "+": lambda: sum(a),
            "*": lambda: math.prod(a),
            "-": lambda: -a[0],
        }[words[0]]()

    from holdfast_check.property import tree

    for _ in range(150):
        text = formula(3)
        p = read(f"(assert (and (>= X_0 -2) (<= X_0 2) (>= X_1 -2) (<= X_1 2)))(assert {text})")
        for _ in range(20):
            numbers = [F(rng.randrange(-4, 5), 2) for _ in range(4)]
            point = dict(zip(["X_0", "X_1", "Y_0", "Y_1"], numbers, strict=True))
            flat = {0: numbers[0], 1: numbers[1], -1: numbers[2], -2: numbers[3]}
            holds = [
                (total < 0 if strict else total <= 0)
                for coefficients, c, strict in p.rows
                for total in [sum(w * flat[v] for v, w in coefficients) + c]
            ]
            found = any(
                all(a <= flat[i] <= b for i, (a, b) in enumerate(zip(r.exact_lower, r.exact_upper, strict=True)))
                and any(all(holds[row] for row in case) for case in r.cases)
                for r in p.regions
            )
            assert found == value(tree(iter([*re.findall(r"[()]|[^\s()]+", text), ")"]))[0], point), text


TWO = """(vnnlib-version <2.0>)
; comment (with parentheses
(declare-network f (declare-input A float32 [1, 2]) (declare-input s Real []) (declare-output B float32 [2]))
(declare-network g (equal-to f) (declare-input C real [1,2]) (declare-input t real []) (declare-output D real [2]))
(assert (and (<= 0.0 A[0, 0] ) (<= A [0,0] 1) (== A[0,1] 0.5) (>= s 0) (<= s 1)))
(assert (and (== C[0,0] 0) (== C[0,1] 0) (== t 1)))
(assert (> (- B[1] D [ 0 ]) 0.25))
"""


def test_version_two():
    p = read_property(TWO.encode())
    assert [(n.name, n.inputs, n.outputs, n.same) for n in p.networks] == [
        ("f", (("A", 2), ("s", 1)), (("B", 2),), ""),
        ("g", (("C", 2), ("t", 1)), (("D", 2),), "f"),
    ]
    assert p.inputs == 6 and p.rows == ((((-3, F(1)), (-2, F(-1))), F(1, 4), True),)
    assert p.regions[0].exact_lower == (0, F(1, 2), 0, 0, 0, 1)


@pytest.mark.parametrize(
    "text",
    [
        "(assert (<= X_0 1)",
        "(assert (<= X_0 1)))",
        "(assert (<= X_7 1))",
        "(assert (<= (* Y_0 Y_1) 1))",
        "(assert (<= X_0 1e999999999))",
        "(assert (<= X_0 nan))",
        "(assert (foo X_0 1))",
        "(assert 3)",
        "(assert)",
        "(declare-const X_3 Real)",
        "(declare-const Z Real)",
        "(define-fun f () Real)",
        "(vnnlib-version <3.0>)",
        "(declare-network f (declare-input X float32 [2]) (declare-output Y float32 [1]))",
        "(assert =ab)",
        "(assert (<= X_0[0] 1))",
        "(assert (<= X_0 [0 1))",
        "(assert true)",
        "(assert (<= (/ X_0 2) 1))",
        "(assert (<= (* X_0 1 1) 1))",
        "(assert (<= X_0 (* 1 1) 1))",
        "(assert (not (<= X_0 1) (<= X_0 1)))",
        "(assert (not (foo X_0 1)))",
        ") (",
        "(assert (<= X_0 1)) ) (assert (<= X_1 1)",
        "(declare-network f (declare-hidden X float32 [9] hidden))",
        "(assert " + "(and " * 3000 + ")" * 3001,
        "x",
        "((((",
    ],
)
def test_what_is_not_vnnlib_is_refused(text):
    read(BOX)
    with pytest.raises(REFUSED):
        read(BOX + text)


def test_an_input_without_a_bound_is_refused():
    with pytest.raises(REFUSED):
        read("(assert (<= X_0 1))(assert (>= X_0 1))(assert (<= X_1 1))")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("C", "A"),
        ("(declare-input s Real [])", "(declare-input s Real [)"),
        ("(declare-input s Real [])", "(declare-input s complex64[])"),
        ("declare-output", "declare-hidden"),
        ("<2.0>)", "<2.0>)(declare-const X_0 Real)(declare-const Y_0 Real)"),
        ("(equal-to f) (declare-input C real [1,2])", "(declare-const X_0 Real)"),
        ("; comment", "(declare-const X_0 Real)\n;"),
        ("A [0,0]", "A [0,0"),
        ("A [0,0]", "A [0,2]"),
        ("A [0,0]", "A"),
    ],
)
def test_a_version_two_that_is_not_understood_is_refused(old, new):
    with pytest.raises(REFUSED):
        read_property(TWO.replace(old, new).encode())


def test_numbers():
    assert number("-0x1.8p1") == -3 and number("0x0.8p-1") == F(1, 4) and number("1.25e-2") == F(1, 80)
    assert number("+0x1.fffffffffffffp-999") == F(2**53 - 1, 2**1051) and number(".5") == number("5e-1")
    for text in ("1/2", "0x1p9999", "1_0", " 1", "inf", "-", "0x.p1", "１", "0x1.00000000000001p0", "0x2p0", "1e9999"):
        with pytest.raises(Unreadable):
            number(text)


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(REFUSED):
        read_property(b"\xff\xfe\x00")


def test_enclosing_is_tight():
    for q in (F(1, 3), F(-1, 3), F(1, 10**400), F(2) ** 1000 + 1, F(-5, 7) * F(10) ** 300):
        low, high = enclosing([q], False)[0], enclosing([q], True)[0]
        assert F(low) <= q <= F(high) and high <= math.nextafter(low, math.inf)
    with pytest.raises(REFUSED):
        enclosing([F(10) ** 400], True)


def test_rational_coefficients_get_a_doubt():
    query = join(read(BOX + "(assert (<= (* 0.1 Y_0) (* 0.5 X_0)))"), {"N": dense_model(0, (2, 3, 2))})
    linear = query.nodes[query.output].linear
    assert linear.weights.tolist() == [[0.1, -0.5]]
    off = abs(F(0.1) - F(1, 10))
    assert linear.doubt.weights[0, 1] < 1e-300 and 0 < off <= F(linear.doubt.weights[0, 0]) < F(1, 2**50)


@pytest.mark.parametrize("widths", [(3, 2), (2, 1)])
def test_networks_of_another_shape_are_refused(widths):
    with pytest.raises(Unreadable):
        join(read(BOX + "(assert (<= Y_0 Y_1))"), {"N": dense_model(0, widths)})


def test_properties_of_the_competition_are_read():
    root = benchmarks()
    for name in ("acasxu", "nn4sys", "rl_benchmarks", "collins_rul_cnn", "mnist_fc"):
        files = sorted((root / name / "vnnlib").rglob("*.vnnlib*"), key=lambda f: f.stat().st_size)
        for file in files[:: max(1, len(files) // 3)]:
            p = read_property(unpacked(file))
            assert p.regions and p.rows and p.inputs
