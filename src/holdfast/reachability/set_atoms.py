"""Sets of states as formulas over atoms, and all atoms of a claim as one Model of the signals.

Part of `claim`. What is linear stays exact; quadratic functions become sums of squares; networks that end in a sigmoid are compared
without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from holdfast.graph import Model, Tensor
from holdfast.invariance.features import enclose_matrix, sum_of_squares
from holdfast.invariance.sets import level, square_root_free
from holdfast.loop.closed_loop import without_sigmoid
from holdfast.operators import GraphBuilder
from holdfast.spec.formula import Formula, Predicates, atom, both, renumbered
from holdfast.spec.plant import LoopData
from holdfast.spec.temporal import BoxSet, Conditions, Ellipsoid, Level, Polytope, SetOfStates
from holdfast.transforms import embed, simplify
from holdfast.transforms.compose import finish

_Row = tuple[
    dict[int, Fraction], Fraction, Fraction, str
]  # over values of a Model: coefficients, constant between two numbers, text


class AtomsBuilder:
    """Collects atoms: number k holds where element k of the Model is <= 0 (``strict``: < 0), as ``texts`` say."""

    def __init__(self, loop: LoopData) -> None:
        self.loop = loop
        self.strict: list[bool] = []
        self.texts: list[str] = []
        self._builder = GraphBuilder()
        self._size = len(loop.plant.signals)
        self._signals = self._builder.input((self._size,), "signals")
        self._parts: list[int] = []

    def model(self) -> Model:
        """All of them: signals -> (K,)."""
        builder = self._builder
        if not self._parts:
            values = builder.add("constant", [], [np.zeros(0)])
        else:
            values = self._parts[0] if len(self._parts) == 1 else builder.add("concat", self._parts, axis=0)
        tensors = (Tensor("signals", (self._size,)),), (Tensor("atoms", (len(self.texts),)),)
        return simplify(finish(builder, [values], *tensors, "claim")).model

    def add(self, states: SetOfStates, where: str) -> Formula:
        """The states of the set."""
        if isinstance(states, Conditions):
            if states.predicates is not None:
                return self.add_predicates(states.predicates)
            return self.add_predicates(
                Predicates(
                    both([atom(k) for k in range(len(states.texts))]), states.values, states.strict, states.texts
                )
            )
        if isinstance(states, Level):
            return self._level(states)
        if isinstance(states, Ellipsoid):
            forms, weights = square_root_free(states.P, where)
            quadratic = sum_of_squares(forms, weights, states.center, Fraction(0))
            (value,) = embed(self._builder, quadratic, [self._states()])
            text = f"(x - center)' P (x - center) <= {float(states.level):g}"
            return self._rows(value, 1, [({0: Fraction(1)}, -states.level, -states.level, text)])
        rows = self._box(states) if isinstance(states, BoxSet) else self._polytope(states)
        return self._rows(self._signals, self._size, rows)

    def add_predicates(self, given: Predicates) -> Formula:
        """A formula with atoms of its own."""
        first = len(self.texts)
        (values,) = embed(self._builder, given.values, [self._signals])
        self._add(values, given.strict, given.texts)
        return renumbered(given.formula, first)

    def _add(self, values: int, strict: Sequence[bool], texts: Sequence[str]) -> None:
        self._parts.append(values)
        self.strict += strict
        self.texts += texts

    def _rows(self, source: int, width: int, rows: Sequence[_Row]) -> Formula:
        """The conjunction of rows sum coefficient * value + constant <= 0."""
        matrix, lost = enclose_matrix([[terms.get(i, Fraction(0)) for i in range(width)] for terms, *_ in rows])
        low, below = enclose_matrix([[low for _, low, _, _ in rows]])
        high, above = enclose_matrix([[high for _, _, high, _ in rows]])
        doubt = np.nextafter(np.maximum(high + above - low, below), np.inf) * ((above > 0) | (high > low))
        y = self._builder.add("dense", [source], [matrix.T.copy(), low[0]], radii=[lost.T.copy(), doubt[0]])
        first = len(self.texts)
        self._add(y, [False] * len(rows), [text for *_, text in rows])
        return both([atom(first + k) for k in range(len(rows))])

    def _box(self, states: BoxSet) -> list[_Row]:
        names = self.loop.plant.signals.states
        rows: list[_Row] = []
        for i, (low, high) in sorted(states.ends.items()):
            rows.append(({i: Fraction(1)}, -high, -high, f"{names[i]} <= {float(high):g}"))
            rows.append(({i: Fraction(-1)}, low, low, f"{names[i]} >= {float(low):g}"))
        return rows

    def _polytope(self, states: Polytope) -> list[_Row]:
        rows: list[_Row] = []
        for k, (form, low, high) in enumerate(zip(states.H, states.lower, states.upper, strict=True)):
            middle = sum((a * c for a, c in zip(form, states.center, strict=True)), Fraction(0))
            for sign, end, word in ((1, high, "<="), (-1, low, ">=")):
                if end is not None:
                    constant = -sign * (middle + end)
                    terms = {i: sign * a for i, a in enumerate(form) if a}
                    rows.append((terms, constant, constant, f"row {k + 1} of H (x - center) {word} {float(end):g}"))
        return rows

    def _level(self, states: Level) -> Formula:
        plant = self.loop.plant
        value, stripped = without_sigmoid(self.loop.functions[states.function])
        (y,) = embed(self._builder, value, [self._signals])
        if self._builder.shape(y) != (1,):
            y = self._builder.add("reshape", [y], shape=(math.prod(self._builder.shape(y)),))
        rows: list[_Row] = []
        for end, sign, word in ((states.at_most, 1, "<="), (states.at_least, -1, ">=")):
            if end is not None:
                low, high = level(end, stripped)
                ends = (-high, -low) if sign > 0 else (low, high)
                rows.append(({0: Fraction(sign)}, *ends, f"{states.function} {word} {float(end):g}"))
        parts = [self._rows(y, 1, rows)]
        if plant.domain is not None and any(plant.bounded):
            ends_of = {
                i: (plant.domain.exact_lower(i), plant.domain.exact_upper(i)) for i, b in enumerate(plant.bounded) if b
            }
            parts.append(self._rows(self._signals, self._size, self._box(BoxSet(ends_of))))
        return both(parts)

    def _states(self) -> int:
        return self._builder.add("slice", [self._signals], slices=((0, len(self.loop.plant.signals.states), 1),))
