"""Operators applied to constants only, evaluated at load time: integers as ONNX does, floats over the reals.

Part of the second step of loading. What cannot be decided exactly here (a comparison of constants that carry a
radius, a transcendental function) is left to the graph, as a constant node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from holdfast.load.constants import Constant, divide, plus, real, root, times
from holdfast.load.context import Context
from holdfast.load.lowering_arithmetic import align
from holdfast.load.tensors import element_type

Fold = Callable[[Context, Sequence[Any]], Constant | None]
_LIMIT = 2**26


def _guard(ctx: Context, shape: Sequence[int]) -> None:
    ctx.guard(shape)
    if int(np.prod([int(n) for n in shape], dtype=object)) > _LIMIT:
        raise ValueError(f"a constant of shape {tuple(shape)} is too large; at most {_LIMIT} elements are accepted")


def _broadcast(ctx: Context, x: Sequence[Constant]) -> None:
    _guard(ctx, np.broadcast_shapes(*(v.shape for v in x)))


def _binary(float_rule: Callable[[Constant, Constant], Constant], integer_rule: Any) -> Fold:
    def fold(ctx: Context, x: Sequence[Any]) -> Constant:
        a, b = align(ctx, x)
        _broadcast(ctx, (a, b))
        if a.is_float != b.is_float:
            raise ValueError(f"its operands are of types {a.dtype} and {b.dtype}")
        if a.is_float:
            return float_rule(a, b)
        return Constant(np.asarray(integer_rule(a.value, b.value)).astype(a.dtype), None, a.dtype)

    return fold


def _truncated(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integer division rounds towards zero."""
    if np.any(b == 0):
        raise ValueError("it divides by a constant that is zero")
    quotient = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -quotient, quotient)


def _exactly(function: Callable[..., np.ndarray], dtype: str | None = None) -> Fold:
    """A function that commits no rounding of its own on exact operands."""

    def fold(ctx: Context, x: Sequence[Any]) -> Constant | None:
        if not all(v.exact for v in x):
            return None
        _broadcast(ctx, x)
        value = np.asarray(function(*(v.value for v in x)))
        kind = dtype or x[0].dtype
        return Constant(
            value.astype(np.float64 if kind in ("float16", "bfloat16", "float32", "float64") else kind), None, kind
        )

    return fold


def _extremum(function: Any) -> Fold:
    def fold(ctx: Context, x: Sequence[Any]) -> Constant | None:
        y = x[0]
        for other in x[1:]:
            y = _exactly(function)(ctx, (y, other))
            if y is None:
                return None
        return y

    return fold


def _negate(ctx: Context, x: Sequence[Any]) -> Constant:
    return Constant(-x[0].value, x[0].radius, x[0].dtype)


def _root(ctx: Context, x: Sequence[Any]) -> Constant | None:
    return root(x[0]) if x[0].is_float else None


def _power(ctx: Context, x: Sequence[Any]) -> Constant | None:
    base, exponent = x[0], x[1]
    if exponent.value.size != 1 or not exponent.exact:
        return None
    e = float(exponent.value.reshape(()))
    if not e.is_integer() or not 0 <= e <= 64:
        return None
    if not base.is_float:
        return Constant(base.value ** int(e), None, base.dtype)
    y = real(np.ones(base.shape), dtype=base.dtype)
    for _ in range(int(e)):
        y = times(y, base)
    return y


def _cast(ctx: Context, x: Sequence[Any]) -> Constant | None:
    c, wanted = x[0], element_type(ctx.node.get("to", 0))
    if wanted is None:
        raise ValueError("it casts to an element type that is not accepted")
    if wanted == c.dtype or (wanted == "float64" and c.is_float):
        return Constant(c.value, c.radius, wanted)
    if not c.exact or wanted == "bfloat16":
        return None
    if wanted in ("float16", "float32", "float64"):
        with np.errstate(over="ignore"):
            return Constant(c.value.astype(wanted).astype(np.float64), None, wanted)
    if wanted == "bool":
        return Constant(c.value != 0, None, wanted)
    if c.is_float and not (np.isfinite(c.value).all() and np.all(np.abs(c.value) < 2.0**62)):
        raise ValueError(f"it casts a constant to {wanted} that does not fit")
    return Constant(c.value.astype(np.int64).astype(wanted) if c.is_float else c.value.astype(wanted), None, wanted)


def _where(ctx: Context, x: Sequence[Any]) -> Constant:
    condition, yes, no = x
    _broadcast(ctx, x)
    mask = condition.value.astype(bool)
    radius = None
    if not (yes.exact and no.exact):
        radius = np.where(mask, 0.0 if yes.exact else yes.radius, 0.0 if no.exact else no.radius)
    return Constant(np.where(mask, yes.value, no.value), radius, yes.dtype)


def _constant_of_shape(ctx: Context, x: Sequence[Any]) -> Constant:
    shape = ctx.integers(x[0], "shape")
    _guard(ctx, shape)
    fill = ctx.node.get("value") or real(0.0)
    if fill.value.size != 1:
        raise ValueError("its value is not a single element")
    return fill.map(lambda a: np.full(shape, a.reshape(())))


def _range(ctx: Context, x: Sequence[Any]) -> Constant | None:
    start, limit, delta = (v.value.reshape(()) for v in x)
    if x[0].is_float:
        return None
    if delta == 0:
        raise ValueError("its step is zero")
    count = max(0, -((int(start) - int(limit)) // int(delta)))
    _guard(ctx, (count,))
    return Constant((int(start) + int(delta) * np.arange(count)).astype(x[0].dtype), None, x[0].dtype)


def _one_hot(ctx: Context, x: Sequence[Any]) -> Constant:
    indices, depth, values = x[0].value.astype(np.int64), int(x[1].value.reshape(())), x[2]
    axis = ctx.axis(ctx.node.get("axis", -1), indices.ndim + 1)
    _guard(ctx, (*indices.shape, depth))
    hot = np.where(indices < 0, indices + depth, indices)[..., None] == np.arange(depth)
    return values.map(lambda a: np.where(np.moveaxis(hot, -1, axis), a[1], a[0]))


def _arg(function: Any) -> Fold:
    def fold(ctx: Context, x: Sequence[Any]) -> Constant | None:
        if not x[0].exact or ctx.node.get("select_last_index", 0):
            return None
        axis = ctx.axis(ctx.node.get("axis", 0), x[0].value.ndim)
        index = function(x[0].value, axis=axis, keepdims=bool(ctx.node.get("keepdims", 1)))
        return Constant(np.asarray(index, np.int64), None, "int64")

    return fold


def _reduce(function: Any) -> Fold:
    """Integers only; sums of floats are left to the graph."""

    def fold(ctx: Context, x: Sequence[Any]) -> Constant | None:
        if x[0].is_float or x[0].dtype == "bool":
            return None
        axes = ctx.axes(x, 1, x[0].value.ndim)
        if not axes and ctx.node.get("noop_with_empty_axes", 0):
            return x[0]
        value = function(x[0].value, axis=tuple(axes) if axes else None, keepdims=bool(ctx.node.get("keepdims", 1)))
        return Constant(np.asarray(value).astype(x[0].dtype), None, x[0].dtype)

    return fold


def _modulo(ctx: Context, x: Sequence[Any]) -> Constant | None:
    if x[0].is_float:
        return None
    _broadcast(ctx, x)
    if np.any(x[1].value == 0):
        raise ValueError("it divides by a constant that is zero")
    rule = np.fmod if ctx.node.get("fmod", 0) else np.mod
    return Constant(rule(x[0].value, x[1].value), None, x[0].dtype)


FOLDS: dict[str, Fold] = {
    "Add": _binary(plus, np.add), "Sub": _binary(lambda a, b: plus(a, b, -1.0), np.subtract),
    "Mul": _binary(times, np.multiply), "Div": _binary(divide, _truncated), "Neg": _negate, "Sqrt": _root,
    "Reciprocal": lambda ctx, x: divide(real(1.0), x[0]), "Pow": _power, "Abs": _exactly(np.abs),
    "Relu": _exactly(lambda a: np.maximum(a, 0)), "Floor": _exactly(np.floor), "Ceil": _exactly(np.ceil),
    "Round": _exactly(np.round), "Sign": _exactly(np.sign), "Max": _extremum(np.maximum), "Min": _extremum(np.minimum),
    "Equal": _exactly(np.equal, "bool"), "Less": _exactly(np.less, "bool"), "Greater": _exactly(np.greater, "bool"),
    "LessOrEqual": _exactly(np.less_equal, "bool"), "GreaterOrEqual": _exactly(np.greater_equal, "bool"),
    "And": _exactly(np.logical_and, "bool"), "Or": _exactly(np.logical_or, "bool"), "Xor": _exactly(np.logical_xor, "bool"),
    "Not": _exactly(np.logical_not, "bool"), "Cast": _cast, "Where": _where, "ConstantOfShape": _constant_of_shape,
    "Range": _range, "OneHot": _one_hot, "ArgMax": _arg(np.argmax), "ArgMin": _arg(np.argmin), "Mod": _modulo,
    "ReduceSum": _reduce(np.sum), "ReduceProd": _reduce(np.prod), "ReduceMax": _reduce(np.max), "ReduceMin": _reduce(np.min),
}  # fmt: skip
ROUNDING = frozenset({"Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal", "Pow"})  # computed here over the reals
