"""Builds a `Graph` node by node, checking shapes with the cards as it goes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from holdfast.graph import Graph, Node, Shape
from holdfast.operators.registry import INPUT, OPERATORS


class GraphBuilder:
    """Append-only construction; positions returned by `input` and `add` name the values.

    Parameters get canonical keys p0, p1, ... in order, so that equal architectures give equal graphs. An array object
    that is passed again (with the same radius object) keeps its key: constants are shared. ``radii`` maps keys to
    elementwise bounds on |real value - stored value|, for the parameters that float64 cannot hold exactly.
    """

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._inputs: list[int] = []
        self._parameters: dict[str, np.ndarray] = {}
        self._keys: dict[tuple[int, int], str] = {}  # identities are stable: the arrays are kept alive below
        self.radii: dict[str, np.ndarray] = {}

    def __getitem__(self, position: int) -> Node:
        return self._nodes[position]

    def __len__(self) -> int:
        return len(self._nodes)

    def shape(self, position: int) -> Shape:
        """Shape of a value built before."""
        return self._nodes[position].shape

    def input(self, shape: Shape, name: str = "") -> int:
        """A new variable of the network."""
        self._inputs.append(len(self._nodes))
        self._nodes.append(Node(INPUT, (), tuple(shape), name=name))
        return len(self._nodes) - 1

    def add(
        self, op: str, inputs: Sequence[int], parameters: Sequence[np.ndarray] = (), *, name: str = "", rounds: bool = True,
        radii: Sequence[np.ndarray | None] = (), part: int = 0, **attributes: Hashable,
    ) -> int:  # fmt: skip
        """A new node; raises ValueError with a sentence where shapes do not fit.

        ``radii``: none, or one entry per parameter: None (exact) or an array that broadcasts to the parameter's shape.
        """
        arrays = [np.asarray(p, np.float64) for p in parameters]
        bounds = list(radii) or [None] * len(arrays)
        if len(bounds) != len(arrays):
            raise ValueError(f"{len(bounds)} radii were given for {len(arrays)} parameters")
        input_shapes = tuple(self._nodes[i].shape for i in inputs)
        shape = OPERATORS[op].shape(input_shapes, [a.shape for a in arrays], attributes)
        keys = [self._key(array, radius) for array, radius in zip(arrays, bounds, strict=True)]
        ordered = tuple(sorted(attributes.items()))
        self._nodes.append(
            Node(op, tuple(inputs), tuple(shape), input_shapes, ordered, tuple(keys), rounds, name, part)
        )
        return len(self._nodes) - 1

    def _key(self, array: np.ndarray, radius: np.ndarray | None) -> str:
        if radius is not None and np.shape(radius) != array.shape:
            radius = np.array(np.broadcast_to(np.asarray(radius, np.float64), array.shape))
        identity = (id(array), id(radius))
        if identity not in self._keys:
            key = self._keys[identity] = f"p{len(self._parameters)}"
            self._parameters[key] = array
            if radius is not None:
                self.radii[key] = radius
        return self._keys[identity]

    @property
    def inputs(self) -> tuple[int, ...]:
        """Positions of the variables."""
        return tuple(self._inputs)

    def build(self, outputs: Sequence[int]) -> tuple[Graph, dict[str, np.ndarray]]:
        """The finished graph and its parameters."""
        return Graph(tuple(self._nodes), tuple(self._inputs), tuple(outputs)), dict(self._parameters)
