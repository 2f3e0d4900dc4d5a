"""Affine forms of all nodes, front to back: value = middle + sum_j slope_j t_j +- error, with inputs center + radius t, |t_j| <= 1.

The cheap way to narrow ranges where few inputs vary: one pass with n + 1 columns instead of one row per neuron. Affine arithmetic with
errors lumped together (Comba, Stolfi, Affine arithmetic and its applications to computer graphics, SIBGRAPI 1993); rounding goes into the
error. Stands beside backward substitution, from which it takes the relaxations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from holdfast.bounds.backward import relaxation
from holdfast.bounds.enclosure import Enclosures, plan
from holdfast.operators import INPUT, OPERATORS, LinearOperator, ProductOperator
from holdfast.rigor import gamma

Array = Any


@dataclass(frozen=True, eq=False)
class Form:
    """middle (B, *shape), slopes (B, n, *shape) by the scaled inputs, error (B, *shape) >= 0."""

    middle: Array
    slopes: Array
    error: Array

    @property
    def spread(self) -> Array:
        """Of the part that is linear in the inputs (not rounded outward)."""
        return abs(self.slopes).sum(1)


@dataclass(eq=False)
class Forms:
    """Forms of the nodes of one pass; `extend` adds the next one, and gives the range that it implies."""

    state: Enclosures
    inputs: Array  # which inputs vary, in the order of the slopes
    at: list[Form] = field(default_factory=list)

    def extend(self) -> tuple[Array, Array]:
        """The form of the next node, from those before it and its range so far; a range of it."""
        position = len(self.at)
        state = self.state
        node, a = state.problem.graph[position], state.problem.arithmetic
        low, high = state.lower[position], state.upper[position]
        if node.op == INPUT:
            form = self._input(node.shape)
        elif not plan(state.problem.graph).carries[position]:
            form = self._constant(low, high)
        elif isinstance(OPERATORS[node.op], LinearOperator):
            form = self._linear(position)
        elif isinstance(OPERATORS[node.op], ProductOperator):
            form = self._product(position)
        else:
            form = self._unary(position)
        whole = self._constant(low, high)
        sound = np.isfinite(form.middle) & np.isfinite(form.error) & np.isfinite(form.slopes).all(1)
        form = Form(
            np.where(sound, form.middle, whole.middle),
            np.where(sound[:, None], form.slopes, 0.0),
            np.where(sound, form.error, whole.error),
        )
        self.at.append(form)
        reach = (form.spread + form.error) * (1 + gamma(len(self.inputs) + 2, a))
        reach = reach + 4 * a.unit * abs(form.middle) + 4 * a.tiny
        return form.middle - reach, form.middle + reach

    def reach(self, position: int) -> Array:
        """How strongly a node depends on each of the inputs (B, size, n)."""
        slopes = self.at[position].slopes
        flat = np.swapaxes(slopes.reshape(*slopes.shape[:2], math.prod(slopes.shape[2:])), 1, 2)
        radius = np.asarray(self.state.radius)[:, self.inputs][:, None]
        return np.divide(abs(flat), radius, out=np.zeros_like(flat), where=radius > 0)

    def _input(self, shape: tuple[int, ...]) -> Form:
        center, radius = self.state.center, self.state.radius
        slopes = np.zeros((len(center), len(self.inputs), center.shape[1]), center.dtype)
        index = np.arange(len(self.inputs))
        slopes[:, index, self.inputs] = radius[:, self.inputs]
        error = np.array(radius)
        error[:, self.inputs] = 0.0
        batch = len(center)
        return Form(
            center.reshape(batch, *shape), slopes.reshape(batch, len(self.inputs), *shape), error.reshape(batch, *shape)
        )

    def _constant(self, low: Array, high: Array) -> Form:
        a = self.state.problem.arithmetic
        middle = 0.5 * low + 0.5 * high
        error = np.maximum(high - middle, middle - low) * (1 + 8 * a.unit) + 4 * a.tiny
        finite = np.isfinite(middle)
        middle, error = np.where(finite, middle, 0.0), np.where(finite, error, np.inf)
        return Form(middle, np.zeros((len(low), len(self.inputs), *low.shape[1:]), low.dtype), error)

    def _linear(self, position: int) -> Form:
        problem = self.state.problem
        node, a = problem.graph[position], problem.arithmetic
        card, weights = OPERATORS[node.op], problem.weights(position)
        assert isinstance(card, LinearOperator)
        forms = [self.at[i] for i in node.inputs]
        middle = card.linear(np, node, weights, [f.middle for f in forms])
        slopes = card.linear(np, node, weights, [f.slopes for f in forms])
        error = card.magnitude(np, node, weights, [f.error for f in forms])
        if card.exact and problem.doubts(position) is None:
            return Form(middle, slopes, error)
        bias = card.bias(np, node, weights)
        size = card.magnitude(np, node, weights, [abs(f.middle) + f.spread + f.error for f in forms])
        if bias is not None:
            middle, size = middle + bias, size + abs(bias)
        terms = card.terms(node, weights)
        lost = gamma(terms + len(self.inputs) + 6, a) * size + 4 * (terms + 4) * (len(self.inputs) + 2) * a.tiny
        noise = self.state.noise[position]
        lost = lost if noise is None else lost + noise
        return Form(middle, slopes, (error + lost) * (1 + 16 * a.unit))

    def _unary(self, position: int) -> Form:
        problem = self.state.problem
        (source,) = problem.graph[position].inputs
        lines = relaxation(self.state, position)[0]
        low, high = self.state.lower[source], self.state.upper[source]
        sl, tl, su, tu = (np.broadcast_to(part, (len(low), 1, *low.shape[1:]))[:, 0] for part in lines)
        slope = 0.5 * sl + 0.5 * su
        below = np.minimum((sl - slope) * low, (sl - slope) * high)
        above = np.maximum((su - slope) * low, (su - slope) * high)
        steep = abs(sl) + abs(su)
        return self._combined(
            [(slope, source)], below + tl, above + tu, steep * self.state.size[source] + abs(tl) + abs(tu)
        )

    def _product(self, position: int) -> Form:
        x, y = self.state.problem.graph[position].inputs
        lines = relaxation(self.state, position)[0]
        shape = self.state.lower[x].shape
        parts = [np.broadcast_to(part, (shape[0], 1, *shape[1:]))[:, 0] for part in lines]
        below, above = parts[2], parts[5]
        size = abs(below) + abs(above)
        slopes = []
        for k, source in enumerate((x, y)):
            low, high = self.state.lower[source], self.state.upper[source]
            sl, su = parts[k], parts[3 + k]
            slope = 0.5 * sl + 0.5 * su
            below = below + np.minimum((sl - slope) * low, (sl - slope) * high)
            above = above + np.maximum((su - slope) * low, (su - slope) * high)
            size = size + (abs(sl) + abs(su)) * self.state.size[source]
            slopes.append((slope, source))
        return self._combined(slopes, below, above, size)

    def _combined(self, slopes: list[tuple[Array, int]], below: Array, above: Array, size: Array) -> Form:
        """sum slope * source + [below, above]; ``size``: of what was added up to below and above."""
        a = self.state.problem.arithmetic
        middle = 0.5 * below + 0.5 * above
        error = np.maximum(above - middle, middle - below) + 16 * a.unit * size
        total: Array = 0.0
        linear: Array = 0.0
        for slope, source in slopes:
            form = self.at[source]
            middle = middle + slope * form.middle
            linear = linear + slope[:, None] * form.slopes
            error = error + abs(slope) * form.error
            total = total + abs(slope) * (abs(form.middle) + form.spread + form.error)
        lost = gamma(len(self.inputs) + 12, a) * (total + size) + 64 * (len(self.inputs) + 4) * a.tiny
        return Form(middle, linear, (error + lost) * (1 + 16 * a.unit))
