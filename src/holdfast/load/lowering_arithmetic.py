"""Elementwise ONNX operators -> scale, add, product and unary cards. Constants are taken over the reals.

Second step of loading, with the other `lowering_*` files; definitions: the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from holdfast.load.constants import Constant, divide, real, reciprocal_of, times
from holdfast.load.context import Context, Handler, Lowered, NotSupported, Rule
from holdfast.operators import OPERATORS

_ONE, _ZERO, _MINUS = real(1.0), real(0.0), real(-1.0)


def float32(value: float) -> float:
    """A default of the specification, as the float32 attribute that it stands for."""
    return float(np.float32(value))


def align(ctx: Context, x: Sequence[Any]) -> list[Any]:
    """Operands of a binary operator; before operator set 7 the second may be aligned to an ``axis`` of the first."""
    a, b = x[0], x[1]
    axis = ctx.node.get("axis")
    if ctx.opset < 7 and ctx.node.get("broadcast", 0) and axis is not None:
        rank = len(ctx.shape(a))
        shape = ctx.shape(b)
        behind = rank - ctx.axis(axis, rank) - len(shape)
        if behind > 0:
            new = (*shape, *(1,) * behind)
            b = b.map(lambda v: v.reshape(new)) if isinstance(b, Constant) else ctx.reshape(b, new)
    return [a, b]


def shift(ctx: Context, x: int, constant: Constant, slope: Constant = _ONE, rounds: bool = True) -> int:
    """slope * x + constant."""
    x = ctx.expand(x, np.broadcast_shapes(ctx.shape(x), constant.shape))
    return ctx.add("scale", (x,), (slope, constant), rounds=rounds)


def stretch(ctx: Context, x: int, constant: Constant, rounds: bool = True) -> int:
    """constant * x."""
    x = ctx.expand(x, np.broadcast_shapes(ctx.shape(x), constant.shape))
    return ctx.add("scale", (x,), (constant, _ZERO), rounds=rounds)


def negate(ctx: Context, x: int) -> int:
    """-x."""
    return ctx.add("scale", (x,), (_MINUS, _ZERO), rounds=False)


def _neg(ctx: Context, x: Sequence[Any]) -> Lowered:
    return negate(ctx, x[0])


def multiply(ctx: Context, a: int, b: int) -> int:
    """a * b of two variables."""
    if a == b and "square" in OPERATORS:
        return ctx.add("square", (a,))
    shape = np.broadcast_shapes(ctx.shape(a), ctx.shape(b))
    return ctx.add("product", (ctx.expand(a, shape), ctx.expand(b, shape)))


def total(ctx: Context, terms: Sequence[int], signs: Sequence[int], rounds: bool = True) -> int:
    """Signed sum of variables, broadcast."""
    shape = np.broadcast_shapes(*(ctx.shape(t) for t in terms))
    return ctx.add("add", [ctx.expand(t, shape) for t in terms], rounds=rounds, signs=tuple(signs))


def _add(ctx: Context, x: Sequence[Any], sign: int = 1) -> Lowered:
    a, b = align(ctx, x)
    if isinstance(b, Constant):
        return shift(ctx, a, b if sign > 0 else times(_MINUS, b))
    if isinstance(a, Constant):
        return shift(ctx, b, a, _ONE if sign > 0 else _MINUS)
    return total(ctx, (a, b), (1, sign))


def _sub(ctx: Context, x: Sequence[Any]) -> Lowered:
    return _add(ctx, x, -1)


def _mul(ctx: Context, x: Sequence[Any]) -> Lowered:
    a, b = align(ctx, x)
    if isinstance(b, Constant):
        return stretch(ctx, a, b)
    if isinstance(a, Constant):
        return stretch(ctx, b, a)
    return multiply(ctx, a, b)


def _div(ctx: Context, x: Sequence[Any]) -> Lowered:
    a, b = align(ctx, x)
    if isinstance(b, Constant):
        return stretch(ctx, a, divide(_ONE, b))
    if "reciprocal" not in OPERATORS:
        raise NotSupported("by a variable")
    inverse = ctx.add("reciprocal", (b,))
    return stretch(ctx, inverse, a) if isinstance(a, Constant) else multiply(ctx, a, inverse)


def _sum(ctx: Context, x: Sequence[Any]) -> int:
    constants = [v for v in x if isinstance(v, Constant)]
    variables = [v for v in x if isinstance(v, int)]
    y = total(ctx, variables, (1,) * len(variables)) if len(variables) > 1 else variables[0]
    for constant in constants:
        y = shift(ctx, y, constant)
    return y


def _mean(ctx: Context, x: Sequence[Any]) -> Lowered:
    return stretch(ctx, _sum(ctx, x), reciprocal_of(len(x)))


def _pow(ctx: Context, x: Sequence[Any]) -> Lowered:
    base, exponent = align(ctx, x)
    if not isinstance(exponent, Constant):
        raise NotSupported("exponent not constant")
    if isinstance(base, Constant):
        base = ctx.variable(base)
    if not exponent.value.size or np.ptp(exponent.value) or not exponent.exact:
        raise NotSupported("exponents that differ")
    base = ctx.expand(base, np.broadcast_shapes(ctx.shape(base), exponent.shape))
    e = float(exponent.value.flat[0])
    if e == 0.5:
        return ctx.add("sqrt", (base,))
    if not e.is_integer() or abs(e) > 64:
        raise NotSupported(f"exponent {e:g}")
    if e == 0:
        return real(np.ones(ctx.shape(base)))
    power = (
        base
        if abs(e) == 1
        else ctx.add("square", (base,))
        if abs(e) == 2
        else ctx.add("power", (base,), exponent=int(abs(e)))
    )
    return ctx.add("reciprocal", (power,)) if e < 0 else power


def unary(card: str) -> Rule:
    """An operator that is a card."""

    def lower(ctx: Context, x: Sequence[Any]) -> Lowered:
        return ctx.add(card, (ctx.variable(x[0]),))

    return Rule(lower, (card,))


def _leaky_relu(ctx: Context, x: Sequence[Any]) -> Lowered:
    alpha = float(ctx.node.get("alpha", float32(0.01)))
    if not np.isfinite(alpha):
        raise ValueError(f"its alpha {alpha} is not finite")
    return ctx.add("leaky_relu", (x[0],), alpha=alpha)


def _prelu(ctx: Context, x: Sequence[Any]) -> Lowered:
    y, slope = x[0], x[1]
    if not isinstance(slope, Constant) or not isinstance(y, int):
        raise NotSupported("slope not constant")
    if not slope.value.size or not np.isfinite(slope.value).all():
        raise ValueError("its slope is empty or not finite")
    shape = ctx.shape(y)
    if slope.exact and not np.ptp(slope.value):
        return ctx.add("leaky_relu", (y,), alpha=float(slope.value.flat[0]))
    if np.broadcast_shapes(shape, slope.shape) != shape:
        raise ValueError(f"a slope of shape {slope.shape} does not fit an input of shape {shape}")
    positive = ctx.add("relu", (y,))
    negative = ctx.add("relu", (negate(ctx, y),))
    return total(ctx, (positive, stretch(ctx, negative, times(_MINUS, slope))), (1, 1), rounds=False)


def _hard_sigmoid(ctx: Context, x: Sequence[Any]) -> Lowered:
    alpha, beta = ctx.node.get("alpha", float32(0.2)), ctx.node.get("beta", 0.5)
    return ctx.add("clip", (shift(ctx, x[0], real(beta), real(alpha)),), low=0.0, high=1.0)


def _hard_swish(ctx: Context, x: Sequence[Any]) -> Lowered:
    gate = ctx.add("clip", (shift(ctx, x[0], real(0.5), reciprocal_of(6)),), low=0.0, high=1.0)
    return multiply(ctx, x[0], gate)


def _softmax(ctx: Context, x: Sequence[Any]) -> Lowered:
    """exp(x) / sum exp(x): over the reals subtracting the maximum changes nothing."""
    y = x[0]
    shape = ctx.shape(y)
    rank = len(shape)
    axis = ctx.axis(ctx.node.get("axis", 1 if ctx.opset < 13 else -1), rank)
    axes = tuple(range(axis, rank)) if ctx.opset < 13 else (axis,)
    ctx.rounded.append(ctx.node.name or ctx.node.outputs[0])  # executions round x - max first: not bounded here
    exponential = ctx.add("exp", (y,))
    whole = ctx.add("reduce_sum", (exponential,), axes=axes)
    whole = ctx.reshape(whole, [1 if i in axes else n for i, n in enumerate(shape)])
    inverse = ctx.add("reciprocal", (whole,))
    return ctx.add("product", (exponential, ctx.expand(inverse, shape)))


def _sign(ctx: Context, x: Sequence[Any]) -> Lowered:
    """step(x) - step(-x), which is 0 at 0 as ONNX demands."""
    above, below = ctx.add("heaviside", (x[0],), rounds=False), ctx.add("heaviside", (negate(ctx, x[0]),), rounds=False)
    return total(ctx, (above, below), (1, -1), rounds=False)


def _cast(ctx: Context, x: Sequence[Any]) -> Lowered:
    """Widening a float changes no number; anything else rounds."""
    from holdfast.load.tensors import element_type

    wanted = element_type(ctx.node.get("to", 0))
    order = {"float16": 0, "bfloat16": 0, "float32": 1, "float64": 2}
    if wanted == ctx.dtype or (wanted in order and order[wanted] > order.get(ctx.dtype, 9)):
        return x[0]
    raise NotSupported(f"of a variable from {ctx.dtype} to {wanted}")


def _where(ctx: Context, x: Sequence[Any]) -> Lowered:
    """With a constant condition: a mask times one branch plus the other mask times the other, all exact."""
    condition, yes, no = x
    if not isinstance(condition, Constant):
        raise NotSupported("condition not constant")
    mask = condition.value.astype(bool)
    shape = np.broadcast_shapes(*(v.shape if isinstance(v, Constant) else ctx.shape(v) for v in x))
    ctx.guard(shape)
    taken = [
        real(np.where(np.broadcast_to(mask, shape), 1.0, 0.0)),
        real(np.where(np.broadcast_to(mask, shape), 0.0, 1.0)),
    ]
    parts = []
    for value, keep in zip((yes, no), taken, strict=True):
        if isinstance(value, Constant):
            radius = None if value.radius is None else value.radius * keep.value
            parts.append(ctx.variable(real(np.where(keep.value != 0, value.value, 0.0), radius, name=value.name)))
        else:
            parts.append(stretch(ctx, value, keep, rounds=False))
    return total(ctx, parts, (1, 1), rounds=False)


def _plain(handler: Handler, *cards: str) -> Rule:
    """A rule whose first operand becomes a variable if all are constants."""

    def lower(ctx: Context, x: Sequence[Any]) -> Lowered:
        if all(isinstance(v, Constant) or v is None for v in x):
            x = [ctx.variable(x[0]), *x[1:]]
        return handler(ctx, x)

    return Rule(lower, cards)


ARITHMETIC: dict[str, Rule] = {
    "Add": _plain(_add), "Sub": _plain(_sub), "Mul": _plain(_mul), "Div": _plain(_div), "Sum": _plain(_sum),
    "Mean": _plain(_mean), "Pow": _plain(_pow), "Neg": _plain(_neg),
    "Cast": Rule(_cast), "Where": Rule(_where),
    "LeakyRelu": _plain(_leaky_relu), "PRelu": _plain(_prelu), "HardSigmoid": _plain(_hard_sigmoid),
    "HardSwish": _plain(_hard_swish), "Softmax": _plain(_softmax, "exp", "reciprocal"),
    "Sign": _plain(_sign, "heaviside"), "Relu": unary("relu"), "Abs": unary("abs"), "Sigmoid": unary("sigmoid"), "Tanh": unary("tanh"),
    "Exp": unary("exp"), "Log": unary("log"), "Sqrt": unary("sqrt"), "Sin": unary("sin"), "Cos": unary("cos"),
    "Tan": unary("tan"), "Asin": unary("asin"), "Acos": unary("acos"), "Atan": unary("atan"),
    "Reciprocal": unary("reciprocal"), "Softplus": unary("softplus"),
}  # fmt: skip
