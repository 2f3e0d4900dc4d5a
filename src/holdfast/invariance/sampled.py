"""Sets that a sampled loop never leaves: at every time, or at the sample times with a box around what lies in between.

Both are image conditions of maps (`holdfast.loop.sampled`): of the loop between samples, s / h being one more variable, or of
whole periods only. docs/certificates/loops.md, section 7.
"""

from __future__ import annotations

from holdfast.errors import InputError
from holdfast.invariance.level_set import image
from holdfast.invariance.polytope import as_polytope, image_condition
from holdfast.invariance.sets import Inequalities, inequalities, polytope_hull
from holdfast.loop.closed_loop import ClosedLoop
from holdfast.loop.sampled import SampledLoop
from holdfast.spec.condition import Condition
from holdfast.spec.region import Box
from holdfast.spec.temporal import BoxSet, Polytope, SetOfStates


def hull_of(states: SetOfStates | Inequalities, loop: ClosedLoop, where: str) -> Box:
    """A box around the set: what a sampled loop is to be made for."""
    if isinstance(states, Inequalities):
        return states.hull
    if isinstance(states, Polytope):
        return polytope_hull(states, where)
    return inequalities(states, loop, where).hull


def invariant_conditions(sampled: SampledLoop, states: SetOfStates | Inequalities, where: str) -> list[Condition]:
    """What proves that no trajectory that is in the set at a sample time leaves it, between samples neither.

    Raises InputError where the set exceeds the box of states that the remainders hold for.
    """
    return [_image(sampled, sampled.between, states, f"{where}, between samples too")]


def sample_time_conditions(sampled: SampledLoop, states: SetOfStates | Inequalities, where: str) -> list[Condition]:
    """What proves that a trajectory is in the set at all sample times once it is at one; in between it may leave the set.

    `holdfast.loop.sampled.between_hull` gives a box that it then does not leave.
    """
    return [_image(sampled, sampled.step, states, f"{where}, at the sample times")]


def _image(sampled: SampledLoop, loop: ClosedLoop, states: SetOfStates | Inequalities, where: str) -> Condition:
    hull = hull_of(states, loop, where)
    for i, name in enumerate(loop.states):
        held = sampled.states
        if hull.exact_lower(i) < held.exact_lower(i) or hull.exact_upper(i) > held.exact_upper(i):
            raise InputError(
                f"{where}: {name} ranges over [{hull.lower[i]:g}, {hull.upper[i]:g}], the remainders hold for "
                f"[{held.lower[i]:g}, {held.upper[i]:g}] only"
            )
    if isinstance(states, BoxSet | Polytope):
        condition, _ = image_condition(loop, as_polytope(states, loop, where), where)
        return condition
    return image(loop, states if isinstance(states, Inequalities) else inequalities(states, loop, where), where)
