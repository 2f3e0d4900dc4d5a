"""Evaluation of a graph on points: the value itself, on NumPy or JAX arrays, batched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from holdfast.graph import Graph
from holdfast.operators import INPUT, OPERATORS


def evaluate(graph: Graph, parameters: Mapping[str, Any], inputs: Sequence[Any], xp: Any = np) -> list[Any]:
    """Values of all nodes (index by position; outputs are ``[values[i] for i in graph.outputs]``).

    ``inputs``: one array per graph input, shape (*lead, *node.shape) with common leading axes.
    """
    values: list[Any] = [None] * len(graph)
    for position, x in zip(graph.inputs, inputs, strict=True):
        values[position] = x
    for position, node in enumerate(graph.nodes):
        if node.op != INPUT:
            arguments = [values[i] for i in node.inputs]
            values[position] = OPERATORS[node.op].evaluate(
                xp, node, [parameters[k] for k in node.parameters], arguments
            )
    return values
