"""ONNX operators that move, copy, drop or sum numbers -> structural cards. Applied to constants they are evaluated.

Part of the second step of loading; definitions: the ONNX operator specification, operator sets 6 to 21.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from holdfast.load.constants import Constant, real, reciprocal_of, times
from holdfast.load.context import Context, Lowered, NotSupported, Rule
from holdfast.load.lowering_arithmetic import shift, stretch


def _reshape(ctx: Context, x: Sequence[Any]) -> Lowered:
    target = ctx.integers(x[1], "target shape") if len(x) > 1 else list(ctx.node.get("shape", ()))
    shape = ctx.shape(x[0])
    if not ctx.node.get("allowzero", 0):
        if any(d == 0 and i >= len(shape) for i, d in enumerate(target)):
            raise ValueError(f"the shape {target} copies an axis that an input of shape {shape} does not have")
        target = [shape[i] if d == 0 else d for i, d in enumerate(target)]
    if target.count(-1) > 1 or any(d < -1 for d in target):
        raise ValueError(f"{target} is not a shape; at most one dimension may be -1")
    if -1 in target:
        known = -math.prod(target)
        if not known or math.prod(shape) % known:
            raise ValueError(f"an input of shape {shape} cannot be reshaped to {target}")
        target[target.index(-1)] = math.prod(shape) // known
    if math.prod(target) != math.prod(shape):
        raise ValueError(f"an input of shape {shape} cannot be reshaped to {target}")
    return ctx.reshape(x[0], target)


def _flatten(ctx: Context, x: Sequence[Any]) -> Lowered:
    shape = ctx.shape(x[0])
    axis = ctx.node.get("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise ValueError(f"axis {axis} does not exist in an input of rank {len(shape)}")
    axis = axis + len(shape) if axis < 0 else axis
    return ctx.reshape(x[0], (math.prod(shape[:axis]), math.prod(shape[axis:])))


def _squeeze(ctx: Context, x: Sequence[Any]) -> Lowered:
    shape = ctx.shape(x[0])
    axes = ctx.axes(x, 1, len(shape))
    axes = [i for i, n in enumerate(shape) if n == 1] if axes is None else axes
    if any(shape[a] != 1 for a in axes):
        raise ValueError(f"axes {axes} of an input of shape {shape} are not all of size 1")
    return ctx.reshape(x[0], [n for i, n in enumerate(shape) if i not in axes])


def _unsqueeze(ctx: Context, x: Sequence[Any]) -> Lowered:
    shape = list(ctx.shape(x[0]))
    given = ctx.integers(x[1], "axes") if len(x) > 1 and x[1] is not None else list(ctx.node.get("axes", ()))
    if len(given) > 32:
        raise ValueError(f"it adds {len(given)} axes")
    rank = len(shape) + len(given)
    axes = sorted(ctx.axis(a, rank) for a in given)
    if len(set(axes)) != len(axes):
        raise ValueError(f"its axes {given} repeat one")
    for axis in axes:
        shape.insert(axis, 1)
    return ctx.reshape(x[0], shape)


def _transpose(ctx: Context, x: Sequence[Any]) -> Lowered:
    rank = len(ctx.shape(x[0]))
    permutation = list(ctx.node.get("perm", range(rank)[::-1]))
    if sorted(permutation) != list(range(rank)):
        raise ValueError(f"{permutation} is not a permutation of the axes of shape {ctx.shape(x[0])}")
    return ctx.transpose(x[0], permutation)


def _slice(ctx: Context, x: Sequence[Any]) -> Lowered:
    shape = ctx.shape(x[0])
    if ctx.opset < 10:
        starts, ends = list(ctx.node.get("starts", ())), list(ctx.node.get("ends", ()))
        axes, steps = ctx.node.get("axes"), None
    else:
        starts, ends = ctx.integers(x[1], "starts"), ctx.integers(x[2], "ends")
        axes = ctx.integers(x[3], "axes") if len(x) > 3 and x[3] is not None else None
        steps = ctx.integers(x[4], "steps") if len(x) > 4 and x[4] is not None else None
    axes = list(range(len(starts))) if axes is None else list(axes)
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ValueError("its starts, ends, axes and steps do not have one length, or a step is 0")
    slices = [(0, n, 1) for n in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = ctx.axis(axis, len(shape))
        if step < 0:  # the specification clamps to the first element, Python to before it
            start = max(start, -shape[axis])
        positions = range(*slice(start, end, step).indices(shape[axis]))
        slices[axis] = (positions.start, len(positions), step) if len(positions) else (0, 0, 1)
    if slices == [(0, n, 1) for n in shape]:
        return x[0]
    return ctx.add("slice", (x[0],), rounds=False, slices=tuple(slices))


def _split(ctx: Context, x: Sequence[Any]) -> Lowered:
    shape = ctx.shape(x[0])
    axis = ctx.axis(ctx.node.get("axis", 0), len(shape))
    if len(x) > 1 and x[1] is not None:
        sizes = ctx.integers(x[1], "sizes")
    elif ctx.node.get("split") is not None:
        sizes = list(ctx.node.get("split"))
    else:
        parts = ctx.node.get("num_outputs", len(ctx.node.outputs))
        if not 0 < parts <= max(1, shape[axis]):
            raise ValueError(f"an axis of size {shape[axis]} cannot be split into {parts} parts")
        each = -(-shape[axis] // parts)
        sizes = [each] * (parts - 1) + [shape[axis] - each * (parts - 1)]
    if sum(sizes) != shape[axis] or min(sizes, default=0) < 0 or len(sizes) != len(ctx.node.outputs):
        raise ValueError(
            f"sizes {sizes} do not split an axis of size {shape[axis]} into {len(ctx.node.outputs)} outputs"
        )
    starts = np.cumsum([0, *sizes])
    pieces = []
    for start, size in zip(starts, sizes, strict=False):
        slices = tuple((int(start) if size else 0, size, 1) if i == axis else (0, n, 1) for i, n in enumerate(shape))
        pieces.append(ctx.add("slice", (x[0],), rounds=False, slices=slices))
    return tuple(pieces)


def _concat(ctx: Context, x: Sequence[Any]) -> Lowered:
    values = [ctx.variable(v) for v in x if v is not None]
    axis = ctx.axis(ctx.node.get("axis", 1), len(ctx.shape(values[0])))
    if len({len(ctx.shape(v)) for v in values}) != 1:
        raise ValueError("its inputs differ in rank")
    return values[0] if len(values) == 1 else ctx.add("concat", values, rounds=False, axis=axis)


def _gather(ctx: Context, x: Sequence[Any]) -> Lowered:
    data, indices = x[0], x[1]
    if not isinstance(indices, Constant) or indices.is_float:
        raise NotSupported("indices not constant")
    shape = ctx.shape(data)
    axis = ctx.axis(ctx.node.get("axis", 0), len(shape))
    flat = [int(i) + shape[axis] if i < 0 else int(i) for i in indices.value.reshape(-1)]
    y = ctx.take(data, axis, flat)
    return ctx.reshape(y, (*shape[:axis], *indices.shape, *shape[axis + 1 :]))


def _gather_nd(ctx: Context, x: Sequence[Any]) -> Lowered:
    data, indices = x[0], x[1]
    if not isinstance(indices, Constant) or indices.is_float:
        raise NotSupported("indices not constant")
    if ctx.node.get("batch_dims", 0):
        raise NotSupported("with batch_dims")
    shape, depth = ctx.shape(data), indices.shape[-1] if indices.shape else 0
    if not 0 < depth <= len(shape):
        raise ValueError(f"indices of shape {indices.shape} do not fit an input of shape {shape}")
    sizes = np.array(shape[:depth])
    wrapped = indices.value + np.where(indices.value < 0, sizes, 0)
    if np.any(wrapped < 0) or np.any(wrapped >= sizes):
        raise ValueError(f"an index leaves an input of shape {shape}")
    flat = np.ravel_multi_index(tuple(np.moveaxis(wrapped, -1, 0)), shape[:depth])
    y = ctx.reshape(data, (math.prod(shape[:depth]), *shape[depth:]))
    y = ctx.take(y, 0, [int(i) for i in np.ravel(flat)])
    return ctx.reshape(y, (*indices.shape[:-1], *shape[depth:]))


def _expand(ctx: Context, x: Sequence[Any]) -> Lowered:
    return ctx.expand(x[0], np.broadcast_shapes(ctx.shape(x[0]), tuple(ctx.integers(x[1], "target shape"))))


def _tile(ctx: Context, x: Sequence[Any]) -> Lowered:
    repeats, y = ctx.integers(x[1], "repeats"), x[0]
    if len(repeats) != len(ctx.shape(y)) or min(repeats, default=1) < 0:
        raise ValueError(f"repeats {repeats} do not fit an input of shape {ctx.shape(y)}")
    for axis, times_over in enumerate(repeats):
        n = ctx.shape(y)[axis]
        ctx.guard((n * times_over, *ctx.shape(y)[:axis], *ctx.shape(y)[axis + 1 :]))
        y = ctx.take(y, axis, list(range(n)) * times_over)
    return y


def _pad(ctx: Context, x: Sequence[Any]) -> Lowered:
    y, shape = ctx.variable(x[0]), ctx.shape(x[0])
    rank, mode = len(shape), ctx.node.get("mode", "constant")
    pads = ctx.integers(x[1], "pads") if ctx.opset >= 11 else list(ctx.node.get("pads", ()))
    fill: Any = ctx.node.get("value", 0.0) if ctx.opset < 11 else x[2] if len(x) > 2 else None
    axes = (
        [ctx.axis(a, rank) for a in ctx.integers(x[3], "axes")]
        if len(x) > 3 and x[3] is not None
        else list(range(rank))
    )
    if len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise ValueError(f"pads {pads} do not fit an input of shape {shape}")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    if any(n + min(b, 0) + min(a, 0) < 0 for n, b, a in zip(shape, before, after, strict=True)):
        raise ValueError(f"negative pads {pads} remove more than an input of shape {shape} has")
    for axis in range(rank):  # negative pads crop
        if before[axis] < 0 or after[axis] < 0:
            y = ctx.take(y, axis, list(range(max(0, -before[axis]), shape[axis] + min(0, after[axis]))))
    around = [(max(0, b), max(0, a)) for b, a in zip(before, after, strict=True)]
    inner = ctx.shape(y)
    ctx.guard([n + b + a for n, (b, a) in zip(inner, around, strict=True)])
    if not any(b or a for b, a in around):
        return y
    if mode == "constant":
        y = ctx.add("pad", (y,), rounds=False, pads=tuple(around))
        value = fill if isinstance(fill, Constant) or fill is None else real(fill)
        if fill is not None and not isinstance(value, Constant):
            raise NotSupported("fill value not constant")
        if value is None or not np.any(value.value):
            return y
        scalar = value.map(lambda a: a.reshape(())) if value.value.size == 1 else None
        if scalar is None:
            raise ValueError("its fill value is not a single number")
        outside = np.pad(np.zeros(inner), around, constant_values=1.0)
        return shift(ctx, y, times(scalar, real(outside)), rounds=False)
    if mode not in ("reflect", "edge", "wrap"):
        raise NotSupported(f"mode {mode}")
    for axis, (b, a) in enumerate(around):
        if b or a:
            y = ctx.take(y, axis, np.pad(np.arange(inner[axis]), (b, a), mode=mode).tolist())
    return y


def _reduce(ctx: Context, x: Sequence[Any]) -> tuple[int, list[int]]:
    shape = ctx.shape(x[0])
    axes = ctx.axes(x, 1, len(shape))
    if not axes:
        axes = [] if ctx.node.get("noop_with_empty_axes", 0) else list(range(len(shape)))
    y = ctx.add("reduce_sum", (x[0],), axes=tuple(sorted(axes))) if axes else x[0]
    if ctx.node.get("keepdims", 1):
        y = ctx.reshape(y, [1 if i in axes else n for i, n in enumerate(shape)])
    return y, axes


def _reduce_sum(ctx: Context, x: Sequence[Any]) -> Lowered:
    return _reduce(ctx, [ctx.variable(x[0]), *x[1:]])[0]


def _reduce_mean(ctx: Context, x: Sequence[Any]) -> Lowered:
    shape = ctx.shape(x[0])
    y, axes = _reduce(ctx, [ctx.variable(x[0]), *x[1:]])
    count = math.prod(shape[a] for a in axes)
    if not count:
        raise ValueError(f"it takes the mean of no number (input of shape {shape})")
    return stretch(ctx, y, reciprocal_of(count))


def _global_average(ctx: Context, x: Sequence[Any]) -> Lowered:
    y = ctx.variable(x[0])
    n, c, *space = ctx.shape(y)
    total = ctx.add("reduce_sum", (y,), axes=tuple(range(2, 2 + len(space))))
    return stretch(ctx, ctx.reshape(total, (n, c, *(1,) * len(space))), reciprocal_of(math.prod(space)))


def _identity(ctx: Context, x: Sequence[Any]) -> Lowered:
    return x[0]


def _dropout(ctx: Context, x: Sequence[Any]) -> Lowered:
    if len(x) > 2 and x[2] is not None and not (isinstance(x[2], Constant) and not np.any(x[2].value)):
        raise NotSupported("in training mode")
    if len(ctx.node.outputs) > 1:
        return x[0], Constant(np.ones(ctx.shape(x[0]), bool), None, "bool")
    return x[0]


def _resize(ctx: Context, x: Sequence[Any]) -> Lowered:
    """Nearest neighbour, one axis after the other."""
    y, shape = x[0], ctx.shape(x[0])
    mode = ctx.node.get("mode", "nearest")
    if mode != "nearest":
        raise NotSupported(f"mode {mode}")
    if ctx.node.get("keep_aspect_ratio_policy", "stretch") != "stretch" or ctx.node.get("antialias", 0):
        raise NotSupported("keep_aspect_ratio_policy or antialias")
    modern = ctx.opset >= 11 and ctx.node.op == "Resize"
    sizes = x[3] if modern and len(x) > 3 else None
    scales: Any = x[2] if modern and len(x) > 2 else x[1] if not modern and len(x) > 1 else None
    if scales is None and ctx.node.get("scales") is not None:
        scales = real(np.array(ctx.node.get("scales")))
    given = [ctx.axis(a, len(shape)) for a in ctx.node.get("axes", range(len(shape)))]
    if isinstance(sizes, Constant) and sizes.value.size:
        out = ctx.integers(sizes, "sizes")
        ratio = [o / max(1, shape[a]) for o, a in zip(out, given, strict=True)]
    elif isinstance(scales, Constant) and scales.value.size == len(given):
        ratio = [float(s) for s in scales.value.reshape(-1)]
        if not all(0 < s < 1e6 for s in ratio):
            raise ValueError(f"its scales {ratio} are not positive")
        out = [math.floor(shape[a] * s) for s, a in zip(ratio, given, strict=True)]
    else:
        raise NotSupported("scales or sizes not constant")
    for axis, count, scale in zip(given, out, ratio, strict=True):
        ctx.guard((count, *ctx.shape(y)[:axis], *ctx.shape(y)[axis + 1 :]))
        if not count:
            raise ValueError(f"it makes axis {axis} empty")
        if count != shape[axis] or scale != 1.0:
            y = ctx.take(y, axis, _nearest(ctx, shape[axis], count, scale, modern))
    return y


def _nearest(ctx: Context, size: int, count: int, scale: float, modern: bool) -> list[int]:
    transformation = ctx.node.get("coordinate_transformation_mode", "half_pixel") if modern else "asymmetric"
    rounding = ctx.node.get("nearest_mode", "round_prefer_floor") if modern else "floor"
    o = np.arange(count, dtype=np.float64)
    if transformation == "asymmetric":
        place = o / scale
    elif transformation == "half_pixel" or (transformation == "pytorch_half_pixel" and count > 1):
        place = (o + 0.5) / scale - 0.5
    elif transformation == "pytorch_half_pixel":
        place = np.zeros(1)
    elif transformation == "align_corners":
        place = o * (size - 1) / (count - 1) if count > 1 else np.zeros(1)
    else:
        raise NotSupported(f"coordinate_transformation_mode {transformation}")
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda v: np.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: np.floor(v + 0.5),
    }
    if rounding not in ways:
        raise NotSupported(f"nearest_mode {rounding}")
    return np.clip(ways[rounding](place), 0, size - 1).astype(int).tolist()


def _moving(handler: Any) -> Rule:
    return Rule(handler, (), structural=True)


STRUCTURAL: dict[str, Rule] = {
    "Reshape": _moving(_reshape), "Flatten": _moving(_flatten), "Squeeze": _moving(_squeeze),
    "Unsqueeze": _moving(_unsqueeze), "Transpose": _moving(_transpose), "Slice": _moving(_slice),
    "Split": _moving(_split), "Concat": _moving(_concat), "Gather": _moving(_gather), "GatherND": _moving(_gather_nd),
    "Expand": _moving(_expand), "Tile": _moving(_tile), "Identity": _moving(_identity), "Dropout": Rule(_dropout),
    "Resize": _moving(_resize), "Upsample": _moving(_resize), "Pad": Rule(_pad),
    "ReduceSum": Rule(_reduce_sum), "ReduceMean": Rule(_reduce_mean), "GlobalAveragePool": Rule(_global_average),
}  # fmt: skip
