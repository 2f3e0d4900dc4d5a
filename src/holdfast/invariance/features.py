"""Graphs whose outputs the rows of conditions read: values of functions, their change along the flow, the right side.

The flow enters through `derivative` (Lie derivatives, ode) or `compose` (values at the next step, map).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.graph import Model, Tensor
from holdfast.loop import ClosedLoop
from holdfast.operators import GraphBuilder
from holdfast.spec.region import number
from holdfast.transforms import directional_derivative, embed, simplify
from holdfast.transforms.compose import finish


@dataclass(frozen=True, eq=False)
class Coordinates:
    """x = center + matrix y, exact: other variables in place of the states."""

    matrix: tuple[tuple[Fraction, ...], ...]
    center: tuple[Fraction, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Features:
    """A Model of the variables, and where its outputs stand.

    ``value``: first of the K values of h(x); ``change``: first of Dh (ode) or of h(f(v)) (map); ``flow``: first of the n
    components of f; ``states``: first of the n states. None: not there.
    """

    model: Model
    value: int | None
    change: int | None
    flow: int | None
    states: int | None


def features(
    loop: ClosedLoop, h: Model | None, *, change: bool = False, flow: bool = False, value: bool = True,
    coordinates: Coordinates | None = None, states: bool = False,
) -> Features:  # fmt: skip
    """The features asked for, of functions ``h`` (n,) -> (K,) of the states."""
    builder = GraphBuilder()
    source = builder.input((len(loop.variables),), "variables")
    n = len(loop.states)
    x, v = source, source
    if len(loop.variables) > n:
        x = builder.add("slice", [source], slices=((0, n, 1),))
    if coordinates is not None:
        x = _changed(builder, x, coordinates)
        rest = len(loop.variables) - n
        v = builder.add("concat", [x, builder.add("slice", [source], slices=((n, rest, 1),))], axis=0) if rest else x
    parts: list[int] = []
    places: dict[str, int] = {}
    width = 0

    def add(name: str, position: int) -> None:
        nonlocal width
        places[name] = width
        parts.append(position)
        width += builder.shape(position)[0]

    f = embed(builder, loop.dynamics, [v])[0] if change or flow else None
    if h is not None and value:
        add("value", embed(builder, h, [x])[0])
    if change:
        assert h is not None and f is not None
        if loop.kind == "map":
            add("change", embed(builder, h, [f])[0])
        else:
            add("change", embed(builder, directional_derivative(h), [x, f])[0])
    if flow:
        assert f is not None
        add("flow", f)
    if states:
        add("states", x)
    output = parts[0] if len(parts) == 1 else builder.add("concat", parts, axis=0)
    tensors = (Tensor("variables", (len(loop.variables),)),)
    model = finish(builder, [output], tensors, (Tensor("features", (width,)),), "features")
    return Features(simplify(model).model, *(places.get(name) for name in ("value", "change", "flow", "states")))


def linear_forms(rows: Sequence[Sequence[Fraction]], constants: Sequence[Fraction], n: int) -> Model:
    """x -> rows x + constants, exact (radii where float64 cannot hold a number)."""
    builder = GraphBuilder()
    x = builder.input((n,), "states")
    weights, radii = enclose_matrix(rows)
    shift, lost = enclose_matrix([constants])
    y = builder.add("dense", [x], [weights.T.copy(), shift[0]], radii=[radii.T.copy(), lost[0]])
    return finish(builder, [y], (Tensor("states", (n,)),), (Tensor("forms", (len(rows),)),), "linear forms")


def sum_of_squares(
    forms: Sequence[Sequence[Fraction]], weights: Sequence[Fraction], center: Sequence[Fraction], constant: Fraction
) -> Model:
    """x -> sum_k weights_k (forms_k (x - center))^2 + constant: quadratic functions without products of variables."""
    builder = GraphBuilder()
    x = builder.input((len(center),), "states")
    shift = [-sum((a * c for a, c in zip(form, center, strict=True)), Fraction(0)) for form in forms]
    matrix, lost = enclose_matrix(forms)
    bias, bias_lost = enclose_matrix([shift])
    z = builder.add("dense", [x], [matrix.T.copy(), bias[0]], radii=[lost.T.copy(), bias_lost[0]])
    squares = builder.add("square", [z])
    factors, factors_lost = enclose_matrix([weights])
    end, end_lost = enclose_matrix([[constant]])
    y = builder.add("dense", [squares], [factors.T.copy(), end[0]], radii=[factors_lost.T.copy(), end_lost[0]])
    return finish(builder, [y], (Tensor("states", (len(center),)),), (Tensor("value", (1,)),), "quadratic function")


def enclose_matrix(rows: Sequence[Sequence[Fraction]]) -> tuple[np.ndarray, np.ndarray]:
    """float64 numbers and bounds on what they are off."""
    values, radii = np.zeros((2, len(rows), len(rows[0]) if rows else 0))
    for i, entries in enumerate(rows):
        for j, entry in enumerate(entries):
            near = number(entry)
            values[i, j], radii[i, j] = near.lower, near.upper - near.lower
    return values, radii


def _changed(builder: GraphBuilder, y: int, coordinates: Coordinates) -> int:
    matrix, lost = enclose_matrix(coordinates.matrix)
    center, center_lost = enclose_matrix([coordinates.center])
    return builder.add("dense", [y], [matrix.T.copy(), center[0]], radii=[lost.T.copy(), center_lost[0]])
