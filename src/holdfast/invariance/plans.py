"""Properties become plans: the conditions that prove one, and how a certificate says which they are.

The one place that knows which method decides which kind of property; methods themselves are a file each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from holdfast.errors import UnsupportedError
from holdfast.invariance.attract import Plan, start_of, to_equilibrium, to_set
from holdfast.invariance.axes import for_band
from holdfast.invariance.ball import Ball
from holdfast.invariance.barrier import barrier_conditions
from holdfast.invariance.level_set import boundary, image
from holdfast.invariance.oblique import Oblique
from holdfast.invariance.polytope import as_polytope, face_conditions, image_condition
from holdfast.invariance.reach_avoid import reach_avoid_conditions
from holdfast.invariance.regular import require_regular
from holdfast.invariance.sampled import held_in_ball, invariant_conditions
from holdfast.invariance.sets import Inequalities, bounded_domain, inequalities
from holdfast.loop import ClosedLoop, close
from holdfast.loop.sampled import sample
from holdfast.search.budget import Budget
from holdfast.spec.condition import Condition
from holdfast.spec.plant import LoopData
from holdfast.spec.temporal import BoxSet, Ellipsoid, Instance, Polytope, SetOfStates, TemporalProperty

DECIDED = ("invariant", "attracts", "barrier", "until")

__all__ = ["DECIDED", "Plan", "continuous", "is_sampled", "plan_of"]


def is_sampled(data: LoopData) -> bool:
    """Whether the controller's output is held for a period."""
    return data.controller is not None and data.controller.feedback == "sampled"


def continuous(data: LoopData) -> ClosedLoop:
    """The closed loop; of a sampled one that with continuous feedback, of which nothing is claimed (sets are read with it)."""
    if is_sampled(data) and data.controller is not None:
        return close(replace(data, controller=replace(data.controller, feedback="continuous", period=None)))
    return close(data)


def plan_of(
    loop: ClosedLoop, instance: Instance, prop: TemporalProperty, where: str, holds: Callable[[Condition], bool],
    tell: Callable[[str], None], budget: Budget, workers: int,
) -> Plan | str:  # fmt: skip
    """The plan for one property, or a sentence that says why there is none.

    ``holds`` proves a condition that no certificate needs. Raises InputError where right side or functions are not regular on the set.
    """
    if is_sampled(instance.loop):
        if prop.kind != "invariant":
            raise UnsupportedError(
                f"{where}: kind {prop.kind} is not supported yet for sampled feedback; decided is invariant"
            )
        assert prop.states is not None
        states = inequalities(prop.states, loop, where)
        require_regular(loop, [states.functions], states, states.hull, where, holds)
        return _held(instance.loop, prop.states, states, where, budget)
    if prop.kind == "invariant":
        assert prop.states is not None
        states = inequalities(prop.states, loop, where)
        require_regular(loop, [states.functions], states, states.hull, where, holds)
        return _invariant(loop, prop, states, where, budget)
    if prop.kind == "attracts":
        top, states = start_of(prop, loop, f"{where} from")
        require_regular(loop, [top.h], states, top.domain, where, holds)
        if prop.target == "equilibrium":
            try:
                return to_equilibrium(loop, prop, where, tell, budget=budget, workers=workers)
            except np.linalg.LinAlgError as error:  # plain search only: nothing is claimed on its ground
                return f"no way to the equilibrium was found, the linear algebra of the search failed ({error})"
        assert prop.target is not None
        goal = inequalities(prop.target, loop, f"{where} to")
        require_regular(loop, [goal.functions], states, top.domain, f"{where} to", holds)
        return to_set(loop, prop, where, budget=budget, workers=workers)
    assert prop.kind in ("barrier", "until")
    if prop.function is not None:
        functions = [loop.on_states(instance.loop.functions[prop.function].value)]
        for other in (prop.states, prop.target):
            if other is not None and other != "equilibrium":
                functions.append(inequalities(other, loop, where).functions)
        require_regular(loop, functions, None, bounded_domain(loop, where), where, holds)
    if prop.kind == "until" and (instance.time is not None or instance.steps is not None):
        raise UnsupportedError(
            f"{where}: kind until within [horizon] is not supported yet: a function says that the goal is reached, not when"
        )
    if prop.kind == "barrier":
        return Plan(tuple(barrier_conditions(loop, prop, instance.initial, where)), {"method": "barrier"})
    return Plan(tuple(reach_avoid_conditions(loop, prop, instance.initial, where)), {"method": "reach-avoid"})


def _invariant(loop: ClosedLoop, prop: TemporalProperty, states: Inequalities, where: str, budget: Budget) -> Plan:
    if isinstance(prop.states, BoxSet | Polytope):
        polytope = as_polytope(prop.states, loop, where)
        if loop.kind == "ode":
            conditions, bases = face_conditions(loop, polytope, where)
            return Plan(tuple(conditions), {"method": "faces", "bases": bases})
        condition, basis = image_condition(loop, polytope, where)
        return Plan((condition,), {"method": "image", "basis": basis})

    def make(axes: Oblique | None) -> list[Condition]:
        return boundary(loop, states, where, axes) if loop.kind == "ode" else [image(loop, states, where, axes)]

    axes = None
    if len(states.sides) == 1 and states.sides[0].terms == ((0, Fraction(1)),):
        end = -float(states.sides[0].constant)
        axes = for_band(loop, lambda tried: make(tried)[0], states.functions, states.hull, None, end, budget)
    proof: dict[str, Any] = {"method": "boundary" if loop.kind == "ode" else "image"}
    return Plan(tuple(make(axes)), proof if axes is None else proof | {"coordinates": axes.text})


def _held(data: LoopData, asked: SetOfStates, states: Inequalities, where: str, budget: Budget) -> Plan:
    turned: Ball | None = None
    if isinstance(asked, Ellipsoid):
        turned = Ball.of(data, asked)
        sampled, conditions = held_in_ball(turned, where, budget.expired)
    else:
        sampled = sample(data, states.hull, expired=budget.expired)
        conditions = invariant_conditions(sampled, states, where)
    hold = {
        "order": sampled.order,
        **{
            name: [[float(v).hex() for v in box.lower], [float(v).hex() for v in box.upper]]
            for name, box in (("states", sampled.hold.states), ("remainder", sampled.hold.between))
        },
    }
    proof: dict[str, Any] = {"method": "held", "hold": hold}
    if turned is not None:
        proof["coordinates"] = [[float(v).hex() for v in row] for row in turned.rows]
    notes = {
        "sampled": {
            "order": sampled.order,
            "remainder": [sampled.remainder.lower.tolist(), sampled.remainder.upper.tolist()],
        }
    }
    return Plan(tuple(conditions), proof, notes)
