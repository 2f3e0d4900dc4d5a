"""Reach-avoid certificates: a function that decreases until the goal is reached, and whose sub-level set avoids everything else.

Reach-while-avoid with a given function V (Edwards, Peruffo, Abate, Fossil 2.0, HSCC 2024, certificate RWA; the strict decrease on a compact set
stands for their rate): V <= 0 on the initial set; where V <= 0 the state is in the set `first`; where V <= 0 outside of the goal V decreases, and
nothing leaves the domain. docs/certificates/loops.md, section 4, until.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.errors import InputError, UnsupportedError
from holdfast.invariance.barrier import ZERO
from holdfast.invariance.features import features
from holdfast.invariance.level_set import Sublevel, inside, side_by_side
from holdfast.invariance.regions import region, side, sides
from holdfast.invariance.sets import Inequalities, bounded_domain, inequalities
from holdfast.loop import ClosedLoop
from holdfast.spec.condition import Condition, RowsBuilder
from holdfast.spec.region import Box
from holdfast.spec.row import Row, row
from holdfast.spec.temporal import TemporalProperty


def reach_avoid_conditions(
    loop: ClosedLoop, prop: TemporalProperty, initial: Box | None, where: str
) -> list[Condition]:
    """Everything a reach-avoid certificate promises; there is no bound on the time until the goal is reached."""
    if prop.function is None:
        raise UnsupportedError(f"{where}: kind until is not supported yet without a function that proves it")
    if prop.during is not None:
        raise UnsupportedError(
            f"{where}: kind until with `during` is not supported yet: a function says that, not when"
        )
    if initial is None or prop.states is None or prop.target is None or prop.target == "equilibrium":
        raise InputError(f"{where}: needs [initial], first, then")
    domain = bounded_domain(loop, where)
    h = loop.on_states(loop.data.functions[prop.function].value)
    s = Sublevel(h, ZERO, domain, prop.function)
    for i, name in enumerate(loop.states):
        if initial.exact_lower(i) < domain.exact_lower(i) or initial.exact_upper(i) > domain.exact_upper(i):
            raise InputError(f"{where}: the initial set must lie in the domain; state {name} does not")
    first = inequalities(prop.states, loop, f"{where} first")
    goal = inequalities(prop.target, loop, f"{where} then")
    below = Inequalities(h, (row({0: 1}, 0, f"{prop.function} <= 0"),), domain)
    return [inside(loop, [], initial, below), inside(loop, [s], domain, first), *_progress(loop, s, goal)]


def _progress(loop: ClosedLoop, s: Sublevel, goal: Inequalities) -> list[Condition]:
    """Where h <= 0 outside of the goal, h decreases and the domain is not left. Sides of the goal's domain are those of ours."""
    functions = side_by_side([s.h, goal.functions], len(loop.states))
    f = features(loop, functions, change=True, flow=True)
    assert f.value is not None and f.change is not None and f.flow is not None
    within = s.below(f.value, s.top)
    beyond = [g.moved(f.value + 1).negated(f"not {g.text}", strict=False) for g in goal.sides]
    name = f"{s.name} decreases until the goal is reached"

    def condition(places: Sequence[tuple[Box, Sequence[Row]]]) -> Condition:
        rows = RowsBuilder()
        regions = [
            region(box, loop.others, tuple(rows.case([within, away, last]) for last in ends for away in beyond)) for box, ends in places
        ]  # fmt: skip
        return Condition(name, loop.variables, f.model, tuple(rows.rows), tuple(regions))

    if loop.kind == "ode":
        growing = row({f.change: -1}, 0, f"{s.name} does not decrease along the flow")
        faces = [
            (side(s.domain, i, upper), [row({f.flow + i: -1 if upper else 1}, 0, f"{loop.states[i]} leaves the domain", strict=True)])
            for i, upper in sides(loop.states)
        ]  # fmt: skip
        return [condition([(s.domain, [growing])]), condition(faces)]
    ends = [row({f.value: 1, f.change: -1}, 0, f"{s.name} does not decrease in the next step")]
    for i, state in enumerate(loop.states):
        for sign, end in ((-1, s.domain.exact_upper(i)), (1, -s.domain.exact_lower(i))):
            ends.append(row({f.flow + i: sign}, end, f"next {state} is outside of the domain", strict=True))
    return [condition([(s.domain, ends)])]
