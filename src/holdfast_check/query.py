"""Property and networks joined: nodes, margins and regions (section 3 of the format).

All networks stand one behind the other; their values that occur in rows are collected by one linear node that only moves
numbers, and the last node multiplies them by the coefficients of the rows. Its elements are the margins of all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast_check.arithmetic import Unreadable
from holdfast_check.constants import enclosed, tidy
from holdfast_check.linear import Dense, Gather
from holdfast_check.network import Node, counts, doubtful
from holdfast_check.operators import read_network
from holdfast_check.property import Property, Region, Row


@dataclass(frozen=True, eq=False)
class Query:
    """What a certificate speaks of. `regions` hold boxes and cases; a case is a tuple of elements of node `output`."""

    nodes: tuple[Node, ...]
    output: int
    inputs: int
    strict: np.ndarray
    regions: tuple[Region, ...]
    names: tuple[tuple[str, int], ...]  # input tensors as a witness names them, and their sizes
    rows: tuple[Row, ...]  # exact; a variable is the element of node `output` - 1 at its place in `used`
    used: tuple[int, ...]
    obstacle: str  # why float32 executions cannot be covered, or ""


def join(prop: Property, files: Mapping[str, bytes]) -> Query:
    """`files` holds the ONNX file of each network of the property."""
    nodes: list[Node] = []
    names: list[tuple[str, int]] = []
    places: dict[int, tuple[int, int]] = {}  # variable -> node and element of the node
    inputs, outputs, obstacle = 0, 0, ""
    for declared in prop.networks:
        network = read_network(files[declared.name], declared.name, nodes, inputs)
        obstacle = obstacle or network.obstacle
        for kind, given, wanted in (
            ("input", network.inputs, declared.inputs),
            ("output", network.outputs, declared.outputs),
        ):
            sizes, expected = [nodes[n].size for _, _, n in given], [size for _, size in wanted] or [prop.inputs]
            if (sizes != expected) if declared.inputs else (kind == "input" and [sum(sizes)] != expected):
                raise Unreadable(
                    f"network {declared.name} has {kind}s of {sizes} elements, the property declares {expected}"
                )
            for place, (name, _, node) in enumerate(given):
                names += [(wanted[place][0] if wanted else name, nodes[node].size)] if kind == "input" else []
                for e in range(nodes[node].size):
                    places[inputs if kind == "input" else -1 - outputs] = (node, e)
                    inputs, outputs = inputs + (kind == "input"), outputs + (kind == "output")
    used = sorted({v for coefficients, _, _ in prop.rows for v, _ in coefficients})
    missing = next((v for v in used if v not in places), None)
    if missing is not None:
        raise Unreadable(f"the property speaks of output {-1 - missing}, the network has {outputs}")
    if len(used) * len(prop.rows) > 2**27:
        raise Unreadable("the property has too many rows")
    sources = sorted({places[v][0] for v in used})
    starts = dict(zip(sources, np.cumsum([0, *(nodes[n].size for n in sources)]).tolist(), strict=False))
    index = np.array([starts[places[v][0]] + places[v][1] for v in used], dtype=np.int64)
    gather = Gather(sizes=tuple(nodes[n].size for n in sources), index=index, exact=True)
    nodes.append(Node("linear", tuple(sources), len(used), linear=gather, rounds=False))
    matrix = np.full((len(prop.rows), len(used)), Fraction(0), dtype=object)
    columns = {v: column for column, v in enumerate(used)}
    for number, (coefficients, _, _) in enumerate(prop.rows):
        for v, c in coefficients:
            matrix[number, columns[v]] = c
    weights, radius = enclosed(tidy(matrix))
    bias, spread = enclosed(tidy(np.array([c for _, c, _ in prop.rows], dtype=object)))
    terms, back = counts(weights, 1, 0)
    margins = doubtful(Dense(weights=weights, bias=bias, terms=terms, back=back), radius, spread)
    nodes.append(Node("linear", (len(nodes) - 1,), len(prop.rows), linear=margins, rounds=False))
    strict = np.array([s for _, _, s in prop.rows], dtype=bool)
    return Query(
        tuple(nodes), len(nodes) - 1, inputs, strict, prop.regions, tuple(names), prop.rows, tuple(used), obstacle
    )
