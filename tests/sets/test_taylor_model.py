"""Arithmetic of Taylor models against exact rationals, with zero tolerance: every operation, at corners, edges and inside."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from taylor_points import holds, polynomial, random_model, random_point, room, symbolic, value

from holdfast.sets import taylor_model as tm
from holdfast.sets.monomials import monomials

SHAPES = [(0, 2), (1, 5), (2, 4), (3, 3), (5, 1), (4, 2)]
KINDS = ["plain", "exact", "huge", "tiny", "denormal", "sparse"]
SYMBOLS = [0, 3]
CASES = [(s, k, m) for s in SHAPES for k in KINDS for m in SYMBOLS]
POINTS = 6


def _pairs(seed, variables_degree, kind, symbols, count=2, shape=(2,)):
    """Models that share variables and symbols, and points of all of them."""
    rng = np.random.default_rng([seed, *variables_degree, KINDS.index(kind), symbols])
    basis = monomials(*variables_degree)
    models = [random_model(rng, basis, shape, 2, symbols if i == 0 else symbols // 2, kind) for i in range(count)]
    points = []
    for _ in range(POINTS):
        xi, eps = random_point(rng, basis.variables), random_point(rng, symbols)
        at = (int(rng.integers(2)), *(int(rng.integers(n)) for n in shape))
        shares = [Fraction(int(rng.choice([-1, 1]))) for _ in models]
        points.append((xi, eps, at, [value(m, at, xi, eps, s) for m, s in zip(models, shares, strict=True)]))
    return rng, models, points


@np.errstate(all="ignore")
@pytest.mark.parametrize(("size", "kind", "symbols"), CASES)
def test_sums_products_and_multiples(size, kind, symbols) -> None:
    rng, (a, b), points = _pairs(1, size, kind, symbols)
    factor = rng.normal(size=(2, 2)) * 10.0 ** rng.uniform(-3, 3, (2, 2))
    results = {
        "sum": (tm.add(a, b), lambda x, y, f: x + y),
        "difference": (tm.add(a, b, -1.0), lambda x, y, f: x - y),
        "shifted": (tm.shifted(a, factor), lambda x, y, f: x + f),
        "shifted far": (tm.shifted(a, 1e16), lambda x, y, f: x + Fraction(10**16)),
        "scaled": (tm.scaled(a, factor), lambda x, y, f: x * f),
        "a third": (tm.scaled(a, 1 / 3), lambda x, y, f: x / 3),
        "a tenth": (tm.scaled(a, -0.1), lambda x, y, f: -x / 10),
        "zero": (tm.scaled(a, 0.0), lambda x, y, f: Fraction(0)),
        "product": (tm.multiply(a, b), lambda x, y, f: x * y),
        "square": (tm.multiply(a, a), lambda x, y, f: x * x),
        "other way": (tm.multiply(b, a), lambda x, y, f: x * y),
    }
    for name, (result, exact) in results.items():
        for xi, eps, at, (x, y) in points:
            assert holds(result, at, xi, eps, exact(x, y, Fraction(float(factor[at])))), (name, xi, eps, at)


@np.errstate(all="ignore")
@pytest.mark.parametrize(("size", "kind", "symbols"), CASES)
def test_ranges_and_sizes(size, kind, symbols) -> None:
    _, (a, b), points = _pairs(2, size, kind, symbols)
    for model, which in ((a, 0), (b, 1), (tm.multiply(a, b), None)):
        low, high = model.range()
        most, spread = model.size, model.spread()
        for xi, eps, at, values in points:
            own = eps[: model.symbols]
            x = value(model, at, xi, own, Fraction(1)) if which is None else values[which]
            if not (np.isfinite(low[at]) and np.isfinite(high[at])):
                continue
            assert Fraction(float(low[at])) <= x <= Fraction(float(high[at]))
            slack = 1 + Fraction(1, 2**45)
            assert abs(x) <= Fraction(float(most[at])) * slack
            assert abs(x - Fraction(float(model.terms[(0, *at)]))) <= Fraction(float(spread[at])) * slack


@pytest.mark.parametrize("scale", [1.0, 1e-80, 1e-155, 1e-162, 1e-300, 1e100, 1e160])
def test_range_at_the_vertices_of_squares(scale) -> None:
    rng = np.random.default_rng(3)
    basis = monomials(2, 2)
    terms = np.zeros((len(basis), 400, 1))
    terms[1:3], terms[basis.squares] = rng.uniform(-1, 1, (2, 400, 1)), rng.uniform(-1, 1, (2, 400, 1))
    model = tm.TaylorModel(basis, terms * scale, np.zeros((400, 1)))
    low, high = model.range()
    for b in range(400):
        a, c = model.terms[1:3, b, 0].tolist(), model.terms[basis.squares, b, 0].tolist()
        vertex = [Fraction(p) / (-2 * Fraction(q)) if q else Fraction(1) for p, q in zip(a, c, strict=True)]
        for xi in ([max(min(v, Fraction(1)), Fraction(-1)) for v in vertex], [Fraction(1)] * 2, [Fraction(-1)] * 2):
            x = polynomial(model, (b, 0), xi)
            assert Fraction(float(low[b, 0])) <= x <= Fraction(float(high[b, 0]))


def test_boxes_and_intervals() -> None:
    rng = np.random.default_rng(4)
    special = [0.0, 5e-324, -5e-324, 1.5e-323, 1e-310, 0.1, 0.1 + 2**-56, 1.0, -1.0, 3.3, 1e300, -1e300]
    pairs = [(a, b) for a in special for b in special if a <= b]
    pairs += [tuple(sorted(p)) for p in rng.normal(size=(200, 2)).tolist()]
    low, high = (np.array(side).reshape(-1, 1) for side in zip(*pairs, strict=True))
    for model, width in ((tm.constant(monomials(1, 2), low, high), 0), (tm.box(monomials(1, 2), low, high, [0]), 1)):
        for b in range(len(low)):
            for end in (low[b, 0], high[b, 0]):
                exact = Fraction(float(end))
                middle = Fraction(float(model.terms[0, b, 0]))
                reach = Fraction(float(model.terms[1, b, 0])) if width else Fraction(float(model.error[b, 0]))
                assert abs(exact - middle) <= reach
    points = tm.constant(monomials(1, 1), low, low)
    assert (points.terms[0] == low).all() and not points.error.any()


def _support(model, at, direction):
    """sum_j |l . g_j| + |l| . error: the support of the part that is no polynomial."""
    K = len(model.basis)
    total = Fraction(0)
    for g in model.terms[K:, at]:
        total += abs(sum((d * Fraction(float(x)) for d, x in zip(direction, g, strict=True)), Fraction(0)))
    return total + sum(abs(d) * Fraction(float(e)) for d, e in zip(direction, model.error[at], strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("symbols", "limit"), [(0, 4), (3, 30), (12, 6), (12, 3), (40, 12)])
def test_symbols_are_joined_outward(kind, symbols, limit) -> None:
    rng = np.random.default_rng([5, symbols, limit])
    basis, n = monomials(2, 2), 3
    model = random_model(rng, basis, (n,), 3, symbols, kind)
    K = len(basis)
    found = [tm.reduced(model, limit), tm.joined(model, min(symbols, 2))]
    assert found[0].symbols <= max(limit, 2 * n) and not found[0].error.any()
    assert (found[1].terms[: K + min(symbols, 2)] == model.terms[: K + min(symbols, 2)]).all()
    for result in found:
        assert (result.terms[:K] == model.terms[:K]).all()
        for at in range(3):
            for _ in range(12):
                direction = [Fraction(float(x)) for x in rng.normal(size=n) * (rng.random(n) < 0.7)]
                assert _support(model, at, direction) <= _support(result, at, direction)


def test_errors_become_symbols() -> None:
    rng = np.random.default_rng(6)
    model = random_model(rng, monomials(2, 2), (2, 3), 2, 2)
    chosen = np.array([1, 4])
    result = tm.with_symbols(model, chosen, 5, 7)
    assert result.symbols == 7
    K = len(model.basis)
    flat = model.error.reshape(2, -1)
    assert (result.terms[: K + 2] == model.terms).all() and not result.terms[K + 2 : K + 5].any()
    for j, place in enumerate(chosen):
        own = result.terms[K + 5 + j].reshape(2, -1)
        assert (own[:, place] == flat[:, place]).all() and np.count_nonzero(own) == 2
    left = result.error.reshape(2, -1)
    assert not left[:, chosen].any() and (np.delete(left, chosen, 1) == np.delete(flat, chosen, 1)).all()


def _inner(low, high, at, xi):
    """The points xi' that may stand for xi on a sub-box: |xi'| <= 1 wherever xi is inside."""
    found = []
    for a, b, x in zip(low[at], high[at], xi, strict=True):
        if a <= -1 and b >= 1:
            found.append(x)
            continue
        c = 0.5 * a + 0.5 * b
        r = Fraction(float(tm._radius(np.float64(a), np.float64(b), np.float64(c))))
        found.append((x - Fraction(float(c))) / r)
    return found


@np.errstate(all="ignore")
@pytest.mark.parametrize(("size", "kind", "symbols"), [c for c in CASES if c[0][0]])
def test_parts_of_the_variables(size, kind, symbols) -> None:
    rng, (a,), points = _pairs(7, size, kind, symbols, count=1)
    V = a.basis.variables
    for v in range(V):
        for half, sign in zip(tm.halves(a, v), (-1, 1), strict=True):
            for xi, eps, at, (x,) in points:
                inner = [2 * q - sign if i == v else q for i, q in enumerate(xi)]
                if abs(inner[v]) <= 1:
                    assert holds(half, at, inner, eps, x)
    for tight in (1.0, 0.3, 1e-9, 0.0):
        ends = np.sort(rng.uniform(-1, 1, (2, 2, V)), axis=0)
        middle = 0.5 * (ends[0] + ends[1])
        low, high = middle - tight * (middle - ends[0]), middle + tight * (ends[1] - middle)
        low[:, 0], high[:, 0] = -1.0, 1.0
        part = tm.restricted(a, low, high)
        for xi, eps, at, _ in points:
            b = at[0]
            outer = [
                Fraction(float(p)) + (Fraction(float(q)) - Fraction(float(p))) * (x + 1) / 2
                for p, q, x in zip(low[b], high[b], xi, strict=True)
            ]
            inner = _inner(low, high, b, outer)
            assert all(abs(x) <= 1 for x in inner)
            assert holds(part, at, inner, eps, value(a, at, outer, eps, Fraction(1)))


def test_models_side_by_side() -> None:
    rng = np.random.default_rng(8)
    basis = monomials(2, 2)
    a, b = random_model(rng, basis, (2,), 3, 4), random_model(rng, basis, (1,), 3, 1)
    row = tm.concatenated([a, b])
    assert row.symbols == 4
    for at in range(3):
        xi, eps = random_point(rng, 2), random_point(rng, 4)
        for model, first in ((a, 0), (b, 2)):
            for i in range(model.shape[0]):
                assert polynomial(row, (at, first + i), xi) == polynomial(model, (at, i), xi)
                assert symbolic(row, (at, first + i), eps) == symbolic(model, (at, i), eps)
                assert room(row, (at, first + i), 4) == room(model, (at, i), 4)
    under = tm.stacked([a, random_model(rng, basis, (2,), 2, 0)])
    assert len(under.error) == 5 and (under[np.arange(3)].terms == a.terms).all()


@np.errstate(all="ignore")
def test_what_is_not_known_stays_so() -> None:
    basis = monomials(1, 2)
    sure = tm.box(basis, np.array([[1.0]]), np.array([[2.0]]), [0])
    for bad in (np.nan, np.inf):
        model = tm.TaylorModel(basis, sure.terms, np.full((1, 1), bad))
        results = [tm.add(sure, model), tm.multiply(sure, model), tm.multiply(model, model), tm.scaled(model, 0.0)]
        results += [tm.shifted(model, 1.0), *tm.halves(model, 0), tm.reduced(model, 5), tm.joined(model, 0)]
        results += [tm.multiply(tm.scaled(sure, 0.0), model), tm.restricted(model, -np.ones((1, 1)), np.zeros((1, 1)))]
        for result in results:
            low, high = result.range()
            assert not (low > -1e300).any() and not (high < 1e300).any()
            assert not np.isfinite(result.size).any()
