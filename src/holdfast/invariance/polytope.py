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

from holdfast.errors import InputError
from holdfast.graph import Model, Tensor
from holdfast.invariance.features import Coordinates, enclose_matrix, features, linear_forms
from holdfast.invariance.frames import Form, Frame, frame_of, frames
from holdfast.invariance.regions import product, side
from holdfast.invariance.sets import basis
from holdfast.loop import ClosedLoop
from holdfast.operators import GraphBuilder
from holdfast.spec.condition import Condition, RowsBuilder
from holdfast.spec.query import Region
from holdfast.spec.region import Box, number, refined
from holdfast.spec.row import Row, row
from holdfast.spec.temporal import BoxSet, Polytope
from holdfast.transforms import embed, simplify
from holdfast.transforms.compose import finish
from holdfast.transforms.live_elements import LiveElements, live_elements


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
    return _coordinates(states, frame_of(states, rows))


def face_conditions(loop: ClosedLoop, states: Polytope, where: str) -> tuple[list[Condition], list[list[int]]]:
    """What is to be proved of the faces (plants given by a differential equation), and each face's basis of coordinates.

    Faces that follow each other, in the same coordinates and with the same part of the loop, are regions of one condition.
    """
    faces = sides_of(states)
    found = frames(states, [face.k for face in faces])
    groups: list[tuple[Frame, _Part, list[Side]]] = []
    parts: dict[tuple[int, ...], _Part] = {}
    for face, frame in zip(faces, found, strict=True):
        speeds = tuple(i for i, c in enumerate(states.H[face.k]) if c)
        if speeds not in parts:
            parts[speeds] = _Part.of(loop, speeds)
        part = parts[speeds]
        if groups and groups[-1][0] is frame and groups[-1][1].speeds == part.speeds:
            groups[-1][2].append(face)
        else:
            groups.append((frame, part, [face]))
    conditions = [_faces(loop, states, group, frame, part, where) for frame, part, group in groups]
    return conditions, [list(frame.rows) for frame in found]


@dataclass(frozen=True, eq=False)
class _Part:
    """The part of a loop that some components of the right side depend on."""

    speeds: tuple[int, ...]
    states: tuple[int, ...]  # what it reads, among the states
    others: tuple[int, ...]  # and among disturbances and parameters
    live: LiveElements

    @staticmethod
    def of(loop: ClosedLoop, speeds: tuple[int, ...]) -> _Part:
        live, n = live_elements(loop.dynamics, speeds), len(loop.states)
        inputs = live.inputs.tolist()
        return _Part(speeds, tuple(i for i in inputs if i < n), tuple(i - n for i in inputs if i >= n), live)


def _faces(
    loop: ClosedLoop, states: Polytope, faces: Sequence[Side], frame: Frame, part: _Part, where: str
) -> Condition:
    """No flow out of these faces. What a face does not depend on stays at its middle: splitting it is of no use."""
    wanted, ties = frame.support(part.states)
    rows = list(dict.fromkeys(face.k for face in faces))
    model = _flow_through(loop, states, rows, ties, frame, part)
    builder, regions = RowsBuilder(), []
    cut = _other_rows(states, ties, len(rows))
    others = _at_middle(loop.others, [i for i in range(len(loop.others)) if i not in part.others])
    for face in faces:
        out = row({rows.index(face.k): -1 if face.upper else 1}, 0, f"flow out of {_name(states, face)}", strict=True)
        place = frame.rows.index(face.k)
        box = _box(states, frame.rows, face)
        if states.lower[face.k] is not None and states.upper[face.k] is not None:
            box = side(box, place, face.upper)
        box = _at_middle(box, [j for j, k in enumerate(frame.rows) if k not in wanted and j != place])
        regions.append(Region(product(box, others), (builder.case([*cut, out]),)))
    names = (*(f"row {k + 1}" for k in frame.rows), *loop.disturbances, *loop.parameters)
    what = _name(states, faces[0]) if len(faces) == 1 else f"{len(faces)} faces"
    return Condition(f"{where}: no flow out of {what}", names, model, tuple(builder.rows), tuple(regions), rough=False)


def _flow_through(
    loop: ClosedLoop, states: Polytope, rows: Sequence[int], ties: Sequence[int], frame: Frame, part: _Part
) -> Model:
    """(y, disturbances, parameters) -> H_k f for ``rows``, then H_i (x - center) for ``ties``."""
    n, width = len(states.center), len(loop.variables)
    at = {k: j for j, k in enumerate(frame.rows)}
    forms = [{at[k]: c for k, c in frame.states[i].items()} for i in part.states]
    forms += [{n + i: Fraction(1)} for i in part.others]
    shift = [*(states.center[i] for i in part.states), *(Fraction(0) for _ in part.others)]
    if not forms:  # a constant flow: `live_elements` keeps one input
        forms, shift = [{0: Fraction(1)}], [Fraction(0)]
    builder = GraphBuilder()
    y = builder.input((width,), "variables")
    (flow,) = embed(builder, part.live.model, [_linear(builder, y, forms, shift)])
    speeds = {i: j for j, i in enumerate(part.speeds)}
    outputs = [_linear(builder, flow, [{speeds[i]: c for i, c in enumerate(states.H[k]) if c} for k in rows])]
    if ties:
        outputs.append(_linear(builder, y, [{at[k]: c for k, c in frame.row(i).items()} for i in ties]))
    output = outputs[0] if len(outputs) == 1 else builder.add("concat", outputs, axis=0)
    tensors = (Tensor("variables", (width,)),)
    size = (len(rows) + len(ties),)
    return simplify(finish(builder, [output], tensors, (Tensor("features", size),), "flow through faces")).model


def _linear(builder: GraphBuilder, x: int, forms: Sequence[Form], shift: Sequence[Fraction] | None = None) -> int:
    """Sparse exact forms of a flat value."""
    weights, radii = np.zeros((2, builder.shape(x)[0], len(forms)))
    for j, form in enumerate(forms):
        for i, c in form.items():
            near = number(c)
            weights[i, j], radii[i, j] = near.lower, near.upper - near.lower
    if shift is None or not any(shift):
        return builder.add("dense", [x], [weights], radii=[radii if radii.any() else None])
    bias, lost = enclose_matrix([shift])
    return builder.add("dense", [x], [weights, bias[0]], radii=[radii, lost[0]])


def _at_middle(box: Box, places: Sequence[int]) -> Box:
    middle = {i: number((box.exact_lower(i) + box.exact_upper(i)) / 2) for i in places}
    return refined(box, middle, middle)


def image_condition(loop: ClosedLoop, states: Polytope, where: str) -> tuple[Condition, list[int]]:
    """For maps: no image outside of any side."""
    frame = frame_of(states, basis(states, None))
    sides = sides_of(states)
    shift = [-sum((a * c for a, c in zip(states.H[s.k], states.center, strict=True)), Fraction(0)) for s in sides]
    forms = linear_forms([states.H[s.k] for s in sides], shift, len(loop.states))
    found = features(loop, forms, change=True, value=False, coordinates=_coordinates(states, frame))
    model, ties = found.model, sorted(frame.others)
    if ties:
        at = {k: j for j, k in enumerate(frame.rows)}
        model = _appended(model, [{at[k]: c for k, c in frame.others[i].items()} for i in ties])
    cut = _other_rows(states, ties, len(sides))
    builder, cases = RowsBuilder(), []
    for j, s in enumerate(sides):
        end = (states.upper if s.upper else states.lower)[s.k]
        assert found.change == 0 and end is not None
        sign = -1 if s.upper else 1
        beyond = row({j: sign}, -sign * end, f"next state beyond {_name(states, s)}", strict=True)
        cases.append(builder.case([*cut, beyond]))
    region = Region(product(_box(states, frame.rows, None), loop.others), tuple(cases))
    names = (*(f"row {k + 1}" for k in frame.rows), *loop.disturbances, *loop.parameters)
    return Condition(f"{where}: the next state stays inside", names, model, tuple(builder.rows), (region,)), list(
        frame.rows
    )


def _coordinates(states: Polytope, frame: Frame) -> Coordinates:
    matrix = tuple(map(tuple, frame.dense()))
    return Coordinates(matrix, states.center, tuple(f"row {k + 1}" for k in frame.rows))


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


def _other_rows(states: Polytope, ties: Sequence[int], first: int) -> list[Row]:
    """The inequalities of rows that are no coordinates, over the features from ``first`` on."""
    result = []
    for place, k in enumerate(ties):
        high, low = states.upper[k], states.lower[k]
        if high is not None:
            result.append(row({first + place: 1}, -high, _name(states, Side(k, True))))
        if low is not None:
            result.append(row({first + place: -1}, low, _name(states, Side(k, False))))
    return result


def _appended(model: Model, forms: Sequence[Form]) -> Model:
    builder = GraphBuilder()
    v = builder.input(tuple(model.inputs[0].shape), "variables")
    parts = [embed(builder, model, [v])[0], _linear(builder, v, forms)]
    width = sum(builder.shape(p)[0] for p in parts)
    output = builder.add("concat", parts, axis=0)
    return finish(builder, [output], model.inputs, (Tensor("features", (width,)),), model.name)


def _name(states: Polytope, face: Side) -> str:
    end = (states.upper if face.upper else states.lower)[face.k]
    return f"row {face.k + 1} {'<=' if face.upper else '>='} {float(end if end is not None else 0):g}"
