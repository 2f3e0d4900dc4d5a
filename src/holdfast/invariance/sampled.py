"""Sets that a sampled loop never leaves: at every time, or at the sample times with a box around what lies in between.

At every time: wherever a trajectory meets the boundary within a period, with the input held since its beginning, the flow points inwards.
At the sample times: the image of the set under one period lies in it. docs/certificates/loops.md, section 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.errors import InputError
from holdfast.graph import Model, Tensor
from holdfast.invariance.ball import Ball
from holdfast.invariance.level_set import image, side_by_side
from holdfast.invariance.polytope import as_polytope, image_condition
from holdfast.invariance.regions import product, region
from holdfast.invariance.sets import Inequalities, inequalities, polytope_hull
from holdfast.loop.closed_loop import ClosedLoop, control, gather
from holdfast.loop.sampled import SampledLoop, sample
from holdfast.operators import GraphBuilder
from holdfast.spec.condition import Condition, RowsBuilder
from holdfast.spec.region import Box
from holdfast.spec.row import Row, row
from holdfast.spec.temporal import BoxSet, Polytope, SetOfStates
from holdfast.transforms import directional_derivative, embed, simplify
from holdfast.transforms.compose import finish


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
    loop = sampled.between
    _within(sampled, hull_of(states, loop, where), where)
    if not isinstance(states, Inequalities):
        states = inequalities(states, loop, where)
    functions, sides = _with_domain(states, loop)
    count = functions.outputs[0].shape[0]
    model = _held_features(sampled, functions)
    rows = RowsBuilder()
    start = [g for g in states.sides]  # the sides of a domain are those of the region
    cases = []
    for g in sides:
        there = g.moved(count)
        rest = [h.moved(count) for h in sides if h is not g]
        ends = [there, there.negated(f"at the end of {g.text}", strict=False)]
        growing = row({i + 2 * count: -c for i, c in g.terms}, 0, f"the flow does not point into {g.text}")
        cases.append(rows.case([*start, *rest, *ends, growing]))
    disturbances = sampled.data.plant.disturbances
    box = product(states.hull, loop.others)
    now = tuple(f"{name} now" for name in sampled.data.plant.signals.disturbances)
    place = region(box, disturbances, tuple(cases))
    purpose = f"{where}: within a period the flow points inwards on the boundary"
    return [Condition(purpose, (*loop.variables, *now), model, tuple(rows.rows), (place,))]


def held_in_ball(
    ball: Ball, where: str, expired: Callable[[], bool] = lambda: False, lowest: int = 2
) -> tuple[SampledLoop, list[Condition]]:
    """The sampled loop, and what `invariant_conditions` asks of an ellipsoid, in coordinates in which it is nearly a ball."""
    sampled = sample(ball.data, Box.of((-ball.reach).tolist(), ball.reach.tolist()), None, expired, lowest)
    return sampled, invariant_conditions(sampled, inequalities(ball.states, sampled.between, where), where)


def sample_time_conditions(sampled: SampledLoop, states: SetOfStates | Inequalities, where: str) -> list[Condition]:
    """What proves that a trajectory is in the set at all sample times once it is at one; in between it may leave the set.

    `holdfast.loop.sampled.between_hull` gives a box that it then does not leave.
    """
    loop = sampled.step
    _within(sampled, hull_of(states, loop, where), where)
    where = f"{where}, at the sample times"
    if isinstance(states, BoxSet | Polytope):
        condition, _ = image_condition(loop, as_polytope(states, loop, where), where)
        return [condition]
    return [image(loop, states if isinstance(states, Inequalities) else inequalities(states, loop, where), where)]


def _within(sampled: SampledLoop, hull: Box, where: str) -> None:
    held = sampled.states
    for i, name in enumerate(sampled.step.states):
        if hull.exact_lower(i) < held.exact_lower(i) or hull.exact_upper(i) > held.exact_upper(i):
            raise InputError(
                f"{where}: {name} ranges over [{hull.lower[i]:g}, {hull.upper[i]:g}], the remainders hold for "
                f"[{held.lower[i]:g}, {held.upper[i]:g}] only"
            )


def _with_domain(states: Inequalities, loop: ClosedLoop) -> tuple[Model, Sequence[Row]]:
    """Functions and sides of the set, those of its domain included: first all upper, then all lower ones."""
    if not states.domain:
        return states.functions, states.sides
    n, first = len(loop.states), states.functions.outputs[0].shape[0]
    builder = GraphBuilder()
    x = builder.input((n,), "states")
    tensors = (Tensor("states", (n,)),)
    functions = side_by_side([states.functions, finish(builder, [x], tensors, tensors, "states")], n)
    hull, names = states.hull, loop.states
    above = [row({first + i: 1}, -hull.exact_upper(i), f"{names[i]} <= {hull.upper[i]:g}") for i in range(n)]
    below = [row({first + i: -1}, hull.exact_lower(i), f"{names[i]} >= {hull.lower[i]:g}") for i in range(n)]
    return functions, [*states.sides, *above, *below]


def _held_features(sampled: SampledLoop, functions: Model) -> Model:
    """(variables between samples, disturbances now) -> functions at x(t_k), at x(t_k + s), and their derivatives there.

    The derivative is along f(x(t_k + s), u(x(t_k)), disturbances now).
    """
    data, loop = sampled.data, sampled.between
    signals = data.plant.signals
    n, w, p = len(signals.states), len(signals.disturbances), len(signals.parameters)
    width = len(loop.variables)
    builder = GraphBuilder()
    source = builder.input((width + w,), "variables")

    def part(first: int, count: int) -> int:
        return builder.add("slice", [source], slices=((first, count, 1),))

    x = part(0, n)
    read = (
        {"states": x} | ({"disturbances": part(n, w)} if w else {}) | ({"parameters": part(width - p, p)} if p else {})
    )
    u = control(builder, data, read)
    (y,) = embed(builder, loop.dynamics, [part(0, width)])
    now = read | {"states": y} | ({"disturbances": part(width, w)} if w else {})
    (f,) = embed(builder, data.plant.dynamics, [gather(builder, signals, now, u)])
    values = [embed(builder, functions, [at])[0] for at in (x, y)]
    (change,) = embed(builder, directional_derivative(functions), [y, f])
    output = builder.add("concat", [*values, change], axis=0)
    tensors = (Tensor("variables", (width + w,)),)
    return simplify(finish(builder, [output], tensors, (Tensor("features", builder.shape(output)),), "features")).model
