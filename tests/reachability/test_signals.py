"""Operators of signal temporal logic on three-valued signals, against their definition read cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from holdfast.reachability.signals import Signal, evaluate
from holdfast.spec.formula import Formula, atom, negation_normal

END = 12
Truth = Callable[
    [Fraction], bool
]  # of a cell, named by a time in it: integers are instants, halves the intervals around them


def cells(first: Fraction, last: Fraction, discrete: bool) -> list[Fraction]:
    by = Fraction(1) if discrete else Fraction(1, 2)
    return [first + k * by for k in range(int((last - first) / by) + 1)]


def reading(formula: Formula, atoms: list[Truth], t: Fraction, discrete: bool) -> bool:
    """The definition, for signals and windows whose ends are integers."""
    parts = formula.arguments
    match formula.operator:
        case "atom":
            return atoms[formula.atom](t)
        case "!":
            return not reading(parts[0], atoms, t, discrete)
        case "&":
            return all(reading(a, atoms, t, discrete) for a in parts)
        case "|":
            return any(reading(a, atoms, t, discrete) for a in parts)
    assert formula.window is not None
    first, last = formula.window
    window = cells(t + first, t + last, discrete)
    if formula.operator == "G":
        return all(reading(parts[0], atoms, s, discrete) for s in window)
    if formula.operator == "F":
        return any(reading(parts[0], atoms, s, discrete) for s in window)
    for s in window:
        before = [r for r in cells(t, s, discrete) if r < s]
        if s.denominator == 2 and s > t:
            before.append(s)  # there are earlier times in the same interval
        if reading(parts[1], atoms, s, discrete) and all(reading(parts[0], atoms, r, discrete) for r in before):
            return True
    return False


def random_formula(rng: np.random.Generator, depth: int) -> Formula:
    kind = rng.choice(["atom", "!", "&", "|", "G", "F", "U"]) if depth else "atom"
    if kind == "atom":
        return atom(int(rng.integers(2)))
    count = 2 if kind in "&|U" else 1
    arguments = tuple(random_formula(rng, depth - 1) for _ in range(count))
    a = int(rng.integers(0, 3))
    window = (Fraction(a), Fraction(a + int(rng.integers(0, 3)))) if kind in "GFU" else None
    return Formula(str(kind), arguments, window)  # type: ignore[arg-type]


def signal(values: np.ndarray, discrete: bool) -> Signal:
    """From values on cells, (cells, 2, 1); thinned to the instants at which something changes."""
    times = [Fraction(k) for k in range(END + 1)]
    if discrete:
        return Signal(tuple(times), values, True)
    kept = [0] + [i for i in range(1, END + 1) if not (values[2 * i - 1] == values[2 * i]).all()
                  or not (values[2 * i] == values[2 * i + 1]).all()]  # fmt: skip
    rows = [row for i in kept for row in (2 * i, 2 * i + 1)]
    return Signal(tuple(times[i] for i in kept), values[rows], False)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("seed", range(100))
def test_operators_mean_what_they_are_defined_to_mean(seed: int, discrete: bool) -> None:
    rng = np.random.default_rng(seed)
    formula = random_formula(rng, int(rng.integers(1, 4)))
    count = END + 2 if discrete else 2 * END + 2
    possible = rng.random((2, count)) < rng.choice([0.3, 0.6, 0.9])
    known = possible & (rng.random((2, count)) < 0.8)
    values = np.stack([known, possible], 2)
    signals = [signal(v[:, :, None], discrete) for v in values]
    found = evaluate(formula, signals, (Fraction(0), Fraction(0))).values[0, :, 0]
    assert found[0] <= found[1]

    def truths(table: np.ndarray) -> list[Truth]:
        return [lambda t, row=row: bool(row[int(t) if discrete else int(2 * t)]) for row in table]

    # every signal between what is known and what is possible must agree; the ends of monotone formulas are met exactly
    for _ in range(8):
        real = known | (possible & (rng.random(possible.shape) < 0.5))
        truth = reading(formula, truths(real), Fraction(0), discrete)
        assert (not found[0]) or truth
        assert found[1] or not truth
        exact = evaluate(formula, [signal(np.stack([r, r], 1)[:, :, None], discrete) for r in real],
                         (Fraction(0), Fraction(0))).values[0, :, 0]  # fmt: skip
        assert exact[0] == exact[1] == truth
        normal = negation_normal(formula)
        assert reading(normal, truths(real), Fraction(0), discrete) == truth
