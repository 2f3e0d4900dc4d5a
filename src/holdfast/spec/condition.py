"""Conditions of a proof about a closed loop, and the `Query` that each one is.

A condition says that no point of its regions satisfies all rows of a case, which is what a query asks; its rows are
linear in a few features (values of sets' functions, their derivatives along the flow, components of the right side).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.graph import Model
from holdfast.operators import GraphBuilder
from holdfast.spec.query import Port, Query, Region
from holdfast.spec.region import number
from holdfast.spec.row import Row
from holdfast.transforms import embed


@dataclass(frozen=True, eq=False)
class Condition:
    """What is to be proved: in no region all rows of one of its cases hold.

    ``features``: Model (N,) -> (F,) of the variables; ``purpose``: what it is good for, a clause. ``rough``: whether many boxes with rough
    ranges are the better way to search (curved boundaries), rather than few with tight ones (faces, that a few boxes settle).
    """

    purpose: str
    variables: tuple[str, ...]
    features: Model
    rows: tuple[Row, ...]
    regions: tuple[Region, ...]
    rough: bool = True

    def query(self) -> Query:
        """The engine's question."""
        builder = GraphBuilder()
        source = builder.input((len(self.variables),), "variables")
        features = [o for o in embed(builder, self.features, [source])]
        width = builder.shape(features[0])[0]
        weights, radii = np.zeros((2, width, len(self.rows)))
        constants = np.zeros(len(self.rows))
        for r, row in enumerate(self.rows):
            constants[r] = number(row.constant).lower  # margins are never too large
            for feature, coefficient in row.terms:
                near = number(coefficient)
                weights[feature, r] = near.lower
                radii[feature, r] = near.upper - near.lower
        inexact = [radii, None] if radii.any() else [None, None]
        graph, parameters = builder.build([builder.add("dense", features[:1], [weights, constants], radii=inexact)])
        ports = tuple(Port("", name, name, i, 1, (1,), "float64") for i, name in enumerate(self.variables))
        return Query(
            graph, parameters, dict(builder.radii), np.array([r.strict for r in self.rows], bool), self.regions,
            self.rows, ports, (), "real", None, {},  # type: ignore[arg-type]  # there is no property file
        )  # fmt: skip


class RowsBuilder:
    """Collects the different rows of the cases of one condition."""

    def __init__(self) -> None:
        self.rows: dict[Row, int] = {}

    def case(self, rows: Sequence[Row]) -> tuple[int, ...]:
        """The numbers of these rows."""
        return tuple(self.rows.setdefault(row, len(self.rows)) for row in rows)
