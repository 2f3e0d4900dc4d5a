"""Matrix products, convolutions, average pools and batch normalisation -> dense, conv, scale cards.

Part of the second step of loading; definitions: the ONNX operator specification, operator sets 6 to 21.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from holdfast.load.constants import Constant, divide, plus, real, reciprocal_of, root, times
from holdfast.load.context import Context, Lowered, NotSupported, Rule
from holdfast.load.lowering_arithmetic import float32, shift, stretch, total
from holdfast.load.windows import Windows, per_axis, windows

_MODERATE = 2.0**100  # factors and products that float32 holds with room to spare


def matmul(ctx: Context, a: int | Constant, b: int | Constant) -> int:
    """NumPy's matrix product, with at least one variable operand."""
    sa, sb = ctx.shape(a), ctx.shape(b)
    if not sa or not sb or sa[-1] != sb[-2 if len(sb) > 1 else 0]:
        raise ValueError(f"shapes {sa} and {sb} do not fit a matrix product")
    if isinstance(a, Constant) and isinstance(b, Constant):
        return matmul(ctx, ctx.variable(a), b)
    if len(sb) == 1:
        y = matmul(ctx, a, _shaped(ctx, b, (*sb, 1)))
        return ctx.reshape(y, ctx.shape(y)[:-1])
    if isinstance(a, int) and isinstance(b, Constant) and math.prod(sb[:-2]) == 1 and (len(sa) > 1 or len(sb) == 2):
        y = ctx.add("dense", (a,), (b if len(sb) == 2 else b.map(lambda v: v.reshape(sb[-2:])),))
        return ctx.reshape(y, (*(1,) * (len(sb) - len(sa)), *ctx.shape(y))) if len(sb) > len(sa) > 1 else y
    if len(sa) == 1:
        y = matmul(ctx, _shaped(ctx, a, (1, *sa)), b)
        return ctx.reshape(y, (*ctx.shape(y)[:-2], ctx.shape(y)[-1]))
    if isinstance(a, Constant) and isinstance(b, int) and math.prod(sa[:-2]) == 1:  # A x = (x^T A^T)^T
        y = matmul(ctx, _swap(ctx, b), a.transposed)
        return _swap(ctx, y)
    return _contract(ctx, a, b)


def _shaped(ctx: Context, v: int | Constant, shape: tuple[int, ...]) -> int | Constant:
    return v.map(lambda a: a.reshape(shape)) if isinstance(v, Constant) else ctx.reshape(v, shape)


def _swap(ctx: Context, x: int) -> int:
    rank = len(ctx.shape(x))
    return ctx.transpose(x, [*range(rank - 2), rank - 1, rank - 2])


def _contract(ctx: Context, a: int | Constant, b: int | Constant) -> int:
    """Batched product: every a[i, k] b[k, j] as one element, then the sum over k."""
    sa, sb = ctx.shape(a), ctx.shape(b)
    batch = np.broadcast_shapes(sa[:-2], sb[:-2])
    full = (*batch, sa[-2], sa[-1], sb[-1])
    ctx.guard(full)
    left, right = _shaped(ctx, a, (*sa, 1)), _shaped(ctx, b, (*sb[:-2], 1, *sb[-2:]))
    if isinstance(right, Constant):
        product = stretch(ctx, ctx.expand(ctx.variable(left), full), right)
    elif isinstance(left, Constant):
        product = stretch(ctx, ctx.expand(right, full), left)
    else:
        product = ctx.add("product", (ctx.expand(left, full), ctx.expand(right, full)))
    return ctx.add("reduce_sum", (product,), axes=(len(full) - 2,))


def _matmul(ctx: Context, x: Sequence[Any]) -> Lowered:
    return matmul(ctx, x[0], x[1])


def _gemm(ctx: Context, x: Sequence[Any]) -> Lowered:
    a, b = x[0], x[1]
    c = x[2] if len(x) > 2 else None
    alpha, beta = real(ctx.node.get("alpha", 1.0)), real(ctx.node.get("beta", 1.0))
    shape = ctx.shape(a)
    if len(shape) != 2 and isinstance(a, int):  # early MATLAB exporter: images into Gemm
        if len(shape) < 2:
            raise ValueError(f"an input of shape {shape} is not a matrix")
        ctx.irregular = True
        a = ctx.reshape(a, (shape[0], math.prod(shape[1:])))
    if ctx.node.get("transA", 0):
        a = a.transposed if isinstance(a, Constant) else _swap(ctx, a)
    if len(ctx.shape(b)) != 2:
        raise ValueError(f"an operand of shape {ctx.shape(b)} is not a matrix")
    if ctx.node.get("transB", 0):
        b = b.transposed if isinstance(b, Constant) else _swap(ctx, b)
    if len(ctx.shape(a)) != 2 or ctx.shape(a)[1] != ctx.shape(b)[0]:
        raise ValueError(f"shapes {ctx.shape(a)} and {ctx.shape(b)} do not fit a matrix product")
    scaled = alpha.value != 1
    out = (ctx.shape(a)[0], ctx.shape(b)[1])
    if c is not None and np.broadcast_shapes(ctx.shape(c), out) != out:
        raise ValueError(f"a bias of shape {ctx.shape(c)} does not fit a product of shape {out}")
    if isinstance(b, Constant) and not isinstance(a, Constant):
        if not scaled and isinstance(c, Constant) and (len(c.shape) < 2 or c.shape[0] == 1):
            bias = c if beta.value == 1 else times(beta, c)
            bias = bias.map(lambda v: v if v.shape == out[1:] else np.array(np.broadcast_to(v.reshape(-1), out[1:])))
            return ctx.add("dense", (a,), (b, bias))
        y = ctx.add("dense", (a,), (b,))
    else:
        y = matmul(ctx, a, b)
    # alpha stays a node of its own: an execution may overflow or underflow before it scales
    y = stretch(ctx, y, alpha) if scaled else y
    if c is None:
        return y
    if isinstance(c, Constant):
        return shift(ctx, y, times(beta, c))
    return total(ctx, (y, c if beta.value == 1 else stretch(ctx, c, beta)), (1, 1))


def _weights(ctx: Context, x: Sequence[Any]) -> tuple[int, Constant, list[Constant]]:
    """Input, kernel and bias of a convolution."""
    y, w = ctx.variable(x[0]), x[1]
    bias = x[2] if len(x) > 2 else None
    if not isinstance(w, Constant) or not (bias is None or isinstance(bias, Constant)):
        raise NotSupported("weights not constant")
    if len(ctx.shape(y)) < 3 or len(w.shape) != len(ctx.shape(y)):
        raise ValueError(f"a kernel of shape {w.shape} does not fit an input of shape {ctx.shape(y)}")
    return y, w, [] if bias is None else [bias]


def _checked_bias(bias: list[Constant], channels: int) -> list[Constant]:
    if bias and bias[0].shape != (channels,):
        raise ValueError(f"a bias of shape {bias[0].shape} does not fit {channels} output channels")
    return bias


def _groups(ctx: Context) -> int:
    groups = ctx.node.get("group", 1)
    if groups < 1:
        raise ValueError(f"its group is {groups}, at least 1 is accepted")
    return groups


def _conv(ctx: Context, x: Sequence[Any]) -> Lowered:
    y, w, bias = _weights(ctx, x)
    geometry = windows(ctx, ctx.shape(y)[2:], w.shape[2:])
    return _windowed(ctx, y, [w, *_checked_bias(bias, w.shape[0])], geometry, _groups(ctx))


def _windowed(ctx: Context, x: int, parameters: Sequence[Constant], geometry: Windows, groups: int) -> int:
    ctx.guard([n + sum(p) for n, p in zip(ctx.shape(x)[2:], geometry.pads, strict=True)])
    return ctx.add(
        "conv",
        (x,),
        parameters,
        strides=geometry.strides,
        pads=geometry.pads,
        dilations=geometry.dilations,
        groups=groups,
    )


def _conv_transpose(ctx: Context, x: Sequence[Any]) -> Lowered:
    y, w, bias = _weights(ctx, x)
    space, kernel, rank = ctx.shape(y)[2:], w.shape[2:], len(w.shape) - 2
    declared = tuple(ctx.node.get("kernel_shape") or kernel)
    if declared != tuple(kernel):
        raise ValueError(f"its kernel_shape {declared} contradicts its weights of kernel shape {tuple(kernel)}")
    strides, dilations = per_axis(ctx, "strides", rank, (1,) * rank), per_axis(ctx, "dilations", rank, (1,) * rank)
    extra = per_axis(ctx, "output_padding", rank, (0,) * rank, least=0)
    flat = per_axis(ctx, "pads", rank, (0,) * 2 * rank, least=0)
    pads = list(zip(flat[:rank], flat[rank:], strict=True))
    free = [
        s * (n - 1) + e + (k - 1) * d + 1
        for s, n, e, k, d in zip(strides, space, extra, kernel, dilations, strict=True)
    ]  # output size without padding
    automatic = ctx.node.get("auto_pad", "NOTSET") or "NOTSET"
    wanted = ctx.node.get("output_shape")
    if wanted is not None or automatic in ("SAME_UPPER", "SAME_LOWER"):
        target = list(wanted)[-rank:] if wanted is not None else [n * s for n, s in zip(space, strides, strict=True)]
        for i, (full, size) in enumerate(zip(free, target, strict=True)):
            if size > full:
                raise ValueError(f"its output_shape {target} is larger than the {free} that its kernel reaches")
            half, rest = (full - size) // 2, -((size - full) // 2)
            pads[i] = (half, rest) if automatic == "SAME_UPPER" else (rest, half)
    elif automatic == "VALID":
        pads = [(0, 0)] * rank
    out = tuple(full - b - a for full, (b, a) in zip(free, pads, strict=True))
    ctx.guard((w.shape[1] * _groups(ctx), *free))
    return ctx.add(
        "conv_transpose", (y,), (w, *_checked_bias(bias, w.shape[1] * _groups(ctx))), strides=strides, pads=tuple(pads),
        dilations=dilations, groups=_groups(ctx), space=out,
    )  # fmt: skip


def _average_pool(ctx: Context, x: Sequence[Any]) -> Lowered:
    """Sums (a convolution of each channel) divided by how many numbers a window holds, fewer where it hangs over the edge.

    The sum is a node of its own: an execution may overflow before it divides.
    """
    y = ctx.variable(x[0])
    shape = ctx.shape(y)
    if len(shape) < 3:
        raise ValueError(f"an input of shape {shape} has no spatial axes")
    channels, space = shape[1], shape[2:]
    geometry = windows(ctx, space, tuple(ctx.node.get("kernel_shape", ())))
    with_padding = bool(ctx.node.get("count_include_pad", 0))
    counts = [
        [len(geometry.positions(axis, window, size, padding=with_padding)) for window in range(geometry.out[axis])]
        for axis, size in enumerate(space)
    ]
    if any(0 in c for c in counts):
        raise ValueError("a window holds nothing but padding")
    uniform = all(c == k for per, k in zip(counts, geometry.kernel, strict=True) for c in per)
    # ceil_mode: the convolution must reach as far as the last window does
    reach = [
        (o - 1) * s + (k - 1) * d + 1
        for o, s, k, d in zip(geometry.out, geometry.strides, geometry.kernel, geometry.dilations, strict=True)
    ]
    pads = tuple((b, max(a, r - n - b)) for (b, a), r, n in zip(geometry.pads, reach, space, strict=True))
    geometry = Windows(geometry.kernel, geometry.strides, geometry.dilations, pads, geometry.out)
    size = math.prod(geometry.kernel)
    ctx.guard((channels, *geometry.kernel))
    y = _windowed(ctx, y, [real(np.ones((channels, 1, *geometry.kernel)))], geometry, channels)
    if uniform:
        return stretch(ctx, y, reciprocal_of(size))
    held = np.array(1.0)
    for per in counts:
        held = np.multiply.outer(held, np.array(per, np.float64))
    return stretch(ctx, y, divide(real(1.0), real(held)))


def _batch_normalization(ctx: Context, x: Sequence[Any]) -> Lowered:
    """(x - mean) * (scale / sqrt(variance + epsilon)) + bias, as two affine nodes."""
    y = ctx.variable(x[0])
    if ctx.node.get("training_mode", 0) or (ctx.opset < 7 and not ctx.node.get("is_test", 0)):
        raise NotSupported("in training mode")
    if not ctx.node.get("spatial", 1):
        raise NotSupported("spatial=0")
    if not all(isinstance(v, Constant) for v in x[1:5]) or len(x) < 5:
        raise NotSupported("statistics not constant")
    shape = ctx.shape(y)
    if len(shape) < 2 or any(v.shape != (shape[1],) for v in x[1:5]):
        raise ValueError(f"statistics of shape {x[1].shape} do not fit an input of shape {shape}")
    scale, bias, mean, variance = (v.map(lambda a: a.reshape(-1, *(1,) * (len(shape) - 2))) for v in x[1:5])
    slope = divide(scale, root(plus(variance, real(ctx.node.get("epsilon", float32(1e-5))))))
    # executions differ in the order: x times the slope, mean times the slope; neither may over- or underflow
    steep, moved = np.abs(slope.value), np.abs(mean.value * slope.value)
    if np.any((steep > _MODERATE) | ((steep < 1 / _MODERATE) & (steep > 0)) | (moved > _MODERATE)):
        ctx.rounded.append(ctx.node.name or ctx.node.outputs[0])
    if np.any(mean.value) or not mean.exact:
        y = shift(ctx, y, times(real(-1.0), mean))
    return shift(ctx, y, bias, slope)


LINEAR: dict[str, Rule] = {
    "MatMul": Rule(_matmul), "Gemm": Rule(_gemm), "Conv": Rule(_conv), "ConvTranspose": Rule(_conv_transpose),
    "AveragePool": Rule(_average_pool), "BatchNormalization": Rule(_batch_normalization),
}  # fmt: skip
