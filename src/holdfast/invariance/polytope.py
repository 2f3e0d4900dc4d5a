"""Boxes, parallelotopes and polytopes: on each face the flow must not point outwards (maps: images stay inside).

Nagumo, Über die Lage der Integralkurven gewöhnlicher Differentialgleichungen, 1942; Blanchini, Set invariance in
control, Automatica 35, 1999, theorem 3.1. A face is looked at in coordinates in which n of the set's rows are the
variables: the region is a box then, and rows that are not among them cut it down (what lifted embeddings do with
annihilators: Harapanahalli, Coogan, L4DC 2026). docs/certificates/loops.md, section 4, methods faces and image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import scipy.linalg

from holdfast.errors import InputError
from holdfast.graph import Model, Tensor
from holdfast.invariance.features import Coordinates, Features, features, linear_forms
from holdfast.invariance.regions import product, side
from holdfast.invariance.sets import basis, inverse
from holdfast.loop import ClosedLoop
from holdfast.operators import GraphBuilder
from holdfast.spec.condition import Condition, RowsBuilder
from holdfast.spec.query import Region
from holdfast.spec.region import Box
from holdfast.spec.row import Row, row
from holdfast.spec.temporal import BoxSet, Polytope
from holdfast.transforms import embed
from holdfast.transforms.compose import finish


@dataclass(frozen=True)
class Side:
    """One inequality: row ``k`` of H at its upper (lower) end."""

    k: int
    upper: bool


def as_polytope(states: BoxSet | Polytope, loop: ClosedLoop, where: str) -> Polytope:
    """A box as the polytope that it is."""
    if isinstance(states, Polytope):
        return states
    n = len(loop.states)
    for i, name in enumerate(loop.states):
        if i not in states.ends:
            raise InputError(f"{where}: the box leaves state {name} open; a bounded set is needed")
    unit = tuple(tuple(Fraction(int(i == j)) for j in range(n)) for i in range(n))
    return Polytope(
        unit, tuple(states.ends[i][0] for i in range(n)), tuple(states.ends[i][1] for i in range(n)), (Fraction(0),) * n
    )


def sides_of(states: Polytope) -> list[Side]:
    """All inequalities: first the upper, then the lower ones."""
    highs = [Side(k, True) for k, end in enumerate(states.upper) if end is not None]
    return highs + [Side(k, False) for k, end in enumerate(states.lower) if end is not None]


def coordinates(states: Polytope, rows: Sequence[int]) -> Coordinates:
    """x = center + H_B^-1 y."""
    turned = inverse([states.H[k] for k in rows])
    if turned is None:
        raise InputError("polytope: the rows chosen as coordinates are linearly dependent")
    return Coordinates(tuple(map(tuple, turned)), states.center, tuple(f"row {k + 1}" for k in rows))


def face_conditions(loop: ClosedLoop, states: Polytope, where: str) -> tuple[list[Condition], list[list[int]]]:
    """One condition per face (plants given by a differential equation), and the bases of coordinates."""
    conditions, bases = [], []
    for face in sides_of(states):
        rows = basis(states, face.k)
        conditions.append(_face(loop, states, face, rows, where))
        bases.append(rows)
    return conditions, bases


def _face(loop: ClosedLoop, states: Polytope, face: Side, rows: list[int], where: str) -> Condition:
    forms = linear_forms([states.H[face.k]], [Fraction(0)], len(loop.states))
    found = features(loop, forms, change=True, value=False, coordinates=coordinates(states, rows))
    found, others = _with_other_rows(loop, states, rows, found)
    builder = RowsBuilder()
    assert found.change is not None
    sign = -1 if face.upper else 1
    what = f"flow out of {_name(states, face)}"
    case = builder.case([*others, row({found.change: sign}, 0, what, strict=True)])
    box = _box(states, rows, face)
    place = rows.index(face.k)
    if states.lower[face.k] is not None and states.upper[face.k] is not None:
        box = side(box, place, face.upper)
    return Condition(
        f"{where}: no flow out of {_name(states, face)}",
        (*(_name(states, Side(k, True)).split(" <=")[0] for k in rows), *loop.disturbances, *loop.parameters),
        found.model, tuple(builder.rows), (Region(product(box, loop.others), (case,)),),
    )  # fmt: skip


def image_condition(loop: ClosedLoop, states: Polytope, where: str) -> tuple[Condition, list[int]]:
    """For maps: no image outside of any side."""
    rows = basis(states, None)
    shift = [
        -sum((a * c for a, c in zip(states.H[s.k], states.center, strict=True)), Fraction(0)) for s in sides_of(states)
    ]
    forms = linear_forms([states.H[s.k] for s in sides_of(states)], shift, len(loop.states))
    found = features(loop, forms, change=True, value=False, coordinates=coordinates(states, rows))
    found, others = _with_other_rows(loop, states, rows, found)
    builder = RowsBuilder()
    cases = []
    for j, s in enumerate(sides_of(states)):
        end = (states.upper if s.upper else states.lower)[s.k]
        assert found.change is not None and end is not None
        sign = -1 if s.upper else 1
        cases.append(
            builder.case(
                [
                    *others,
                    row({found.change + j: sign}, -sign * end, f"next state beyond {_name(states, s)}", strict=True),
                ]
            )
        )
    region = Region(product(_box(states, rows, None), loop.others), tuple(cases))
    names = (*(f"row {k + 1}" for k in rows), *loop.disturbances, *loop.parameters)
    return Condition(f"{where}: the next state stays inside", names, found.model, tuple(builder.rows), (region,)), rows


def _box(states: Polytope, rows: Sequence[int], face: Side | None) -> Box:
    lows, highs = [], []
    for k in rows:
        low, high = states.lower[k], states.upper[k]
        if low is None or high is None:
            assert face is not None and face.k == k  # open on the other side: only the face itself is asked about
            low = high = high if face.upper else low
        assert low is not None and high is not None
        lows.append(low)
        highs.append(high)
    return Box.of(lows, highs)


def _with_other_rows(
    loop: ClosedLoop, states: Polytope, rows: Sequence[int], found: Features
) -> tuple[Features, list[Row]]:
    """The inequalities that are not coordinates, as rows over further features H_i (x - center) = H_i H_B^-1 y."""
    others = [k for k in range(len(states.H)) if k not in rows]
    if not others:
        return found, []
    turned = inverse([states.H[k] for k in rows])
    assert turned is not None
    forms = []
    for k in others:
        sparse = [(j, a) for j, a in enumerate(states.H[k]) if a]
        y = [sum((a * turned[j][i] for j, a in sparse), Fraction(0)) for i in range(len(rows))]
        forms.append([*y, *([Fraction(0)] * len(loop.others))])
    model = _appended(found.model, linear_forms(forms, [Fraction(0)] * len(forms), len(loop.variables)))
    first = model.outputs[0].shape[0] - len(others)
    result = []
    for place, k in enumerate(others):
        high, low = states.upper[k], states.lower[k]
        if high is not None:
            result.append(row({first + place: 1}, -high, _name(states, Side(k, True))))
        if low is not None:
            result.append(row({first + place: -1}, low, _name(states, Side(k, False))))
    return Features(model, found.value, found.change, found.flow), result


def _appended(model: Model, more: Model) -> Model:
    builder = GraphBuilder()
    v = builder.input(tuple(model.inputs[0].shape), "variables")
    parts = [embed(builder, m, [v])[0] for m in (model, more)]
    width = sum(builder.shape(p)[0] for p in parts)
    output = builder.add("concat", parts, axis=0)
    return finish(builder, [output], model.inputs, (Tensor("features", (width,)),), model.name)


def _name(states: Polytope, face: Side) -> str:
    end = (states.upper if face.upper else states.lower)[face.k]
    return f"row {face.k + 1} {'<=' if face.upper else '>='} {float(end if end is not None else 0):g}"


def vertices_volume(states: Polytope) -> float | None:
    """Volume of a parallelotope (as many rows as states), in plain arithmetic; None for other polytopes."""
    if len(states.H) != len(states.center):
        return None
    H = np.array([[float(v) for v in entries] for entries in states.H])
    width = [
        float(high - low)
        for low, high in zip(states.lower, states.upper, strict=True)
        if high is not None and low is not None
    ]
    return float(np.prod(width) / abs(scipy.linalg.det(H)))
