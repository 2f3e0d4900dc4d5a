"""Rules that drop or join nodes which only move numbers: all exact, all free of arithmetic."""

from __future__ import annotations

import math

import numpy as np

from holdfast.rigor.accurate import Ball, negate
from holdfast.transforms.rewriting import Draft, Rule, Step


def drop_identity(draft: Draft, step: Step) -> int | None:
    """A node whose value is its input."""
    if len(step.inputs) != 1 or draft[step.inputs[0]].shape != step.shape:
        return None
    shape = step.shape
    if step.op == "transpose":
        same = step["permutation"] == tuple(range(len(shape)))
    elif step.op == "slice":
        same = step["slices"] == tuple((0, n, 1) for n in shape)
    elif step.op == "gather":
        same = step["indices"] == tuple(range(shape[step["axis"]]))
    elif step.op == "add":
        same = step["signs"] == (1,)
    elif step.op == "scale":
        same = are_ones(step.parameters[0]) and are_zeros(step.parameters[1])
    else:  # with the shape unchanged, these copy
        same = step.op in ("reshape", "expand", "pad", "concat", "reduce_sum")
    return step.inputs[0] if same else None


def join_reshapes(draft: Draft, step: Step) -> Step | None:
    """reshape after reshape: the second alone."""
    if step.op != "reshape" or draft[step.inputs[0]].op != "reshape":
        return None
    return draft.derive(step, "reshape", draft[step.inputs[0]].inputs, shape=step.shape)


def join_transposes(draft: Draft, step: Step) -> Step | None:
    """transpose after transpose: one, or none where they cancel."""
    if step.op != "transpose" or draft[step.inputs[0]].op != "transpose":
        return None
    before = draft[step.inputs[0]]
    permutation = tuple(before["permutation"][axis] for axis in step["permutation"])
    return draft.derive(step, "transpose", before.inputs, permutation=permutation)


def transpose_of_ones(draft: Draft, step: Step) -> Step | None:
    """A transpose that keeps the order of the axes longer than 1 moves nothing: a reshape, which others can join."""
    if step.op != "transpose":
        return None
    source = draft[step.inputs[0]].shape
    moved = [axis for axis in step["permutation"] if source[axis] != 1]
    return draft.derive(step, "reshape", step.inputs, shape=step.shape) if moved == sorted(moved) else None


def join_slices(draft: Draft, step: Step) -> Step | None:
    """slice after slice: one."""
    if step.op != "slice" or draft[step.inputs[0]].op != "slice" or math.prod(step.shape) == 0:
        return None
    before = draft[step.inputs[0]]
    pairs = zip(before["slices"], step["slices"], strict=True)
    slices = tuple((first + start * by, count, by * step_) for (first, _, by), (start, count, step_) in pairs)
    return draft.derive(step, "slice", before.inputs, slices=slices)


def constant_operand(draft: Draft, step: Step) -> Step | None:
    """A sum or product of one variable and one constant: a scale."""
    if step.op not in ("add", "product") or len(step.inputs) != 2:
        return None
    constants = [i for i in (0, 1) if draft[step.inputs[i]].op == "constant"]
    if len(constants) != 1:
        return None
    (c,) = constants
    value, variable = draft[step.inputs[c]].parameters[0], step.inputs[1 - c]
    if step.op == "product":
        return draft.derive(step, "scale", [variable], [value, Ball(np.zeros(()))])
    signs = step["signs"]
    factor = Ball(np.ones(()) if signs[1 - c] > 0 else -np.ones(()))
    return draft.derive(step, "scale", [variable], [factor, value if signs[c] > 0 else negate(value)])


def are_ones(ball: Ball) -> bool:
    """Exactly one everywhere."""
    return not is_uncertain(ball) and bool(np.all(ball.value == 1.0))


def are_zeros(ball: Ball) -> bool:
    """Exactly zero everywhere."""
    return not is_uncertain(ball) and not np.any(ball.value)


def is_uncertain(ball: Ball) -> bool:
    """Whether float64 holds only an approximation of some element."""
    return ball.radius is not None and bool(np.any(ball.radius))


STRUCTURAL_RULES: tuple[Rule, ...] = (
    drop_identity,
    transpose_of_ones,
    join_reshapes,
    join_transposes,
    join_slices,
    constant_operand,
)
