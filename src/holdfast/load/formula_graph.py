"""Normal forms -> Model: all atoms of one operator that are ready become one vector node.

Last station of formulas. Arguments are one dense node on the concatenation of what they read (a gather where they only
copy), so that dozens of formulas become a handful of nodes for the bound engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, cast

import numpy as np

from holdfast.graph import Model, Tensor
from holdfast.load.expression import FormulaError, parse
from holdfast.load.formula_constants import nearest
from holdfast.load.formula_normal import SIGNAL, Affine, Algebra
from holdfast.operators import OPERATORS, GraphBuilder
from holdfast.transforms.compose import finish

_MOST_LABELS = 3


def compile_formulas(
    formulas: Mapping[str, str],
    signals: Sequence[str],
    *,
    constants: Mapping[str, Fraction] | None = None,
    definitions: Mapping[str, str] | None = None,
    limits: Mapping[str, tuple[Fraction, Fraction]] | None = None,
) -> Model:
    """Formulas as one Model: input (len(signals),), output (len(formulas),), in the order given.

    ``formulas``: label -> text; labels appear in node names. ``constants`` and ``definitions`` (in order, reading earlier
    ones) may be used by name. ``limits``: labels whose value is clipped. FormulaError says which formula is at fault.
    """
    algebra = new_algebra(signals, constants or {}, definitions or {})
    forms = {}
    for label, text in formulas.items():
        try:
            forms[label] = algebra.normal(parse(text))
        except FormulaError as error:
            raise FormulaError(f"{label}: {error}") from error
    return model_of(algebra, saturate(algebra, forms, limits or {}), len(signals))


def new_algebra(signals: Sequence[str], constants: Mapping[str, Fraction], definitions: Mapping[str, str]) -> Algebra:
    """An algebra that knows the names of signals, constants and definitions."""
    algebra = Algebra(signals)
    algebra.names.update({name: Affine(value) for name, value in constants.items()})
    for name, text in definitions.items():
        try:
            algebra.names[name] = algebra.normal(parse(text))
        except FormulaError as error:
            raise FormulaError(f"{name}: {error}") from error
    return algebra


def saturate(
    algebra: Algebra, forms: Mapping[str, Affine], limits: Mapping[str, tuple[Fraction, Fraction]]
) -> dict[str, Affine]:
    """Forms clipped to their limits; one set of ends that float64 holds is used as it is."""
    ends = set(limits.values())
    plain = len(ends) == 1 and all(Fraction(float(v)) == v for v in next(iter(ends)))
    return {name: algebra.clip(f, *limits[name], plain) if name in limits else f for name, f in forms.items()}


def model_of(algebra: Algebra, forms: Mapping[str, Affine], size: int) -> Model:
    """One Model with the forms as its output vector; FormulaError for an operator without a card."""
    compiler = _Compiler(algebra, forms, size)
    compiler.nonlinear()
    output = compiler.affine(list(forms.values()), ", ".join(list(forms)[:_MOST_LABELS]), output=True)
    inputs = [Tensor("signals", (size,), "float64")]
    return finish(compiler.builder, [output], inputs, [Tensor("values", (len(forms),), "float64")], "formulas")


class _Compiler:
    """Places atoms: ``place`` maps an atom to (node, element)."""

    def __init__(self, algebra: Algebra, forms: Mapping[str, Affine], size: int) -> None:
        self.algebra = algebra
        self.builder = GraphBuilder()
        source = self.builder.input((size,), "signals")
        self.place = {i: (source, i) for i in range(size)}
        self.joined: dict[tuple[int, ...], int] = {}
        self.made: dict[tuple[Affine, ...], int] = {}  # arguments: sin and cos of one angle share theirs
        needed = sorted(algebra.needed(list(forms.values())))
        self.pending = [a for a in needed if algebra.atoms[a].op != SIGNAL]
        missing = sorted({algebra.atoms[a].op for a in self.pending} - set(OPERATORS))
        if missing:
            raise FormulaError(f"the function {missing[0]} has no operator here")
        self.labels: dict[int, list[str]] = {}
        for label, form in forms.items():
            for atom in algebra.needed([form]):
                self.labels.setdefault(atom, []).append(label)

    def nonlinear(self) -> None:
        """One node per operator (and attributes) and round, until every atom has its place."""
        atoms = self.algebra.atoms
        while self.pending:
            ready = [a for a in self.pending if all(i in self.place for f in atoms[a].arguments for i, _ in f.terms)]
            waiting = set(self.pending) - set(ready)
            kinds = Counter((atoms[a].op, atoms[a].attributes) for a in ready)
            later = Counter((atoms[a].op, atoms[a].attributes) for a in waiting)
            # an operator that waits for nothing more goes first, then the one that leaves least behind
            chosen = min(
                kinds, key=lambda kind: (later[kind] > 0, kind[0] == "product", later[kind] - kinds[kind], kind)
            )
            group = [a for a in ready if (atoms[a].op, atoms[a].attributes) == chosen]
            labels = sorted({label for a in group for label in self.labels[a]})
            shown = ", ".join(labels[:_MOST_LABELS]) + (", ..." if len(labels) > _MOST_LABELS else "")
            name = f"{shown}: {chosen[0]}"
            count, attributes = len(atoms[group[0]].arguments), cast("dict[str, Any]", dict(chosen[1]))
            # both factors of a product read one concatenation
            sources = self._sources([f for a in group for f in atoms[a].arguments])
            inputs = [self.affine([atoms[a].arguments[k] for a in group], name, sources) for k in range(count)]
            node = self.builder.add(chosen[0], inputs, name=name, **attributes)
            self.place.update({a: (node, k) for k, a in enumerate(group)})
            placed = set(group)
            self.pending = [a for a in self.pending if a not in placed]

    def _sources(self, forms: Sequence[Affine]) -> tuple[int, ...]:
        return tuple(sorted({self.place[atom][0] for form in forms for atom, _ in form.terms})) or (0,)

    def affine(self, forms: Sequence[Affine], name: str, wider: tuple[int, ...] = (), output: bool = False) -> int:
        """A vector of normal forms: nothing where it is a whole node, a gather of copies, else a dense node.

        ``wider``: nodes that may be concatenated although these forms do not read them all.
        """
        if tuple(forms) in self.made:
            return self.made[tuple(forms)]
        sources = self._sources(forms)
        copies = all(_copies(form) for form in forms)
        if copies and len(sources) == 1 and not (output and sources[0] == 0):
            elements = [self.place[form.terms[0][0]][1] for form in forms]
            if elements == list(range(self.builder.shape(sources[0])[0])):
                return sources[0]
        if len(sources) > 1:
            sources = self._join(sources, wider)
        x = sources[0] if len(sources) == 1 else self.joined[sources]
        offsets, total = {}, 0
        for source in sources:
            offsets[source] = total
            total += self.builder.shape(source)[0]
        column = {a: offsets[self.place[a][0]] + self.place[a][1] for form in forms for a, _ in form.terms}
        if copies:
            node = self._take(x, tuple(column[form.terms[0][0]] for form in forms), name)
        else:
            node = self._dense(x, forms, column, total, name)
        self.made[tuple(forms)] = node
        return node

    def _dense(self, x: int, forms: Sequence[Affine], column: Mapping[int, int], total: int, name: str) -> int:
        weight, shift = np.zeros((total, len(forms))), np.zeros(len(forms))
        radius, doubt = np.zeros_like(weight), np.zeros_like(shift)
        for j, form in enumerate(forms):
            shift[j], doubt[j] = nearest(form.constant)
            for atom, coefficient in form.terms:
                weight[column[atom], j], radius[column[atom], j] = nearest(coefficient)
        radii = [radius if radius.any() else None, doubt if doubt.any() else None]
        return self.builder.add("dense", [x], [weight, shift], radii=radii, name=name)

    def _take(self, x: int, indices: tuple[int, ...], name: str) -> int:
        if indices == tuple(range(self.builder.shape(x)[0])) and x != 0:
            return x
        start = indices[0]
        if indices == tuple(range(start, start + len(indices))):
            return self.builder.add("slice", [x], slices=((start, len(indices), 1),), name=name)
        return self.builder.add("gather", [x], axis=0, indices=indices, name=name)

    def _join(self, sources: tuple[int, ...], wider: tuple[int, ...]) -> tuple[int, ...]:
        """Sources of a concatenation that contains these: one that exists, else a new one of ``wider``."""
        for known in self.joined:
            if set(known) >= set(sources):
                return known
        wanted = wider if set(wider) >= set(sources) else sources
        self.joined[wanted] = self.builder.add("concat", wanted, axis=0)
        return wanted


def _copies(form: Affine) -> bool:
    return form.constant == 0 and len(form.terms) == 1 and form.terms[0][1] == 1
