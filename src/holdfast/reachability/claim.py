"""All claims of an instance about trajectories as one formula of signal temporal logic over atoms g(signals) <= 0 of one Model.

First station of reachability: `monitor` decides the formula on flow tubes, `robustness` measures it on simulated trajectories.
Maler, Nickovic, Monitoring temporal properties of continuous signals, FORMATS 2004.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from holdfast.errors import InputError
from holdfast.graph import Model
from holdfast.reachability.set_atoms import AtomsBuilder
from holdfast.spec.formula import Formula, Window, atom, both, negation_normal
from holdfast.spec.temporal import Instance, TemporalProperty

DECIDED = ("always", "at", "eventually", "until", "stl")


@dataclass(frozen=True)
class Predicate:
    """A part of a claim that speaks of one instant: ``formula`` over the claim's atoms, without temporal operators.

    ``window``: the times at which the claim may need it. ``must``: whether the claim is lost where it is not known to hold at one of them.
    """

    formula: Formula
    property: str
    window: Window
    must: bool


@dataclass(frozen=True, eq=False)
class Claim:
    """``tree``: the claim over atoms; ``formula``: the same over ``predicates``, its atoms their numbers. Both are read at time 0.

    Atom k holds where values_k(signals) <= 0 (``strict``: < 0); ``texts`` say so in the words of the problem. ``end``: the last time that
    matters (seconds; maps: steps). ``others``: properties that are no claims about trajectories over a horizon.
    """

    tree: Formula
    values: Model
    strict: tuple[bool, ...]
    texts: tuple[str, ...]
    formula: Formula
    predicates: tuple[Predicate, ...]
    end: Fraction
    discrete: bool
    others: tuple[TemporalProperty, ...] = ()


def claim_of(instance: Instance) -> Claim:
    """The conjunction of all properties that speak of trajectories until some time.

    Raises InputError for windows that the horizon, or the steps of a map, do not have.
    """
    atoms = AtomsBuilder(instance.loop)
    end = horizon(instance)
    parts: list[tuple[str, Formula]] = []
    others: list[TemporalProperty] = []
    for k, prop in enumerate(instance.properties):
        if prop.kind not in DECIDED or (prop.function is not None and end is None):
            others.append(prop)
            continue
        name = prop.id or str(k + 1)
        where = f"property {name}"
        formula = _formula(prop, atoms, end, where)
        _check_windows(formula, Fraction(0), end, instance.loop.plant.kind == "map", where)
        parts.append((name, formula))
    found: list[Predicate] = []
    tree = both([formula for _, formula in parts])
    outer = both([_instants(negation_normal(f), name, (Fraction(0), Fraction(0)), True, found) for name, f in parts])
    last = max((p.window[1] for p in found), default=Fraction(0))
    return Claim(
        tree, atoms.model(), tuple(atoms.strict), tuple(atoms.texts), outer, tuple(found), last,
        instance.loop.plant.kind == "map", tuple(others),
    )  # fmt: skip


def horizon(instance: Instance) -> Fraction | None:
    """The end of the horizon in seconds (maps: steps), None where there is none."""
    if instance.steps is None:
        return instance.time
    controller = instance.loop.controller
    period = None if controller is None else controller.period
    return Fraction(instance.steps) * (1 if period is None else period)


def _formula(prop: TemporalProperty, atoms: AtomsBuilder, end: Fraction | None, where: str) -> Formula:
    if prop.kind == "stl":
        assert prop.predicates is not None
        return atoms.add_predicates(prop.predicates)
    assert prop.states is not None
    first = atoms.add(prop.states, where)
    if prop.kind == "at":
        assert prop.at is not None
        window = prop.at, prop.at
    elif prop.during is not None:
        window = prop.during
    elif end is not None:
        window = Fraction(0), end
    else:
        raise InputError(f"{where}: needs [horizon] or during")
    if prop.kind == "until":
        if prop.target is None or prop.target == "equilibrium":
            raise InputError(f"{where}: until needs a set that is reached")
        return Formula("U", (first, atoms.add(prop.target, where)), window)
    held = Formula("!", (first,)) if prop.negated else first
    return Formula("F" if prop.kind == "eventually" else "G", (held,), window)


def _check_windows(formula: Formula, start: Fraction, end: Fraction | None, discrete: bool, where: str) -> None:
    """InputError for windows that are empty, reach beyond the horizon, or lie between the steps of a map."""
    if formula.window is not None:
        first, last = formula.window
        if not 0 <= first <= last:
            raise InputError(
                f"{where}: found the window [{float(first):g}, {float(last):g}], accepted: 0 <= from <= to"
            )
        if discrete and (first.denominator != 1 or last.denominator != 1):
            raise InputError(
                f"{where}: found the window [{float(first):g}, {float(last):g}], the steps of a map are integers"
            )
        start += last
        if end is not None and start > end:
            raise InputError(f"{where}: it looks at {float(start):g}, the horizon ends at {float(end):g}")
    for argument in formula.arguments:
        _check_windows(argument, start, end, discrete, where)


def _instants(formula: Formula, name: str, window: Window, must: bool, found: list[Predicate]) -> Formula:
    """The formula over predicates, which are collected; ``window``: the times it is read at."""
    if not formula.temporal:
        found.append(Predicate(formula, name, window, must))
        return atom(len(found) - 1)
    (first, last), own = window, formula.window
    if own is None:
        alone = formula.operator == "&" or len(formula.arguments) == 1
        kept = must and alone and formula.operator != "!"
        inner: Sequence[tuple[Window, bool]] = [(window, kept)] * len(formula.arguments)
    else:
        moved = first + own[0], last + own[1]
        if formula.operator == "U":
            inner = [((first, moved[1]), False), (moved, must and own[0] == own[1])]
        else:
            inner = [(moved, must and (formula.operator == "G" or own[0] == own[1]))]
    arguments = tuple(_instants(a, name, w, m, found) for a, (w, m) in zip(formula.arguments, inner, strict=True))
    return replace(formula, arguments=arguments)
