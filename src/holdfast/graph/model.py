"""A network: a graph, its parameters, and the names the outside world calls its tensors by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from holdfast.graph.graph import Graph, Shape


@dataclass(frozen=True)
class Tensor:
    """A named input or output: ONNX name, shape as the engine uses it, element type of the file."""

    name: str
    shape: Shape
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded network. ``parameters`` are float64 arrays that hold the file's constants exactly.

    Where float64 cannot hold the real value (1/3, a product of constants), ``radii`` maps the parameter's key to an
    elementwise bound on |real value - stored value|; a key that is absent is exact. ``source`` keeps the bytes of the
    (uncompressed) ONNX file for replay in onnxruntime; ``inlined`` external data included. ``replayable`` is false
    for the files that onnxruntime itself refuses. ``rounded`` names nodes of the file whose float32 executions are not
    covered: constants that were computed over the reals and that an execution would round, extreme normalisations.
    ``operators``: the ONNX operators of the file.
    """

    graph: Graph
    parameters: Mapping[str, np.ndarray]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    name: str = ""
    sha256: str = ""
    source: bytes | None = field(default=None, repr=False)
    replayable: bool = True
    radii: Mapping[str, np.ndarray] = field(default_factory=dict)
    rounded: tuple[str, ...] = ()
    operators: frozenset[str] = frozenset()
