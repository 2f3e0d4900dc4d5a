"""Convolution and transposed convolution in one, two or three dimensions, and their adjoints.

On JAX both are XLA convolutions. On NumPy they are a sum over kernel positions, each a matrix product: exact in
structure, no compilation, fast enough for a first look at small networks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from holdfast.graph import Node, Shape
from holdfast.operators.operator import Array, LinearOperator

CACHE_BYTES = 1 << 20


def _correlate_numpy(
    x: Array,
    w: Array,
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilations: Sequence[int],
    groups: int,
    out: Shape,
) -> Array:
    """x: (N, C, *space), w: (M, C // groups, *kernel) -> (N, M, *out)."""
    n, c = x.shape[:2]
    m, kernel = w.shape[0], w.shape[2:]
    weights = w.reshape(groups, m // groups, -1)
    result = np.empty((n, groups, m // groups, math.prod(out)), x.dtype)
    padded = any(b or a for b, a in pads)
    for part in _blocks(n, c * math.prod(kernel) * math.prod(out) * x.itemsize):
        block = np.pad(x[part], [(0, 0), (0, 0), *pads]) if padded else x[part]
        columns = np.empty((len(block), c, math.prod(kernel), *out), x.dtype)
        for k, position in enumerate(itertools.product(*map(range, kernel))):
            columns[:, :, k] = block[(slice(None), slice(None), *_window(position, strides, dilations, out))]
        columns = columns.reshape(len(block), groups, (c // groups) * math.prod(kernel), -1)
        np.matmul(weights, columns, out=result[part])
    return result.reshape(n, m, *out)


def _scatter_numpy(
    y: Array,
    w: Array,
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilations: Sequence[int],
    groups: int,
    space: Shape,
) -> Array:
    """Adjoint of `_correlate_numpy`: y (N, M, *out) -> (N, C, *space)."""
    n, m = y.shape[:2]
    out, kernel, c = y.shape[2:], w.shape[2:], w.shape[1] * groups
    weights = np.ascontiguousarray(w.reshape(groups, m // groups, -1).transpose(0, 2, 1))
    result = np.empty((n, c, *space), y.dtype)
    inner = tuple(slice(b, b + s) for s, (b, _) in zip(space, pads, strict=True))
    for part in _blocks(n, c * math.prod(kernel) * math.prod(out) * y.itemsize):
        block = y[part]
        columns = np.matmul(weights, block.reshape(len(block), groups, m // groups, -1))
        columns = columns.reshape(len(block), c, math.prod(kernel), *out)
        x = np.zeros((len(block), c, *(s + b + a for s, (b, a) in zip(space, pads, strict=True))), y.dtype)
        for k, position in enumerate(itertools.product(*map(range, kernel))):
            x[(slice(None), slice(None), *_window(position, strides, dilations, out))] += columns[:, :, k]
        result[part] = x[(slice(None), slice(None), *inner)]
    return result


def _blocks(count: int, item_bytes: int) -> Iterator[slice]:
    """Parts of a batch whose unfolded kernel windows stay within the cache."""
    step = max(1, CACHE_BYTES // max(1, item_bytes))
    return (slice(first, first + step) for first in range(0, count, step))


def _window(
    position: Sequence[int], strides: Sequence[int], dilations: Sequence[int], out: Sequence[int]
) -> tuple[slice, ...]:
    return tuple(
        slice(p * d, p * d + (o - 1) * s + 1, s) for p, s, d, o in zip(position, strides, dilations, out, strict=True)
    )


def _correlate(xp: Any, x: Array, w: Array, node: Node, out: Shape) -> Array:
    strides, pads, dilations, groups = node["strides"], node["pads"], node["dilations"], node["groups"]
    if xp is np:
        return _correlate_numpy(x, w, strides, pads, dilations, groups, out)
    import jax

    return jax.lax.conv_general_dilated(
        x, w, strides, [tuple(p) for p in pads], rhs_dilation=dilations, feature_group_count=groups,
        precision=jax.lax.Precision.HIGHEST,
    )  # fmt: skip


def _scatter(xp: Any, y: Array, w: Array, node: Node, space: Shape) -> Array:
    if xp is np:
        return _scatter_numpy(y, w, node["strides"], node["pads"], node["dilations"], node["groups"], space)
    import jax

    source = jax.ShapeDtypeStruct((y.shape[0], w.shape[1] * node["groups"], *space), y.dtype)
    (x,) = jax.linear_transpose(lambda x: _correlate(xp, x, w, node, y.shape[2:]), source)(y)
    return x


def _merge(x: Array, rank: int) -> tuple[Array, tuple[int, ...]]:
    """All leading axes and the network's batch axis as one; the axes merged, to undo it."""
    lead = x.shape[: x.ndim - rank + 1]
    return x.reshape(-1, *x.shape[len(lead) :]), lead


class Conv(LinearOperator):
    """Cross-correlation, zero padding. Parameters: W (M, C // groups, *kernel), b (M) where there is one.

    Attributes: strides, pads ((before, after) per axis), dilations, groups.
    """

    name = "conv"
    onnx = ("Conv", "AveragePool")

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        (n, c, *space), w = input_shapes[0], parameter_shapes[0]
        if len(w) != len(space) + 2 or c != w[1] * attributes["groups"] or w[0] % attributes["groups"]:
            raise ValueError(
                f"a kernel of shape {w} with {attributes['groups']} group(s) does not fit an input of shape {input_shapes[0]}"
            )
        out = []
        for size, k, s, (b, a), d in zip(
            space, w[2:], attributes["strides"], attributes["pads"], attributes["dilations"], strict=True
        ):
            out.append((size + b + a - (k - 1) * d - 1) // s + 1)
        if min(out, default=1) < 1:
            raise ValueError(f"a kernel of shape {w} is larger than its padded input of shape {input_shapes[0]}")
        return (n, w[0], *out)

    def terms(self, node: Node, parameters: Sequence[Array]) -> int:
        w = parameters[0].shape
        return max(math.prod(w[1:]), w[0] * math.prod(w[2:])) + 1

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        x, lead = _merge(inputs[0], len(node.input_shapes[0]))
        return _correlate(xp, x, parameters[0], node, node.shape[2:]).reshape(*lead, *node.shape[1:])

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        y, lead = _merge(output, len(node.shape))
        source = node.input_shapes[0]
        return (_scatter(xp, y, parameters[0], node, source[2:]).reshape(*lead, *source[1:]),)

    def bias(self, xp: Any, node: Node, parameters: Sequence[Array]) -> Array | None:
        if len(parameters) < 2:
            return None
        return parameters[1].reshape(-1, *(1,) * (len(node.shape) - 2))


class ConvTranspose(LinearOperator):
    """The adjoint of `Conv`. Parameters: W (C, M // groups, *kernel), b (M) where there is one.

    Attributes: strides, pads, dilations, groups, space (the output's spatial shape).
    """

    name = "conv_transpose"
    onnx = ("ConvTranspose",)

    def shape(
        self, input_shapes: Sequence[Shape], parameter_shapes: Sequence[Shape], attributes: Mapping[str, Any]
    ) -> Shape:
        (n, c, *space), w = input_shapes[0], parameter_shapes[0]
        if len(w) != len(space) + 2 or c != w[0] or c % attributes["groups"]:
            raise ValueError(f"a kernel of shape {w} does not fit a transposed convolution of shape {input_shapes[0]}")
        for size, k, s, (b, a), d, out in zip(
            space,
            w[2:],
            attributes["strides"],
            attributes["pads"],
            attributes["dilations"],
            attributes["space"],
            strict=True,
        ):
            if out < 1 or (out + b + a - (k - 1) * d - 1) // s + 1 != size:
                raise ValueError(
                    f"output size {attributes['space']} does not belong to an input of shape {input_shapes[0]}"
                )
        return (n, w[1] * attributes["groups"], *attributes["space"])

    def terms(self, node: Node, parameters: Sequence[Array]) -> int:
        w = parameters[0].shape
        return max(math.prod(w[1:]), w[0] * math.prod(w[2:])) + 1

    def linear(self, xp: Any, node: Node, parameters: Sequence[Array], inputs: Sequence[Array]) -> Array:
        x, lead = _merge(inputs[0], len(node.input_shapes[0]))
        return _scatter(xp, x, parameters[0], node, node.shape[2:]).reshape(*lead, *node.shape[1:])

    def adjoint(self, xp: Any, node: Node, parameters: Sequence[Array], output: Array) -> tuple[Array, ...]:
        y, lead = _merge(output, len(node.shape))
        source = node.input_shapes[0]
        return (_correlate(xp, y, parameters[0], node, source[2:]).reshape(*lead, *source[1:]),)

    def bias(self, xp: Any, node: Node, parameters: Sequence[Array]) -> Array | None:
        if len(parameters) < 2:
            return None
        return parameters[1].reshape(-1, *(1,) * (len(node.shape) - 2))
