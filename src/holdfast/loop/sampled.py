"""Sampled loops (zero-order hold) as maps with bounded remainders: one period by Taylor's formula, between samples too.

The controller reads the state at t_k and its output is held for a period h; x(t_k + s) is a polynomial in s plus a remainder that
`holdfast.loop.hold` bounds. From here on all methods for maps apply. docs/certificates/loops.md, section 7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from holdfast.bounds.bounder import bounds_of_rows, flat_problem
from holdfast.errors import InputError
from holdfast.graph import Model, Tensor
from holdfast.loop.closed_loop import JUMPS, ClosedLoop, close, control, gather
from holdfast.loop.hold import Hold, Period, hold, nominal
from holdfast.loop.taylor import FlowDerivatives, flow_derivatives, increments, polynomial, times_power
from holdfast.operators import GraphBuilder
from holdfast.rigor import FLOAT64
from holdfast.spec.plant import LoopData, Plant, Signals
from holdfast.spec.region import Box
from holdfast.transforms import simplify
from holdfast.transforms.compose import finish

ORDERS = range(2, 9)  # tried where none is asked for
ENOUGH = 1e-4  # remainders below this share of the width of the set need no higher order
LARGEST = 400  # nodes of a derivative along the flow that are worth looking at
PIECES = 32  # of a period, for boxes around what lies in between


@dataclass(frozen=True, eq=False)
class SampledLoop:
    """One period of a sampled loop, from all states of a box.

    ``states``: the box that remainders hold for. ``step``: x(t_k) -> x(t_k + h), a loop of kind "map" whose disturbances are
    those of the plant (as the controller reads them at t_k) and the remainders. ``between``: the same for x(t_k + s) with 0 <= s <= h; the
    share s / h is one more disturbance, behind those of the plant. ``hold``: the box that holds all states of the period,
    and what the remainders are made of. ``flow``: derivatives along the flow, at least as many as the order needs.
    """

    data: LoopData
    period: Fraction
    order: int
    states: Box
    hold: Hold
    flow: FlowDerivatives

    @property
    def remainder(self) -> Box:
        """The box of the remainders at the end of a period."""
        return self.hold.remainder

    @cached_property
    def step(self) -> ClosedLoop:
        """The map of a period."""
        return _as_map(self.data, self.flow, self.period, self.order, self.hold, between=False)

    @cached_property
    def between(self) -> ClosedLoop:
        """The map to states between samples."""
        return _as_map(self.data, self.flow, self.period, self.order, self.hold, between=True)


def sample(
    data: LoopData,
    states: Box,
    order: int | None = None,
    expired: Callable[[], bool] = lambda: False,
    lowest: int = ORDERS[0],
) -> SampledLoop:
    """The sampled loop from states of a box. ``order``: of Taylor's formula (None: chosen, from ``lowest`` on, so that remainders are small).

    ``expired``: asked between steps whether the time is over; then no further order is tried. Raises InputError for loops that are not sampled, for schedules, selecting controllers, plants that jump, orders that the
    plant is not smooth enough for, where no box is found that holds all states of a period, and where the time is over before.
    """
    period = _accepted(data)
    if order is not None and order < 1:
        raise InputError(f"order {order}: accepted are whole numbers from 1 on")
    flow = flow_derivatives(data.plant)
    best: tuple[float, int, Hold] | None = None
    failure = "no box that holds all states of a period was looked for within the time"
    for p in range(min(lowest, ORDERS[-1]), ORDERS.stop) if order is None else [order]:
        while len(flow.derivatives) < p and flow.smooth(len(flow.derivatives) + 1) and not expired():
            flow = flow_derivatives(data.plant, flow)
        if expired() or (len(flow.derivatives) < p and flow.smooth(len(flow.derivatives) + 1)):
            break
        if not flow.smooth(p):
            if order is not None:
                raise InputError(f"order {p}: the plant's right side has kinks; accepted are orders 1 and 2")
            break
        if order is None and best is not None and len(flow.derivatives[-1].graph) > LARGEST:
            break
        found = hold(Period(data, period, p, flow, _polynomial_model(data, flow, period, p)), states, expired)
        if isinstance(found, str):
            failure = found
            continue
        width = np.maximum(states.upper - states.lower, 1e-3 * (states.upper - states.lower).max() + 1e-300)
        size = float(((found.taylor.upper - found.taylor.lower) / width).max())
        if best is None or size < best[0]:
            best = size, p, found
        if size <= ENOUGH:
            break
    if best is None:
        raise InputError(f"sampled loop with a period of {float(period):g}: {failure}; a smaller set may have one")
    _, p, found = best
    return SampledLoop(data, period, p, states, found, flow)


def between_hull(sampled: SampledLoop, states: Box | None = None, pieces: int = PIECES) -> Box:
    """A box of all x(t_k + s), 0 <= s <= h, from states x(t_k) of the box (None: the one that remainders hold for).

    For a set that is invariant at the sample times: everything that is met in between.
    """
    start = states or sampled.states
    if (start.lower < sampled.states.lower).any() or (start.upper > sampled.states.upper).any():
        raise InputError("the box of states exceeds the one that the remainders of this sampled loop hold for")
    loop = sampled.between
    first = len(loop.states) + len(sampled.data.plant.signals.disturbances)
    ends = np.linspace(0.0, 1.0, pieces + 1)
    low, high = (
        np.tile(np.concatenate([b, o]), (pieces, 1))
        for b, o in ((start.lower, loop.others.lower), (start.upper, loop.others.upper))
    )
    low[:, first], high[:, first] = ends[:-1], ends[1:]
    rows = np.eye(len(loop.states))
    below, above = bounds_of_rows(flat_problem(loop.dynamics, FLOAT64), low, high, rows, "backward")
    enclosure = sampled.hold.states
    return Box.of(np.fmax(below.min(0), enclosure.lower).tolist(), np.fmin(above.max(0), enclosure.upper).tolist())


def _accepted(data: LoopData) -> Fraction:
    """The period of the loop, if it is one that is sampled."""
    plant, controller = data.plant, data.controller
    if controller is None or plant.kind != "ode":
        raise InputError("a sampled loop needs a plant given by a differential equation and a controller")
    if controller.feedback != "sampled" or controller.period is None:
        raise InputError(
            f"[controller] feedback: {controller.feedback!r} is another claim than 'sampled': inputs are not held between samples"
        )
    if plant.signals.schedule:
        raise InputError(
            f"[plant] schedule: sampled loops are looked at without schedule here, this one has {', '.join(plant.signals.schedule)}"
        )
    if controller.select is not None:
        raise InputError("[controller] select: controllers that pick a row are not supported yet for sampled loops")
    for node in plant.dynamics.graph.nodes:
        if node.op in JUMPS:
            raise InputError(
                f"{node.name or node.op}: the plant's right side jumps there; solutions need one that is locally Lipschitz"
            )
    return controller.period


def increments_model(sampled: SampledLoop) -> Model:
    """(x, p, w, t) -> D, where the polynomial of x(t_k + t h) is x + t D."""
    data, signals = sampled.data, sampled.data.plant.signals
    widths = (len(signals.states), len(signals.parameters), len(signals.disturbances), 1)
    builder, (x, p, w, phase) = _variables(widths)
    assert x is not None and phase is not None
    y = increments(builder, sampled.flow, _held(builder, data, x, p, w), sampled.period, sampled.order, phase)
    return _finished(builder, y, sum(widths), "increment")


def _polynomial_model(data: LoopData, flow: FlowDerivatives, period: Fraction, order: int) -> Model:
    """(x, p, w, s/h) -> the Taylor polynomial of x(t_k + s), under the controller."""
    signals = data.plant.signals
    widths = (len(signals.states), len(signals.parameters), len(signals.disturbances), 1)
    builder, (x, p, w, phase) = _variables(widths)
    assert x is not None and phase is not None
    y = polynomial(builder, flow, _held(builder, data, x, p, w), x, period, order, phase)
    return _finished(builder, y, sum(widths), "polynomial")


def _as_map(
    data: LoopData, flow: FlowDerivatives, period: Fraction, order: int, found: Hold, between: bool
) -> ClosedLoop:
    """The map as a plant of its own, without controller: signals are states, parameters, disturbances."""
    signals, plant = data.plant.signals, data.plant
    n = len(signals.states)
    widths = (n, len(signals.parameters), len(signals.disturbances), int(between), n)
    builder, (x, p, w, phase, r) = _variables(widths)
    assert x is not None and r is not None
    y = polynomial(builder, flow, _held(builder, data, x, p, w), x, period, order, phase)
    if phase is not None:
        r = times_power(builder, r, phase, found.exponent)
    y = builder.add("add", [y, r], signs=(1, 1))
    remainder = found.between if between else found.remainder
    share = Box.of([0], [1])
    extra = [plant.disturbances, *([share] if between else []), remainder]
    names = (
        *signals.disturbances,
        *(("s/h",) if between else ()),
        *(f"remainder of {name}" for name in signals.states),
    )
    joined = Box(
        np.concatenate([b.lower for b in extra]), np.concatenate([b.upper for b in extra]),
        tuple(t for b in extra for t in b.lower_text), tuple(t for b in extra for t in b.upper_text),
    )  # fmt: skip
    title = "between samples" if between else "one period"
    stepped = Plant(
        "map", Signals(signals.states, (), signals.parameters, names), _finished(builder, y, sum(widths), title),
        plant.parameters, joined, (), plant.domain, plant.bounded,
    )  # fmt: skip
    return close(LoopData(stepped, None, data.functions))


def _variables(widths: tuple[int, ...]) -> tuple[GraphBuilder, list[int | None]]:
    """A new graph with one flat input, and its parts; None for those of no width."""
    builder = GraphBuilder()
    v = builder.input((sum(widths),), "signals")
    starts = np.cumsum([0, *widths[:-1]]).tolist()
    parts = [
        builder.add("slice", [v], slices=((first, count, 1),)) if count else None
        for first, count in zip(starts, widths, strict=True)
    ]
    return builder, parts


def _held(builder: GraphBuilder, data: LoopData, x: int, p: int | None, w: int | None) -> int:
    """The plant's signals during the period: held inputs, disturbances at their nominal value."""
    read = _named(states=x, parameters=p, disturbances=w)
    inputs = control(builder, data, read)
    w0 = nominal(data.plant)
    fixed = builder.add("constant", [], [w0]) if len(w0) else None
    return gather(builder, data.plant.signals, _named(states=x, parameters=p, disturbances=fixed), inputs)


def _named(**positions: int | None) -> Mapping[str, int]:
    return {name: position for name, position in positions.items() if position is not None}


def _finished(builder: GraphBuilder, output: int, width: int, name: str) -> Model:
    tensors = (Tensor("signals", (width,)),)
    return simplify(finish(builder, [output], tensors, (Tensor("states", builder.shape(output)),), name)).model
