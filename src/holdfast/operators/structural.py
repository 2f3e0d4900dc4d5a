"""Structural operators: they move, copy, drop or sum numbers. All linear; all but reduce_sum exact."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.graph import Node, Shape
from holdfast.operators.operator import Array, LinearOperator


def lead_axes(x: Array, rank: int) -> int:
    """How many axes the engine has put in front of the ``rank`` axes of the network."""
    return x.ndim - rank


def set_at(xp: Any, shape: Sequence[int], index: tuple, value: Array, *, accumulate: bool = False) -> Array:
    """Zeros of ``shape`` with ``value`` written (or added, where indices repeat) at ``index``."""
    zeros = xp.zeros(shape, value.dtype)
    if hasattr(zeros, "at"):
        return zeros.at[index].add(value) if accumulate else zeros.at[index].set(value)
    if accumulate:
        xp.add.at(zeros, index, value)
    else:
        zeros[index] = value
    return zeros


class _Structural(LinearOperator):
    exact = True

    def terms(self, node: Node, parameters: Sequence[Array]) -> int:
        return 1

    def magnitude(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        return self.linear(xp, node, parameters, inputs)


class Reshape(_Structural):
    """New shape, same elements in the same order. Attribute: shape."""

    name = "reshape"
    onnx = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        shape = tuple(attributes["shape"])
        if math.prod(shape) != math.prod(input_shapes[0]):
            raise ValueError(f"an input of shape {input_shapes[0]} cannot be reshaped to {shape}")
        return shape

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        (x,) = inputs
        lead = x.shape[: lead_axes(x, len(node.input_shapes[0]))]
        return x.reshape((*lead, *node.shape))

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        lead = output.shape[: lead_axes(output, len(node.shape))]
        return (output.reshape((*lead, *node.input_shapes[0])),)


class Transpose(_Structural):
    """Axes in another order. Attribute: permutation."""

    name = "transpose"
    onnx = ("Transpose",)

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        permutation = attributes["permutation"]
        if sorted(permutation) != list(range(len(input_shapes[0]))):
            raise ValueError(f"{permutation} is not a permutation of the axes of shape {input_shapes[0]}")
        return tuple(input_shapes[0][axis] for axis in permutation)

    def _permute(self, x: Array, permutation: Sequence[int]) -> Array:
        lead = lead_axes(x, len(permutation))
        return x.transpose(*range(lead), *(lead + axis for axis in permutation))

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        return self._permute(inputs[0], node["permutation"])

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        permutation = node["permutation"]
        return (self._permute(output, sorted(range(len(permutation)), key=permutation.__getitem__)),)


class Slice(_Structural):
    """A strided part. Attribute: slices, one (start, count, step) per axis, start >= 0, step of either sign."""

    name = "slice"
    onnx = ("Slice", "Split")

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        shape = input_shapes[0]
        for size, (start, count, step) in zip(shape, attributes["slices"], strict=True):
            last = start + (count - 1) * step
            if count and not (0 <= start < size and 0 <= last < size):
                raise ValueError(f"the slice {attributes['slices']} leaves an input of shape {shape}")
        return tuple(count for _, count, _ in attributes["slices"])

    def _index(self, node: Node) -> tuple:
        index: list[Any] = [...]
        for start, count, step in node["slices"]:
            stop = start + count * step
            index.append(slice(start, None if stop < 0 else stop, step))
        return tuple(index)

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        return inputs[0][self._index(node)]

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        lead = output.shape[: lead_axes(output, len(node.shape))]
        return (set_at(xp, (*lead, *node.input_shapes[0]), self._index(node), output),)


class Gather(LinearOperator):
    """Chosen positions along one axis, in any order, with repetition. Attributes: axis, indices (a tuple)."""

    name = "gather"
    onnx = ("Gather", "Resize", "Upsample")
    exact = True

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        shape, axis, indices = list(input_shapes[0]), attributes["axis"], attributes["indices"]
        if any(not 0 <= i < shape[axis] for i in indices):
            raise ValueError(f"an index of Gather leaves axis {axis} of shape {tuple(shape)}")
        shape[axis] = len(indices)
        return tuple(shape)

    def terms(self, node: Node, parameters: Sequence[Array]) -> int:
        indices = node["indices"]
        return max((indices.count(i) for i in set(indices)), default=1)

    def _index(self, node: Node) -> tuple:
        behind = len(node.shape) - node["axis"] - 1
        return (..., list(node["indices"]), *(slice(None) for _ in range(behind)))

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        x = inputs[0]
        axis = lead_axes(x, len(node.input_shapes[0])) + node["axis"]
        return xp.take(x, xp.asarray(node["indices"], dtype="int32"), axis=axis)

    def magnitude(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        return self.linear(xp, node, parameters, inputs)

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        lead = lead_axes(output, len(node.shape))
        axis = lead + node["axis"]
        moved = xp.moveaxis(output, axis, 0)
        shape = (*output.shape[:lead], *node.input_shapes[0])
        moved_shape = (shape[axis], *(n for i, n in enumerate(shape) if i != axis))
        index = (xp.asarray(node["indices"], dtype="int32"),)
        return (xp.moveaxis(set_at(xp, moved_shape, index, moved, accumulate=True), 0, axis),)


class Concat(_Structural):
    """Inputs joined along one axis. Attribute: axis (>= 0)."""

    name = "concat"
    onnx = ("Concat",)

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        axis, first = attributes["axis"], list(input_shapes[0])
        rest = {tuple(s[:axis]) + tuple(s[axis + 1 :]) for s in input_shapes}
        if len(rest) != 1:
            raise ValueError(f"shapes {', '.join(map(str, input_shapes))} cannot be joined along axis {axis}")
        first[axis] = sum(s[axis] for s in input_shapes)
        return tuple(first)

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        axis = node["axis"] - len(node.shape)
        lead: tuple[int, ...] = ()
        for x, shape in zip(inputs, node.input_shapes, strict=True):  # constants come without leading axes
            own = x.shape[: lead_axes(x, len(shape))]
            lead = own if len(own) > len(lead) else lead
        full = [xp.broadcast_to(x, (*lead, *shape)) for x, shape in zip(inputs, node.input_shapes, strict=True)]
        return xp.concatenate(full, axis=axis)

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        axis, start, parts = node["axis"], 0, []
        behind = (slice(None),) * (len(node.shape) - axis - 1)
        for shape in node.input_shapes:
            parts.append(output[(..., slice(start, start + shape[axis]), *behind)])
            start += shape[axis]
        return tuple(parts)


class Pad(_Structural):
    """Zeros around. Attribute: pads, one (before, after) per axis, both >= 0."""

    name = "pad"
    onnx = ("Pad",)

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        return tuple(b + n + a for n, (b, a) in zip(input_shapes[0], attributes["pads"], strict=True))

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        lead = lead_axes(inputs[0], len(node.shape))
        return xp.pad(inputs[0], [(0, 0)] * lead + [tuple(p) for p in node["pads"]])

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        index = [slice(b, b + n) for n, (b, _) in zip(node.input_shapes[0], node["pads"], strict=True)]
        return (output[(..., *index)],)


class Expand(LinearOperator):
    """Copies along axes of size 1, and along new axes in front (NumPy broadcasting). Attribute: shape."""

    name = "expand"
    onnx = ("Expand",)
    exact = True

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        source, target = tuple(input_shapes[0]), tuple(attributes["shape"])
        padded = (1,) * (len(target) - len(source)) + source
        if len(source) > len(target) or any(s not in (1, t) for s, t in zip(padded, target, strict=True)):
            raise ValueError(f"an input of shape {source} cannot be broadcast to {target}")
        return target

    def terms(self, node: Node, parameters: Sequence[Array]) -> int:
        return math.prod(node.shape) // max(1, math.prod(node.input_shapes[0]))

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        (x,), source = inputs, node.input_shapes[0]
        lead = x.shape[: lead_axes(x, len(source))]
        x = x.reshape((*lead, *(1,) * (len(node.shape) - len(source)), *source))
        return xp.broadcast_to(x, (*lead, *node.shape))

    def magnitude(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        return self.linear(xp, node, parameters, inputs)

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        source = node.input_shapes[0]
        lead = lead_axes(output, len(node.shape))
        padded = (1,) * (len(node.shape) - len(source)) + tuple(source)
        axes = tuple(lead + i for i, (s, t) in enumerate(zip(padded, node.shape, strict=True)) if s == 1 and t != 1)
        total = output.sum(axis=axes, keepdims=True) if axes else output
        return (total.reshape((*output.shape[:lead], *source)),)


class ReduceSum(LinearOperator):
    """Sum over axes, which disappear. Attribute: axes (a tuple, >= 0)."""

    name = "reduce_sum"
    onnx = ("ReduceSum", "ReduceMean", "GlobalAveragePool")

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        return tuple(n for i, n in enumerate(input_shapes[0]) if i not in attributes["axes"])

    def terms(self, node: Node, parameters: Sequence[Array]) -> int:
        return math.prod(node.input_shapes[0][axis] for axis in node["axes"])

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        lead = lead_axes(inputs[0], len(node.input_shapes[0]))
        return inputs[0].sum(axis=tuple(lead + axis for axis in node["axes"]))

    def magnitude(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        return self.linear(xp, node, parameters, inputs)

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        source = node.input_shapes[0]
        lead = output.shape[: lead_axes(output, len(node.shape))]
        kept = tuple(1 if i in node["axes"] else n for i, n in enumerate(source))
        return (xp.broadcast_to(output.reshape((*lead, *kept)), (*lead, *source)),)
