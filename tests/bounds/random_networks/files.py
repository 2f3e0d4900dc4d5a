"""Checks of networks that come through the loader: exact ONNX semantics, onnxruntime, float32 in any order."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from holdfast.bounds.bounder import bound, flat_problem
from holdfast.bounds.enclosure import Enclosures
from holdfast.bounds.propagate import propagate
from holdfast.graph import Graph, Model
from holdfast.load import load_model
from holdfast.load.selfcheck import session
from holdfast.operators import INPUT, OPERATORS
from holdfast.rigor import FLOAT64
from holdfast.transforms.evaluate import evaluate
from random_networks.checks import METHODS, Tally, candidates, worst_points
from random_networks.exact import Balls, balls
from random_networks.graphs import random_boxes
from random_networks.onnx_files import save
from random_networks.onnx_semantics import run


def check_file(
    rng: np.random.Generator, proto: onnx.ModelProto, tally: Tally, folder: Path, *, boxes: int = 2, count: int = 3
) -> None:
    """Bounds of a file: the reals, and float32 executions."""
    model = load_model(save(proto, folder))
    sizes = [math.prod(t.shape) for t in model.inputs]
    low, high = random_boxes(rng, sum(sizes), boxes, dtype="float32")
    tally.networks += 1
    with np.errstate(all="ignore"):
        executable = not model.rounded
        real = flat_problem(model, FLOAT64, "real")
        single = flat_problem(model, FLOAT64, "float32") if executable else real
        for box in range(boxes):
            tally.boxes += 1
            points = candidates(rng, single, low[box], high[box])
            narrow = propagate(real, low[box][None], high[box][None])
            chosen = worst_points(rng, narrow, 0, points, count)
            tally.samples += len(chosen)
            exact = [_output(proto, model, x, sizes) for x in chosen]
            for method in _methods(rng):
                found = bound(model, low[box], high[box], method=method)  # type: ignore[arg-type]
                for x, y in zip(chosen, exact, strict=True):
                    tally.check(y, found.lower, found.upper, f"bound({method}) of the file, x = {x.tolist()}")
            if executable:
                runs = np.concatenate([points.astype(np.float32), chosen.astype(np.float32)])
                check_single(rng, tally, model, low[box], high[box], runs)


def _methods(rng: np.random.Generator) -> tuple[str, ...]:
    return METHODS if rng.random() < 0.15 else METHODS[:2]


def _output(proto: onnx.ModelProto, model: Model, x: np.ndarray, sizes: list[int]) -> Balls:
    parts = np.split(balls(x), np.cumsum(sizes)[:-1])
    feeds = {t.name: p.reshape(t.shape) for t, p in zip(model.inputs, parts, strict=True)}
    return run(proto, feeds)[model.outputs[0].name]


def check_single(
    rng: np.random.Generator, tally: Tally, model: Model, low: np.ndarray, high: np.ndarray, points: np.ndarray
) -> None:
    """float32 executions stay within the bounds of that semantics: onnxruntime (output), NumPy (every node)."""
    points = points[(points >= low).all(1) & (points <= high).all(1)]
    problem = flat_problem(model, FLOAT64, "float32")
    state = propagate(problem, low[None], high[None])
    sizes = np.cumsum([math.prod(t.shape) for t in model.inputs])[:-1]
    runtime = session(model.source or b"")
    if runtime is not None:
        for method in _methods(rng):
            found = bound(model, low, high, method=method, semantics="float32")  # type: ignore[arg-type]
            for x in points[-40:]:
                feed = {t.name: p.reshape(t.shape) for t, p in zip(model.inputs, np.split(x, sizes), strict=True)}
                y = np.asarray(runtime.run(None, feed)[0], np.float64)
                _inside(tally, y, found.lower, found.upper, f"onnxruntime, {method}, x = {x.tolist()}")
    for x in points[-4:]:
        for position, value in enumerate(execute(rng, problem.graph, state, x)):
            z = np.array([float(v) for v in np.asarray(value).reshape(-1)])
            where = f"float32 node {position} ({problem.graph[position].op}), x = {x.tolist()}"
            _inside(tally, z, state.lower[position], state.upper[position], where)


def _inside(tally: Tally, y: np.ndarray, lower: np.ndarray, upper: np.ndarray, where: str) -> None:
    y, lower, upper = (np.asarray(a, np.float64).reshape(-1) for a in (y, lower, upper))
    tally.comparisons += y.size
    wrong = np.flatnonzero(~np.isnan(y) & ~((y >= lower) & (y <= upper)))
    if len(wrong):
        i = wrong[0]
        tally.violations.append(f"{where}: element {i} is {y[i]!r}, outside [{lower[i]!r}, {upper[i]!r}]")


def execute(rng: np.random.Generator, graph: Graph, state: Enclosures, x: np.ndarray) -> list[Any]:
    """One float32 execution, sums in random order or fused; nodes that do not round are computed over the rationals."""
    stored = {k: np.asarray(v, np.float64) for k, v in state.problem.parameters.items()}
    result: list[Any] = []
    for node in graph.nodes:
        if node.op == INPUT:
            result.append(x.reshape(node.shape))
            continue
        arguments = [result[i] for i in node.inputs]
        parameters = [stored[k] for k in node.parameters]
        if not node.rounds and any(np.asarray(a).dtype == object or node.op in ("add", "scale") for a in arguments):
            wide = [_rational(a) for a in arguments]
            result.append(OPERATORS[node.op].evaluate(np, node, [_rational(p) for p in parameters], wide))
            continue
        single = [_single(a) for a in arguments]
        weights = [p.astype(np.float32) for p in parameters]
        if node.op == "dense":
            result.append(_dense(rng, single[0], weights))
        elif node.op == "reduce_sum":
            moved = np.moveaxis(single[0], node["axes"], range(len(node["axes"]))).reshape(-1, *node.shape)
            result.append(_sum(rng, moved))
        else:
            result.append(np.asarray(OPERATORS[node.op].evaluate(np, node, weights, single), np.float32))
    return result


def _rational(a: Any) -> np.ndarray:
    a = np.asarray(a)
    if not np.isfinite(a.astype(np.float64)).all():
        return a.astype(np.float64)
    out = np.empty(a.shape, object)
    out.reshape(-1)[:] = [v if isinstance(v, Fraction) else Fraction(float(v)) for v in a.reshape(-1)]
    return out


def _single(a: Any) -> np.ndarray:
    a = np.asarray(a)
    return a.astype(np.float64).astype(np.float32) if a.dtype == object else a.astype(np.float32)


def _sum(rng: np.random.Generator, terms: np.ndarray) -> np.ndarray:
    """float32 sum over the first axis: in a random order, pairwise, or wide with one rounding at the end."""
    terms = terms[rng.permutation(len(terms))]
    kind = rng.integers(3)
    if kind == 0:
        return terms.astype(np.float64).sum(0).astype(np.float32)
    if kind == 1 and len(terms) > 2:
        half = len(terms) // 2
        return np.asarray(terms[:half].sum(0, dtype=np.float32) + terms[half:].sum(0, dtype=np.float32))
    total = np.zeros(terms.shape[1:], np.float32)
    for term in terms:
        total = np.asarray(total + term, np.float32)
    return total


def _dense(rng: np.random.Generator, x: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    if rng.random() < 0.3:
        y = np.asarray(x @ weights[0], np.float32)
        return y if len(weights) < 2 else y + weights[1]
    if rng.random() < 0.4:  # fused: one rounding
        wide = x.astype(np.float64) @ weights[0].astype(np.float64)
        return (wide if len(weights) < 2 else wide + weights[1].astype(np.float64)).astype(np.float32)
    products = np.asarray(
        np.moveaxis(x, -1, 0)[..., None] * weights[0].reshape(len(weights[0]), *(1,) * (x.ndim - 1), -1), np.float32
    )
    if len(weights) > 1:
        products = np.concatenate([products, np.broadcast_to(weights[1], products.shape[1:])[None]])
    return _sum(rng, products)


def check_values(proto: onnx.ModelProto, model: Model, x: np.ndarray) -> tuple[Balls, np.ndarray]:
    """Exact and float64 outputs at a point: a check of the two translations against each other."""
    sizes = [math.prod(t.shape) for t in model.inputs]
    parts = np.split(x, np.cumsum(sizes)[:-1])
    shaped = [p.reshape(t.shape) for p, t in zip(parts, model.inputs, strict=True)]
    return _output(proto, model, x, sizes), np.asarray(
        evaluate(model.graph, model.parameters, shaped)[model.graph.outputs[0]]
    )
