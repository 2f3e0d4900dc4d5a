"""Structure of a computation: nodes in topological order, hashable, without a single weight.

Two networks of one architecture have equal graphs and share one compiled program.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One application of an operator.

    ``shape`` and ``input_shapes`` are those of the ONNX file (its own batch axis, usually 1, included); the engine
    puts any number of further axes in front. ``inputs`` are positions of earlier nodes. ``parameters`` are keys into
    the parameter dictionary. ``rounds`` tells whether a floating-point execution of the network rounds here (false
    for the inner nodes of a decomposition whose result is exact, such as max(a, b) = b + relu(a - b)). ``name``
    is that of the ONNX node it came from; ``part`` numbers the nonlinear nodes of one ONNX node (-1 where two ONNX
    nodes have the same name).
    """

    op: str
    inputs: tuple[int, ...]
    shape: Shape
    input_shapes: tuple[Shape, ...] = ()
    attributes: tuple[tuple[str, Hashable], ...] = ()
    parameters: tuple[str, ...] = ()
    rounds: bool = True
    name: str = field(default="", compare=False)
    part: int = field(default=0, compare=False)

    def __getitem__(self, attribute: str) -> Any:
        for key, value in self.attributes:
            if key == attribute:
                return value
        raise KeyError(attribute)


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, with the positions of inputs and outputs."""

    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """For each node the positions of the nodes that read it (once per reading)."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for position, node in enumerate(self.nodes):
            for source in node.inputs:
                readers[source].append(position)
        return tuple(tuple(r) for r in readers)

    @cached_property
    def _hash(self) -> int:
        return hash((self.nodes, self.inputs, self.outputs))

    def __hash__(self) -> int:  # a graph is a key of compiled programs: hash it once
        return self._hash

    def __getitem__(self, position: int) -> Node:
        return self.nodes[position]

    def __len__(self) -> int:
        return len(self.nodes)
