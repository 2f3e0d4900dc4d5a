"""Conditions about functions of the states: decrease on a band, nothing leaves through a face, one set inside another.

Level sets of Lyapunov functions: {h <= b} cannot be left, and {h <= a} is reached from it, if h decreases along the flow wherever
a <= h <= b and the flow does not leave the domain where h <= b (Khalil, Nonlinear Systems, 3rd ed., theorem 4.2 and section 8.2). General sets of
inequalities: on each piece of the boundary its function must decrease. docs/certificates/loops.md, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from holdfast.errors import InputError
from holdfast.graph import Model, Tensor
from holdfast.invariance.features import Coordinates, Features, features
from holdfast.invariance.oblique import Oblique
from holdfast.invariance.regions import region, side, sides
from holdfast.invariance.sets import Enclosed, Inequalities
from holdfast.loop import ClosedLoop
from holdfast.operators import GraphBuilder
from holdfast.spec.condition import Condition, RowsBuilder
from holdfast.spec.region import Box
from holdfast.spec.row import Row, row
from holdfast.transforms import embed
from holdfast.transforms.compose import finish


@dataclass(frozen=True, eq=False)
class Sublevel:
    """{x in D : h(x) <= top}: ``h`` Model (n,) -> (1,), ``name`` what messages call it; levels are enclosed.

    ``stripped``: h lacks its outer sigmoid, so that messages tell levels as the file writes them.
    """

    h: Model
    top: Enclosed
    domain: Box
    name: str
    stripped: bool = False

    def said(self, level: Enclosed) -> str:
        """A level for people."""
        c = float(level[1])
        return f"{1 / (1 + math.exp(-c)):.6g}" if self.stripped else f"{c:.6g}"

    def below(self, at: int, level: Enclosed) -> Row:
        """h <= level, over the feature ``at``."""
        return row({at: 1}, -level[1], f"{self.name} <= {self.said(level)}", doubt=level[1] - level[0])

    def above(self, at: int, level: Enclosed, strict: bool = False) -> Row:
        """h >= level."""
        return row({at: -1}, level[0], f"{self.name} >= {float(level[0]):.6g}", strict, level[1] - level[0])


def reached(loop: ClosedLoop, s: Sublevel, bottom: Enclosed, axes: Oblique | None = None) -> list[Condition]:
    """What proves that {h <= bottom} is reached from {h <= top}, and neither is left (bottom = top: only that).

    ``axes``, here and below: coordinates in which the region is a box; None: the states.
    """
    if loop.kind == "map":
        return [step(loop, s, bottom, axes)]
    return [decrease(loop, s, bottom, axes), stay(loop, s)]


def decrease(loop: ClosedLoop, s: Sublevel, bottom: Enclosed, axes: Oblique | None = None) -> Condition:
    """Dh < 0 where bottom <= h <= top."""
    f, place, within = _seen(loop, s.h, s.domain, axes, change=True)
    value, change = _at(f.value), _at(f.change)
    rows = RowsBuilder()
    growing = row({change: -1}, 0, f"{s.name} does not decrease along the flow")
    case = rows.case([s.below(value, s.top), s.above(value, bottom), growing, *within])
    return _condition(loop, f"{s.name} decreases on the band", f, rows, [(place, [case])], axes)


def stay(loop: ClosedLoop, s: Sublevel) -> Condition:
    """No flow out of the domain where h <= top."""
    f = features(loop, s.h, flow=True)
    value, flow = _at(f.value), _at(f.flow)
    rows, places = RowsBuilder(), []
    for i, upper in sides(loop.states):
        out = row({flow + i: -1 if upper else 1}, 0, f"{loop.states[i]} leaves the domain", strict=True)
        places.append((side(s.domain, i, upper), [rows.case([s.below(value, s.top), out])]))
    return _condition(loop, f"{s.name} <= {s.said(s.top)} is not left through a face of the domain", f, rows, places)


def step(loop: ClosedLoop, s: Sublevel, bottom: Enclosed, axes: Oblique | None = None) -> Condition:
    """Maps: h gets smaller on the band, both sub-level sets are mapped into themselves, nothing leaves the domain."""
    f, place, here = _seen(loop, s.h, s.domain, axes, change=True, flow=True)
    value, after, flow = _at(f.value), _at(f.change), _at(f.flow)
    rows, cases = RowsBuilder(), []
    within = s.below(value, s.top)
    if bottom[0] < s.top[0]:
        growing = row({value: 1, after: -1}, 0, f"{s.name} does not decrease in the next step")
        cases.append(rows.case([within, s.above(value, bottom), growing, *here]))
    cases.append(rows.case([within, s.above(after, s.top, strict=True), *here]))
    if bottom[0] < s.top[0]:
        cases.append(rows.case([s.below(value, bottom), s.above(after, bottom, strict=True), *here]))
    for i, name in enumerate(loop.states):
        for sign, end in ((-1, s.domain.exact_upper(i)), (1, -s.domain.exact_lower(i))):
            out = row({flow + i: sign}, end, f"next {name} is outside of the domain", strict=True)
            cases.append(rows.case([within, out, *here]))
    return _condition(loop, f"{s.name} decreases from step to step", f, rows, [(place, cases)], axes)


def later(loop: ClosedLoop, kept: Sequence[Sublevel], s: Sublevel, axes: Oblique | None = None) -> Condition:
    """Inside all of ``kept``, which is never left, the function of ``s`` decreases down to its top."""
    values = side_by_side([k.h for k in (*kept, s)], len(loop.states))
    f, place, here = _seen(loop, values, kept[0].domain, axes, change=True)
    last, first = len(kept), _at(f.change)
    rows = RowsBuilder()
    within = [k.below(i, k.top) for i, k in enumerate(kept)]
    if loop.kind == "ode":
        growing = row({first + last: -1}, 0, f"{s.name} does not decrease along the flow")
        cases = [rows.case([*within, s.above(last, s.top), growing, *here])]
    else:
        growing = row({last: 1, first + last: -1}, 0, f"{s.name} does not decrease in the next step")
        leaving = [s.below(last, s.top), s.above(first + last, s.top, strict=True)]
        cases = [rows.case([*within, s.above(last, s.top), growing, *here]), rows.case([*within, *leaving, *here])]
    return _condition(loop, f"{s.name} decreases inside what is kept", f, rows, [(place, cases)], axes)


def inside(
    loop: ClosedLoop, kept: Sequence[Sublevel], where: Box, target: Inequalities, axes: Oblique | None = None
) -> Condition:
    """The part of the box ``where`` that lies in all of ``kept`` lies in the set ``target``."""
    values = side_by_side([*(k.h for k in kept), target.functions], len(loop.states))
    f, place, here = _seen(loop, values, where, axes)
    rows, cases = RowsBuilder(), []
    within = [k.below(i, k.top) for i, k in enumerate(kept)]
    for g in target.sides:
        cases.append(rows.case([*within, g.moved(len(kept)).negated(f"not {g.text}"), *here]))
    for i, name in enumerate(loop.states) if target.domain else ():
        low, high = target.hull.exact_lower(i), target.hull.exact_upper(i)
        if where.exact_lower(i) < low or where.exact_upper(i) > high:
            raise InputError(
                f"the set must lie in the domain: {name} ranges over [{where.lower[i]:g}, {where.upper[i]:g}] here"
            )
    name = f"{{{kept[-1].name} <= {kept[-1].said(kept[-1].top)}}}" if kept else "the initial set"
    return _condition(loop, f"{name} lies inside the next set", f, rows, [(place, cases)], axes)


def boundary(loop: ClosedLoop, states: Inequalities, where: str, axes: Oblique | None = None) -> list[Condition]:
    """Plants given by a differential equation: on each piece of the boundary its function decreases."""
    f, place, within = _seen(loop, states.functions, states.hull, axes, change=True)
    value, change = _at(f.value), _at(f.change)
    conditions = []
    for g in states.sides:
        rows = RowsBuilder()
        others = [h for h in states.sides if h is not g]
        rest = [h.moved(value) for h in others]
        here = [g.moved(value), g.moved(value).negated(f"at the end of {g.text}", strict=False)]
        growing = row({i + change: -c for i, c in g.terms}, 0, f"the flow does not point into {g.text}")
        case = rows.case([*rest, *here, growing, *within])
        purpose = f"{where}: the flow points inwards where {g.text} ends"
        conditions.append(_condition(loop, purpose, f, rows, [(place, [case])], axes))
    if states.domain:
        f = features(loop, states.functions, flow=True)
        value, flow = _at(f.value), _at(f.flow)
        rows, places = RowsBuilder(), []
        for i, upper in sides(loop.states):
            out = row({flow + i: -1 if upper else 1}, 0, f"{loop.states[i]} leaves the domain", strict=True)
            places.append((side(states.hull, i, upper), [rows.case([*(g.moved(value) for g in states.sides), out])]))
        conditions.append(_condition(loop, f"{where}: no flow out of the domain", f, rows, places))
    return conditions


def image(loop: ClosedLoop, states: Inequalities, where: str, axes: Oblique | None = None) -> Condition:
    """Maps: the set is mapped into itself."""
    f, place, here = _seen(loop, states.functions, states.hull, axes, change=True, flow=True)
    value, after, flow = _at(f.value), _at(f.change), _at(f.flow)
    rows, cases = RowsBuilder(), []
    within = [g.moved(value) for g in states.sides]
    for g in states.sides:
        beyond = g.moved(after).negated(f"next: not {g.text}")
        cases.append(rows.case([*within, beyond, *here]))
    for i, name in enumerate(loop.states) if states.domain else ():
        for sign, end in ((-1, states.hull.exact_upper(i)), (1, -states.hull.exact_lower(i))):
            out = row({flow + i: sign}, end, f"next {name} is outside of the domain", strict=True)
            cases.append(rows.case([*within, out, *here]))
    return _condition(loop, f"{where}: the next state stays inside", f, rows, [(place, cases)], axes)


def side_by_side(functions: Sequence[Model], n: int) -> Model:
    """Values of several functions of the states, one behind the other."""
    builder = GraphBuilder()
    x = builder.input((n,), "states")
    parts = [embed(builder, m, [x])[0] for m in functions]
    output = parts[0] if len(parts) == 1 else builder.add("concat", parts, axis=0)
    return finish(builder, [output], (Tensor("states", (n,)),), (Tensor("values", builder.shape(output)),), "values")


def _seen(
    loop: ClosedLoop, h: Model, box: Box, axes: Oblique | None, *, change: bool = False, flow: bool = False
) -> tuple[Features, Box, list[Row]]:
    """Features, the region of the coordinates, and the rows that say of a point of it that the state lies in ``box``."""
    if axes is None:
        return features(loop, h, change=change, flow=flow), box, []
    n = len(loop.states)
    seen = Coordinates(axes.inverse, (Fraction(0),) * n, _names(n))
    f = features(loop, h, change=change, flow=flow, coordinates=seen, states=True)
    return f, axes.hull(box), axes.rows(box, _at(f.states), loop.states)


def _names(n: int) -> tuple[str, ...]:
    return tuple(f"coordinate {k + 1}" for k in range(n))


def _condition(
    loop: ClosedLoop, purpose: str, f: Features, rows: RowsBuilder, places: Sequence[tuple[Box, Sequence[tuple[int, ...]]]],
    axes: Oblique | None = None,
) -> Condition:  # fmt: skip
    n = len(loop.states)
    variables = loop.variables if axes is None else (*_names(n), *loop.variables[n:])
    regions = tuple(region(box, loop.others, tuple(cases)) for box, cases in places)
    return Condition(purpose, variables, f.model, tuple(rows.rows), regions)


def _at(place: int | None) -> int:
    assert place is not None
    return place
