"""Flow tubes of closed loops: batches of boxes of initial states, carried from one controller period to the next.

Each box is a Taylor model over its own variables (states and unknown constants that vary), so that what the controller does stays a
function of where the trajectory began. `System` is prepared once per loop and degree; `advance` is a pure function of the front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from holdfast.bounds.bounder import flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.bounds.taylor import propagate_models
from holdfast.errors import InputError
from holdfast.graph import Model, Tensor
from holdfast.loop.bending import bent
from holdfast.loop.closed_loop import JUMPS
from holdfast.loop.selecting import Selector
from holdfast.operators import GraphBuilder
from holdfast.plant.deviation import Disturbance
from holdfast.plant.flow import Flow
from holdfast.plant.linear_flow import affine
from holdfast.plant.linear_flow import step as linear_step
from holdfast.plant.taylor_flow import Step, step
from holdfast.rigor import FLOAT64
from holdfast.sets.monomials import Monomials, monomials
from holdfast.sets.taylor_model import TaylorModel, box, concatenated, constant, joined, reduced, with_symbols
from holdfast.spec.plant import LoopData
from holdfast.spec.region import Box
from holdfast.transforms import embed, simplify
from holdfast.transforms.compose import finish

Array = np.ndarray
ORDER = 6  # of a step in time
SMALLEST = 1 << 10  # parts of a period, at the most
TOLERANCE = 1e-3  # remainder of a step, as a share of the width of the set, above which a step is halved
LONGEST = Fraction(2**100)  # step: powers of it are float64 numbers
PARTS = 32  # of the horizon: first steps where no period says how long one is
LINEAR = 0.5  # row sums of |A|, times the step, of linear plants: longer ones are halved
DEGREES = (2, 5, 4, 3, 3, 2, 2)  # of polynomials, by the number of variables: 2 up to MANY, then 1
MANY = 24


@dataclass(frozen=True, eq=False)
class Front:
    """Where B boxes are at one time: ``states`` (B, n), ``parameters`` (B, p) or None; ``origin`` (B,): which initial box each came from.

    ``length``: the step that was last good enough. ``blame`` (B, V): what each variable had to do with errors of the controller so far.
    ``row`` (B,): which row a selecting controller picked last.
    """

    time: Fraction
    states: TaylorModel
    parameters: TaylorModel | None
    origin: Array
    length: Fraction
    blame: Array
    row: Array | None = None

    def __getitem__(self, chosen: Array) -> Front:
        p, row = self.parameters, self.row
        return replace(
            self, states=self.states[chosen], parameters=None if p is None else p[chosen],
            origin=self.origin[chosen], blame=self.blame[chosen], row=None if row is None else row[chosen],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Segment:
    """All states of the boxes over [start, end]. ``rest``: what the plant reads beside the states (inputs first). Maps: one instant."""

    start: Fraction
    end: Fraction
    origin: Array
    states: TaylorModel  # at the start
    rest: TaylorModel | None
    step: Flow | None

    def between(self, first: Fraction, last: Fraction) -> TaylorModel:
        """All states at times from ``first`` to ``last``, both within the segment."""
        if self.step is None:
            return self.states
        if first == last:
            return self.states if first == self.start else self.step.at(first - self.start)
        return self.step.between(first - self.start, last - self.start)


class System:
    """A loop, prepared: graphs of plant and controller, and which initial values and parameters are variables.

    ``resolution``: share of the size of the states below which an error of a step counts as small, however narrow the set.
    """

    def __init__(self, data: LoopData, initial: Box, degree: int | None = None, resolution: float = 1e-9):
        plant = data.plant
        signals = plant.signals
        self.data, self.kind, self.resolution = data, plant.kind, resolution
        controller = data.controller
        self.period = None if controller is None else controller.period
        dynamics = plant.dynamics
        self.control: Problem | Selector | None = None
        if controller is not None and controller.select is None:
            if controller.feedback == "continuous":
                dynamics = _fed_back(data)
            else:
                self.control = flat_problem(_control(data), FLOAT64)
        if plant.kind == "ode":
            for node in dynamics.graph.nodes:
                if node.op in JUMPS:
                    raise InputError(
                        f"{node.name or node.op}: the right side jumps there; flow tubes need one that is locally Lipschitz"
                    )
        self.dynamics = flat_problem(dynamics, FLOAT64)
        self.disturbance = Disturbance.of(plant, dynamics) if plant.kind == "ode" else None
        self._widths = len(signals.states), len(signals.inputs)
        self.linear = None
        if plant.kind == "ode":
            w = plant.disturbances
            nominal = w.lower if self.disturbance is None else self.disturbance.nominal
            first = len(signals) - len(signals.disturbances) - len(signals.schedule)
            self.linear = affine(self.dynamics, len(signals.states), first, w.lower, w.upper, nominal)
        chosen = self._varying(initial)
        count, number = int(chosen.sum()), iter(range(int(chosen.sum())))
        self.variables = tuple(next(number) if v else None for v in chosen)
        self.degree = (
            degree if degree is not None else DEGREES[count] if count < len(DEGREES) else 2 if count <= MANY else 1
        )
        self.basis: Monomials = monomials(count, self.degree)
        if controller is not None and controller.select is not None:
            self.control = Selector(data, self.variables)

    def _varying(self, initial: Box) -> Array:
        """Which initial values and parameters are variables of polynomials; the widths of the other states are symbols."""
        plant, controller = self.data.plant, self.data.controller
        low, high = (
            np.concatenate([getattr(b, end) for b in (initial, plant.parameters)]) for end in ("lower", "upper")
        )
        if controller is not None and controller.select is not None:
            chosen: Array = low < high
            return chosen
        assert not isinstance(self.control, Selector)
        nominal = plant.disturbances.lower if self.disturbance is None else self.disturbance.nominal
        others = np.concatenate([nominal, *self._schedule(Fraction(0))[:1]])
        period = None if self.period is None else float(self.period)
        return bent(self.dynamics, self.control, self.kind, period, (low, high), len(initial), others)

    @property
    def symbols(self) -> int:
        """How many symbols a front may have."""
        return max(48, 20 * self._widths[0])

    def start(self, boxes: Sequence[Box], horizon: Fraction, parameters: Sequence[Box] | None = None) -> Front:
        """Fronts at time 0; ``parameters``: one box for each box of states (None: those of the plant)."""
        n = self._widths[0]
        own = self.data.plant.parameters
        states = box(self.basis, _stack(boxes, "lower"), _stack(boxes, "upper"), self.variables[:n])
        narrow = np.flatnonzero((states.error > 0).any(0))
        states = with_symbols(states, narrow, 0, len(narrow))
        p = None
        if len(own):
            given = [own] * len(boxes) if parameters is None else parameters
            p = box(self.basis, _stack(given, "lower"), _stack(given, "upper"), self.variables[n:])
        length = self.period if self.period is not None and self.control is not None else horizon / PARTS
        blame = np.zeros((len(boxes), self.basis.variables))
        front = Front(Fraction(0), states, p, np.arange(len(boxes)), length, blame)
        return self.control.start(front) if isinstance(self.control, Selector) else front

    def advance(
        self, front: Front, until: Fraction, go_on: Callable[[Front], bool] = lambda _: True
    ) -> tuple[Front, list[Segment]]:
        """One period (or one step, where there is none) on, not beyond ``until``. Boxes of which nothing is known any more are left out.

        ``go_on``: asked after every step; where it says no, the front may lie within a period, and is not to be carried on.
        """
        with np.errstate(all="ignore"):
            if self.kind == "map":
                return self._map(front)
            front, inputs = self._steered(front)
            end = until if self.control is None or self.period is None else min(until, front.time + self.period)
            segments: list[Segment] = []
            while front.time < end and len(front.origin):
                front, inputs, segment = self._flow(front, inputs, self._next_change(front.time, end))
                if segment is not None:
                    segments.append(segment)
                if self.control is None or not go_on(front):
                    break
            if len(front.origin):
                front = replace(front, states=reduced(front.states, self.symbols))
            return front, segments

    def inputs(self, front: Front) -> TaylorModel | None:
        """The plant's inputs that the controller computes at this time; errors of different neurons are joined per input."""
        if self.control is None:
            return None
        return self._steered(front)[1]

    def _steered(self, front: Front) -> tuple[Front, TaylorModel | None]:
        """The inputs, and who is to blame for the errors made."""
        if self.control is None:
            return front, None
        if isinstance(self.control, Selector):
            front = self.control.merged(front)
        fed = self._signals(front, None, self._schedule(front.time))
        if isinstance(self.control, Selector):
            return self.control.pick(front, fed)
        shares: list[Array] = []
        u = propagate_models(self.control, fed, symbolic=True, shares=shares)
        if shares and self.basis.variables:
            first = len(self.basis) + front.states.symbols
            made = abs(u.terms[first:])
            size = np.maximum(u.spread(), 1e-300)
            parts = np.concatenate(shares)[: len(made)]
            front = replace(front, blame=front.blame + np.einsum("sbo,sbv->bv", made / size, parts))
        return front, joined(u, front.states.symbols)

    def _signals(
        self, front: Front, inputs: TaylorModel | None, schedule: Array, nominal: Array | None = None
    ) -> TaylorModel:
        parts = [front.states]
        rest = self.rest(front, inputs, schedule, nominal)
        return concatenated([*parts, *([] if rest is None else [rest])])

    def rest(
        self, front: Front, inputs: TaylorModel | None, schedule: Array, nominal: Array | None = None
    ) -> TaylorModel | None:
        """Inputs, parameters, disturbances (``nominal``: at these values), scheduled signals."""
        batch, basis = len(front.origin), self.basis
        parts: list[TaylorModel] = []
        if self._widths[1]:
            zero = np.zeros((batch, self._widths[1]))
            parts.append(constant(basis, zero, zero) if inputs is None else inputs)
        if front.parameters is not None:
            parts.append(front.parameters)
        w = self.data.plant.disturbances
        if len(w):
            low, high = (w.lower, w.upper) if nominal is None else (nominal, nominal)
            parts.append(constant(basis, np.tile(low, (batch, 1)), np.tile(high, (batch, 1))))
        if len(schedule):
            low, high = np.tile(schedule[0], (batch, 1)), np.tile(schedule[1], (batch, 1))
            parts.append(constant(basis, low, high))
        return concatenated(parts) if parts else None

    def _schedule(self, time: Fraction) -> Array:
        """Enclosures (2, signals) of the scheduled signals at a time, empty where there are none."""
        pieces = self.data.plant.schedule
        if not pieces:
            return np.zeros((0, 0))
        values = [next(value for begin, value in reversed(signal) if begin <= time) for signal in pieces]
        at = Box.of(values, values)
        return np.stack([at.lower, at.upper])

    def _next_change(self, time: Fraction, end: Fraction) -> Fraction:
        """The time until which the scheduled signals stay as they are."""
        return min([end, *(begin for signal in self.data.plant.schedule for begin, _ in signal if begin > time)])

    def _map(self, front: Front) -> tuple[Front, list[Segment]]:
        front, inputs = self._steered(front)
        schedule = self._schedule(front.time)
        rest = self.rest(front, inputs, schedule)
        segment = Segment(front.time, front.time, front.origin, front.states, rest, None)
        after = propagate_models(self.dynamics, self._signals(front, inputs, schedule), symbolic=True)
        states = reduced(after, self.symbols)
        front = replace(front, time=front.time + 1, states=states)
        return front[_whole(front.origin, np.isfinite(states.size).all(1))], [segment]

    def _flow(
        self, front: Front, inputs: TaylorModel | None, end: Fraction
    ) -> tuple[Front, TaylorModel | None, Segment | None]:
        """One step in time, as long as it can be; (front after it, inputs of the boxes left, what was between)."""
        nominal = None if self.disturbance is None else self.disturbance.nominal
        rest = self.rest(front, inputs, self._schedule(front.time), nominal)
        length = min(front.length, end - front.time, LONGEST)
        if end - front.time < 2 * length:  # equal parts, no sliver at the end
            length = end - front.time if end - front.time <= length else (end - front.time) / 2
        found, grown = self._linear(front, rest, length) if self.linear else self._taylor(front, rest, length)
        length = found.length
        alive = _whole(front.origin, found.sound)
        if not alive.any():
            return front[alive], None, None
        if not alive.all():
            front, found, rest = front[alive], found[alive], None if rest is None else rest[alive]
            inputs = None if inputs is None else inputs[alive]
        after = found.at_end()
        segment = Segment(front.time, front.time + length, front.origin, front.states, rest, found)
        after_step = replace(
            front, time=front.time + length, states=after, length=length * 2 if grown(found, after) else length
        )
        return after_step, inputs, segment

    def _linear(
        self, front: Front, rest: TaylorModel | None, length: Fraction
    ) -> tuple[Flow, Callable[[Flow, TaylorModel], bool]]:
        """A step of a linear plant, which loses nothing, and whether the next one may be twice as long."""
        assert self.linear is not None
        steep = self.linear.norm
        while steep * float(length) > LINEAR:
            length /= 2
        return linear_step(self.linear, front.states, rest, length), lambda *_: 2 * steep * float(length) <= LINEAR

    def _taylor(
        self, front: Front, rest: TaylorModel | None, length: Fraction
    ) -> tuple[Flow, Callable[[Flow, TaylorModel], bool]]:
        """A step that loses little, and whether the next one may be twice as long."""
        limit, order = length / SMALLEST, ORDER
        while True:
            found = step(self.dynamics, front.states, rest, length, order, self.disturbance)
            fine = found.sound & (found.lost <= TOLERANCE * _width(front.states, self.resolution)).all(1)
            if fine.all() or length / 2 < limit:
                break
            if not found.sound.all() and order > 2 and not self._smooth(found):
                order = 2  # a kink is crossed: derivatives in time of higher order say nothing
                continue
            length /= 2

        def small(own: Flow, after: TaylorModel) -> bool:
            return order == ORDER and bool((own.lost * 2**ORDER <= TOLERANCE * _width(after, self.resolution)).all())

        return found, small

    def _smooth(self, found: Step) -> bool:
        return not self.kinks or bool(np.isfinite(found.remainder[0][~found.sound]).all())

    @property
    def kinks(self) -> bool:
        """Whether the right side has functions with kinks."""
        from holdfast.operators import OPERATORS

        return any(getattr(OPERATORS.get(node.op), "piecewise_linear", False) for node in self.dynamics.graph.nodes)


def _width(states: TaylorModel, resolution: float) -> Array:
    """What errors are measured by: the width of the set, of points a share of their size."""
    spread = states.spread()
    return np.maximum(spread, 1e-3 * spread.max(1, keepdims=True)) + resolution * (1 + abs(states.terms[0]))


def _whole(origin: Array, known: Array) -> Array:
    """Which members stay: where nothing is known of one, nothing is known of the initial box that it came from."""
    return ~np.isin(origin, origin[~known])


def _stack(boxes: Sequence[Box], end: str) -> Array:
    return np.stack([getattr(b, end) for b in boxes])


def _control(data: LoopData) -> Model:
    """signals -> the plant's inputs (the inputs among the signals are not read)."""
    controller = data.controller
    assert controller is not None and controller.plant_inputs is not None
    builder = GraphBuilder()
    width = len(data.plant.signals)
    v = builder.input((width,), "signals")
    inputs = _controlled(builder, data, v)
    return simplify(
        finish(
            builder, [inputs], (Tensor("signals", (width,)),), (Tensor("inputs", builder.shape(inputs)),), "controller"
        )
    ).model


def _controlled(builder: GraphBuilder, data: LoopData, v: int) -> int:
    controller = data.controller
    assert controller is not None and controller.plant_inputs is not None
    (fed,) = embed(builder, controller.network_inputs, [v])
    outputs = [_vector(builder, o) for o in embed(builder, controller.networks[0], [fed])]
    y = outputs[0] if len(outputs) == 1 else builder.add("concat", outputs, axis=0)
    (inputs,) = embed(builder, controller.plant_inputs, [builder.add("concat", [v, y], axis=0)])
    return _vector(builder, inputs)


def _fed_back(data: LoopData) -> Model:
    """signals -> x', with the inputs that the controller computes at every instant."""
    signals = data.plant.signals
    builder = GraphBuilder()
    width, n, m = len(signals), len(signals.states), len(signals.inputs)
    v = builder.input((width,), "signals")
    parts = [builder.add("slice", [v], slices=((0, n, 1),)), _controlled(builder, data, v)]
    if width > n + m:
        parts.append(builder.add("slice", [v], slices=((n + m, width - n - m, 1),)))
    outputs = embed(builder, data.plant.dynamics, [builder.add("concat", parts, axis=0)])
    return simplify(
        finish(builder, outputs, (Tensor("signals", (width,)),), data.plant.dynamics.outputs, "closed loop")
    ).model


def _vector(builder: GraphBuilder, position: int) -> int:
    shape = builder.shape(position)
    return position if len(shape) == 1 else builder.add("reshape", [position], shape=(int(np.prod(shape)),))


__all__ = ["Front", "Problem", "Segment", "System"]
