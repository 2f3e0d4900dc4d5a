"""Functions written with jax.numpy: as models, as formula text, as loops; and what is refused."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from holdfast.errors import ModelError
from holdfast.graph import Model, Tensor
from holdfast.load.formula_graph import compile_formulas
from holdfast.load.formula_text import FormulaTexts, formula_text
from holdfast.load.function import load_function, trace_function
from holdfast.operators import GraphBuilder
from holdfast.transforms.compose import finish
from holdfast.transforms.evaluate import evaluate

A = np.array([[1.0, 2.0], [3.0, 4.0]])


def cartpole(x: Any, u: Any) -> Any:
    _, th, v, om = x[0], x[1], x[2], x[3]
    s, c = jnp.sin(th), jnp.cos(th)
    d = 1.0 + 0.1 * s**2
    return jnp.stack([v, om, (u[0] + 0.1 * s * (om**2 - 9.81 * c)) / d, (-u[0] * c + 10.791 * s) / (3.0 * d)])


def rotated(x: Any, u: Any) -> Any:
    c, s = jnp.cos(x[0]), jnp.sin(x[0])
    rotation = jnp.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return rotation @ x[1:] + jnp.cross(x[1:], jnp.array([0.0, 0.0, 1.0])) * u


def step(x: Any, u: Any) -> Any:
    return jax.lax.fori_loop(0, 3, lambda i, s: s + 0.1 * jnp.array([s[1], u[0] - jnp.sin(s[0])]), x)


# name -> (function, lengths of its arguments)
CASES: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "cartpole": (cartpole, (4, 1)),
    "rotation": (rotated, (4, 1)),
    "loop": (step, (2, 1)),
    "scalars and lists": (lambda x, u: [x[0], (u[0], 2 * x[1])], (2, 1)),
    "unpacked": (lambda x: (lambda a, b: [b, -a])(*x), (2,)),
    "identity": (lambda x: x, (3,)),
    "constant": (lambda x: [x[0], 0.0, 1.5], (1,)),
    "only constants": (lambda x: jnp.array([1.0, 2.0]), (1,)),
    "one number": (lambda x: x[0] * x[0], (1,)),
    "matrix left": (lambda x: A @ x, (2,)),
    "matrix right": (lambda x: x @ A, (2,)),
    "matrices": (lambda x: (A @ jnp.outer(x, x) @ A.T)[:, 0], (2,)),
    "quadratic form": (lambda x: jnp.einsum("i,ij,j", x, A, x), (2,)),
    "inner product": (lambda x, y: jnp.dot(x, y) + x @ x, (3, 3)),
    "integer powers": (lambda x: [x[0] ** 3, x[0] ** 2, x[0] ** -2, x[1] ** 0, x[0] ** 1], (2,)),
    "real powers": (lambda x: [(1 + x[0] ** 2) ** 0.5, (2 + x[0] ** 2) ** -1.5, (4.0 + x[0] ** 2) ** 0.3, 2.0 ** x[0]], (1,)),
    "quotients": (lambda x: [x[0] / 3, 1 / (2 + x[0] ** 2), x[1] / (2 + x[0] ** 2), x[0] / 4], (2,)),
    "exponentials": (lambda x: [jnp.exp(x), jnp.log(3 + jnp.abs(x)), jnp.log1p(x**2), jnp.expm1(x)], (2,)),
    "hyperbolic": (lambda x: [jnp.cosh(x), jnp.sinh(x), jnp.tanh(x)], (2,)),
    "trigonometric": (lambda x: [jnp.sin(x), jnp.cos(x), jnp.tan(0.3 * x), jnp.arctan(x)], (2,)),
    "inverse trigonometric": (lambda x: [jnp.arcsin(x / 8), jnp.arccos(x / 8)], (2,)),
    "roots": (lambda x: [jnp.sqrt(1 + x**2), jax.lax.rsqrt(1 + x**2), jnp.linalg.norm(x + 9)], (2,)),
    "activations": (lambda x: [jax.nn.relu(x), jax.nn.sigmoid(x), jax.nn.softplus(x), jax.nn.silu(x)], (3,)),
    "log-add-exp": (lambda x: jnp.logaddexp(x[0], x[1]), (2,)),
    "clip": (lambda x: [jnp.clip(x, -0.5, 0.25), jnp.maximum(jnp.minimum(x, 0.1), -0.1), jnp.clip(x, -1)], (2,)),
    "extrema": (lambda x: [jnp.max(x), jnp.min(x), jnp.minimum(x[0], 0.3), jnp.maximum(x[0], x[1])], (5,)),
    "sums": (lambda x: [jnp.sum(x), jnp.mean(x), jnp.prod(x), jnp.sum(jnp.outer(x, x), axis=0)], (3,)),
    "conditions": (lambda x: jnp.where(x[0] > 0.1, x[0] * x[1], -x[1]) + jnp.where(x <= 0, 1, -2), (2,)),
    "logic": (lambda x: jnp.where((x > 0) & ~(x >= 0.5) | (x < -0.7), x, 0.0), (4,)),
    "sign": (lambda x: jnp.sign(x) + jnp.where(x >= 0, 1.0, 0.0), (2,)),
    "constant mask": (lambda x: jnp.where(np.array([True, False]), x, 0.0), (2,)),
    "indices": (lambda x: [x[jnp.array([2, 0])], x[-1], x[::2], jnp.flip(x), jnp.roll(x, 1)], (4,)),
    "updates": (lambda x: x.at[0].set(x[1]).at[1].set(0.0), (3,)),
    "shapes": (lambda x: (x.reshape(2, 3).T[:, None, :] * 2.0).squeeze(1), (6,)),
    "float32 constants": (lambda x: x * np.float32(0.1), (2,)),
    "nested jit": (jax.jit(lambda x: jax.jit(jnp.sin)(x)), (2,)),
    "mass matrix": (lambda x: jnp.linalg.solve(jnp.array([[3.0, jnp.cos(x[0])], [jnp.cos(x[0]), 2 + x[1] ** 2]]), x), (2,)),
    "constant matrix": (lambda x: jnp.linalg.solve(jnp.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 1.0, 4.0]]), x), (3,)),
    "inverse": (lambda x: jnp.linalg.inv(jnp.array([[3.0, x[0]], [jnp.sin(x[1]), 9.0]])) @ x, (2,)),
    "matrix of one": (lambda x: jnp.linalg.solve(x[:1, None] + 5.0, x[1:]), (2,)),
    "several right sides": (lambda x: jnp.linalg.solve(jnp.diag(x) + 5.0 * A + 20 * jnp.eye(2), jnp.outer(x, x)), (2,)),
    "gradient": (jax.grad(lambda x: jnp.sum(jnp.sin(x) * x[0] ** 2)), (2,)),
    "jacobian": (lambda x: jax.jacobian(lambda z: jnp.stack([z[0] * z[1], jnp.tanh(z[1])]))(x) @ x, (2,)),
}  # fmt: skip


def points(sizes: tuple[int, ...]) -> list[list[np.ndarray]]:
    """Zero, ties of conditions, and random points."""
    generator = np.random.default_rng(7)
    return [
        [np.zeros(n) for n in sizes],
        [np.full(n, 0.5) for n in sizes],
        *([generator.uniform(-2, 2, n) for n in sizes] for _ in range(6)),
    ]


def reference(function: Callable[..., Any], point: list[np.ndarray]) -> np.ndarray:
    """The function's own values, by JAX in float64."""
    with jax.enable_x64(True):
        leaves = jax.tree_util.tree_leaves(function(*(jnp.asarray(x) for x in point)))
        return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in leaves])


def values(model: Model, point: list[np.ndarray]) -> np.ndarray:
    with np.errstate(all="ignore"):
        found = evaluate(model.graph, model.parameters, point)[model.graph.outputs[0]]
    return np.asarray(found).reshape(-1)


def value_of_text(texts: FormulaTexts, variables: Mapping[str, float]) -> np.ndarray:
    """The formulas, read by Python's own parser: an evaluator that shares nothing with the program's."""
    functions = {
        n: getattr(math, n) for n in ["sin", "cos", "tan", "asin", "acos", "atan", "exp", "log", "sqrt", "tanh"]
    }
    functions |= {"abs": abs, "min": min, "max": max, "sign": lambda v: (v > 0) - (v < 0)}
    functions |= {"sigmoid": lambda v: 1 / (1 + math.exp(-v))}
    known: dict[str, Any] = dict(variables)

    def read(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=v):
                return v if isinstance(v, int) else float(v)
            case ast.Name(id=name):
                return known[name]
            case ast.UnaryOp(op=ast.USub(), operand=x):
                return -read(x)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return functions[name](*map(read, arguments))
            case ast.BinOp(left=a, op=op, right=b):
                x, y = read(a), read(b)
                if isinstance(op, ast.Div) and isinstance(x, int) and isinstance(y, int):
                    return Fraction(x, y) if y > 2**40 else x / y
                x, y = (float(v) if isinstance(v, Fraction) else v for v in (x, y))
                return {ast.Add: lambda: x + y, ast.Sub: lambda: x - y, ast.Mult: lambda: x * y,
                        ast.Div: lambda: x / y, ast.Pow: lambda: x**y}[type(op)]()  # fmt: skip
        raise AssertionError(ast.dump(node))

    for name, text in texts.definitions:
        known[name] = read(ast.parse(text.replace("^", "**"), mode="eval").body)
    return np.array([float(read(ast.parse(t.replace("^", "**"), mode="eval").body)) for t in texts.outputs])


@pytest.mark.parametrize("case", CASES)
def test_model_and_text_have_the_values_of_the_function(case: str) -> None:
    function, sizes = CASES[case]
    traced = trace_function(function, sizes)
    assert [t.shape for t in traced.model.inputs] == [(n,) for n in sizes]
    names = [f"v{i}" for i in range(sum(sizes))]
    texts = formula_text(traced.model, names, divisors=traced.divisors)
    compiled = compile_formulas(
        {str(i): text for i, text in enumerate(texts.outputs)}, names, definitions=dict(texts.definitions)
    )
    for point in points(sizes):
        expected = reference(function, point)
        finite = np.isfinite(expected)
        flat = np.concatenate(point)
        np.testing.assert_allclose(values(traced.model, point)[finite], expected[finite], 1e-11, 1e-11)
        if not finite.all():  # Python's arithmetic raises where the others say "not a number"
            continue
        written = value_of_text(texts, dict(zip(names, flat.tolist(), strict=True)))
        read_back = values(compiled, [flat])
        if case in ("sign", "conditions", "logic") and np.ptp(flat) == 0:
            continue  # at a tie a step has no one value
        np.testing.assert_allclose(written, expected, 1e-11, 1e-11)
        np.testing.assert_allclose(read_back, expected, 1e-11, 1e-11)


def test_arguments_by_name_and_the_setting_of_jax_is_left_alone() -> None:
    before = jnp.zeros(1).dtype
    model = load_function(lambda x, u: x * u[0], {"x": 2, "u": 1}, name="plant")
    assert [t.name for t in model.inputs] == ["x", "u"] and model.name == "plant"
    assert {t.dtype for t in (*model.inputs, *model.outputs)} == {"float64"}
    assert jnp.zeros(1).dtype == before


def test_numbers_are_exact() -> None:
    """0.1 is the float64 next to 0.1, and x / 3 is a third of x: enclosed in the model, exact in the text."""
    traced = trace_function(lambda x: [0.1 * x[0], x[0] / 3.0], (1,))
    texts = formula_text(traced.model, ["x"], divisors=traced.divisors)
    assert texts.outputs == ("(3602879701896397/36028797018963968)*x", "x/3")
    (key,) = traced.divisors
    third, radius = traced.model.parameters[key][0], traced.model.radii[key][0]
    assert 0 < abs(Fraction(1, 3) - Fraction(third)) <= Fraction(radius)
    with pytest.raises(ModelError, match="not a float64 number"):
        formula_text(traced.model, ["x"])


def test_divisors_whose_inverses_round_alike_stay_apart() -> None:
    a, b = 3.0, math.nextafter(3.0, 4.0)
    traced = trace_function(lambda x: [x[0] / a, x[0] / b], (1,))
    texts = formula_text(traced.model, ["x"], divisors=traced.divisors)
    with_b = compile_formulas(
        {"0": f"x - ({texts.outputs[1]})*({Fraction(b).numerator}/{Fraction(b).denominator})"}, ["x"]
    )
    assert texts.outputs[0] == "x/3" and values(with_b, [np.array([1.0])]) == 0.0


def test_values_stay_vectors() -> None:
    """Arithmetic on arrays is one node per operation, and moving numbers about costs nothing."""
    model = load_function(lambda x: jnp.sin(x.reshape(4, 5).T.reshape(-1)[::-1][::-1]) * 2.0, (20,))
    assert [node.op for node in model.graph.nodes] == ["input", "gather", "sin", "scale"]
    assert len(load_function(lambda x: jnp.flip(jnp.flip(x)) + 1.0, (20,)).graph) == 2
    assert len(load_function(lambda x: jnp.sin(x) * jnp.sin(x), (20,)).graph) == 3


def test_what_is_missing_is_named_all_at_once_with_its_lines() -> None:
    def strange(x: Any) -> Any:
        a = jnp.floor(x[0])
        return jnp.stack([a, jnp.arctan2(x[0], x[1]) + a])

    with pytest.raises(ModelError) as caught:
        load_function(strange, (2,))
    message = str(caught.value)
    assert message.startswith("strange: ") and "floor at test_function.py:" in message
    assert "atan2 at test_function.py:" in message


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: math.sin(x[0]), "cannot be traced by JAX"),
        (lambda x: 1.0 if x[0] > 0 else 0.0, "without Python conditions"),
        (lambda x: x[0] / 0.0, "zero"),
        (lambda x: x[jnp.argmax(x)], "argmax"),
        (lambda x: x.astype(jnp.float32), "float32"),
        (lambda x: jnp.where(x > 0, x, jnp.nan), "finite"),
        (lambda x: jnp.array([jnp.inf]), "finite"),
        (lambda x: [], "cannot be traced"),
        (lambda x, u: x, "cannot be traced"),
        (lambda x: jax.lax.while_loop(lambda s: s[0] < 1, lambda s: s + 1, x), "while"),
        (lambda x: (x[0] == x[1]) * 1.0, "eq of variables"),
        (lambda x: jnp.linalg.solve(jnp.diag(jnp.tile(x, 3)[1:]), jnp.ones(5)), "of 5 unknowns"),
        (lambda x: jnp.linalg.eigvalsh(jnp.outer(x, x)), "eigh"),
        (lambda x: jax.lax.linalg.lu(jnp.outer(x, x))[0], "lu at"),
        (lambda x: x[0] ** jnp.array([2.0, 3.0]), "exponents that differ"),
    ],
)
def test_refused(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_function(function, (2,))


def test_a_length_of_zero_is_refused() -> None:
    with pytest.raises(ModelError, match="length 0"):
        load_function(lambda x: x, (0,))


def test_a_name_too_few_is_refused() -> None:
    with pytest.raises(ModelError, match="2 input elements"):
        formula_text(load_function(lambda x: x, (2,)), ["a"])


def test_a_card_without_a_word_is_refused() -> None:
    builder = GraphBuilder()
    x = builder.input((1, 1, 3, 3), "x")
    y = builder.add("conv", (x,), [np.ones((1, 1, 3, 3))], strides=(1, 1), pads=((0, 0), (0, 0)), dilations=(1, 1), groups=1)  # fmt: skip
    model = finish(builder, [y], [Tensor("x", (1, 1, 3, 3))], [Tensor("y", (1, 1, 1, 1))], "filter")
    with pytest.raises(ModelError, match="filter: operator conv"):
        formula_text(model, [f"x{i}" for i in range(9)])


def test_names_in_use_are_passed_over() -> None:
    model = load_function(lambda x: [jnp.sin(x[0]) * x[1], jnp.sin(x[0])], (2,))
    assert formula_text(model, ["d1", "x"]) == FormulaTexts(("x*d2", "d2"), (("d2", "sin(d1)"),))


def test_text_does_not_explode() -> None:
    def nested(x: Any) -> Any:
        for _ in range(30):
            x = 1 / (1 + x) + 1 / (2 + x)
        return x

    traced = trace_function(nested, (1,))
    texts = formula_text(traced.model, ["x"], divisors=traced.divisors)
    assert sum(map(len, (*texts.outputs, *(t for _, t in texts.definitions)))) < 5000
    np.testing.assert_allclose(value_of_text(texts, {"x": 0.5}), reference(nested, [np.array([0.5])]), 1e-11)
