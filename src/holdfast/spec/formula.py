"""Formulas of signal temporal logic as plain data: a tree over numbered atoms, and the atoms as inequalities of one Model.

Between the text of a problem file (`load.formula_temporal`) and what decides it (`reachability`).
Maler, Nickovic, Monitoring temporal properties of continuous signals, FORMATS 2004.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from holdfast.graph import Model

Window = tuple[Fraction, Fraction]
Operator = Literal["atom", "!", "&", "|", "G", "F", "U"]


@dataclass(frozen=True)
class Formula:
    """An atom (its number), or an operator on ``arguments``; ``window`` [from, to] of G, F and U, relative to the time of reading.

    a U[s,t] b at time 0: b at some time r in [s, t], and a at all times in [0, r).
    """

    operator: Operator
    arguments: tuple[Formula, ...] = ()
    window: Window | None = None
    atom: int = -1

    @property
    def temporal(self) -> bool:
        """Whether it speaks of other times than the one it is read at."""
        return self.operator in "GFU" or any(a.temporal for a in self.arguments)

    @property
    def atoms(self) -> frozenset[int]:
        """The numbers of its atoms."""
        own = frozenset({self.atom} if self.operator == "atom" else ())
        return own.union(*(a.atoms for a in self.arguments))


@dataclass(frozen=True, eq=False)
class Predicates:
    """A formula, and its atoms: number k is values_k(signals) <= 0 (``strict``: < 0), ``texts`` says so."""

    formula: Formula
    values: Model
    strict: tuple[bool, ...]
    texts: tuple[str, ...]


def atom(number: int) -> Formula:
    """The atom of that number."""
    return Formula("atom", atom=number)


def both(arguments: list[Formula] | tuple[Formula, ...]) -> Formula:
    """Their conjunction (true where there are none)."""
    return arguments[0] if len(arguments) == 1 else Formula("&", tuple(arguments))


def either(arguments: list[Formula] | tuple[Formula, ...]) -> Formula:
    """Their disjunction (false where there are none)."""
    return arguments[0] if len(arguments) == 1 else Formula("|", tuple(arguments))


def renumbered(formula: Formula, by: int) -> Formula:
    """The same with atoms that stand further behind."""
    if formula.operator == "atom":
        return atom(formula.atom + by)
    return replace(formula, arguments=tuple(renumbered(a, by) for a in formula.arguments))


_DUAL: dict[Operator, Operator] = {"&": "|", "|": "&", "G": "F", "F": "G"}


def negation_normal(formula: Formula, negated: bool = False) -> Formula:
    """Negations stand before atoms and untils only."""
    operator = formula.operator
    if operator == "!":
        return negation_normal(formula.arguments[0], not negated)
    if operator in _DUAL:
        arguments = tuple(negation_normal(a, negated) for a in formula.arguments)
        return replace(formula, operator=_DUAL[operator] if negated else operator, arguments=arguments)
    if operator == "U":
        formula = replace(formula, arguments=tuple(negation_normal(a) for a in formula.arguments))
    return Formula("!", (formula,)) if negated else formula
