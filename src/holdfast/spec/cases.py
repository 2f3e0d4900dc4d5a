"""From formulas to cases: disjunctive normal form, boxes from simple bounds, refusal of contradictions.

Both VNN-LIB parsers reduce their text bottom-up with these functions, so the two dialects mean the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from holdfast.errors import PropertyError
from holdfast.spec.property import Case, Constraint, Declaration, Polynomial, Role, Variable
from holdfast.spec.region import Box, Number, box_of_numbers, number, refined

MAX_CASES = 200_000
MAX_ATOMS = 20_000_000
MAX_TERMS = 100_000
MAX_DEGREE = 16
_LARGEST = Fraction(2) ** 1000  # coefficients beyond it would overflow float64 in products


class Bound(NamedTuple):
    """A simple bound on one input: variable (flat position over all inputs), side, constant."""

    position: int
    upper: bool
    limit: Number


class Conjunction(NamedTuple):
    """Simple input bounds and all other constraints."""

    bounds: tuple[Bound, ...]
    constraints: tuple[Constraint, ...]


Formula = tuple[Conjunction, ...]  # a disjunction of conjunctions; () is false
TRUE: Formula = (Conjunction((), ()),)


class TooLargeError(ValueError):
    """A formula too large to be written as cases; the message is a clause for the caller's sentence."""


def conjunction(formulas: Iterable[Formula]) -> Formula:
    """Logical and, distributed over the disjunctions; raises TooLargeError where that explodes."""
    bounds: list[Bound] = []
    constraints: list[Constraint] = []
    forks: list[Formula] = []
    for formula in formulas:
        if len(formula) == 1:
            bounds += formula[0].bounds
            constraints += formula[0].constraints
        else:
            forks.append(formula)
    count = math.prod(map(len, forks))
    widest = len(bounds) + len(constraints)
    widest += sum(max((len(c.bounds) + len(c.constraints) for c in fork), default=0) for fork in forks)
    if count > MAX_CASES:
        raise TooLargeError(
            f"the property needs {count} cases in disjunctive normal form, at most {MAX_CASES} are accepted"
        )
    if forks and count * widest > MAX_ATOMS:
        raise TooLargeError(
            f"the property needs {count} cases of up to {widest} conditions, at most {MAX_ATOMS} in all are accepted"
        )
    product: Formula = (Conjunction(tuple(bounds), tuple(constraints)),)
    for fork in forks:
        product = tuple(_join(a, b) for a in product for b in fork)
    return product


def disjunction(formulas: Iterable[Formula]) -> Formula:
    """Logical or."""
    cases = tuple(c for formula in formulas for c in formula)
    if len(cases) > MAX_CASES:
        raise TooLargeError(f"the property has {len(cases)} cases, at most {MAX_CASES} are accepted")
    return cases


def _join(a: Conjunction, b: Conjunction) -> Conjunction:
    # reuse the tuples of one side where the other is empty: equal bounds are then recognised by identity
    return Conjunction(
        a.bounds + b.bounds if a.bounds and b.bounds else a.bounds or b.bounds,
        a.constraints + b.constraints if a.constraints and b.constraints else a.constraints or b.constraints,
    )


def add(a: Polynomial, b: Polynomial, sign: int = 1) -> dict:
    """a + sign * b."""
    total = dict(a)
    for monomial, coefficient in b.items():
        total[monomial] = total.get(monomial, Fraction(0)) + sign * coefficient
    return total


def multiply(a: Polynomial, b: Polynomial) -> dict:
    """a * b; raises TooLargeError where the degree or the number of terms explodes."""
    if len(a) * len(b) > MAX_TERMS:
        raise TooLargeError(f"a product of {len(a)} and {len(b)} terms is too large, at most {MAX_TERMS} are accepted")
    product: dict = {}
    for m, c in a.items():
        for n, d in b.items():
            monomial = tuple(sorted(m + n))
            if len(monomial) > MAX_DEGREE:
                raise TooLargeError(
                    f"a product of degree {len(monomial)} is too high, at most {MAX_DEGREE} is accepted"
                )
            product[monomial] = product.get(monomial, Fraction(0)) + c * d
    return product


def comparison(relation: str, a: Polynomial, b: Polynomial, positions: dict[Variable, int]) -> Formula:
    """a relation b, with relation one of <= >= < > == !=. ``positions``: flat position of each input variable."""
    if relation in (">=", ">"):
        return comparison({">=": "<=", ">": "<"}[relation], b, a, positions)
    difference = add(a, b, -1)
    negated = {m: -c for m, c in difference.items()}
    if relation == "==":
        return conjunction([_atom(difference, False, positions), _atom(negated, False, positions)])
    if relation == "!=":
        return disjunction([_atom(difference, True, positions), _atom(negated, True, positions)])
    return _atom(difference, relation == "<", positions)


def _atom(polynomial: Polynomial, strict: bool, positions: dict[Variable, int]) -> Formula:
    constraint = Constraint.of(polynomial, strict)
    if any(abs(c) > _LARGEST for c in (constraint.constant, *(c for _, c in constraint.terms))):
        raise TooLargeError("a coefficient exceeds the range of float64")
    if not constraint.terms:
        return TRUE if constraint.holds(constraint.constant) else ()
    if len(constraint.terms) == 1 and constraint.degree == 1:
        (((variable,), slope),) = constraint.terms
        if variable in positions:
            try:
                bound = Bound(positions[variable], slope > 0, number(-constraint.constant / slope))
            except OverflowError:
                raise TooLargeError("a bound exceeds the range of float64") from None
            # a strict bound keeps its constraint: the box is closed
            return (Conjunction((bound,), (constraint,) if strict else ()),)
    return (Conjunction((), (constraint,)),)


def assemble(base: Conjunction, choices: Formula, declarations: Sequence[Declaration], name: str) -> tuple[Case, ...]:
    """The cases of base-and-choices; empty ones are dropped.

    Raises PropertyError where an input has no bound on some side, and where no case is left.
    """
    places = [(d.name, i) for d in declarations if d.role is Role.INPUT for i in range(d.size)]
    names = [f"{d.name}{_index(d, i)}" for d in declarations if d.role is Role.INPUT for i in range(d.size)]
    positions = {variable: position for position, variable in enumerate(places)}
    common = _derived(_Corner({}, {}).tightened(base.bounds), base.constraints, positions)
    inverted = _empty(common, names, common.lower.keys() & common.upper.keys())
    if inverted:
        raise PropertyError(f"{name}: the input region is empty: {inverted}")
    template = _box(common, names) if len(common.lower) == len(common.upper) == len(names) else None
    boxes: dict[int, Box | str] = {}
    shared: dict[tuple, Box] = {}
    cases: dict[tuple[int, tuple[Constraint, ...]], Case] = {}
    refusal = "its assertions contradict each other"
    for choice in choices:
        box = boxes.get(id(choice.bounds))
        if box is None:
            corner = common if template else _derived(common.tightened(choice.bounds), choice.constraints, positions)
            box = _region(choice.bounds, corner, template, names, name)
            if isinstance(box, Box):
                box = shared.setdefault((box.lower_text, box.upper_text), box)
            if template:  # otherwise the box depends on the constraints of the choice as well
                boxes[id(choice.bounds)] = box
        if isinstance(box, str):
            refusal = box
            continue
        constraints = tuple(dict.fromkeys((*base.constraints, *choice.constraints)))
        contradiction = _contradiction(constraints)
        if contradiction:
            refusal = contradiction
            continue
        cases.setdefault((id(box), constraints), Case(box, constraints))
    if not cases:
        raise PropertyError(f"{name}: the property can hold nowhere: {refusal}")
    return tuple(cases.values())


class _Corner(NamedTuple):
    lower: dict[int, Number]
    upper: dict[int, Number]

    def tightened(self, bounds: Iterable[Bound]) -> _Corner:
        lower, upper = dict(self.lower), dict(self.upper)
        for position, is_upper, limit in bounds:
            if is_upper:
                known = upper.get(position)
                if known is None or limit.value < known.value:
                    upper[position] = limit
            else:
                known = lower.get(position)
                if known is None or limit.value > known.value:
                    lower[position] = limit
        return _Corner(lower, upper)


def _derived(corner: _Corner, constraints: Sequence[Constraint], positions: dict[Variable, int]) -> _Corner:
    """Missing bounds that linear constraints on inputs imply, such as those of an input declared equal to another."""
    lower, upper = dict(corner.lower), dict(corner.upper)
    linear = [c for c in constraints if c.degree == 1 and all(v in positions for v in c.variables)]
    changed = len(lower) < len(positions) or len(upper) < len(positions)
    while changed:
        changed = False
        for constraint in linear:
            slopes = {positions[m[0]]: slope for m, slope in constraint.terms}
            smallest = {i: (lower if slope > 0 else upper).get(i) for i, slope in slopes.items()}
            unknown = [i for i, limit in smallest.items() if limit is None]
            for i, slope in slopes.items():
                side = upper if slope > 0 else lower
                if i in side or any(j != i for j in unknown):
                    continue
                rest = sum(
                    (slopes[j] * Fraction(v.value) for j, v in smallest.items() if j != i and v), constraint.constant
                )
                try:
                    side[i] = number(-rest / slope)
                    changed = True
                except OverflowError:
                    continue
    return _Corner(lower, upper)


def _region(
    bounds: Sequence[Bound], corner: _Corner, template: Box | None, names: Sequence[str], name: str
) -> Box | str:
    """The box of one case, or the sentence that says why it is empty."""
    if template is not None:
        if not bounds:
            return template
        corner = corner.tightened(bounds)
        touched = {bound.position for bound in bounds}
        return _empty(corner, names, touched) or refined(template, *({i: side[i] for i in touched} for side in corner))
    for side, known in (("lower", corner.lower), ("upper", corner.upper)):
        for position in range(len(names)):
            if position not in known:
                raise PropertyError(f"{name}: input {names[position]} has no {side} bound, every input needs both")
    return _empty(corner, names, range(len(names))) or _box(corner, names)


def _empty(corner: _Corner, names: Sequence[str], positions: Iterable[int]) -> str:
    for i in positions:
        if corner.lower[i].value > corner.upper[i].value:
            return (
                f"input {names[i]} has lower bound {corner.lower[i].text} above its upper bound {corner.upper[i].text}"
            )
    return ""


def _box(corner: _Corner, names: Sequence[str]) -> Box:
    order = range(len(names))
    return box_of_numbers([corner.lower[i] for i in order], [corner.upper[i] for i in order])


def _contradiction(constraints: Iterable[Constraint]) -> str:
    """A sentence where bounds on one variable exclude each other."""
    limits: dict[tuple[Variable, bool], tuple[Fraction, bool]] = {}
    for constraint in constraints:
        if len(constraint.terms) != 1 or len(constraint.terms[0][0]) != 1:
            continue
        (((variable,), slope),) = constraint.terms
        limit, upper = -constraint.constant / slope, slope > 0
        known = limits.get((variable, upper))
        if (
            known is None
            or (limit < known[0] if upper else limit > known[0])
            or (limit == known[0] and constraint.strict)
        ):
            limits[(variable, upper)] = (limit, constraint.strict)
    for (variable, upper), (limit, strict) in limits.items():
        other = limits.get((variable, not upper))
        if upper and other and (other[0] > limit or (other[0] == limit and (strict or other[1]))):
            return f"{variable[0]}_{variable[1]} cannot lie between {_text(other[0])} and {_text(limit)}"
    return ""


def _index(declaration: Declaration, flat: int) -> str:
    if declaration.shape is None:
        return f"_{flat}"
    index = []
    for size in reversed(declaration.shape):
        index.append(flat % size)
        flat //= size
    return f"[{','.join(map(str, reversed(index)))}]" if declaration.shape else ""


def _text(value: Fraction) -> str:
    return repr(float(value)) if math.isfinite(float(value)) else str(value)
