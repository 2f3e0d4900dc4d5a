"""Barrier certificates: a function that is <= 0 where the loop starts, > 0 where it must never be, and cannot become positive.

Prajna, Jadbabaie, Safety verification of hybrid systems using barrier certificates, HSCC 2004, theorem 1 (with a strict decrease on the zero
level, so that no condition is needed elsewhere). docs/certificates/loops.md, section 4, barrier.
"""

from __future__ import annotations

from fractions import Fraction

from holdfast.errors import InputError
from holdfast.invariance.features import features
from holdfast.invariance.level_set import Sublevel, inside, reached, side_by_side
from holdfast.invariance.regions import region
from holdfast.invariance.sets import Inequalities, bounded_domain, inequalities
from holdfast.loop import ClosedLoop
from holdfast.spec.condition import Condition, RowsBuilder
from holdfast.spec.region import Box
from holdfast.spec.row import row
from holdfast.spec.temporal import TemporalProperty

ZERO = (Fraction(0), Fraction(0))


def barrier_conditions(loop: ClosedLoop, prop: TemporalProperty, initial: Box | None, where: str) -> list[Condition]:
    """Everything a barrier certificate promises."""
    if initial is None:
        raise InputError(f"{where}: a barrier speaks of trajectories from [initial], which is missing")
    if prop.function is None or prop.states is None:
        raise InputError(f"{where}: a barrier needs a function and the set unsafe")
    domain = bounded_domain(loop, where)
    h = loop.on_states(loop.data.functions[prop.function].value)
    s = Sublevel(h, ZERO, domain, prop.function)
    below = Inequalities(h, (row({0: 1}, 0, f"{prop.function} <= 0"),), domain)
    for i, name in enumerate(loop.states):
        if initial.exact_lower(i) < domain.exact_lower(i) or initial.exact_upper(i) > domain.exact_upper(i):
            raise InputError(f"{where}: the initial set must lie in the domain; state {name} does not")
    unsafe = inequalities(prop.states, loop, f"{where} unsafe")
    conditions = [inside(loop, [], initial, below), _apart(loop, s, unsafe)]
    return [*conditions, *reached(loop, s, ZERO)]


def _apart(loop: ClosedLoop, s: Sublevel, unsafe: Inequalities) -> Condition:
    """No state of the domain is unsafe and has h <= 0."""
    f = features(loop, side_by_side([s.h, unsafe.functions], len(loop.states)))
    rows = RowsBuilder()
    case = rows.case([*(g.moved(1) for g in unsafe.sides), s.below(0, s.top)])
    place = region(s.domain, loop.others, (case,))
    return Condition(f"{s.name} > 0 on the unsafe set", loop.variables, f.model, tuple(rows.rows), (place,))
