"""Property and networks joined: nodes, margins and regions (section 3 of the format).

All networks stand one behind the other; their values that occur in rows are collected by one linear node that only moves
numbers, and the last node multiplies them by the coefficients of the rows. Its elements are the margins of all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast_check.linear import Dense, Gather
from holdfast_check.network import Node, demand, read_network
from holdfast_check.property import Property, Region


@dataclass(frozen=True, eq=False)
class Query:
    """What a certificate speaks of. `regions` hold boxes and cases; a case is a tuple of elements of node `output`."""

    nodes: tuple[Node, ...]
    output: int
    inputs: int
    strict: np.ndarray
    regions: tuple[Region, ...]
    names: tuple[tuple[str, int], ...]  # input tensors as a witness names them, and their sizes


def enclosed(q: Fraction) -> tuple[float, float]:
    """The float64 nearest to q, and how far it may be off."""
    return float(q), 0.0 if Fraction(float(q)) == q else abs(float(q)) * 2.0**-50 + 2.0**-1000


def join(prop: Property, files: Mapping[str, bytes]) -> Query:
    """`files` holds the ONNX file of each network of the property."""
    nodes: list[Node] = []
    names: list[tuple[str, int]] = []
    flat: tuple[list[tuple[int, int]], ...] = ([], [])  # node and element of each flat input, of each flat output
    for declared in prop.networks:
        network = read_network(files[declared.name], declared.name, nodes, len(flat[0]))
        tensors, wanted = (list(network.inputs.values()), network.outputs), (declared.inputs, declared.outputs)
        same = [[v.size for v in found] for found in tensors] == [[size for _, size in some] for some in wanted]
        demand(same or not declared.inputs, f"network {declared.name} has other tensors than the property declares")
        names += declared.inputs or [(name, v.size) for name, v in network.inputs.items()]
        for places, found in zip(flat, tensors, strict=True):
            places += [(v.place, e) for v in found for e in range(v.size)]
    used = sorted({v for coefficients, _, _ in prop.rows for v, _ in coefficients})
    fits = len(flat[0]) == prop.inputs and (not used or -used[0] <= len(flat[1]))
    demand(fits, f"the networks have {len(flat[0])} inputs and {len(flat[1])} outputs, the property speaks of others")
    read = [flat[0][v] if v >= 0 else flat[1][-1 - v] for v in used]
    sources = sorted({place for place, _ in read})
    sizes = tuple(nodes[place].size for place in sources)
    index = np.array([sum(sizes[: sources.index(place)]) + e for place, e in read], dtype=np.int64)
    weights, bias = np.zeros((2, len(prop.rows), len(used))), np.zeros((2, len(prop.rows)))  # values and radii
    columns = {v: column for column, v in enumerate(used)}
    for number, (coefficients, c, _) in enumerate(prop.rows):
        bias[:, number] = enclosed(c)
        for v, w in coefficients:
            weights[:, number, columns[v]] = enclosed(w)
    doubt = Dense(weights=weights[1], bias=bias[1]) if weights[1].any() or bias[1].any() else None
    terms, back = (int(np.count_nonzero(weights[0], axis=a).max(initial=1)) for a in (1, 0))
    margins = Dense(weights=weights[0], bias=bias[0], terms=terms, back=back, doubt=doubt)
    gather = Gather(sizes=sizes, index=index, exact=True)
    nodes.append(Node("linear", tuple(sources), len(used), linear=gather, rounds=False))
    nodes.append(Node("linear", (len(nodes) - 1,), len(prop.rows), linear=margins, rounds=False))
    strict = [strict for _, _, strict in prop.rows]
    return Query(tuple(nodes), len(nodes) - 1, prop.inputs, np.array(strict, bool), prop.regions, tuple(names))
