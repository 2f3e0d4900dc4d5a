"""verify() on tiny ReLU networks against the exact truth, thresholds at the very optimum included."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from regions import Row, exact_range, forward, least, satisfiable
from tiny import Exact, Tiny, as_property, random_row, tiny_box, tiny_network

from holdfast.bounds.bounder import bound
from holdfast.load.selfcheck import session
from holdfast.search.input_split import InputSplit
from holdfast.verdict import Counterexample, Result, Verdict

VERIFY = importlib.import_module("holdfast.search.verify")
CLEAR = Fraction(1, 8)  # a margin that no float32 rounding of these networks comes near


def random_cases(
    rng: np.random.Generator, tiny: Tiny, low: Exact, high: Exact
) -> tuple[list[list[Row]], Fraction | None]:
    """One row (with its least value), a conjunction, a disjunction, or an equality."""
    drawn = [random_row(rng, tiny, low, high) for _ in range(rng.integers(1, 4))]
    kind = rng.integers(4)
    if kind == 0:
        return [[drawn[0][0]]], drawn[0][1]
    if kind == 1:
        return [[row for row, _ in drawn]], None
    if kind == 2:
        return [[row] for row, _ in drawn], None
    row = drawn[0][0]
    there = Row(row.outputs, row.inputs, row.constant, False)
    back = Row(tuple(-c for c in row.outputs), tuple(-c for c in row.inputs), -row.constant, False)
    return [[there, back]], None


def check_witness(tiny: Tiny, low: Exact, high: Exact, cases: Sequence[Sequence[Row]], found: Counterexample) -> None:
    """The witness lies in the region, violates as replayed, and over the reals too where that is claimed."""
    x = [Fraction(float(v)) for v in next(iter(found.inputs.values())).reshape(-1)]
    for texts in found.decimals.values():
        for i, text in texts.items():
            x[i] = Fraction(text)
    assert all(a <= v <= b for a, v, b in zip(low, x, high, strict=True))
    replayed = [Fraction(float(v)) for v in next(iter(found.outputs.values())).reshape(-1)]
    assert any(all(row.holds(tuple(x), replayed) for row in case) for case in cases)
    if found.proved:
        exact = forward(tiny.layers, tuple(x))
        assert any(all(row.holds(tuple(x), exact) for row in case) for case in cases)


def run(rng: np.random.Generator, folder: Path, seconds: float) -> tuple[Result, bool, Fraction | None]:
    """One random question, its checked answer, the truth, and the distance from it where there is one row."""
    tiny = tiny_network(rng, folder, real=bool(rng.random() < 0.3))
    low, high = tiny_box(rng, tiny.inputs)
    cases, margin = random_cases(rng, tiny, low, high)
    truth = satisfiable(tiny.layers, low, high, cases)
    result = VERIFY.verify(tiny.model, as_property(tiny, low, high, cases), timeout=seconds, workers=1)
    if result.verdict is Verdict.VERIFIED:
        assert not truth
    if result.verdict is Verdict.FALSIFIED:
        assert result.counterexample is not None
        check_witness(tiny, low, high, cases, result.counterexample)
        assert truth or not result.counterexample.proved
    return result, truth, margin


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("splitting", ["inputs", "neurons"])
@pytest.mark.parametrize("attacked", [True, False])
def test_verdicts_are_true(
    seed: int, splitting: str, attacked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verified only if it holds, falsified only with a real witness, and decided wherever the margin is clear."""
    if splitting == "neurons":
        monkeypatch.setattr(InputSplit, "few_matter", lambda _: False)
    if not attacked:  # the search has to find the witnesses
        monkeypatch.setattr(VERIFY, "_attack", lambda *arguments, **options: None)
    decided = 0
    for index in range(15):
        result, truth, margin = run(np.random.default_rng([seed, index]), tmp_path, 0.4)
        decided += result.verdict in (Verdict.VERIFIED, Verdict.FALSIFIED)
        if margin is not None and abs(margin) >= CLEAR:
            # a box without inside is met by float32 numbers only if its ends are
            assert result.verdict is (Verdict.FALSIFIED if truth else Verdict.VERIFIED), (index, result.detail)
    assert decided >= 4


def test_bounds_enclose_the_exact_range(tmp_path: Path) -> None:
    for index in range(40):
        rng = np.random.default_rng([11, index])
        tiny = tiny_network(rng, tmp_path, real=bool(index % 2))
        low, high = tiny_box(rng, tiny.inputs)
        box = as_property(tiny, low, high, [[]]).cases[0].box
        shape = (1, tiny.inputs)
        for method in ("interval", "backward", "optimised"):
            found = bound(tiny.model, box.lower.reshape(shape), box.upper.reshape(shape), method=method)
            for j in range(tiny.outputs):
                bottom, top = exact_range(tiny.layers, low, high, j)
                assert Fraction(float(found.lower[0, j])) <= bottom and top <= Fraction(float(found.upper[0, j]))


def test_at_and_beside_the_optimum(tmp_path: Path) -> None:
    """y <= least is satisfiable, y < least is not: neither may be answered the wrong way round."""
    from tiny import beside

    for index in range(12):
        rng = np.random.default_rng([12, index])
        tiny = tiny_network(rng, tmp_path)
        low, high = tiny_box(rng, tiny.inputs)
        slopes = (Fraction(1), *(Fraction(0),) * (tiny.outputs - 1))
        none = (Fraction(0),) * tiny.inputs
        bottom = least(tiny.layers, low, high, Row(slopes, none, Fraction(0), False))
        for steps, strict in ((0, False), (0, True), (-1, False), (1, True)):
            row = Row(slopes, none, -beside(bottom, steps), strict)
            truth = satisfiable(tiny.layers, low, high, [[row]])
            assert truth == (steps > 0 or (steps == 0 and not strict))
            result = VERIFY.verify(tiny.model, as_property(tiny, low, high, [[row]]), timeout=0.3, workers=1)
            assert not (truth and result.verdict is Verdict.VERIFIED)
            if result.counterexample is not None:
                check_witness(tiny, low, high, [[row]], result.counterexample)


def test_float32_verdicts_hold_for_onnxruntime(tmp_path: Path) -> None:
    """Verified under float32 semantics: no float32 point of the box, run in onnxruntime, satisfies the property."""
    verified = 0
    for index in range(30):
        rng = np.random.default_rng([13, index])
        tiny = tiny_network(rng, tmp_path, real=True)
        low, high = tiny_box(rng, tiny.inputs)
        slopes = (Fraction(1), *(Fraction(0),) * (tiny.outputs - 1))
        bare = Row(slopes, (Fraction(0),) * tiny.inputs, Fraction(0), False)
        bottom = least(tiny.layers, low, high, bare)
        # from what rounding may reach to what it cannot
        row = Row(slopes, bare.inputs, -bottom + Fraction(float(10.0 ** rng.uniform(-8, -4))), False)
        prop = as_property(tiny, low, high, [[row]], semantics="float32")
        result = VERIFY.verify(tiny.model, prop, timeout=0.4, workers=1)
        assert result.semantics == "float32"
        if result.verdict is not Verdict.VERIFIED:
            continue
        verified += 1
        ends = prop.cases[0].box.inside("float32")
        share = np.concatenate([rng.integers(0, 2, (60, tiny.inputs)), rng.random((60, tiny.inputs))])
        points = np.clip((ends[0] + share * (ends[1] - ends[0])).astype(np.float32), *ends)
        runtime = session(tiny.model.source or b"")
        assert runtime is not None
        for x in points[(ends[0] <= ends[1]).all() & np.ones(len(points), bool)]:
            y = runtime.run(None, {"x": x[None]})[0].reshape(-1)
            point = tuple(Fraction(float(v)) for v in x)
            assert not row.holds(point, [Fraction(float(v)) for v in y])
    assert verified > 3


def test_regions_know_a_small_example() -> None:
    """|x| = relu(x) + relu(-x) on [-1, 2]; the checker itself against values known by hand."""
    from regions import Layer

    one = Fraction(1)
    layers = [Layer(((one,), (-one,)), (Fraction(0),) * 2, True), Layer(((one, one),), (Fraction(0),), False)]
    assert exact_range(layers, [-one], [2 * one], 0) == (0, 2)
    for constant, strict, truth in ((0, False, True), (0, True, False), (-1, True, True), (1, False, False)):
        row = Row((one,), (Fraction(0),), Fraction(constant), strict)
        assert satisfiable(layers, [-one], [2 * one], [[row]]) is truth
    both = [
        Row((one,), (Fraction(0),), Fraction(-2), False),
        Row((-one,), (Fraction(0),), Fraction(2), False),
        Row((Fraction(0),), (one,), Fraction(0), False),
    ]
    assert not satisfiable(layers, [-one], [2 * one], [both])  # |x| = 2 and x <= 0
    assert satisfiable(layers, [-2 * one], [2 * one], [both])


def test_polytopes_are_cut_exactly() -> None:
    """Least values over random cuts of a cube equal those of an independent linear program, up to its rounding."""
    from regions import box_vertices, cut, value
    from scipy.optimize import linprog

    rng = np.random.default_rng(3)
    for _ in range(40):
        n = int(rng.integers(1, 4))
        cell = box_vertices([Fraction(-1)] * n, [Fraction(1)] * n)
        rows = []
        for k in range(rng.integers(1, 6)):
            slopes, constant = (
                tuple(Fraction(int(v)) for v in rng.integers(-3, 4, n)),
                Fraction(int(rng.integers(-4, 2))),
            )
            rows.append((slopes, constant))
            cell = cut(cell, rows[-1], 2 * n + k, n)
        goal = rng.integers(-3, 4, n)
        found = linprog(
            goal, A_ub=[[float(s) for s in a] for a, _ in rows], b_ub=[-float(c) for _, c in rows], bounds=[(-1, 1)] * n
        )
        assert bool(cell) == (found.status == 0)
        if cell:
            exact = min(value((tuple(Fraction(int(g)) for g in goal), Fraction(0)), x) for x in cell)
            assert abs(float(exact) - found.fun) < 1e-7
