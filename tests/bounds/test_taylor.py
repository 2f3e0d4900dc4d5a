"""Taylor models through graphs, exactly: polynomials in place of functions, linear operators, whole networks; zero tolerance."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import flint
import numpy as np
import pytest
from taylor_points import BITS, ball, holds, random_model, random_point, value

from holdfast.bounds.bounder import flat_problem
from holdfast.bounds.fits import fit
from holdfast.bounds.taylor import function, propagate_models
from holdfast.graph import Model, Node, Tensor
from holdfast.operators import OPERATORS, GraphBuilder, UnaryOperator
from holdfast.rigor import FLOAT64
from holdfast.sets.monomials import monomials
from holdfast.sets.taylor_model import TaylorModel, box
from holdfast.transforms.compose import finish


def _sigmoid(z):
    return 1 / (1 + (-z).exp()) if z >= 0 else z.exp() / (1 + z.exp())


def _slope(z):
    e = (-abs(z)).exp()
    return e / ((1 + e) * (1 + e))


def _leaky(z, alpha):
    return z if z >= 0 else ball(alpha) * z


def _clip(z, low, high):
    return ball(low) if z <= low else ball(high) if z >= high else z


CASES = {
    "relu": (lambda z: z if z >= 0 else flint.arb(0), {}),
    "abs": (abs, {}),
    "heaviside": (lambda z: flint.arb(1) if z > 0 else flint.arb(0), {}),
    **{f"leaky_relu {a}": (lambda z, a=a: _leaky(z, a), {"alpha": a}) for a in (0.1, 0.0, -0.5, 1.0, 3.0, 1e6)},
    **{f"clip {a} {b}": (lambda z, a=a, b=b: _clip(z, a, b), {"low": a, "high": b}) for a, b in ((-1.0, 1.0), (0.0, 6.0), (-0.1, 0.7))},
    **{f"power {n}": (lambda z, n=n: z**n, {"exponent": n}) for n in (2, 3, 4, 7)},
    "square": (lambda z: z * z, {}),
    "exp": (lambda z: z.exp(), {}),
    "softplus": (lambda z: z + (-z).exp().log1p() if z >= 0 else z.exp().log1p(), {}),
    "log": (lambda z: z.log(), {}),
    "sqrt": (lambda z: z.sqrt(), {}),
    "reciprocal": (lambda z: 1 / z, {}),
    "tanh": (lambda z: z.tanh(), {}),
    "sigmoid": (_sigmoid, {}),
    "atan": (lambda z: z.atan(), {}),
    "sin": (lambda z: z.sin(), {}),
    "cos": (lambda z: z.cos(), {}),
    "tan": (lambda z: z.tan(), {}),
    "asin": (lambda z: z.asin(), {}),
    "acos": (lambda z: z.acos(), {}),
    "tanh_derivative": (lambda z: 4 * _slope(2 * z), {}),
    "sigmoid_derivative": (_slope, {}),
    "atan_derivative": (lambda z: 1 / (1 + z * z), {}),
}  # fmt: skip
UNIT = ("asin", "acos")
POSITIVE = ("log", "sqrt")
SPECIAL = [
    0.0,
    5e-324,
    1e-310,
    1e-300,
    1e-162,
    1e-60,
    1e-20,
    1e-8,
    1e-3,
    0.1,
    0.7,
    1.0,
    1.5,
    math.pi,
    6.0,
    40.0,
    700.0,
    1e6,
    1e30,
    1e155,
]


def node_of(name: str) -> Node:
    return Node(name.split()[0], (0,), (), ((),), tuple(sorted(CASES[name][1].items())))


def _ranges(name: str, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Special numbers, points, few ulps, all ratios of both sides of zero, random centres and widths."""
    rng = np.random.default_rng(3)
    points = np.array([*SPECIAL, *(-s for s in SPECIAL[1:])])
    pairs = [np.sort(rng.choice(points, 2)) for _ in range(count // 3)] + [np.array([p, p]) for p in points]
    pairs += [np.array([p, p + 5 * np.spacing(abs(p))]) for p in points]
    for ratio in 10.0 ** rng.uniform(-17, 17, count // 4):
        size = 10.0 ** rng.uniform(-8, 3)
        pairs.append(np.array([-size * min(ratio, 1.0), size * min(1 / ratio, 1.0)]))
    centre = rng.normal(size=count) * 10.0 ** rng.uniform(-3, 1.5, count)
    width = np.where(rng.random(count) < 0.5, abs(centre), 1.0) * 10.0 ** rng.uniform(-14, 0.6, count)
    pairs += list(np.stack([centre - width, centre + width], axis=1))
    low, high = np.array(pairs).T
    if name in POSITIVE:
        low, high = np.minimum(abs(low), abs(high)), np.maximum(abs(low), abs(high))
    if name in UNIT:
        low, high = (np.where(abs(v) > 1, np.copysign(1 - 1e-15 * (abs(v) % 7), v), v) for v in (low, high))
    return np.minimum(low, high), np.maximum(low, high)


def _defined(name: str, z: float) -> bool:
    if name in POSITIVE:
        return z > 0 or (name == "sqrt" and z == 0)
    return not (name == "reciprocal" and z == 0) and not (name in UNIT and abs(z) > 1)


def _exact(name: str, z: Fraction) -> flint.arb | None:
    """None for arguments whose value is beyond ball arithmetic."""
    if (
        name.split()[0] in ("exp", "sigmoid", "softplus", "tanh", "tanh_derivative", "sigmoid_derivative")
        and abs(z) > 5000
    ):
        return None
    with flint.ctx.workprec(BITS):
        return CASES[name][0](ball(z))


@pytest.mark.parametrize("name", CASES)
def test_fits_hold_on_their_range(name: str) -> None:
    rng = np.random.default_rng(4)
    low, high = _ranges(name)
    share = np.concatenate([[0.0, 1.0, 0.5], rng.random(5), 10.0 ** rng.uniform(-16, 0, 2)])
    kinks = OPERATORS[name.split()[0]].split_points(node_of(name))
    for degree in (1, 2, 3, 4, 6):
        found = fit(node_of(name), low, high, degree)
        assert len(found.coefficients) <= degree + 1 and np.isfinite(found.coefficients).all()
        assert not np.isnan(found.error).any()
        for i in np.flatnonzero(np.isfinite(found.error)):
            points = np.clip(
                [*(low[i] + (high[i] - low[i]) * share[rng.permutation(10)[:4]]), *kinks, low[i], high[i]],
                low[i],
                high[i],
            )
            coefficients = [Fraction(float(c)) for c in found.coefficients[:, i]]
            center, error = Fraction(float(found.center[i])), Fraction(float(found.error[i]))
            for z in set(points.tolist()):
                if not _defined(name, z):
                    continue
                exact = _exact(name, Fraction(z))
                if exact is None:
                    continue
                t = Fraction(z) - center
                p = sum((c * t**k for k, c in enumerate(coefficients)), Fraction(0))
                with flint.ctx.workprec(BITS):
                    assert not abs(exact - ball(p)) > ball(error), (name, degree, low[i], high[i], z)


@pytest.mark.parametrize("name", CASES)
def test_fits_are_good_where_functions_are_tame(name: str) -> None:
    low = np.array([0.30, 0.5, 0.2])
    high = np.array([0.31, 0.6, 0.6])
    found = fit(node_of(name), low, high, 4)
    most = {
        "leaky_relu 1000000.0": 1e-8,
        "clip -0.1 0.7": 1e-8,
        "clip 0.0 6.0": 1e-8,
        "clip -1.0 1.0": 1e-8,
        "reciprocal": 0.2,
        "log": 0.02,
    }
    assert (found.error <= most.get(name, 2e-3)).all(), found.error


@pytest.mark.parametrize(("name", "low", "high"), [
    ("sqrt", -1e-300, 1.0), ("sqrt", -0.1, 1.0), ("log", 0.0, 1.0), ("log", -0.1, 1.0), ("asin", -0.5, 1.1), ("acos", -1.0000001, 0.0),
    ("reciprocal", -1.0, 1.0), ("tan", 1.5, 1.7), ("tanh", -np.inf, 1.0), ("relu", np.nan, 1.0), ("relu", -1.0, np.inf),
])  # fmt: skip
def test_nothing_is_known_outside_the_domain(name: str, low: float, high: float) -> None:
    for degree in (1, 3):
        assert np.isposinf(fit(node_of(name), np.array([low]), np.array([high]), degree).error).all()


@np.errstate(all="ignore")
@pytest.mark.parametrize("kind", ["plain", "exact", "sparse", "tiny"])
@pytest.mark.parametrize("name", CASES)
def test_functions_of_models(name: str, kind: str) -> None:
    rng = np.random.default_rng(5)
    for variables, degree in ((1, 5), (2, 3), (3, 1), (0, 2)):
        z = random_model(rng, monomials(variables, degree), (2,), 6, 2, kind)
        if kind != "tiny":
            scale = 10.0 ** rng.uniform(-4, 0, (6, 2)) / np.maximum(z.spread(), 1e-300)
            scale *= 0.3 if name in (*UNIT, *POSITIVE, "reciprocal") else 1.0
            z = TaylorModel(z.basis, z.terms * scale, z.error * scale)
            z.terms[0] = (
                rng.uniform(-0.6, 0.6, (6, 2)) if name not in (*POSITIVE, "reciprocal") else rng.uniform(0.5, 3, (6, 2))
            )
        result = function(node_of(name), z)
        for _ in range(12):
            at = (int(rng.integers(6)), int(rng.integers(2)))
            xi, eps, share = random_point(rng, variables), random_point(rng, 2), Fraction(int(rng.choice([-1, 1])))
            x = value(z, at, xi, eps, share)
            exact = _exact(name, x) if _defined(name, float(x)) else None
            assert exact is None or holds(result, at, xi, eps, exact), (name, kind, at, xi)


def test_all_functions_are_covered() -> None:
    unary = {name for name, card in OPERATORS.items() if isinstance(card, UnaryOperator)}
    assert unary == {name.split()[0] for name in CASES}


# ---- graphs ----


def _objects(arrays):
    return [np.vectorize(lambda v: Fraction(float(v)), otypes=[object])(a) for a in arrays]


def _linear_models() -> dict[str, Model]:
    """One linear operator each, with parameters that may be off by a radius."""
    rng = np.random.default_rng(6)

    def built(size, build):
        builder = GraphBuilder()
        x = builder.input((size,), "x")
        out = build(builder, x)
        return finish(builder, [out], (Tensor("x", (size,)),), (Tensor("y", builder.shape(out)),), "model")

    W, b = rng.normal(size=(4, 3)), rng.normal(size=3)
    kernel = rng.normal(size=(2, 1, 2, 2))
    pads = {"strides": (1, 1), "pads": ((1, 0), (0, 1)), "dilations": (1, 1), "groups": 1}
    return {
        "dense": built(4, lambda g, x: g.add("dense", [x], [W, b])),
        "doubtful dense": built(4, lambda g, x: g.add("dense", [x], [W, b], radii=[abs(W) * 1e-3, abs(b) * 1e-17])),
        "scale": built(4, lambda g, x: g.add("scale", [x], [W[:, 0], W[:, 1]], radii=[None, abs(W[:, 1]) * 1e-18])),
        "sum": built(4, lambda g, x: g.add("add", [x, x, x], signs=(1, 1, -1))),
        "reduce": built(4, lambda g, x: g.add("reduce_sum", [x], axes=(0,))),
        "constant": built(4, lambda g, x: g.add("add", [x, g.add("constant", [], [W[:, 2]], radii=[abs(W[:, 2]) * 1e-18])], signs=(1, 1))),
        "moved": built(4, lambda g, x: g.add("concat", [g.add("slice", [x], slices=((3, 2, -2),)), g.add("gather", [x], axis=0, indices=(0, 0))], axis=0)),
        "convolution": built(6, lambda g, x: g.add("conv", [g.add("reshape", [x], shape=(1, 1, 2, 3))], [kernel], **pads)),
    }  # fmt: skip


LINEAR = _linear_models()


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("kind", ["plain", "exact", "huge", "tiny"])
def test_linear_operators(name: str, kind: str) -> None:
    rng = np.random.default_rng(7)
    model = LINEAR[name]
    problem = flat_problem(model, FLOAT64)
    size = model.inputs[0].shape[0]
    z = random_model(rng, monomials(2, 2), (size,), 3, 2, kind)
    result = propagate_models(problem, z)
    for sign in (-1, 0, 1):  # parameters at either end of what they may be
        for _ in range(4):
            at, xi, eps = int(rng.integers(3)), random_point(rng, 2), random_point(rng, 2)
            x = np.array([value(z, (at, i), xi, eps, Fraction(int(rng.choice([-1, 1])))) for i in range(size)], object)
            values = []
            for node in model.graph.nodes:
                if node.op == "input":
                    values.append(x)
                    continue
                weights = _objects(model.parameters[k] for k in node.parameters)
                radii = [model.radii.get(k) for k in node.parameters]
                weights = [
                    w if r is None else w + sign * _objects([np.broadcast_to(r, w.shape)])[0]
                    for w, r in zip(weights, radii, strict=True)
                ]
                card = OPERATORS[node.op]
                if node.op == "constant":
                    values.append(weights[0])
                else:
                    values.append(card.evaluate(np, node, weights, [values[i] for i in node.inputs]))
            exact = np.asarray(values[model.graph.outputs[0]], object).reshape(-1)
            for i, y in enumerate(exact.tolist()):
                assert holds(result, (at, i), xi, eps, Fraction(y)), (name, kind, sign, i)


@pytest.mark.parametrize("op", ["tanh", "relu", "sigmoid", "sin"])
@pytest.mark.parametrize("symbolic", [False, True])
def test_networks(op: str, symbolic: bool) -> None:
    rng = np.random.default_rng(8)
    builder = GraphBuilder()
    x = builder.input((2,), "x")
    sizes = (2, 5, 4, 2)
    layers = [(rng.normal(size=(a, b)), rng.normal(size=b)) for a, b in pairwise(sizes)]
    y = x
    for k, (W, b) in enumerate(layers):
        y = builder.add("dense", [y], [W, b])
        y = builder.add(op, [y]) if k < 2 else y
    first, second = (builder.add("slice", [y], slices=((i, 1, 1),)) for i in range(2))
    y = builder.add("concat", [y, builder.add("product", [first, second])], axis=0)
    problem = flat_problem(finish(builder, [y], (Tensor("x", (2,)),), (Tensor("y", (3,)),), "network"), FLOAT64)
    low = rng.uniform(-1, 1, (4, 2))
    z = box(monomials(2, 3), low, low + np.array([[1e-3], [0.1], [1.0], [3.0]]), [0, 1])
    result = propagate_models(problem, z, symbolic)
    assert symbolic == (result.symbols > 0)
    below, above = result.range()
    for at in range(4):
        for _ in range(15):
            xi = random_point(rng, 2)
            values = [ball(value(z, (at, i), xi, [], Fraction(0))) for i in range(2)]
            with flint.ctx.workprec(BITS):
                for k, (W, b) in enumerate(layers):
                    values = [
                        sum((v * ball(w) for v, w in zip(values, W[:, j], strict=True)), ball(b[j]))
                        for j in range(len(b))
                    ]
                    values = [CASES[op][0](v) if op in CASES and k < 2 else v for v in values]
                values.append(values[0] * values[1])
                for i, v in enumerate(values):
                    assert holds(result, (at, i), xi, [], v)
                    assert not (v < ball(below[at, i]) or v > ball(above[at, i]))


def test_roots_of_sums_of_squares_are_known_at_zero() -> None:
    builder = GraphBuilder()
    v = builder.input((2,), "x")
    squares = [builder.add("square", [builder.add("slice", [v], slices=((i, 1, 1),))]) for i in range(2)]
    total = builder.add("add", squares, signs=(1, 1))
    for signs, known in (((1, 1), True), ((1, -1), False)):
        other = builder.add("add", squares, signs=signs)
        root = builder.add("sqrt", [total if known else other])
        model = finish(builder, [root], (Tensor("x", (2,)),), (Tensor("r", (1,)),), "norm")
        z = box(monomials(2, 3), np.array([[-0.1, -0.2]]), np.array([[0.3, 0.2]]), [0, 1])
        with np.errstate(all="ignore"):
            low, high = propagate_models(flat_problem(model, FLOAT64), z).range()
        assert (np.isfinite(low) & np.isfinite(high)).all() == known
        if known:
            assert low <= 0 and math.sqrt(0.13) <= high <= 0.6
