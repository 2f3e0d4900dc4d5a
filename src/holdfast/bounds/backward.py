"""Backward substitution (CROWN): linear lower bounds of linear functionals of any node, over a batch of boxes.

Zhang et al., Efficient Neural Network Robustness Certification with General Activation Functions, NeurIPS 2018,
equations 6-9; on graphs: Xu et al., Automatic Perturbation Analysis for Scalable Certified Robustness, NeurIPS 2020.
Split constraints enter through multipliers (beta-CROWN, Wang et al., NeurIPS 2021, equation 8). The result is
rigorous: coefficients are ordinary floating-point numbers, and everything their rounding can cost has been subtracted
from the constant (see `holdfast.bounds.enclosure`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.bounds.enclosure import Enclosures, Problem, plan, relax
from holdfast.graph import Node
from holdfast.operators import INPUT, OPERATORS, LinearOperator, ProductOperator
from holdfast.rigor import gamma

Array = Any


@dataclass(frozen=True, eq=False)
class LinearBound:
    """coefficients . x + constant <= functional, for all x of the box: shapes (B, R, n) and (B, R).

    ``size`` (B, R): the sum of the sizes of what was added up to the constant.
    """

    coefficients: Array
    constant: Array
    size: Array = 0.0


@dataclass(eq=False)
class Trace:
    """Coefficients met on the way: at the outputs of nonlinear nodes (B, R, *shape). For splitting and optimisation."""

    at: dict[int, Array] = field(default_factory=dict)


def relaxation(state: Enclosures, position: int) -> Any:
    """The default relaxation of a nonlinear node, computed once per pass."""
    if position not in state.relaxation:
        state.relaxation[position] = relax(state, position)
    return state.relaxation[position]


def substitute(
    state: Enclosures,
    start: int,
    coefficients: Array,
    *,
    constant: Array | float = 0.0,
    relaxations: Mapping[int, Any] | None = None,
    multipliers: Mapping[int, tuple[Array, Array, Array]] | None = None,
    trace: Trace | None = None,
) -> LinearBound:
    """Lower linear bounds of sum(coefficients * value of node ``start``), coefficients (B, R, *shape).

    ``relaxations``: nonlinear node -> what `relax` returns, instead of the default. ``multipliers``: node ->
    (beta (B, R, *shape), low, high (B, *shape)): on a sub-problem where low <= z <= high was imposed by splitting, beta
    >= 0 weighs z - low >= 0 and beta < 0 weighs high - z >= 0 (Lagrange multipliers of the splits; beta must be 0
    where the end it weighs is infinite).
    """
    problem, graph = state.problem, state.problem.graph
    xp, a = problem.xp, problem.arithmetic
    fused = plan(graph).fused
    pending: dict[int, Array] = {start: coefficients}
    total = constant + xp.zeros(coefficients.shape[:2], dtype=a.dtype)
    size = abs(total)
    result = None
    steps = 4
    for position in range(start, -1, -1):
        weight = pending.pop(position, None)
        if weight is None:
            continue
        node = graph[position]
        steps += 4 + 2 * len(node.inputs)  # merging a branch subtracts from the total once per edge
        taken_over = False
        if multipliers is not None and position in multipliers:
            shift, low, high = multipliers[position]
            weight = weight - shift
            ends = xp.where(shift == 0, 0.0, shift * xp.where(shift > 0, low[:, None], high[:, None]))
            added = ends.reshape(*ends.shape[:2], -1)
            total = total + added.sum(-1)
            size = size + gamma(added.shape[-1], a) / max(a.unit, 1e-300) * abs(added).sum(-1)
            if a.rigorous:
                own = state.charge[position]
                charge = state.size[position] * (8 * a.unit) + (0.0 if own is None else own)
                total = total - _dot(xp, abs(shift), charge[:, None]) * 1.01
                # the difference of both rounds relative to what is left, and products of the sum above may be flushed
                total = total - _dot(xp, abs(weight), (state.size[position] * (4 * a.unit))[:, None])
                total = total - 4 * (added.shape[-1] + _total(state.size[position])) * a.tiny
        if node.op == INPUT:
            result = weight
            continue
        card = OPERATORS[node.op]
        if isinstance(card, LinearOperator):
            taken_over = position in fused and position != start
            parts, added = _through_linear(problem, node, position, card, weight)
        else:
            lines, charge, flushed = (relaxations or {}).get(position) or relaxation(state, position)
            if trace is not None:
                trace.at[position] = weight
            step = _through_product if isinstance(card, ProductOperator) else _through_unary
            parts, added = step(xp, weight, lines, charge)
            if flushed is not None:
                added = added - flushed[:, None]
        if added is not None:
            total, size = total + added, size + abs(added)
        own_charge = state.charge[position] if isinstance(card, LinearOperator) and not taken_over else None
        if own_charge is not None:
            lost: Array = state.flushed[position]  # there wherever a charge is
            cost = _dot(xp, abs(weight), own_charge[:, None]) * 1.01 + lost[:, None]
            total, size = total - cost, size + cost
        for source, part in zip(node.inputs, parts, strict=True):
            if source in pending:
                merged = pending[source] + part
                if a.rigorous:
                    total = total - _dot(xp, abs(merged), (state.size[source] * (4 * a.unit))[:, None])
                    total = total - 4 * (1 + _total(state.size[source])) * a.tiny
                pending[source] = merged
            else:
                pending[source] = part
    if result is None:
        result = xp.zeros((*coefficients.shape[:2], *graph[graph.inputs[0]].shape), dtype=a.dtype)
    if a.rigorous:
        total = total - gamma(steps, a) * size - 8 * steps * a.tiny
    return LinearBound(result.reshape(*result.shape[:2], -1), total, size)


def _through_linear(
    problem: Problem, node: Node, position: int, card: LinearOperator, weight: Array
) -> tuple[tuple[Array, ...], Array | None]:
    xp, weights = problem.xp, problem.weights(position)
    bias = card.bias(xp, node, weights)
    added = None
    if bias is not None:
        flat = weight.reshape(*weight.shape[:2], -1)
        added = flat @ xp.broadcast_to(bias, node.shape).reshape(-1)
    return card.adjoint(xp, node, weights, weight), added


def _through_unary(xp: Any, weight: Array, lines: Any, charge: Array | None) -> tuple[tuple[Array], Array]:
    """a f(z) >= a+ (lower line) + a- (upper line) = a * lower + a- * (upper - lower), a- = min(a, 0)."""
    negative = xp.minimum(weight, 0.0)
    direct, extra = lines.lower_shift, lines.upper_shift - lines.lower_shift
    if charge is not None:  # |a| = a - 2 a-
        direct, extra = direct - charge, extra + 2.0 * charge
    added = _dot(xp, weight, direct) + _dot(xp, negative, extra)
    negative *= lines.upper_slope - lines.lower_slope
    negative += weight * lines.lower_slope
    return (negative,), added


def _through_product(xp: Any, weight: Array, lines: Any, charge: Array | None) -> tuple[tuple[Array, Array], Array]:
    negative = xp.minimum(weight, 0.0)
    direct, extra = lines.lower_shift, lines.upper_shift - lines.lower_shift
    if charge is not None:
        direct, extra = direct - charge, extra + 2.0 * charge
    added = _dot(xp, weight, direct) + _dot(xp, negative, extra)
    left = weight * lines.lower_x + negative * (lines.upper_x - lines.lower_x)
    right = weight * lines.lower_y + negative * (lines.upper_y - lines.lower_y)
    return (left, right), added


def _dot(xp: Any, rows: Array, vector: Array) -> Array:
    """sum over the node's axes: rows (B, R, *shape), vector (B, 1 or R, *shape) -> (B, R)."""
    rows = rows.reshape(*rows.shape[:2], -1)
    vector = vector.reshape(*vector.shape[:2], -1)
    if vector.shape[1] == 1:
        return xp.matmul(rows, xp.swapaxes(vector, 1, 2))[..., 0]
    return (rows * vector).sum(-1)


def _total(size: Array) -> Array:
    """Sum over a node's axes (B, 1)."""
    return size.reshape(size.shape[0], -1).sum(1)[:, None]


def concretise(state: Enclosures, bound: LinearBound) -> Array:
    """Lower bounds (B, R) of a linear bound over the boxes."""
    xp, a = state.problem.xp, state.problem.arithmetic
    center, radius = state.center, state.radius
    rows = bound.coefficients
    if a.rigorous:
        radius = radius + gamma(rows.shape[-1] + 8, a) * (abs(center) + radius)
    least = _dot(xp, rows, center[:, None]) - _dot(xp, abs(rows), radius[:, None])
    value = bound.constant + least
    if a.rigorous:
        value = value - 8 * a.unit * (abs(bound.constant) + abs(least))
        value = value - 8 * rows.shape[-1] * a.tiny
    return value


def unit_rows(state: Enclosures, position: int, chosen: Array) -> tuple[int, Array, Array | float]:
    """The functionals +z and -z of elements ``chosen`` (B, m) of a node, where a dense node is already passed through.

    Returns (node to substitute from, coefficients (B, 2m, *shape), constant (B, 2m)): picking rows of a weight matrix
    rounds nothing and saves the product with a unit matrix.
    """
    problem, graph = state.problem, state.problem.graph
    xp, a, node = problem.xp, problem.arithmetic, graph[position]
    batch, m = chosen.shape
    if node.op == "dense" and math.prod(node.input_shapes[0][:-1]) == 1:
        weights = problem.weights(position)
        rows = problem.rows_of(node.parameters[0], chosen).reshape(batch, m, *node.input_shapes[0])
        constant = weights[1][chosen] if len(weights) > 1 else xp.zeros((batch, m), dtype=a.dtype)
        constant = xp.concatenate([constant, -constant], axis=1)
        noise = state.noise[position]
        if noise is not None:  # the parameters, or the execution, may be off by this
            noise = xp.take_along_axis(noise.reshape(batch, -1), chosen, axis=1)
            constant = constant - xp.concatenate([noise, noise], axis=1)
        return node.inputs[0], xp.concatenate([rows, -rows], axis=1), constant
    unit = (chosen[:, :, None] == xp.arange(math.prod(node.shape))[None, None, :]).astype(a.dtype)
    unit = unit.reshape(batch, m, *node.shape)
    return position, xp.concatenate([unit, -unit], axis=1), 0.0
