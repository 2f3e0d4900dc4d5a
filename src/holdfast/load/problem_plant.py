"""The [plant] table -> Plant: names, formulas compiled into one Model, boxes of what is unknown, mass matrices solved.

Part of the reading of problem files, see `problem`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from holdfast.graph import Model
from holdfast.load.expression import Comparison, FormulaError, parse
from holdfast.load.formula_graph import model_of, new_algebra
from holdfast.load.formula_normal import Affine, Algebra
from holdfast.load.problem_fields import (
    Place,
    array,
    checked_name,
    choice,
    formula,
    interval,
    intervals,
    names,
    number,
    table,
    whole,
)
from holdfast.spec.plant import Plant, Signals
from holdfast.spec.region import Box

KINDS = ("ode", "map", "implicit-ode")
KEYS = (
    "kind", "states", "inputs", "parameters", "disturbances", "schedule", "definitions", "derivative", "next",
    "accelerations", "mass", "forces", "domain",
)  # fmt: skip
_LARGEST_MASS = 6  # Laplace's expansion of larger matrices would be thousands of products
_READERS = {"ode": ("derivative",), "map": ("next",), "implicit-ode": ("derivative", "accelerations", "mass", "forces")}


@dataclass(frozen=True, eq=False)
class Formulas:
    """What formulas may read: signals, exact constants, definitions; gives a fresh algebra for every Model."""

    signals: Signals
    constants: Mapping[str, Fraction]
    definitions: Mapping[str, str]
    place: Place

    def algebra(self, extra: tuple[str, ...] = ()) -> Algebra:
        """An algebra over the signals and ``extra`` ones behind them."""
        try:
            return new_algebra((*self.signals.names, *extra), self.constants, self.definitions)
        except FormulaError as error:
            self.place.at("definitions").fail(error)

    def form(self, place: Place, algebra: Algebra, value: Any) -> Affine:
        """The normal form of a formula, its errors with their place."""
        try:
            return algebra.normal(parse(formula(place, value)))
        except FormulaError as error:
            place.fail(error)

    def condition(self, place: Place, algebra: Algebra, comparison: Comparison) -> Affine:
        """The form that is <= 0 where the comparison holds."""
        try:
            return algebra.condition(comparison)
        except FormulaError as error:
            place.fail(error)

    def model(self, place: Place, algebra: Algebra, forms: Mapping[str, Affine], extra: int = 0) -> Model:
        """The forms as one Model over the signals and ``extra`` more."""
        try:
            return model_of(algebra, forms, len(self.signals) + extra)
        except FormulaError as error:
            place.fail(error)

    def only(self, place: Place, algebra: Algebra, forms: list[Affine], kinds: tuple[str, ...]) -> None:
        """Refuses forms that read signals of other kinds."""
        everything = self.signals.names
        allowed = {name for kind in kinds for name in getattr(self.signals, kind)} | set(algebra.names) - set(
            everything
        )
        for i in sorted(algebra.reads(forms)):
            if i < len(everything) and everything[i] not in allowed:
                place.fail(f"{everything[i]} cannot be read here; accepted: {', '.join(kinds)}")


def read_plant(place: Place, value: Any) -> tuple[Plant, Formulas]:
    """The plant, and what other formulas of the file need to know of it."""
    fields = table(place, value, KEYS, ("kind", "states"))
    kind = choice(place.at("kind"), fields["kind"], KINDS)
    for key in {"derivative", "next", "accelerations", "mass", "forces"} - set(_READERS[kind]):
        if key in fields:
            place.fail(f"{key} does not belong to kind {kind}, which has {', '.join(_READERS[kind])}")
    formulas, boxes = _signals(place, fields)
    dynamics, singular = _dynamics(place, fields, kind, formulas)
    states = formulas.signals.states
    domain, bounded = None, tuple(False for _ in states)
    if "domain" in fields:
        ends = intervals(place.at("domain"), fields["domain"], states, "state", degenerate=False)
        bounded = tuple(name in ends for name in states)
        domain = box_of([ends.get(name, (Fraction(0), Fraction(0))) for name in states])
    plant = Plant(
        "map" if kind == "map" else "ode", formulas.signals, dynamics, boxes["parameters"], boxes["disturbances"],
        _schedule(place.at("schedule"), fields.get("schedule", {}), kind), domain, bounded, singular,
    )  # fmt: skip
    return plant, formulas


def box_of(ends: list[tuple[Fraction, Fraction]]) -> Box:
    """A box from exact ends, as decimals where they are some: people read them."""
    return Box.of([_readable(a) for a, _ in ends], [_readable(b) for _, b in ends])


def _readable(value: Fraction) -> Decimal | Fraction:
    decimal = Context(prec=60).divide(Decimal(value.numerator), Decimal(value.denominator))
    return decimal if Fraction(decimal) == value else value


def _signals(place: Place, fields: Mapping[str, Any]) -> tuple[Formulas, dict[str, Box]]:
    states = names(place.at("states"), fields["states"], 1)
    inputs = names(place.at("inputs"), fields.get("inputs", []))
    groups = {key: table(place.at(key), fields.get(key, {})) for key in ("parameters", "disturbances", "schedule")}
    definitions = table(place.at("definitions"), fields.get("definitions", {}))
    taken: dict[str, str] = {}
    for key, group in {"states": states, "inputs": inputs, **groups, "definitions": definitions}.items():
        for name in group:
            checked_name(place.at(key), name)
            if name in taken:
                place.at(key).fail(f"the name {name} is used in {taken[name]} already")
            taken[name] = key
    parameters, constants, disturbances = {}, {}, {}
    for name, value in groups["parameters"].items():
        where = place.at("parameters").at(name)
        if isinstance(value, list | tuple):
            parameters[name] = interval(where, value)
        else:
            constants[name] = number(where, value)
    for name, value in groups["disturbances"].items():
        disturbances[name] = interval(place.at("disturbances").at(name), value)
    signals = Signals(states, inputs, tuple(parameters), tuple(disturbances), tuple(groups["schedule"]))
    texts = {name: formula(place.at("definitions").at(name), text) for name, text in definitions.items()}
    boxes = {"parameters": box_of(list(parameters.values())), "disturbances": box_of(list(disturbances.values()))}
    return Formulas(signals, constants, texts, place), boxes


def _schedule(place: Place, value: Any, kind: str) -> tuple[tuple[tuple[Fraction, Fraction], ...], ...]:
    signals = []
    for name, given in table(place, value).items():
        where = place.at(name)
        pieces = []
        for i, piece in enumerate(array(where, given, of="an array of pieces [from, value]")):
            start, level = array(where.at(i), piece, 2, "a piece [from, value]")
            begin = Fraction(whole(where.at(i), start)) if kind == "map" else number(where.at(i), start)
            pieces.append((begin, number(where.at(i), level)))
        if not pieces or pieces[0][0] != 0:
            where.fail("the first piece must start at 0")
        if any(a >= b for (a, _), (b, _) in pairwise(pieces)):
            where.fail("the starts of the pieces must increase")
        signals.append(tuple(pieces))
    return tuple(signals)


def _dynamics(place: Place, fields: Mapping[str, Any], kind: str, formulas: Formulas) -> tuple[Model, Model | None]:
    states, key = formulas.signals.states, "next" if kind == "map" else "derivative"
    implicit: tuple[str, ...] = ()
    if kind == "implicit-ode":
        table(place, fields, None, ("accelerations", "mass", "forces"))
        implicit = names(place.at("accelerations"), fields["accelerations"], 1)
        for name in implicit:
            if name not in states:
                place.at("accelerations").fail(f"unknown state {name}; known: {', '.join(states)}")
    explicit = [name for name in states if name not in implicit]
    given = table(place.at(key), fields.get(key, {}))
    for name in given:
        if name not in explicit:
            reason = "is given by the mass matrix" if name in implicit else "is no state"
            place.at(key).fail(f"{name} {reason}; accepted: {', '.join(explicit)}")
    absent = [name for name in explicit if name not in given]
    if absent:
        place.at(key).fail(f"no formula for {', '.join(absent)}; every state needs one")
    algebra = formulas.algebra()
    forms = {name: formulas.form(place.at(key).at(name), algebra, text) for name, text in given.items()}
    singular = None
    if implicit:
        solved, determinant = _solve(place, fields, implicit, formulas, algebra)
        forms.update(zip(implicit, solved, strict=True))
        singular = formulas.model(place.at("mass"), algebra, {"mass": determinant})
    ordered = {f"{key}.{name}": forms[name] for name in states}
    model = formulas.model(place.at(key), algebra, ordered)
    return replace(model, name="plant"), singular


def _solve(
    place: Place, fields: Mapping[str, Any], implicit: tuple[str, ...], formulas: Formulas, algebra: Algebra
) -> tuple[list[Affine], Affine]:
    """Cramer's rule: component i is det(mass with column i replaced by the forces) / det(mass)."""
    size = len(implicit)
    if size > _LARGEST_MASS:
        place.at("mass").fail(f"{size} accelerations, at most {_LARGEST_MASS} are accepted")
    rows = array(place.at("mass"), fields["mass"], size, "an array of rows")
    matrix = []
    for i, row in enumerate(rows):
        where = place.at("mass").at(i)
        entries = array(where, row, size, "a row of formulas")
        matrix.append([formulas.form(where.at(j), algebra, text) for j, text in enumerate(entries)])
    given = array(place.at("forces"), fields["forces"], size, "an array of formulas")
    forces = [formulas.form(place.at("forces").at(i), algebra, text) for i, text in enumerate(given)]
    try:
        determinant = algebra.determinant(matrix)
        inverse = algebra.reciprocal(determinant)
        replaced = (
            [[*row[:i], force, *row[i + 1 :]] for row, force in zip(matrix, forces, strict=True)] for i in range(size)
        )
        return [algebra.multiply(algebra.determinant(m), inverse) for m in replaced], determinant
    except FormulaError as error:
        place.at("mass").fail(error)
