"""Rules that merge affine nodes: constants into biases, normalisations into weights, two matrices into one.

A merged constant that float64 cannot hold exactly carries a radius; a merge that would leave a weight with a radius
above 2^-48 of its size is not done, so that merging never costs more than a few roundings of the unmerged graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from holdfast.rigor.accurate import (
    Ball,
    broadcast,
    matrix_product,
    multiply,
    multiply_add,
    reshape,
    row_products,
    stack,
    take,
)
from holdfast.transforms.rewriting import Draft, Rule, Step, keywords
from holdfast.transforms.structural_rules import are_ones, are_zeros

_PRECISION = 2.0**-48  # largest relative radius of a merged weight
_LARGEST_WEIGHT = 2**22  # entries of a weight that is worth rewriting: larger ones are shared, never copied
_LARGEST_PRODUCT = 2**24  # multiplications spent on merging two matrices
_ZERO = Ball(np.zeros(()))


def scale_of_scale(draft: Draft, step: Step) -> Step | None:
    """(s x + t) s' + t'."""
    before = _sole_producer(draft, step, "scale", ("scale",))
    if before is None:
        return None
    (s, t), (s2, t2) = before.parameters, step.parameters
    factor, shift = _scaled(s, s2), _shifted(t, s2, t2)
    if factor is None or shift is None or not _precise(factor):
        return None
    return draft.derive(step, "scale", before.inputs, [factor, shift])


def scale_after_dense(draft: Draft, step: Step) -> Step | None:
    """(x W + b) s + t, where s and t belong to the last axis: bias of MatMul + Add, normalisation, negation."""
    before = _sole_producer(draft, step, "scale", ("dense",))
    if before is None:
        return None
    s, t = (_along(ball, step.shape, len(step.shape) - 1) for ball in step.parameters)
    if s is None or t is None:
        return None
    merged = _rescaled(before, s, t, lambda ball: ball)
    return None if merged is None else draft.derive(step, "dense", before.inputs, merged)


def bias_after_dense(draft: Draft, step: Step) -> Step | None:
    """x W + t: one sum of products and a constant, in whatever order and with whatever roundings an execution adds."""
    if step.op != "scale" or not step.rounds or not are_ones(step.parameters[0]):
        return None
    before = _sole_producer(draft, step, "scale", ("dense",))
    if before is None or not before.rounds or len(before.parameters) != 1:
        return None
    return scale_after_dense(draft, step)


def scale_after_convolution(draft: Draft, step: Step) -> Step | None:
    """Bias and batch normalisation after a convolution: s and t belong to the channel axis."""
    before = _sole_producer(draft, step, "scale", ("conv", "conv_transpose"))
    if before is None:
        return None
    s, t = (_along(ball, step.shape, 1) for ball in step.parameters)
    if s is None or t is None:
        return None
    weight = before.parameters[0].value
    if before.op == "conv":
        merged = _rescaled(before, s, t, lambda ball: reshape(ball, (-1, *(1,) * (weight.ndim - 1))))
    elif before["groups"] == 1 or are_ones(s):  # kernel (C, M // groups, ...): output channels on the second axis
        merged = _rescaled(before, s, t, lambda ball: reshape(ball, (1, -1, *(1,) * (weight.ndim - 2))))
    else:
        return None
    return None if merged is None else draft.derive(step, before.op, before.inputs, merged, **dict(before.attributes))


def scale_before_dense(draft: Draft, step: Step) -> Step | None:
    """(s x + t) W + b = x (diag(s) W) + (t W + b), also with a reshape between."""
    if step.op != "dense" or not draft.sole(step.inputs[0]):
        return None
    before, between = draft[step.inputs[0]], None
    if before.op == "reshape" and draft.sole(before.inputs[0]):
        between, before = before, draft[before.inputs[0]]
    if before.op != "scale":
        return None
    columns = [_last_axis(ball, before.shape, between) for ball in before.parameters]
    weight, bias = step.parameters[0], step.parameters[1] if len(step.parameters) > 1 else _ZERO
    s, t = columns
    if s is None or t is None or (weight.value.size > _LARGEST_WEIGHT and not (are_ones(s) and are_zeros(t))):
        return None
    factored = weight if are_ones(s) else multiply(weight, reshape(s, (-1, 1)))
    if are_zeros(t):
        shift: Ball | None = bias
    else:
        shift = matrix_product(reshape(t, (1, -1)), weight, bias)
        shift = None if shift is None else reshape(shift, (-1,))
    if factored is None or shift is None or not _precise(factored):
        return None
    source = before.inputs[0]
    if between is not None:
        source = draft.inner(draft.derive(between, "reshape", [source], shape=between.shape))
    return draft.derive(step, "dense", [source], [factored] if shift is _ZERO else [factored, shift])


def scale_before_conv(draft: Draft, step: Step) -> Step | None:
    """A normalisation of the channels before a convolution; a shift only where no padding would see it."""
    before = _sole_producer(draft, step, "conv", ("scale",))
    if before is None:
        return None
    s, t = (_along(ball, before.shape, 1) for ball in before.parameters)
    weight, bias = step.parameters[0], step.parameters[1] if len(step.parameters) > 1 else _ZERO
    if s is None or t is None or weight.value.size > _LARGEST_WEIGHT:
        return None
    if not are_zeros(t) and any(p != (0, 0) for p in step["pads"]):
        return None
    m, width = weight.value.shape[:2]
    group = np.arange(m) // (m // step["groups"])
    channels = group[:, None] * width + np.arange(width)  # the input channels each output channel reads

    def spread(ball: Ball) -> Ball:
        values = (ball.value[channels], None if ball.radius is None else ball.radius[channels])
        column = (m, width, *(1,) * (weight.value.ndim - 2))
        return Ball(*(None if v is None else v.reshape(column) for v in values))  # type: ignore[arg-type]

    factored = weight if are_ones(s) else multiply(weight, spread(s))
    shift: Ball | None = bias
    if not are_zeros(t):
        columns = broadcast(spread(t), weight.value.shape)
        shift = row_products(reshape(columns, (m, -1)), reshape(weight, (m, -1)), broadcast(bias, (m,)))
    if factored is None or shift is None or not _precise(factored):
        return None
    return draft.derive(
        step, "conv", before.inputs, [factored] if shift is _ZERO else [factored, shift], **keywords(step)
    )


def dense_of_dense(draft: Draft, step: Step) -> Step | None:
    """(x W + b) W' + b' = x (W W') + (b W' + b'), where that has no more parameters, also with a reshape between."""
    if step.op != "dense" or not draft.sole(step.inputs[0]):
        return None
    before, between = draft[step.inputs[0]], None
    if before.op == "reshape" and draft.sole(before.inputs[0]):
        between, before = before, draft[before.inputs[0]]
        if not before.shape or before.shape[-1:] != between.shape[-1:]:
            return None
    if before.op != "dense":
        return None
    first, second = before.parameters[0], step.parameters[0]
    (n, k), m = first.value.shape, second.value.shape[1]
    if n * m > n * k + k * m:
        return None
    biases = [p.parameters[1] if len(p.parameters) > 1 else None for p in (before, step)]
    stacked = first if biases[0] is None else stack(first, reshape(biases[0], (1, -1)))  # the bias goes the same way
    merged = matrix_product(stacked, second, limit=_LARGEST_PRODUCT)
    if merged is None:
        return None
    weight, bias = take(merged, (slice(n),)), biases[1]
    if biases[0] is not None:
        row = take(merged, (n,))
        bias = row if bias is None else multiply_add(bias, Ball(np.ones(())), row)
        if bias is None:
            return None
    if not _precise(weight):
        return None
    parameters = [weight] if bias is None else [weight, bias]
    if between is None:
        return draft.derive(step, "dense", before.inputs, parameters)
    inner = draft.inner(draft.derive(step, "dense", before.inputs, parameters))  # a reshape of leading axes commutes
    return draft.derive(step, "reshape", [inner], shape=step.shape)


def _sole_producer(draft: Draft, step: Step, op: str, producers: tuple[str, ...]) -> Step | None:
    if step.op != op or not draft.sole(step.inputs[0]):
        return None
    before = draft[step.inputs[0]]
    return before if before.op in producers else None


def _along(ball: Ball, shape: tuple[int, ...], axis: int) -> Ball | None:
    """A constant that broadcasts to ``shape`` as a vector along one axis; None where it varies along others."""
    if axis >= len(shape):
        return None
    dims = (1,) * (len(shape) - ball.value.ndim) + ball.value.shape
    if any(n != 1 for i, n in enumerate(dims) if i != axis):
        return None
    return Ball(*(np.array(np.broadcast_to(b.reshape(-1), (shape[axis],))) if b is not None else None for b in ball))  # type: ignore[arg-type]


def _last_axis(ball: Ball, shape: tuple[int, ...], between: Step | None) -> Ball | None:
    """`_along` the last axis of ``shape``, or of the shape it is reshaped to."""
    if between is None or ball.value.size == 1:
        return _along(ball, (between.shape if between else shape), len(between.shape if between else shape) - 1)
    if math.prod(between.shape[:-1]) != 1:
        return None
    return reshape(broadcast(ball, shape), (between.shape[-1],))


def _scaled(a: Ball, s: Ball) -> Ball | None:
    """a s, without a copy where s is one."""
    return a if are_ones(s) else multiply(a, s)


def _shifted(b: Ball, s: Ball, t: Ball) -> Ball | None:
    """b s + t, without arithmetic where that is one of them."""
    if are_zeros(t):
        return _scaled(b, s)
    return t if are_zeros(b) else multiply_add(b, s, t)


def _rescaled(before: Step, s: Ball, t: Ball, column: Callable[[Ball], Ball]) -> list[Ball] | None:
    """Weight and bias of s * (W x + b) + t; ``column`` shapes s to multiply the weight."""
    weight = before.parameters[0]
    if not are_ones(s):
        if weight.value.size > _LARGEST_WEIGHT:
            return None
        scaled = multiply(weight, column(s))
        if scaled is None or not _precise(scaled):
            return None
        weight = scaled
    if len(before.parameters) == 1:
        return [weight] if are_zeros(t) else [weight, t]
    bias = _shifted(before.parameters[1], s, t)
    return None if bias is None else [weight, bias]


def _precise(weight: Ball) -> bool:
    return weight.radius is None or bool(np.all(weight.radius <= _PRECISION * np.abs(weight.value)))


AFFINE_RULES: tuple[Rule, ...] = (
    scale_of_scale,
    scale_after_dense,
    scale_after_convolution,
    scale_before_dense,
    scale_before_conv,
    dense_of_dense,
)
