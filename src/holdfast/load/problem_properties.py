"""The [[property]] tables, [initial] and [horizon] -> spec.temporal: what is claimed, from where, and for how long.

Part of the reading of problem files, see `problem`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from holdfast.load.expression import Comparison, FormulaError
from holdfast.load.formula_atoms import Atoms
from holdfast.load.formula_temporal import Temporal, latest, parse_with_texts
from holdfast.load.problem_fields import Place, array, choice, interval, intervals, number, string, table, whole
from holdfast.load.problem_plant import Formulas, box_of
from holdfast.load.problem_sets import check_function, compiled, predicates, read_set
from holdfast.spec.formula import Formula, Predicates
from holdfast.spec.plant import LoopData
from holdfast.spec.region import Box
from holdfast.spec.temporal import Level, SetOfStates, TemporalProperty

# which keys a kind has: those it needs; those it may have; whether it speaks of trajectories from `initial`
_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], bool]] = {
    "always": ((), ("during", "set", "not_set"), True),
    "at": ((), ("time", "step", "set", "not_set"), True),
    "eventually": (("set",), ("during",), True),
    "until": (("first", "then"), ("during", "function"), True),
    "invariant": (("set",), (), False),
    "attracts": (("from", "to"), (), False),
    "barrier": (("function", "unsafe"), (), True),
    "stl": (("formula",), (), True),
}


@dataclass(frozen=True, eq=False)
class Setting:
    """What the properties of one instance are read against."""

    loop: LoopData
    formulas: Formulas
    initial: Box | None
    steps: int | None
    time: Fraction | None

    @property
    def stepwise(self) -> bool:
        """Whether time counts the steps of a map."""
        return self.loop.plant.kind == "map"

    @property
    def period(self) -> Fraction | None:
        """Seconds between samples."""
        return self.loop.controller.period if self.loop.controller else None

    @property
    def end(self) -> Fraction | None:
        """The end of the horizon: seconds, or steps of a map."""
        if self.steps is None:
            return self.time
        return Fraction(self.steps) if self.stepwise or self.period is None else self.steps * self.period


def read_initial(place: Place, value: Any, loop: LoopData) -> Box:
    """A box over all states, inside the domain."""
    states, domain = loop.plant.signals.states, loop.plant.domain
    ends = intervals(place, value, states, "state")
    absent = [name for name in states if name not in ends]
    if absent:
        place.fail(f"no value for {', '.join(absent)}; every state needs one")
    for i, name in enumerate(states):
        if domain is not None and loop.plant.bounded[i]:
            low, high = domain.exact_lower(i), domain.exact_upper(i)
            if ends[name][0] < low or ends[name][1] > high:
                place.at(name).fail(f"the initial set leaves the domain [{float(low):g}, {float(high):g}]")
    return box_of([ends[name] for name in states])


def read_horizon(place: Place, value: Any, loop: LoopData) -> tuple[int | None, Fraction | None]:
    """(steps, None) or (None, seconds), as written."""
    fields = table(place, value, ("steps", "time"))
    if len(fields) != 1:
        place.fail(f"found {' and '.join(fields) or 'nothing'}, expected either steps or time")
    if "steps" in fields:
        if loop.plant.kind == "ode" and (loop.controller is None or loop.controller.period is None):
            place.at("steps").fail("steps count the periods of sampled feedback or the steps of a map, expected time")
        return whole(place.at("steps"), fields["steps"], 1), None
    if loop.plant.kind == "map":
        place.at("time").fail("a map has no time, expected steps")
    time = number(place.at("time"), fields["time"])
    if time <= 0:
        place.at("time").fail(f"found {fields['time']}, expected a positive number of seconds")
    return None, time


def read_properties(place: Place, value: Any, setting: Setting) -> tuple[TemporalProperty, ...]:
    """All properties, with distinct ids."""
    found: list[TemporalProperty] = []
    for i, given in enumerate(array(place, value, of="an array of tables")):
        identity = given.get("id", i) if isinstance(given, Mapping) else i
        where = Place(place.file, f"{place.table} {identity}")
        property_ = _property(where, given, setting)
        if any(property_.id == other.id for other in found):
            where.fail(f"the id {property_.id} is used twice")
        found.append(property_)
    return tuple(found)


def _property(place: Place, value: Any, setting: Setting) -> TemporalProperty:
    fields = table(place, value, None, ("id", "kind"))
    identity = string(place.at("id"), fields["id"])
    kind = choice(place.at("kind"), fields["kind"], tuple(_KINDS))
    needed, possible, moving = _KINDS[kind]
    table(place, fields, ("id", "kind", *needed, *possible), needed)
    if moving and setting.initial is None:
        place.fail(f"a property of kind {kind} speaks of trajectories: [initial] is missing")
    timed = kind in ("always", "at", "eventually") or (kind == "until" and "function" not in fields)
    if timed and setting.end is None and "during" not in fields:
        place.fail(f"a property of kind {kind} needs [horizon]")

    def region(key: str, within: bool = False) -> SetOfStates:
        plant, functions = setting.loop.plant, setting.loop.functions
        return read_set(place.at(key), fields[key], plant, setting.formulas, functions, within=within)

    match kind:
        case "always" | "at":
            if ("set" in fields) == ("not_set" in fields):
                place.fail("found both set and not_set" if "set" in fields else "set or not_set is missing")
            key = "set" if "set" in fields else "not_set"
            instant = _instant(place, fields, setting) if kind == "at" else None
            during = _during(place, fields, setting)
            return TemporalProperty(identity, kind, region(key), key == "not_set", during=during, at=instant)
        case "eventually":
            return TemporalProperty(identity, kind, region("set"), during=_during(place, fields, setting))
        case "until":
            during = _during(place, fields, setting) if timed or "during" in fields else None
            proof = fields.get("function")
            if proof is not None:
                proof = check_function(place.at("function"), proof, setting.loop.functions)
            return TemporalProperty(
                identity, kind, region("first"), target=region("then"), during=during, function=proof
            )
        case "invariant":
            return TemporalProperty(identity, kind, region("set", within=True))
        case "attracts":
            start = region("from", within=True)
            target = "equilibrium" if fields["to"] == "equilibrium" else region("to")
            _check_levels(place, start, target)
            return TemporalProperty(identity, kind, start, target=target)  # type: ignore[arg-type]
        case "barrier":
            function = check_function(place.at("function"), fields["function"], setting.loop.functions)
            return TemporalProperty(identity, kind, region("unsafe"), function=function)
    text = string(place.at("formula"), fields["formula"])
    return TemporalProperty(identity, kind, formula=text, predicates=_formula(place.at("formula"), text, setting))


def _check_levels(place: Place, start: SetOfStates, target: SetOfStates | str) -> None:
    if not (isinstance(start, Level) and isinstance(target, Level)) or start.function != target.function:
        return
    if start.at_most is not None and target.at_most is not None and start.at_most <= target.at_most:
        place.fail(
            f"to.level.at_most = {float(target.at_most):g} is not below from.level.at_most = {float(start.at_most):g}"
        )


def _during(place: Place, fields: Mapping[str, Any], setting: Setting) -> tuple[Fraction, Fraction] | None:
    if "during" not in fields:
        return None
    where = place.at("during")
    first, last = interval(where, fields["during"], degenerate=False)
    for instant in (first, last):
        _check_instant(where, instant, setting)
    return first, last


def _instant(place: Place, fields: Mapping[str, Any], setting: Setting) -> Fraction:
    if ("time" in fields) == ("step" in fields):
        place.fail("found both time and step" if "time" in fields else "time or step is missing")
    if "time" in fields:
        if setting.stepwise:
            place.at("time").fail("a map has no time, expected step")
        instant = number(place.at("time"), fields["time"])
    else:
        instant = Fraction(whole(place.at("step"), fields["step"]))
        if not setting.stepwise:
            if setting.period is None:
                place.at("step").fail("there are no steps in continuous time, expected time")
            instant *= setting.period
    _check_instant(place.at("time" if "time" in fields else "step"), instant, setting)
    return instant


def _check_instant(place: Place, instant: Fraction, setting: Setting) -> None:
    if instant < 0:
        place.fail(f"found {float(instant):g}, time starts at 0")
    if setting.stepwise and instant.denominator != 1:
        place.fail(f"found {float(instant):g}, the steps of a map are integers")
    if setting.end is not None and instant > setting.end:
        place.fail(f"found {float(instant):g}, the horizon ends at {float(setting.end):g}")


def _formula(place: Place, text: str, setting: Setting) -> Predicates:
    try:
        parsed, texts = parse_with_texts(text)
    except FormulaError as error:
        place.fail(error)
    atoms = Atoms(setting.formulas.algebra())

    def tree(node: Temporal | Comparison) -> Formula:
        if isinstance(node, Comparison):
            return compiled(place, node, texts[node], setting.formulas, atoms)
        for instant in node.window or ():
            if setting.stepwise and instant.denominator != 1:
                place.fail(f"found the window end {float(instant):g}, the steps of a map are integers")
        return Formula(node.operator, tuple(map(tree, node.arguments)), node.window)  # type: ignore[arg-type]

    formula = tree(parsed)
    _check_instant(place, latest(parsed), setting)
    return predicates(place, formula, setting.formulas, atoms)
