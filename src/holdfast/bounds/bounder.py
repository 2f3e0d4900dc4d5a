"""Certified output bounds of a network on a box: one call, three methods."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from holdfast.bounds.backward import concretise, substitute
from holdfast.bounds.enclosure import Problem
from holdfast.bounds.execution import check_executable
from holdfast.bounds.optimised import Schedule, optimise, refine_optimised
from holdfast.bounds.propagate import propagate
from holdfast.errors import InputError, MismatchError
from holdfast.graph import Model
from holdfast.operators import GraphBuilder
from holdfast.rigor import FLOAT32, FLOAT64, PLAIN, Arithmetic
from holdfast.transforms.compose import embed
from holdfast.transforms.simplify import simplify

Method = Literal["interval", "backward", "optimised"]
METHODS = ("interval", "backward", "optimised")
BLOCK = 64  # boxes at a time: coefficients stay in the cache; fixed, so that results do not depend on the machine


@dataclass(frozen=True, eq=False)
class Bounds:
    """lower <= output <= upper for every input of the box; ``method`` and ``semantics`` say how and of what."""

    lower: np.ndarray
    upper: np.ndarray
    method: str
    semantics: str


def flat_problem(model: Model, arithmetic: Arithmetic, semantics: str = "real") -> Problem:
    """The model as a graph with one flat input and one flat output (all inputs, all outputs, one after the other)."""
    execution = None
    if semantics == "float32":
        check_executable(model)
        execution = FLOAT32
    elif semantics == "real":
        model = simplify(model).model
    else:
        raise InputError(f"semantics {semantics!r}: accepted are real, float32")
    builder = GraphBuilder()
    sizes = [math.prod(t.shape) for t in model.inputs]
    source = builder.input((sum(sizes),), "inputs")
    parts, first = [], 0
    for tensor, size in zip(model.inputs, sizes, strict=True):
        part = source
        if len(sizes) > 1:
            part = builder.add("slice", (source,), rounds=False, slices=((first, size, 1),))
        parts.append(builder.add("reshape", (part,), rounds=False, shape=tuple(tensor.shape)))
        first += size
    outputs = [
        builder.add("reshape", (o,), rounds=False, shape=(math.prod(builder.shape(o)),))
        for o in embed(builder, model, parts)
    ]
    last = outputs[0] if len(outputs) == 1 else builder.add("concat", outputs, rounds=False, axis=0)
    graph, parameters = builder.build([last])
    return Problem.make(graph, parameters, builder.radii, arithmetic, execution)


def bound(
    model: Model,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    method: Method = "backward",
    semantics: str = "real",
    plain: bool = False,
) -> Bounds:
    """Bounds of all outputs on the box ``lower`` <= x <= ``upper`` (the input's shape, or flat).

    With further leading axes the call is batched: one box per leading index, results with the same leading axes.
    ``plain`` gives up rigour for comparison (no error terms). Raises `MismatchError` for shapes that do not fit and
    `InputError` for empty or infinite boxes or unknown methods.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r}: accepted are {', '.join(METHODS)}")
    problem = flat_problem(model, PLAIN if plain else FLOAT64, semantics)
    low, high = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
    size = problem.graph[problem.graph.inputs[0]].shape[0]
    if low.shape != high.shape or low.size == 0 or low.size % size:
        raise MismatchError(f"box: bounds of shapes {low.shape} and {high.shape} do not fit a network of {size} inputs")
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise InputError("box: every bound must be a finite number")
    if (low > high).any():
        worst = int(np.argmax((low > high).reshape(-1)))
        raise InputError(f"box: lower bound exceeds upper bound at input {worst % size}")
    batch = low.size // size
    with np.errstate(all="ignore"):
        below, above = output_bounds(problem, low.reshape(batch, size), high.reshape(batch, size), method)
    shape = tuple(model.outputs[0].shape) if len(model.outputs) == 1 else (below.shape[1],)
    if batch > 1:
        lead = low.shape[: low.ndim - len(model.inputs[0].shape)] if len(model.inputs) == 1 else ()
        shape = (*(lead if math.prod(lead) == batch else (batch,)), *shape)
    return Bounds(below.reshape(shape), above.reshape(shape), method, semantics)


def output_bounds(problem: Problem, low: np.ndarray, high: np.ndarray, method: Method) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (B, m) of the flat output over boxes (B, n)."""
    return bounds_of_rows(problem, low, high, np.eye(problem.graph[problem.graph.outputs[0]].shape[0]), method)


def bounds_of_rows(
    problem: Problem, low: np.ndarray, high: np.ndarray, rows: np.ndarray, method: Method
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (B, R) of the functionals ``rows`` (R, m) of the flat output over boxes (B, n).

    With method "interval" the functionals of a graph's own outputs are their intervals; any others are substituted
    backwards once, through relaxations made from intervals.
    """
    step = BLOCK if len(low) > BLOCK else BLOCK // 2  # a single block would leave the other cores idle
    blocks = [slice(first, first + step) for first in range(0, len(low), step)]
    if len(blocks) == 1:
        return _bounds_of_block(problem, low, high, rows, method)
    with ThreadPoolExecutor(min(len(blocks), cores())) as pool:  # NumPy computes outside the interpreter's lock
        found = list(pool.map(lambda part: _bounds_of_block(problem, low[part], high[part], rows, method), blocks))
    return np.concatenate([below for below, _ in found]), np.concatenate([above for _, above in found])


@np.errstate(all="ignore")
def _bounds_of_block(
    problem: Problem, low: np.ndarray, high: np.ndarray, rows: np.ndarray, method: Method
) -> tuple[np.ndarray, np.ndarray]:
    schedule = Schedule()
    output, count = problem.graph.outputs[0], len(rows)
    refine = refine_optimised(schedule) if method == "optimised" else None
    state = propagate(problem, low, high, narrow=method != "interval", refine=refine)
    identity = rows.shape == (rows.shape[1],) * 2 and bool((rows == np.eye(count)).all())
    if method == "interval" and identity:
        return state.lower[output], state.upper[output]
    both = np.concatenate([rows, -rows]).astype(problem.arithmetic.dtype)
    both = np.broadcast_to(both, (len(low), *both.shape))
    if method == "optimised":
        value = optimise(state, output, both, schedule=schedule).value
    else:
        value = concretise(state, substitute(state, output, both))
    below, above = value[:, :count], -value[:, count:]
    if identity:
        below, above = np.fmax(state.lower[output], below), np.fmin(state.upper[output], above)
    return below, above


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
