"""A plant with a controller in other coordinates: u = Y (x - c), exact up to enclosed constants.

For sampled loops: remainders that are bounded by boxes are small in all directions if the set of interest is a cube or ball in the
new coordinates (Lohner, Enclosing the solutions of ordinary initial and boundary value problems, 1987, uses the same for wrapping).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import flint
import numpy as np

from holdfast.errors import InputError
from holdfast.graph import Model
from holdfast.operators import GraphBuilder
from holdfast.spec.plant import LoopData, Signals
from holdfast.spec.region import number
from holdfast.transforms import embed, simplify
from holdfast.transforms.compose import finish

Matrix = Sequence[Sequence[Fraction]]


def in_coordinates(data: LoopData, Y: Matrix, center: Sequence[Fraction]) -> LoopData:
    """The same loop with states u = Y (x - center): its solutions are the images of the solutions.

    Plants given by a differential equation only; its domain and functions are left out. InputError where Y has no inverse.
    """
    plant, controller = data.plant, data.controller
    if plant.kind != "ode" or controller is None or controller.plant_inputs is None:
        raise InputError(
            "other coordinates need a plant given by a differential equation, and a controller that picks no row"
        )
    n = len(center)
    try:
        inverse = flint.fmpq_mat(n, n, [flint.fmpq(v.numerator, v.denominator) for r in Y for v in r]).inv()
    except ZeroDivisionError:
        raise InputError("the matrix of new coordinates has no inverse") from None
    back = [[Fraction(int(inverse[i, j].p), int(inverse[i, j].q)) for j in range(n)] for i in range(n)]
    names = tuple(f"coordinate {k + 1}" for k in range(n))
    changed = replace(
        plant,
        signals=replace(plant.signals, states=names),
        dynamics=_lifted(plant.dynamics, plant.signals, back, center, after=Y),
        domain=None,
        bounded=(),
        singular=None if plant.singular is None else _lifted(plant.singular, plant.signals, back, center),
    )
    steered = replace(
        controller,
        network_inputs=_lifted(controller.network_inputs, plant.signals, back, center),
        plant_inputs=_lifted(controller.plant_inputs, plant.signals, back, center),
    )
    return LoopData(changed, steered)


def _lifted(
    model: Model, signals: Signals, back: Matrix, center: Sequence[Fraction], after: Matrix | None = None
) -> Model:
    """model(center + back u, rest), then ``after`` times it."""
    n, width = len(center), model.inputs[0].shape[0]
    assert width >= len(signals)
    builder = GraphBuilder()
    v = builder.input((width,), model.inputs[0].name)
    parts = [_affine(builder, builder.add("slice", [v], slices=((0, n, 1),)), back, center)]
    if width > n:
        parts.append(builder.add("slice", [v], slices=((n, width - n, 1),)))
    joined = parts[0] if len(parts) == 1 else builder.add("concat", parts, axis=0)
    outputs = embed(builder, model, [joined])
    if after is not None:
        outputs = [_affine(builder, outputs[0], after, [Fraction(0)] * n)]
    return simplify(finish(builder, outputs, model.inputs, model.outputs, model.name)).model


def _affine(builder: GraphBuilder, x: int, matrix: Matrix, shift: Sequence[Fraction]) -> int:
    near, lost = _enclosed(matrix)
    bias, bias_lost = _enclosed([shift])
    return builder.add("dense", [x], [near.T.copy(), bias[0]], radii=[lost.T.copy(), bias_lost[0]])


def _enclosed(rows: Matrix) -> tuple[np.ndarray, np.ndarray]:
    balls = [[number(v) for v in row] for row in rows]
    near = np.array([[b.lower for b in row] for row in balls])
    return near, np.array([[b.upper for b in row] for row in balls]) - near
