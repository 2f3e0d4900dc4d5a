"""Formulas: the parser, exact folding, and vector graphs against an evaluator of this file's own."""

from __future__ import annotations

import functools
import math
import re
from fractions import Fraction

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.bounds.bounder import bound
from holdfast.load.expression import (
    Call,
    FormulaError,
    Name,
    Number,
    Power,
    Product,
    Sum,
    Tree,
    is_name,
    parse,
    parse_comparison,
    write,
)
from holdfast.load.formula_constants import nearest
from holdfast.load.formula_graph import compile_formulas, model_of, new_algebra
from holdfast.load.formula_temporal import Temporal, comparisons, latest, parse_temporal
from holdfast.transforms.evaluate import evaluate

NAMES = ("x", "y", "z")
PYTHON = {
    **{name: getattr(math, name) for name in ("sin", "cos", "tan", "asin", "acos", "atan", "exp", "log", "sqrt", "tanh")},
    "abs": abs, "min": min, "max": max, "sigmoid": lambda v: 1 / (1 + math.exp(-v)), "sign": lambda v: float(np.sign(v)),
    "pi": math.pi,
}  # fmt: skip


def by_python(text: str, **values: float) -> float:
    """The value by Python's own grammar, which binds the same way once ^ is **."""
    return eval(text.replace("^", "**"), {"__builtins__": {}}, {**PYTHON, **values})


def value(texts: list[str], point: dict[str, float], **more) -> np.ndarray:
    model = compile_formulas({f"f{i}": t for i, t in enumerate(texts)}, list(point), **more)
    values = evaluate(model.graph, model.parameters, [np.array(list(point.values()))])
    return values[model.graph.outputs[0]]


FORMULAS = [
    "x", "-x", "3", "x + y - z", "2*x - 3*y/4", "-x^2", "x^-2", "2^3^0.5", "(-x)^3", "x*y*x", "x/y/z", "x - (y - z)",
    "x*y/(x*y)", "x^0.5 + x^1.5 - x^-0.5", "x^y", "x^0.3", "sin(x)*cos(y) + sin(-x)", "tan(x) + atan(y)", "asin(x/4) + acos(y/4)",
    "exp(-x) + log(y)", "sqrt(x^2 + y^2)", "abs(x - y)", "min(x, y, z) + max(x, 1)", "tanh(x)*sigmoid(y)", "sign(x - y)*z",
    "pi*x + 2*pi", "(x + y)*(x + y)", "x*x*x*y", "(x - y)*(y - x)", "0*x + 1", "x - x", "1e-3*x + 2.5E2 + .5*y", "sin(1)*x + cos(0)",
    "cos(x)*(sin(x) + y^2)/(cos(x)^2 - 24.7)", "2 - -x", "x*-y", "sin(cos(sin(x)))", "sqrt(4)*x + 2^10", "max(pi, 3)",
]  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_value(text: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(5):
        point = dict(zip(NAMES, rng.uniform(0.3, 1.9, 3), strict=True))
        assert value([text], point)[0] == pytest.approx(by_python(text, **point), rel=1e-12, abs=1e-12)


def by_balls(text: str, point: dict[str, Fraction]) -> flint.arb:
    """The value as a ball of 256 bits, by Python's grammar again; numbers of the text are rationals."""
    functions = {name: getattr(flint.arb, name) for name in PYTHON if hasattr(flint.arb, name)}
    functions |= {
        "abs": abs, "pi": flint.arb.pi(), "sigmoid": lambda v: 1 / (1 + (-v).exp()), "sign": flint.arb.sgn,
        "min": lambda *v: functools.reduce(flint.arb.min, v), "max": lambda *v: functools.reduce(flint.arb.max, v),
        "number": lambda t: flint.arb(flint.fmpq(Fraction(t).numerator, Fraction(t).denominator)),
    }  # fmt: skip
    numbers = re.sub(r"(?<![A-Za-z_])(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)", r"number('\1')", text)
    values = {name: flint.arb(flint.fmpq(v.numerator, v.denominator)) for name, v in point.items()}
    return eval(numbers.replace("^", "**"), {"__builtins__": {}}, {**functions, **values})


@pytest.mark.parametrize("method", ["interval", "backward"])
def test_bounds_of_formulas_contain_their_values(method: str) -> None:
    """No tolerance: the balls must lie inside the bounds, on boxes that are points, thin and wide."""
    model = compile_formulas(dict(zip(map(str, range(len(FORMULAS))), FORMULAS, strict=True)), NAMES)
    rng = np.random.default_rng(11)
    for width in (0.0, 1e-9, 0.25):
        lower = rng.uniform(0.4, 1.6, 3)
        upper = lower + width
        found = bound(model, lower, upper, method=method)
        for _ in range(8):
            point = np.clip(rng.choice([lower, upper, rng.uniform(lower, upper)], axis=0), lower, upper)
            exact = dict(zip(NAMES, map(Fraction, point.tolist()), strict=True))
            with flint.ctx.workprec(256):
                for text, low, high in zip(FORMULAS, found.lower.ravel(), found.upper.ravel(), strict=True):
                    ball = by_balls(text, exact)
                    assert ball.is_finite() and not ball < flint.arb(low) and not ball > flint.arb(high), text


def test_all_formulas_share_few_nodes() -> None:
    point = dict(zip(NAMES, (0.7, 1.3, 0.4), strict=True))
    expected = [by_python(text, **point) for text in FORMULAS]
    np.testing.assert_allclose(value(FORMULAS, point), expected, rtol=1e-12, atol=1e-12)
    model = compile_formulas({str(i): f"sin(x + {i})*y + cos(z)^{2 + i % 2}" for i in range(50)}, NAMES)
    operators = [node.op for node in model.graph.nodes]
    assert operators.count("sin") == operators.count("cos") == operators.count("product") == 1
    assert len(operators) < 15 and model.outputs[0].shape == (50,)
    assert any("sin" in node.name and "0" in node.name for node in model.graph.nodes)


def test_equal_structure_gives_equal_graphs() -> None:
    one, two = (compile_formulas({"a": f"{k}*sin({k}*x) + {k}"}, ["x"]) for k in ("0.1", "7"))
    assert one.graph == two.graph and one.radii.keys() >= two.radii.keys()


def test_definitions_constants_and_limits() -> None:
    more = {"constants": {"g": Fraction(2)}, "definitions": {"a": "g*x", "b": "a^2 + g"}}
    assert value(["b", "a*b"], {"x": 1.5}, **more) == pytest.approx([11.0, 33.0])
    for limits, expected in (({"f0": (-1, 1)}, [1.0, 6.0]), ({"f0": (Fraction(1, 10), Fraction(3, 10)), "f1": (2, 4)}, [0.3, 4.0])):  # fmt: skip
        ends = {k: (Fraction(a), Fraction(b)) for k, (a, b) in limits.items()}
        assert value(["2*x", "4*x"], {"x": 1.5}, limits=ends) == pytest.approx(expected)
    with pytest.raises(FormulaError, match="b: unknown name c at column 1; known: x, pi"):
        compile_formulas({"f": "b"}, ["x"], definitions={"b": "c"})


def constant_value(text: str) -> Fraction | tuple[float, float]:
    """A formula of constants: exact, or a float64 number with a bound on its error."""
    form = new_algebra([], {}, {}).normal(parse(text))
    return form.constant if isinstance(form.constant, Fraction) else nearest(form.constant)


def test_constants_are_exact_or_enclosed() -> None:
    assert constant_value("0.1 + 0.2") == Fraction(3, 10)
    assert constant_value("sqrt(9/4) - 3*2^-1") == 0
    assert constant_value("sin(0) + cos(0) + abs(-3)") == 4
    assert constant_value("pi - pi") == 0
    middle, radius = constant_value("pi")
    assert middle == math.pi and 1.2e-16 < radius < 1.3e-16
    model = compile_formulas({"f": "0.1*x + pi"}, ["x"])
    (key,) = [k for k in model.radii if model.parameters[k].ndim == 2]
    assert abs(Fraction(1, 10) - Fraction(model.parameters[key][0, 0])) <= Fraction(model.radii[key][0, 0])


def test_conditions() -> None:
    algebra = new_algebra(["x", "y"], {}, {})
    forms = {text: algebra.condition(parse_comparison(text)) for text in ("x <= y", "x > 2*y", "3 >= x")}
    model = model_of(algebra, forms, 2)
    out = evaluate(model.graph, model.parameters, [np.array([1.0, 4.0])])[model.graph.outputs[0]]
    assert out.tolist() == [-3.0, 7.0, -2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found the end of the formula at column 1, expected a number, a name"),
        ("x +", "found the end of the formula at column 4"),
        ("x ** 2", "a power is written with '\\^'"),
        ("x $ 2", "unexpected character '\\$' at column 3"),
        ("(x", "expected '\\)' or an operator"),
        ("x y", "found 'y' at column 3, expected an operator or the end"),
        ("foo(x)", "unknown function foo at column 1; known: sin"),
        ("sin", "expected '\\(' after sin"),
        ("sin(x, y)", "sin at column 1 has 2, it takes one argument"),
        ("min(x)", "it takes two or more"),
        ("w", "unknown name w at column 1; known: x, y, z, pi"),
        ("x <= 1", "found '<=' at column 3"),
        ("1/0", "division by zero"),
        ("1/(x - x)", "division by zero"),
        ("log(-1)", "not a finite real number"),
        ("1e999", "too large"),
        ("1e999999999999", "too large"),
        ("1e400*1e400*x", "exceeds the range"),
        ("2^2000", "at most 64"),
        ("((1e300^64)^64)^64", "too large"),
        ("(" * 100 + "x" + ")" * 100, "more than 60 levels"),
        ("-" * 100 + "x", "more than 60 levels"),
        ("x^" * 100 + "x", "more than 60 levels"),
        ("x" * 3_000_000, "too long"),
        ("__import__('os')", "unexpected character"),
        ("x.real", "unexpected character"),
        ("1/(pi - pi*1 + sin(1) - sin(1))", "division by zero"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        compile_formulas({"f": text}, NAMES)


def test_long_sums_do_not_nest() -> None:
    assert value(["+".join(["x"] * 5000)], {"x": 2.0})[0] == 10000.0
    assert value(["*".join(["1"] * 5000) + "*x"], {"x": 2.0})[0] == 2.0


def test_comparisons_and_names() -> None:
    assert parse_comparison("x*2 >= y").relation == ">="
    with pytest.raises(FormulaError, match="expected a comparison"):
        parse_comparison("x + 1")
    assert is_name("x_1") and not is_name("sin") and not is_name("pi") and not is_name("1x") and not is_name("é")


def test_temporal_formulas() -> None:
    tree = parse_temporal("G[0,5](x - y >= 0) & F[2,4]((x + 1)*2 <= 20 | !(y < 1)) & (x > 0) U[0, 1.5] (y > 0)")
    assert isinstance(tree, Temporal) and tree.operator == "&" and len(comparisons(tree)) == 5
    assert latest(tree) == 5 and latest(parse_temporal("G[0,5] F[1,2] (x > 0)")) == 7
    for text, message in (("G[3,1](x > 0)", "empty"), ("G(x > 0)", "unknown function G"), ("x", "comparison"), ("(x > 0", "'\\)'")):  # fmt: skip
        with pytest.raises(FormulaError, match=message):
            parse_temporal(text)


def trees() -> st.SearchStrategy[Tree]:
    numbers = st.builds(lambda n, k: Number(Fraction(n, 10**k)), st.integers(0, 10**6), st.integers(0, 4))
    leaves = numbers | st.sampled_from(NAMES).map(Name)

    def grow(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
        signs, several = st.sampled_from((1, -1)), st.lists(inner, min_size=2, max_size=4)
        return st.one_of(
            several.flatmap(lambda t: st.builds(lambda s: Sum(tuple(t), (1, *s)), st.tuples(*[signs] * (len(t) - 1)))),
            several.flatmap(
                lambda f: st.builds(
                    lambda i: Product(tuple(f), (False, *i)), st.tuples(*[st.booleans()] * (len(f) - 1))
                )
            ),
            inner.map(lambda t: Sum((t,), (-1,))),
            st.builds(Power, inner, inner),
            st.builds(lambda f, a: Call(f, (a,)), st.sampled_from(("sin", "exp", "abs", "tanh")), inner),
            st.builds(lambda f, a: Call(f, tuple(a)), st.sampled_from(("min", "max")), several),
        )

    return st.recursive(leaves, grow, max_leaves=12)


def plain(tree: Tree) -> object:
    """The tree without the columns of its names."""
    match tree:
        case Name(name):
            return name
        case Number(number):
            return number
        case Sum(parts, flags) | Product(parts, flags):
            return type(tree), tuple(map(plain, parts)), flags
        case Power(base, exponent):
            return "^", plain(base), plain(exponent)
        case Call(function, arguments):
            return function, tuple(map(plain, arguments))


@settings(max_examples=150, deadline=None)
@given(trees())
def test_round_trip(tree: Tree) -> None:
    assert plain(parse(write(tree))) == plain(tree)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="xyz01.e+-*/^()<>=, sincopi&|![]GFU", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for reader in (lambda: compile_formulas({"f": text}, NAMES), lambda: parse_temporal(text)):
        try:
            reader()
        except FormulaError as error:
            assert "\n" not in str(error)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.sampled_from(("x", "y", "z", "2", "0.5")),
        lambda inner: st.one_of(
            st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner),
            st.builds("{}({})".format, st.sampled_from(("sin", "cos", "tanh", "abs")), inner),
            st.builds("({})^{}".format, inner, st.integers(0, 3)),
            st.builds("({})/(2 + ({})^2)".format, inner, inner),
            st.builds("max({}, {})".format, inner, inner),
        ),
        max_leaves=10,
    )
)
def test_random_formulas_have_their_value(text: str) -> None:
    point = {"x": 0.25, "y": -0.75, "z": 1.5}
    try:
        expected = by_python(text, **point)
    except OverflowError:
        return
    if abs(expected) < 1e12:
        try:
            found = value([text], point)[0]
        except FormulaError as error:
            assert "power" in str(error) or "told from 0" in str(error)
            return
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9 * (1 + abs(expected)))
