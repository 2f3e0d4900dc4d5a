"""What an operator's lowering sees: the builder, the node at hand, the constants; and how it says no.

A value is the position of a node in the builder (an int) or a `Constant`; None stands for an omitted optional input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from holdfast.graph import Shape
from holdfast.load.constants import Constant, real
from holdfast.operators import OPERATORS, GraphBuilder, LinearOperator

Value = int | Constant | None
NODE_LIMIT = 2**28  # elements of one value: 2 GiB of float64

Lowered = int | Constant | tuple[int | Constant, ...]


class NotSupported(Exception):
    """The node at hand has no translation; the argument says which variant of the operator."""


@dataclass(frozen=True)
class OnnxNode:
    """A NodeProto, decoded."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = ""

    def get(self, key: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(key, default)

    @property
    def label(self) -> str:
        """Its name, or where it has none that of its first output."""
        return self.name or next((o for o in self.outputs if o), "?")


@dataclass(eq=False)
class Context:
    """State of one translation: grows while nodes are lowered, in order."""

    opset: int
    builder: GraphBuilder = field(default_factory=GraphBuilder)
    node: OnnxNode = OnnxNode("", "", (), ())
    dtype: str = "float32"  # element type of the node's first input
    rounded: list[str] = field(default_factory=list)  # nodes whose float32 executions are not covered
    irregular: bool = False  # onnxruntime is known to refuse what was read leniently here
    repeated: frozenset[str] = frozenset()  # names that several nodes have
    part: int = 0  # nonlinear nodes that the node at hand has made so far

    def add(
        self, op: str, inputs: Sequence[int], parameters: Sequence[Constant | np.ndarray | float] = (), *,
        rounds: bool = True, **attributes: Hashable,
    ) -> int:  # fmt: skip
        """A node of the graph; refuses missing cards, values of absurd size, and parameters that are not finite."""
        if op not in OPERATORS:
            raise NotSupported
        constants = [p if isinstance(p, Constant) else real(p) for p in parameters]
        for constant in constants:
            if (
                not np.isfinite(constant.value).all()
                or not np.isfinite(0.0 if constant.radius is None else constant.radius).all()
            ):
                raise ValueError(f"the constant '{constant.name}' has a value that is not finite")
        name = self.node.label
        nonlinear = not isinstance(OPERATORS[op], LinearOperator)
        position = self.builder.add(
            op, inputs, [c.value for c in constants], name=name, rounds=rounds, radii=[c.radius for c in constants],
            part=(-1 if name in self.repeated else self.part) if nonlinear else 0, **attributes,
        )  # fmt: skip
        self.part += nonlinear
        self.guard(self.builder.shape(position))
        return position

    def guard(self, shape: Sequence[int]) -> None:
        """Refuse a shape before anything of its size is made."""
        if any(n < 0 for n in shape) or math.prod(max(1, n) for n in shape) > NODE_LIMIT or len(shape) > 32:
            raise ValueError(
                f"a value of shape {tuple(shape)} is too large; at most {NODE_LIMIT} elements are accepted"
            )

    def shape(self, value: int | Constant) -> Shape:
        """Shape of a value."""
        return value.shape if isinstance(value, Constant) else self.builder.shape(value)

    def variable(self, value: int | Constant) -> int:
        """The value as a node of the graph (a constant node where it is one)."""
        if isinstance(value, int):
            return value
        if not value.is_float:
            raise ValueError(f"the constant '{value.name}' of type {value.dtype} is used where a float is needed")
        return self.add("constant", (), (value,), rounds=False)

    def reshape(self, x: int, shape: Sequence[int]) -> int:
        """x in another shape; no node where it has it already."""
        return x if tuple(shape) == self.shape(x) else self.add("reshape", (x,), rounds=False, shape=tuple(shape))

    def transpose(self, x: int, permutation: Sequence[int]) -> int:
        """x with its axes in another order."""
        if list(permutation) == list(range(len(self.shape(x)))):
            return x
        return self.add("transpose", (x,), rounds=False, permutation=tuple(permutation))

    def expand(self, x: int, shape: Sequence[int]) -> int:
        """x broadcast to a shape."""
        self.guard(shape)
        return x if tuple(shape) == self.shape(x) else self.add("expand", (x,), rounds=False, shape=tuple(shape))

    def take(self, x: int, axis: int, indices: Sequence[int]) -> int:
        """Positions along an axis: a slice where they are evenly spaced, else a gather."""
        shape = self.shape(x)
        n = len(indices)
        self.guard((*shape[:axis], n, *shape[axis + 1 :]))
        if any(not 0 <= i < shape[axis] for i in indices):
            raise ValueError(f"an index leaves axis {axis} of shape {shape}")
        if list(indices) == list(range(shape[axis])):
            return x
        step = indices[1] - indices[0] if n > 1 else 1
        if n and step and all(b - a == step for a, b in pairwise(indices)):
            slices = tuple((indices[0], n, step) if i == axis else (0, size, 1) for i, size in enumerate(shape))
            return self.add("slice", (x,), rounds=False, slices=slices)
        return self.add("gather", (x,), rounds=False, axis=axis, indices=tuple(int(i) for i in indices))

    def integers(self, value: Value, what: str) -> list[int]:
        """The elements of a constant integer input (a shape, axes ...)."""
        if not isinstance(value, Constant):
            raise NotSupported(f"{what} not constant")
        if value.is_float:
            raise ValueError(f"its {what} are of type {value.dtype}, integers are expected")
        if value.value.ndim > 1:
            raise ValueError(f"its {what} have the shape {value.shape}, a vector is expected")
        return [int(i) for i in value.value.reshape(-1)]

    def axis(self, axis: int, rank: int) -> int:
        """A possibly negative axis, checked."""
        if not -rank <= axis < rank:
            raise ValueError(f"axis {axis} does not exist in an input of rank {rank}")
        return axis % rank

    def axes(self, inputs: Sequence[Value], position: int, rank: int) -> list[int] | None:
        """Axes given as an attribute (older operator sets) or as an input; None where omitted."""
        if len(inputs) > position and inputs[position] is not None:
            axes = self.integers(inputs[position], "axes")
        elif self.node.get("axes") is not None:
            axes = list(self.node.get("axes"))
        else:
            return None
        axes = [self.axis(a, rank) for a in axes]
        if len(set(axes)) != len(axes):
            raise ValueError(f"its axes {axes} repeat one")
        return axes


Handler = Callable[[Context, Sequence[Any]], Lowered]


@dataclass(frozen=True)
class Rule:
    """How one ONNX operator is lowered, and the cards without which it cannot be.

    ``structural``: it only moves numbers, so applied to constants alone it is evaluated at once.
    """

    lower: Handler
    cards: tuple[str, ...] = ()
    structural: bool = False
