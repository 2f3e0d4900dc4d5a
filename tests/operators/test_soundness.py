"""Every nonlinear card on every kind of interval: ranges and lines against ball arithmetic, with zero tolerance.

Candidates for a violation are sought in extended precision (the least margin on a grid that zooms in); the worst ones
and the ends are then decided exactly: a line at a point is a sum of dyadic numbers, f a ball of any precision.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

import flint
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from holdfast.graph import Node
from holdfast.operators import OPERATORS, UnaryOperator
from holdfast.rigor import FLOAT32, FLOAT64, PLAIN

_LONG = np.longdouble


@dataclass(frozen=True)
class Case:
    """A card with attributes, its function in ball arithmetic and in extended precision."""

    card: str
    ball: object
    long: object
    attributes: tuple = ()
    positive: bool = False
    unit: bool = False  # defined on [-1, 1]

    @property
    def id(self) -> str:
        return "-".join([self.card, *(f"{k}={v:.3g}" for k, v in self.attributes)])

    @property
    def node(self) -> Node:
        return Node(self.card, (0,), (), ((),), self.attributes)


def _leaky(alpha):
    exact = flint.arb(flint.fmpq(*float(alpha).as_integer_ratio()))
    return Case(
        "leaky_relu",
        lambda z: z if z >= 0 else exact * z,
        lambda z: np.where(z >= 0, z, _LONG(alpha) * z),
        (("alpha", alpha),),
    )


def _clip(low, high):
    a, b = flint.arb(low), flint.arb(high)
    return Case(
        "clip", lambda z: a if z <= a else b if z >= b else z, lambda z: np.clip(z, _LONG(low), _LONG(high)), (("high", high), ("low", low))
    )  # fmt: skip


def _power(n):
    return Case("power", lambda z: z**n, lambda z: z**n, (("exponent", n),))


def _ball_sigmoid(z):
    return 1 / (1 + (-z).exp()) if z >= 0 else z.exp() / (1 + z.exp())


def _long_sigmoid(z):
    e = np.exp(-abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def _ball_softplus(z):
    return z + (-z).exp().log1p() if z >= 0 else z.exp().log1p()


def _ball_sigmoid_derivative(z):
    e = (-abs(z)).exp()
    return e / ((1 + e) * (1 + e))


def _long_sigmoid_derivative(z):
    e = np.exp(-abs(z))
    return e / ((1 + e) * (1 + e))


CASES = [
    Case("relu", lambda z: z if z >= 0 else flint.arb(0), lambda z: np.maximum(z, 0)),
    _leaky(float(np.float32(0.01))), _leaky(0.1), _leaky(3.0), _leaky(-0.5), _leaky(1.0), _leaky(0.0),
    Case("abs", abs, abs),
    _clip(0.0, 6.0), _clip(-1.0, 1.0), _clip(-0.1, 0.7), _clip(-3.0, 0.0), _clip(2.0, 2.0), _clip(-3.4028234663852886e38, 6.0), _clip(-0.3, 1.0),
    Case("sigmoid", _ball_sigmoid, _long_sigmoid),
    Case("tanh", lambda z: z.tanh(), np.tanh),
    Case("exp", lambda z: z.exp(), np.exp),
    Case("log", lambda z: z.log() if z > 0 else flint.arb("-inf"), np.log, positive=True),
    Case("sqrt", lambda z: z.sqrt(), np.sqrt, positive=True),
    Case("square", lambda z: z * z, lambda z: z * z),
    _power(2), _power(3), _power(4), _power(5), _power(7),
    Case("reciprocal", lambda z: 1 / z, lambda z: 1 / z),
    Case("softplus", _ball_softplus, lambda z: np.maximum(z, 0) + np.log1p(np.exp(-abs(z)))),
    Case("sin", lambda z: z.sin(), np.sin),
    Case("cos", lambda z: z.cos(), np.cos),
    Case("tanh_derivative", lambda z: 4 * _ball_sigmoid_derivative(2 * z), lambda z: 4 * _long_sigmoid_derivative(2 * z)),
    Case("sigmoid_derivative", _ball_sigmoid_derivative, _long_sigmoid_derivative),
    Case("tan", lambda z: z.tan(), np.tan),
    Case("atan", lambda z: z.atan(), np.arctan),
    Case("asin", lambda z: z.asin(), np.arcsin, unit=True),
    Case("acos", lambda z: z.acos(), np.arccos, unit=True),
    Case("atan_derivative", lambda z: 1 / (1 + z * z), lambda z: 1 / (1 + z * z)),
]  # fmt: skip

_MAGNITUDES = [
    0.0, 5e-324, 1e-310, 2.3e-308, 1e-300, 1e-170, 1e-45, 2e-38, 1e-20, 1e-8, 1e-3, 0.1, 0.5, 0.7, 1.0, 1.5, math.pi / 2, 2.0, 3.0,
    math.pi, 4.0, 6.0, 2 * math.pi, 10.0, 17.0, 40.0, 88.0, 104.0, 700.0, 746.0, 1000.0, 1e6, 1e9, 1e18, 3e37, 1e60, 1e155, 1e300,
]  # fmt: skip


def _intervals(dtype, positive, unit=False):
    """Pairs of special numbers, points, one ulp, random centres and widths."""
    rng = np.random.default_rng(7)
    most = float(np.finfo(dtype).max)
    special = [m for m in _MAGNITUDES if m < most / 4]
    points = sorted({*special, *(-m for m in special)})
    pairs = list(itertools.combinations_with_replacement(points, 2))
    pairs = [pairs[i] for i in rng.choice(len(pairs), 700, replace=False)] + [(p, p) for p in points]
    pairs += [(p, math.inf) for p in points]  # one ulp wide: see below
    centre = rng.normal(size=900) * 10.0 ** rng.uniform(-4, 2.5, 900)
    width = abs(centre) * 10.0 ** rng.uniform(-7 if dtype == np.float32 else -16, 1, 900)
    width[::3] = 10.0 ** rng.uniform(-3, 1.5, 300)
    pairs += list(zip(centre - width, centre + width, strict=True))
    lower, upper = (np.array(side, dtype) for side in zip(*pairs, strict=True))
    upper = np.where(np.isinf(upper), np.nextafter(lower, dtype(most)), upper)
    if positive:
        lower, upper = np.where(lower < 0, 0 * lower, lower), np.where(upper < 0, -upper, upper)
    if unit:
        steep = np.abs(lower) > 1
        # half of what lies outside goes to within a few ulps of the ends, or to the ends
        lower, upper = (np.where(steep, np.copysign(1 - dtype(1e-7) * np.abs(np.sin(x)), x), x) for x in (lower, upper))
        lower, upper = np.clip(lower, -1, 1), np.clip(upper, -1, 1)
    return np.minimum(lower, upper), np.maximum(lower, upper)


def _arb(x):
    return flint.arb(flint.fmpq(*float(x).as_integer_ratio()))


def _holds(case, slope, shift, z, above):
    """Whether slope z + shift is above (below) f(z), decided exactly."""
    if math.isinf(shift):
        return (shift > 0) == above
    value_at = z
    if (
        case.card in ("exp", "sigmoid", "tanh", "softplus", "tanh_derivative", "sigmoid_derivative")
        and abs(z) > 2000
        and not (case.card == "softplus" and z > 0)
    ):
        value_at = math.copysign(2000.0, z)  # no line of these numbers comes as close to a limit without reaching it
    for precision in (200, 6000):
        with flint.ctx.workprec(precision):
            line = _arb(slope) * _arb(z) + _arb(shift)
            value = case.ball(_arb(value_at))
            below, over = (value, line) if above else (line, value)
            if below <= over:
                return True
            if below > over:
                return False
    raise AssertionError(f"undecided: {case.id} at {z!r}: {slope!r}, {shift!r}")


def _margin(case, slope, shift, z, above):
    """Distance from the line to the function, and the size of the numbers it is the difference of."""
    product, value, shift = slope.astype(_LONG) * z.astype(_LONG), case.long(z.astype(_LONG)), shift.astype(_LONG)
    margin = (product + shift - value) * (1 if above else -1)
    return np.where(np.isnan(margin), np.inf, margin), abs(product) + abs(value) + abs(shift)


def _worst(case, slope, shift, lower, upper, above):
    """The points of least margin on a grid that zooms in three times, in extended precision."""
    left, right = lower.astype(_LONG), upper.astype(_LONG)
    share = np.linspace(0, 1, 17, dtype=_LONG)[:, None]
    best = None
    for _ in range(4):
        z = np.clip((left * (1 - share) + right * share).astype(lower.dtype), lower, upper)
        wide = z.astype(_LONG)
        index = _margin(case, slope, shift, z, above)[0].argmin(0)[None]
        best = np.take_along_axis(z, index, 0)[0]
        left = np.take_along_axis(wide, np.maximum(index - 1, 0), 0)[0]
        right = np.take_along_axis(wide, np.minimum(index + 1, len(share) - 1), 0)[0]
    return best


BACKENDS = {
    "numpy64": (np, FLOAT64, np.float64), "numpy32": (np, FLOAT32, np.float32),
    "jax64": (jnp, FLOAT64, np.float64), "jax32": (jnp, FLOAT32, np.float32),
}  # fmt: skip


def _run(card, xp, node, lower, upper, arithmetic, slopes):
    if xp is np:
        return card.interval(np, node, lower, upper, arithmetic), card.relax(np, node, lower, upper, arithmetic, slopes)

    def both(lower, upper, slopes):
        return card.interval(jnp, node, lower, upper, arithmetic), card.relax(
            jnp, node, lower, upper, arithmetic, slopes
        )

    values, lines = jax.jit(both)(lower, upper, slopes)
    return [np.asarray(v) for v in values], [np.asarray(v) for v in lines]


COMPILED = {case.card: case for case in CASES}  # one case per card is compiled
PAIRS = [
    (case, backend)
    for case in CASES
    for backend in BACKENDS
    if backend.startswith("numpy") or COMPILED[case.card] is case
]


@pytest.mark.parametrize(("case", "backend"), PAIRS, ids=[f"{case.id}-{backend}" for case, backend in PAIRS])
@np.errstate(all="ignore")
def test_a_card_encloses_its_function(case, backend):
    xp, arithmetic, dtype = BACKENDS[backend]
    card, node = OPERATORS[case.card], case.node
    lower, upper = _intervals(dtype, case.positive, case.unit)
    rng = np.random.default_rng(11)
    free = rng.choice([0.0, 0.5, 1.0, -1.0], (card.slopes, len(lower)))
    free = np.where(free < 0, rng.random(free.shape), free).astype(dtype)
    runs = {"jax64": [free], "jax32": [None]}.get(backend, [None, free])  # each run compiles on JAX
    for slopes in runs:
        (low, high), lines = _run(card, xp, node, lower, upper, arithmetic, slopes)
        assert all(a.dtype == dtype and not np.isnan(a).any() for a in (low, high, *lines))
        assert all(np.isfinite(s).all() for s in (lines[0], lines[2]))
        zero = np.zeros_like(low)
        for slope, shift, above in ((*lines[:2], False), (*lines[2:], True), (zero, low, False), (zero, high, True)):
            inside = [z for z in (_worst(case, slope, shift, lower, upper, above), lower, upper)]
            inside += [np.clip(dtype(k), lower, upper) for k in card.split_points(node)]
            for z in inside:
                margin, size = _margin(case, slope, shift, z, above)
                close = np.flatnonzero(
                    ~(margin > 1e-17 * size)
                )  # extended precision, far from its own errors, says yes
                close = np.union1d(close, rng.choice(len(z), 10))
                for i in close:
                    if case.card != "reciprocal" or z[i] != 0:
                        assert _holds(case, float(slope[i]), float(shift[i]), float(z[i]), above), (
                            f"{case.id}: f({z[i]!r}) escapes {slope[i]!r} z + {shift[i]!r}, on [{lower[i]!r}, {upper[i]!r}]"
                        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_product_is_enclosed(backend):
    xp, arithmetic, dtype = BACKENDS[backend]
    card, node = OPERATORS["product"], Node("product", (0, 1), (), ((), ()))
    (xl, xu), rng = _intervals(dtype, False), np.random.default_rng(3)
    order = rng.permutation(len(xl))
    yl, yu = xl[order], xu[order]
    free = rng.choice([0.0, 0.3, 0.5, 1.0], (2, len(xl))).astype(dtype)
    for slopes in (None, free):

        def both(xl, xu, yl, yu, slopes=slopes):
            return card.interval(xp, node, xl, xu, yl, yu, arithmetic), card.relax(
                xp, node, xl, xu, yl, yu, arithmetic, slopes
            )

        (low, high), planes = (jax.jit(both) if xp is jnp else both)(xl, xu, yl, yu)
        planes = [np.asarray(p) for p in planes]
        assert all(p.dtype == dtype and not np.isnan(p).any() for p in (np.asarray(low), np.asarray(high), *planes))
        low, high = np.asarray(low), np.asarray(high)
        for i in range(len(xl)):
            # x y - a x - b y is least at a corner
            for x, y in itertools.product(
                (Fraction(float(xl[i])), Fraction(float(xu[i]))), (Fraction(float(yl[i])), Fraction(float(yu[i])))
            ):
                at = f"[{xl[i]!r}, {xu[i]!r}] x [{yl[i]!r}, {yu[i]!r}]"
                assert low[i] == -np.inf or Fraction(float(low[i])) <= x * y, at
                assert high[i] == np.inf or Fraction(float(high[i])) >= x * y, at
                for (a, b, c), sign in ((planes[:3], 1), (planes[3:], -1)):
                    if math.isinf(c[i]):
                        assert c[i] * sign < 0, at
                        continue
                    assert (
                        sign * (x * y - Fraction(float(a[i])) * x - Fraction(float(b[i])) * y - Fraction(float(c[i])))
                        >= 0
                    ), at


@pytest.mark.parametrize("case", COMPILED.values(), ids=lambda c: c.id)
def test_lines_are_differentiable_in_the_slopes_and_exist_in_plain_arithmetic(case):
    card, node = OPERATORS[case.card], case.node
    lower, upper = _intervals(np.float64, case.positive, case.unit)
    lower, upper = lower[::5], upper[::5]
    slopes = np.full((card.slopes, len(lower)), 0.4)

    def total(slopes, arithmetic):
        lines = card.relax(jnp, node, lower, upper, arithmetic, slopes)
        return sum(jnp.where(jnp.isfinite(a), a, 0.0).sum() for a in lines)

    for arithmetic in (FLOAT64, PLAIN):
        assert not any(np.isnan(a).any() for a in card.relax(np, node, lower, upper, arithmetic, None))
    gradient = jax.jit(jax.grad(total), static_argnums=1)(slopes, FLOAT64)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_a_point_is_enclosed_within_a_few_ulps(case):
    card, node = OPERATORS[case.card], case.node
    z = np.concatenate([np.linspace(0.3, 12, 50), [1e-5, 20.0]])
    z = np.linspace(1e-5, 1.0, 50) if case.unit else z
    z = z if case.positive else np.concatenate([z, -z])
    low, low_shift, high, high_shift = card.relax(np, node, z, z, FLOAT64)
    gap = (high * z + high_shift) - (low * z + low_shift)
    # where the argument is reduced, or divided by a cosine, the error is not relative
    wave = {"sin": 64.0, "cos": 64.0, "tan": 2000 + 400 * np.tan(z) ** 2}.get(case.card, 0.0)
    assert (gap <= (400 * abs(card.function(np, node, z)) + wave) * 2.0**-52 + 1e-305).all()


def test_cards_are_all_covered():
    unary = {name for name, card in OPERATORS.items() if isinstance(card, UnaryOperator)}
    assert unary - {"heaviside"} == {case.card for case in CASES}
