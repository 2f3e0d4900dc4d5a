"""What a condition depends on: of each node only the elements that its rows need, number by number.

A network of many vehicles is one node per layer, but a condition speaks of one vehicle; and each region of a query has rows of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from holdfast_check.linear import Dense, Gather, Linear, Sum
from holdfast_check.network import Node
from holdfast_check.query import Query

Mask = np.ndarray


def sliced(nodes: Sequence[Node], output: int, rows: Mask | None = None) -> tuple[tuple[Node, ...], int]:
    """The elements `rows` of the output (None: all), the whole input node 0, and what is needed in between, numbered anew."""
    wanted = [np.zeros(node.size, bool) for node in nodes[: output + 1]]
    wanted[output] |= True if rows is None else rows
    for i in range(output, -1, -1):
        if wanted[i].any():
            wanted[i] = whole(nodes[i], wanted[i])
            for j, mask in zip(nodes[i].inputs, needs(nodes[i], wanted[i]), strict=True):
                wanted[j] |= mask
    wanted[0] |= True
    made = Slices(nodes, wanted)
    for i in range(output + 1):
        if wanted[i].any():
            made.add(i)
    return tuple(made.made), made.places[output]


def whole(node: Node, mask: Mask) -> Mask:
    """Of a matrix that is applied to several blocks, and of inputs, nothing less than whole blocks is kept."""
    if node.kind == "input":
        return np.ones(node.size, bool)
    if isinstance(node.linear, Dense) and node.size > len(node.linear.weights):
        blocks = mask.reshape(-1, len(node.linear.weights)).any(axis=1)
        return np.repeat(blocks, len(node.linear.weights))
    return mask


def needs(node: Node, mask: Mask) -> list[Mask]:
    """Of each input the elements that these elements are made of."""
    linear = node.linear
    if linear is None or isinstance(linear, Sum):
        return [mask] * len(node.inputs)
    if isinstance(linear, Gather):
        found = np.zeros(sum(linear.sizes) + 1, bool)
        found[linear.index[mask]] = True
        found[0] |= not found[:-1].any()  # something must be there
        return np.split(found[:-1], np.cumsum(linear.sizes)[:-1])
    m, k = linear.weights.shape
    if node.size > m:
        return [np.repeat(mask.reshape(-1, m).any(axis=1), k)]
    used = (linear.weights[mask] != 0).any(axis=0)
    if linear.doubt is not None:
        used |= (linear.doubt.weights[mask] != 0).any(axis=0)
    used[0] |= not used.any()  # something must be there
    return [used]


@dataclass
class Slices:
    nodes: Sequence[Node]
    wanted: list[Mask]
    made: list[Node] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)

    def append(self, node: Node) -> int:
        self.made.append(replace(node, place=len(self.made)))
        return len(self.made) - 1

    def add(self, i: int) -> None:
        node, mask = self.nodes[i], self.wanted[i]
        read = [j for j in node.inputs if self.wanted[j].any()]
        inputs, kept, linear = [self.places[j] for j in read], [self.wanted[j] for j in read], node.linear
        if isinstance(linear, Gather):
            linear = regathered(linear, mask, [self.wanted[j] for j in node.inputs])
        elif isinstance(linear, Dense) and node.size == len(linear.weights):
            linear = rows_and_columns(linear, mask, kept[0])
        elif node.kind != "input":
            needed = needs(node, mask)
            inputs = [self.only(*given) for given in zip(inputs, needed, kept, strict=True)]
            linear = None if linear is None else elements(linear, mask)
        size = int(mask.sum())
        self.places[i] = self.append(replace(node, inputs=tuple(inputs), size=size, linear=linear, shape=(1, size)))

    def only(self, place: int, needed: Mask, kept: Mask) -> int:
        """A node of just the elements needed, of those that are kept for others as well."""
        if np.array_equal(needed, kept):
            return place
        size = int(needed.sum())
        made = Gather(sizes=(int(kept.sum()),), index=np.flatnonzero(needed[kept]), exact=True)
        return self.append(Node("linear", (place,), size, linear=made, rounds=False, shape=(1, size)))


def regathered(linear: Gather, mask: Mask, kept: Sequence[Mask]) -> Gather:
    new = np.append(np.cumsum(np.concatenate(kept)) - 1, -1)  # -1 reads a zero
    bias = None if linear.bias is None else linear.bias[mask]
    return replace(linear, sizes=tuple(int(k.sum()) for k in kept if k.any()), index=new[linear.index[mask]], bias=bias)


def rows_and_columns(linear: Linear, mask: Mask, kept: Mask) -> Linear:
    doubt = None if linear.doubt is None else rows_and_columns(linear.doubt, mask, kept)
    bias = None if linear.bias is None else linear.bias[mask]
    return replace(linear, weights=np.ascontiguousarray(linear.weights[mask][:, kept]), bias=bias, doubt=doubt)


def elements(linear: Linear, mask: Mask) -> Linear:
    """Of a `Sum` (whose factors may be vectors), or of whole blocks of a `Dense`."""
    bias = None if linear.bias is None else linear.bias[mask]
    weights = linear.weights if isinstance(linear, Dense) or linear.weights.ndim == 1 else linear.weights[:, mask]
    doubt = None if linear.doubt is None else elements(linear.doubt, mask)
    return replace(linear, weights=weights, bias=bias, doubt=doubt)


def parted(query: Query) -> list[Query]:
    """One query for neighbouring regions that have the same rows."""
    found = []
    for rows, regions in groupby(
        query.regions, key=lambda region: sorted({row for case in region.cases for row in case})
    ):
        mask = np.zeros(len(query.strict), bool)
        mask[rows] = True
        new = {row: k for k, row in enumerate(rows)}
        renumbered = tuple(
            region._replace(cases=tuple(tuple(new[row] for row in case) for case in region.cases)) for region in regions
        )
        nodes, output = sliced(query.nodes, query.output, mask)
        found.append(replace(query, nodes=nodes, output=output, strict=query.strict[mask], regions=renumbered))
    return found
