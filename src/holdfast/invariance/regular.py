"""Where right sides and functions of sets must be defined and locally Lipschitz: on the whole set, not only where a row decides.

A bound may hide a pole (tanh(1/x) lies in [-1, 1] everywhere), Nagumo's theorem may not. Arguments of reciprocals must not vanish, those of
logarithms and roots must be positive, tangents keep away from their poles; a mass matrix must not be singular.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from holdfast.bounds.bounder import bounds_of_rows, flat_problem
from holdfast.errors import InputError
from holdfast.graph import Graph, Model, Tensor
from holdfast.invariance.regions import region
from holdfast.invariance.sets import Inequalities
from holdfast.loop import ClosedLoop
from holdfast.operators import GraphBuilder
from holdfast.rigor import FLOAT64
from holdfast.spec.condition import Condition, RowsBuilder
from holdfast.spec.region import Box
from holdfast.spec.row import Row, row
from holdfast.transforms import embed
from holdfast.transforms.compose import finish

_NONZERO = ("reciprocal", "tan")
_POSITIVE = ("log", "sqrt")
_INSIDE = ("asin", "acos")

Prove = Callable[[Condition], bool]


def require_regular(
    loop: ClosedLoop, functions: Sequence[Model], states: Inequalities | None, hull: Box, where: str, prove: Prove
) -> None:  # fmt: skip
    """Raise InputError unless everything is proved to be regular on {x in hull: states} for all disturbances and parameters.

    ``prove`` decides a condition; it is asked only where one bound over the whole hull does not settle the matter.
    """
    models = [loop.dynamics, *functions]
    if loop.singular is not None:
        _require(loop, loop.singular, 0, "nonzero", "the determinant of the mass matrix", states, hull, where, prove)
    for model in models:
        for node, what in _critical(model):
            inner = _arguments(loop, model, node)
            name = model.graph[node].name or model.graph[node].op
            for element in range(inner.outputs[0].shape[0]):
                _require(loop, inner, element, what, f"the argument of {name}", states, hull, where, prove)


def _critical(model: Model) -> list[tuple[int, str]]:
    kinds = {op: "nonzero" for op in _NONZERO} | {op: "positive" for op in _POSITIVE} | {op: "inside" for op in _INSIDE}
    return [(i, kinds[n.op]) for i, n in enumerate(model.graph.nodes) if n.op in kinds]


def _arguments(loop: ClosedLoop, model: Model, node: int) -> Model:
    """The argument of a node (of a tangent: its cosine) as a function of all variables, flat."""
    source = model.graph[node].inputs[0]
    cut = replace(
        model, graph=Graph(model.graph.nodes, model.graph.inputs, (source,)), outputs=(model.outputs[0],), source=None
    )
    builder = GraphBuilder()
    v = builder.input((len(loop.variables),), "variables")
    n = model.inputs[0].shape[0]
    given = v if n == len(loop.variables) else builder.add("slice", [v], slices=((0, n, 1),))
    (z,) = embed(builder, cut, [given])
    size = int(np.prod(builder.shape(z)))
    z = builder.add("reshape", [z], shape=(size,))
    if model.graph[node].op == "tan":
        z = builder.add("cos", [z])
    return finish(
        builder, [z], (Tensor("variables", (len(loop.variables),)),), (Tensor("arguments", (size,)),), "arguments"
    )


def _require(
    loop: ClosedLoop, model: Model, element: int, what: str, name: str, states: Inequalities | None, hull: Box, where: str, prove: Prove
) -> None:  # fmt: skip
    low = np.concatenate([hull.lower, loop.others.lower])[None]
    high = np.concatenate([hull.upper, loop.others.upper])[None]
    unit = np.eye(model.outputs[0].shape[0])[element : element + 1]
    below, above = (
        float(end[0, 0]) for end in bounds_of_rows(flat_problem(model, FLOAT64), low, high, unit, "backward")
    )
    fine = {"nonzero": below > 0 or above < 0, "positive": below > 0, "inside": below > -1 and above < 1}[what]
    if fine:
        return
    z = {element: 1}
    bad: list[list[Row]] = {
        "nonzero": [[row(z, 0, f"{name} <= 0"), row({element: -1}, 0, f"{name} >= 0")]],
        "positive": [[row(z, 0, f"{name} <= 0")]],
        "inside": [[row(z, 1, f"{name} <= -1")], [row({element: -1}, 1, f"{name} >= 1")]],
    }[what]
    if prove(_condition(loop, model, states, hull, bad, name)):
        return
    wanted = {"nonzero": "must not vanish", "positive": "must be positive", "inside": "must lie inside (-1, 1)"}[what]
    raise InputError(f"{where}: {name} {wanted} on the set, where it is only known to lie in [{below:g}, {above:g}]")


def _condition(
    loop: ClosedLoop, model: Model, states: Inequalities | None, hull: Box, bad: list[list[Row]], name: str
) -> Condition:  # fmt: skip
    rows = RowsBuilder()
    features = model
    within: list[Row] = []
    if states is not None:
        builder = GraphBuilder()
        v = builder.input((len(loop.variables),), "variables")
        n = len(loop.states)
        x = v if n == len(loop.variables) else builder.add("slice", [v], slices=((0, n, 1),))
        parts = [embed(builder, model, [v])[0], embed(builder, states.functions, [x])[0]]
        first = builder.shape(parts[0])[0]
        output = builder.add("concat", parts, axis=0)
        features = finish(builder, [output], model.inputs, (Tensor("features", builder.shape(output)),), "features")
        within = [g.moved(first) for g in states.sides]
    cases = tuple(rows.case([*within, *case]) for case in bad)
    return Condition(
        f"{name} stays regular", loop.variables, features, tuple(rows.rows), (region(hull, loop.others, cases),)
    )
