"""Sets of states as a problem file writes them -> spec.temporal, checked exactly: shapes, rank, definiteness, emptiness.

Part of the reading of problem files, see `problem`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import flint
import numpy as np

from holdfast.load.expression import COMPARISONS, Comparison, parse_comparison
from holdfast.load.formula_atoms import Atoms
from holdfast.load.problem_controller import read_conditions
from holdfast.load.problem_fields import Place, array, intervals, number, string, table
from holdfast.load.problem_plant import Formulas
from holdfast.spec.formula import Formula, Predicates, both
from holdfast.spec.plant import Function, Plant
from holdfast.spec.temporal import BoxSet, Conditions, Ellipsoid, Level, Polytope, SetOfStates

SHAPES = ("where", "box", "polytope", "ellipsoid", "level")
_Row = tuple[Fraction, ...]


def read_set(
    place: Place,
    value: Any,
    plant: Plant,
    formulas: Formulas,
    functions: Mapping[str, Function],
    *,
    within: bool = False,
) -> SetOfStates:
    """One set; ``within``: all of it must lie in the domain of the plant, else only some of it."""
    fields = table(place, value, SHAPES)
    if len(fields) != 1:
        place.fail(f"found {', '.join(fields) or 'nothing'}, expected exactly one of {', '.join(SHAPES)}")
    ((shape, given),) = fields.items()
    where, states = place.at(shape), plant.signals.states
    match shape:
        case "where":
            values, strict, texts = read_conditions(where, given, formulas, ("states", "parameters", "schedule"))
            return Conditions(values, strict, texts, _taken_apart(where, texts, formulas))
        case "box":
            ends = intervals(where, given, states, "state")
            if not ends:
                where.fail("found no interval, expected at least one")
            box = BoxSet({states.index(name): pair for name, pair in ends.items()})
            _check_domain(where, [box.ends.get(i, (None, None)) for i in range(len(states))], plant, within)
            return box
        case "polytope":
            return _polytope(where, given, plant, within)
        case "ellipsoid":
            return _ellipsoid(where, given, plant, within)
    return _level(where, given, functions)


def _taken_apart(place: Place, texts: Sequence[str], formulas: Formulas) -> Predicates | None:
    """The same conditions over smoother atoms, None where nothing can be taken apart."""
    atoms = Atoms(formulas.algebra())
    parts = [compiled(place, parse_comparison(text), text, formulas, atoms) for text in texts]
    if len(atoms.forms) == len(texts):
        return None
    return predicates(place, both(parts), formulas, atoms)


def compiled(place: Place, comparison: Comparison, text: str, formulas: Formulas, atoms: Atoms) -> Formula:
    """A comparison as a formula over atoms, which are collected."""
    form = formulas.condition(place, atoms.algebra, comparison)
    formulas.only(place, atoms.algebra, [form], ("states", "parameters", "schedule"))
    return atoms.formula(form, comparison.relation in COMPARISONS[2:], text)


def predicates(place: Place, formula: Formula, formulas: Formulas, atoms: Atoms) -> Predicates:
    """The formula with its atoms compiled."""
    forms = {f"condition {i}": form for i, form in enumerate(atoms.forms)}
    values = formulas.model(place, atoms.algebra, forms)
    return Predicates(formula, values, tuple(atoms.strict), tuple(atoms.texts))


def _level(place: Place, value: Any, functions: Mapping[str, Function]) -> Level:
    fields = table(place, value, ("function", "at_most", "at_least"), ("function",))
    name = check_function(place.at("function"), fields["function"], functions)
    at_most, at_least = (number(place.at(k), fields[k]) if k in fields else None for k in ("at_most", "at_least"))
    if at_most is None and at_least is None:
        place.fail("at_most or at_least is missing")
    if at_most is not None and at_least is not None and at_least >= at_most:
        place.fail(f"at_least = {fields['at_least']} is not below at_most = {fields['at_most']}")
    return Level(name, at_most, at_least)


def check_function(place: Place, value: Any, functions: Mapping[str, Function]) -> str:
    """The name of a function of the file."""
    name = string(place, value)
    if name not in functions:
        place.fail(f"unknown function {name}; known: {', '.join(functions) or 'none, [functions] is empty'}")
    return name


def _vector(place: Place, value: Any, size: int) -> _Row:
    return tuple(number(place.at(i), x) for i, x in enumerate(array(place, value, size, "an array of numbers")))


def _matrix(place: Place, value: Any, columns: int, rows: int | None = None) -> tuple[_Row, ...]:
    listed = array(place, value, rows, "an array of rows")
    return tuple(_vector(place.at(i), row, columns) for i, row in enumerate(listed))


def _exact(matrix: Sequence[Sequence[Fraction]]) -> flint.fmpq_mat:
    entries = [flint.fmpq(x.numerator, x.denominator) for row in matrix for x in row]
    return flint.fmpq_mat(len(matrix), len(matrix[0]), entries)


def _fraction(x: flint.fmpq) -> Fraction:
    return Fraction(int(x.p), int(x.q))


def _polytope(place: Place, value: Any, plant: Plant, within: bool) -> Polytope:
    size = len(plant.signals.states)
    fields = table(place, value, ("H", "lower", "upper", "center"), ("H",))
    rows = _matrix(place.at("H"), fields["H"], size)
    if not rows:
        place.at("H").fail("found no rows")
    for i, row in enumerate(rows):
        if not any(row):
            place.at("H").at(i).fail("found a row of zeros, which bounds nothing")
    lower, upper = (_ends(place.at(k), fields.get(k), len(rows), sign) for k, sign in (("lower", -1), ("upper", 1)))
    center = _vector(place.at("center"), fields["center"], size) if "center" in fields else (Fraction(0),) * size
    if all(a is None and b is None for a, b in zip(lower, upper, strict=True)):
        place.fail("lower and upper are missing, at least one is needed")
    for i, (a, b) in enumerate(zip(lower, upper, strict=True)):
        if a is not None and b is not None and a > b:
            place.fail(f"the polytope is empty: lower[{i}] = {float(a):g} exceeds upper[{i}] = {float(b):g}")
    rank = _exact(rows).rref()[1]
    if rank < size:
        place.at("H").fail(
            f"H has rank {rank}, the {size} states need rank {size} (a polytope bounded in all directions)"
        )
    if len(rows) > size and _empty(rows, lower, upper):
        place.fail("the polytope is empty: no point satisfies all rows")
    if plant.domain is not None and any(plant.bounded):
        _check_domain(place, _polytope_box(rows, lower, upper, center, plant), plant, within)
    return Polytope(rows, lower, upper, center)


def _ends(place: Place, value: Any, size: int, sign: int) -> tuple[Fraction | None, ...]:
    """One side of a polytope; infinity of the right sign, or an absent key, leaves rows open."""
    if value is None:
        return (None,) * size
    infinite = Decimal("inf") * sign
    listed = array(place, value, size, "an array of numbers")
    return tuple(None if x == infinite else number(place.at(i), x) for i, x in enumerate(listed))


def _bounds(rows: Sequence[_Row], lower: Sequence[Fraction | None], upper: Sequence[Fraction | None]) -> dict[str, Any]:
    """H z <= upper, -H z <= -lower as floating-point arrays, rows scaled to one."""
    matrix, right = [], []
    for row, a, b in zip(rows, lower, upper, strict=True):
        scale = max(map(abs, row)) or Fraction(1)
        for sign, end in ((1, b), (-1, a)):
            if end is not None:
                matrix.append([float(sign * x / scale) for x in row])
                right.append(float(sign * end / scale))
    return {"A_ub": np.array(matrix), "b_ub": np.array(right), "bounds": (None, None), "method": "highs"}


def _empty(rows: Sequence[_Row], lower: Sequence[Fraction | None], upper: Sequence[Fraction | None]) -> bool:
    """Whether a linear program calls the polytope infeasible (0 inside is seen without one)."""
    from scipy.optimize import linprog

    if all((a is None or a <= 0) and (b is None or b >= 0) for a, b in zip(lower, upper, strict=True)):
        return False
    return bool(linprog(np.zeros(len(rows[0])), **_bounds(rows, lower, upper)).status == 2)


def _polytope_box(
    rows: Sequence[_Row], lower: Sequence[Fraction | None], upper: Sequence[Fraction | None], center: _Row, plant: Plant
) -> list[tuple[Fraction | None, Fraction | None]]:
    """Its box by linear programs, shrunk by their tolerance: this only serves to refuse mistakes."""
    from scipy.optimize import linprog

    constraints, ends = _bounds(rows, lower, upper), []
    for i, bounded in enumerate(plant.bounded):
        pair: list[Fraction | None] = [None, None]
        for side, sign in enumerate((1, -1)) if bounded else ():
            result = linprog(np.eye(len(center))[i] * sign, **constraints)
            if result.status == 0 and math.isfinite(result.fun):
                slack = 1e-6 * (1.0 + abs(result.fun))
                pair[side] = center[i] + sign * Fraction(result.fun + slack)
        a, b = pair
        if a is not None and b is not None and a > b:
            a = b = (a + b) / 2
        ends.append((a, b))
    return ends


def _ellipsoid(place: Place, value: Any, plant: Plant, within: bool) -> Ellipsoid:
    size = len(plant.signals.states)
    fields = table(place, value, ("center", "P", "level"), ("P", "level"))
    center = _vector(place.at("center"), fields["center"], size) if "center" in fields else (Fraction(0),) * size
    P = _matrix(place.at("P"), fields["P"], size, size)
    level = number(place.at("level"), fields["level"])
    if level < 0:
        place.at("level").fail(f"found {fields['level']}, a negative level makes the ellipsoid empty")
    for i in range(size):
        for j in range(i):
            if P[i][j] != P[j][i]:
                place.at("P").fail(f"P is not symmetric: entries ({i}, {j}) and ({j}, {i}) differ")
    if not positive_definite(P):
        place.at("P").fail("P is not positive definite")
    inverse = _exact(P).inv()
    ends: list[tuple[Fraction | None, Fraction | None]] = []
    for i, c in enumerate(center):  # half-widths are sqrt(level (P^-1)_ii); rounded down, this only refuses mistakes
        half = Fraction(math.sqrt(level * _fraction(inverse[i, i]))) * (1 - Fraction(1, 10**9))
        ends.append((c - half, c + half))
    _check_domain(place, ends, plant, within)
    return Ellipsoid(center, P, level)


def positive_definite(P: Sequence[Sequence[Fraction]]) -> bool:
    """Whether all pivots of the elimination of a symmetric matrix are positive, exactly."""
    work = [list(row) for row in P]
    for k, row in enumerate(work):
        if row[k] <= 0:
            return False
        for below in work[k + 1 :]:
            factor = below[k] / row[k]
            if factor:
                for j in range(k, len(row)):
                    below[j] -= factor * row[j]
    return True


def _check_domain(
    place: Place, ends: Sequence[tuple[Fraction | None, Fraction | None]], plant: Plant, within: bool
) -> None:
    """Refuses a box of states that misses the domain, or leaves it where it must lie inside."""
    if plant.domain is None:
        return
    for i, (name, bounded) in enumerate(zip(plant.signals.states, plant.bounded, strict=True)):
        if not bounded:
            continue
        a, b = ends[i]
        low, high = plant.domain.exact_lower(i), plant.domain.exact_upper(i)
        if (a is not None and a > high) or (b is not None and b < low):
            place.fail(f"the set lies outside the domain of {name}, [{float(low):g}, {float(high):g}]")
        if within and ((a is not None and a < low) or (b is not None and b > high)):
            found = f"[{'-inf' if a is None else f'{float(a):g}'}, {'inf' if b is None else f'{float(b):g}'}]"
            place.fail(f"the set leaves the domain of {name}, [{float(low):g}, {float(high):g}]: found {found}")
