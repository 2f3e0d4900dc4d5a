"""Max, Min, MaxPool, ReduceMax, Clip -> balanced trees of max(a, b) = b + relu(a - b).

Part of the second step of loading. The inner nodes are marked as not rounding: a floating-point execution of a
maximum only selects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from holdfast.load.constants import Constant, real, times
from holdfast.load.context import Context, Lowered, NotSupported, Rule
from holdfast.load.lowering_arithmetic import shift, total
from holdfast.load.windows import windows

_MINUS = real(-1.0)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def _larger(ctx: Context, a: int | Constant, b: int | Constant) -> int:
    if isinstance(a, Constant):
        a, b = b, a
    if isinstance(a, Constant):
        a = ctx.variable(a)
    if isinstance(b, Constant):
        if np.any(b.value) or not b.exact:
            return shift(
                ctx, ctx.add("relu", (shift(ctx, a, times(_MINUS, b), rounds=False),), rounds=False), b, rounds=False
            )
        a = ctx.expand(a, np.broadcast_shapes(ctx.shape(a), b.shape))
        return ctx.add("relu", (a,), rounds=False)
    return total(
        ctx, (b, ctx.add("relu", (total(ctx, (a, b), (1, -1), rounds=False),), rounds=False)), (1, 1), rounds=False
    )


def _smaller(ctx: Context, a: int | Constant, b: int | Constant) -> int:
    """min(a, b) = b - relu(b - a)."""
    if isinstance(a, Constant):
        a, b = b, a
    if isinstance(a, Constant):
        a = ctx.variable(a)
    if isinstance(b, Constant):
        gap = ctx.add("relu", (shift(ctx, a, b, _MINUS, rounds=False),), rounds=False)
        return shift(ctx, gap, b, _MINUS, rounds=False)
    gap = ctx.add("relu", (total(ctx, (b, a), (1, -1), rounds=False),), rounds=False)
    return total(ctx, (b, gap), (1, -1), rounds=False)


def _tree(ctx: Context, values: Sequence[int | Constant], pick: Any) -> int:
    """Balanced, so that relaxations are nested as little as possible."""
    row = list(values)
    while len(row) > 1:
        pairs = [pick(ctx, row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        row = pairs + ([row[-1]] if len(row) % 2 else [])
    return ctx.variable(row[0])


def _variadic(pick: Any) -> Rule:
    return Rule(lambda ctx, x: _tree(ctx, sorted(x, key=lambda v: isinstance(v, Constant)), pick))


def _reduce(pick: Any) -> Rule:
    def lower(ctx: Context, x: Sequence[Any]) -> Lowered:
        y = ctx.variable(x[0])
        shape = ctx.shape(y)
        axes = ctx.axes(x, 1, len(shape))
        if not axes:
            axes = [] if ctx.node.get("noop_with_empty_axes", 0) else list(range(len(shape)))
        for axis in axes:
            if not shape[axis]:
                raise ValueError(f"it takes the extremum of no number (input of shape {shape})")
            y = _tree(ctx, [ctx.take(y, axis, [i]) for i in range(shape[axis])], pick)
        if not ctx.node.get("keepdims", 1):
            y = ctx.reshape(y, [n for i, n in enumerate(shape) if i not in axes])
        return y

    return Rule(lower)


def _max_pool(ctx: Context, x: Sequence[Any]) -> Lowered:
    """One spatial axis after the other. A place in the padding is replaced by one inside the same window."""
    if len(ctx.node.outputs) > 1 and ctx.node.outputs[1]:
        raise NotSupported("with Indices")
    y = ctx.variable(x[0])
    shape = ctx.shape(y)
    if len(shape) < 3:
        raise ValueError(f"an input of shape {shape} has no spatial axes")
    geometry = windows(ctx, shape[2:], tuple(ctx.node.get("kernel_shape", ())))
    for axis, size in enumerate(shape[2:]):
        ctx.guard((geometry.out[axis], geometry.kernel[axis]))
        inside = [geometry.positions(axis, window, size) for window in range(geometry.out[axis])]
        if not all(inside):
            raise ValueError("a window holds nothing but padding")
        places = []
        for k in range(geometry.kernel[axis]):
            offset = k * geometry.dilations[axis] - geometry.pads[axis][0]
            wanted = (window * geometry.strides[axis] + offset for window in range(geometry.out[axis]))
            places.append([min(max(p, window[0]), window[-1]) for p, window in zip(wanted, inside, strict=True)])
        unique = [p for i, p in enumerate(places) if p not in places[:i]]
        y = _tree(ctx, [ctx.take(y, axis + 2, p) for p in unique], _larger)
    return y


def _global_max(ctx: Context, x: Sequence[Any]) -> Lowered:
    y = ctx.variable(x[0])
    for axis, size in list(enumerate(ctx.shape(y)))[2:]:
        y = _tree(ctx, [ctx.take(y, axis, [i]) for i in range(size)], _larger)
    return y


def _clip(ctx: Context, x: Sequence[Any]) -> Lowered:
    """min(max(x, low), high); a bound that is omitted, infinite or the largest float32 is none."""
    y = ctx.variable(x[0])
    if ctx.opset < 11:
        low: Any = real(ctx.node.get("min", -_FLOAT32_MAX))
        high: Any = real(ctx.node.get("max", _FLOAT32_MAX))
    else:
        low, high = (x[i] if len(x) > i else None for i in (1, 2))
    if any(isinstance(v, int) for v in (low, high) if v is not None):
        raise NotSupported("bounds not constant")
    if any(v is not None and v.value.size != 1 for v in (low, high)):
        raise ValueError("its bounds are not single numbers")
    low, high = (None if v is None else v.map(lambda a: a.reshape(())) for v in (low, high))
    largest = np.inf if ctx.dtype == "float64" else _FLOAT32_MAX
    if low is not None and low.value <= -largest:
        low = None
    if high is not None and high.value >= largest:
        high = None
    if low is not None and high is not None and low.exact and high.exact and low.value <= high.value:
        return ctx.add("clip", (y,), rounds=False, low=float(low.value), high=float(high.value))
    if low is not None:
        y = _larger(ctx, y, low)
    if high is not None:
        y = _smaller(ctx, y, high)
    return y


EXTREMUM: dict[str, Rule] = {
    "Max": _variadic(_larger), "Min": _variadic(_smaller), "ReduceMax": _reduce(_larger), "ReduceMin": _reduce(_smaller),
    "MaxPool": Rule(_max_pool), "GlobalMaxPool": Rule(_global_max), "Clip": Rule(_clip),
}  # fmt: skip
