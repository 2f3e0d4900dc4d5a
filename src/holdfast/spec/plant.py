"""A plant and its controller as plain data: formulas are already Models, every constant is exact or enclosed.

Produced by `holdfast.load.problem` (formula text) or from Python functions; `holdfast.loop` joins both into one graph.
All formulas of a problem read one flat vector of *signals*, in this order: states, inputs, parameters, disturbances,
schedule. A formula that must not read some of them simply does not depend on those elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from holdfast.graph import Model
from holdfast.spec.region import Box

PlantKind = Literal["ode", "map"]
Feedback = Literal["sampled", "continuous", "step"]  # "step": at every step of a map


@dataclass(frozen=True)
class Signals:
    """Names of everything a formula may read, in the order of the flat vector.

    ``parameters`` are the unknown constants given by an interval; those given by a number are part of the formulas.
    """

    states: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    disturbances: tuple[str, ...] = ()
    schedule: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in order."""
        return (*self.states, *self.inputs, *self.parameters, *self.disturbances, *self.schedule)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Plant:
    """x' = f(signals) for kind "ode", x+ = f(signals) for kind "map".

    ``dynamics``: one input (len(signals),), one output (number of states,). ``parameters``: the box of the unknown
    constants; ``disturbances``: the box of signals that may change at any time (measurable; maps: at any step).
    ``schedule``: per scheduled signal its pieces (from this time or step on, value), the first at 0.
    ``domain``: where the formulas are meant (None: everywhere); a
    state without bounds is absent from ``bounded``, and then its ends in ``domain`` are meaningless.
    ``singular``: for a plant given by a mass matrix the determinant of that matrix, a Model like ``dynamics`` with one
    output (1,), which must not vanish on the set asked about; else None.
    """

    kind: PlantKind
    signals: Signals
    dynamics: Model
    parameters: Box
    disturbances: Box
    schedule: tuple[tuple[tuple[Fraction, Fraction], ...], ...] = ()
    domain: Box | None = None
    bounded: tuple[bool, ...] = ()
    singular: Model | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One case of a row of a selecting controller: applies if ``after`` was picked before and all of ``where`` hold.

    ``where``: Model from the signals to (k,) values that must all be <= 0 (``strict``: < 0), or None.
    ``inputs``: Model from signals + network outputs to the plant's inputs.
    """

    inputs: Model
    after: int | None = None
    where: Model | None = None
    strict: tuple[bool, ...] = ()


@dataclass(frozen=True, eq=False)
class Controller:
    """Networks between two formulas.

    ``network_inputs``: Model from the signals to the network's flat input. ``plant_inputs``: Model from the flat vector
    (signals, network outputs y0, y1, ...) to the plant's inputs, saturation included; None for a selecting controller.
    ``networks``: one, or one per row of a selecting controller with memory. ``select``: "argmin" or "argmax", with
    ``rows`` of cases and ``first``, the row that counts as picked before the start. ``period`` in seconds (exact), for sampled feedback.
    """

    networks: tuple[Model, ...]
    feedback: Feedback
    network_inputs: Model
    plant_inputs: Model | None = None
    period: Fraction | None = None
    select: Literal["argmin", "argmax"] | None = None
    rows: tuple[tuple[Case, ...], ...] = ()
    first: int | None = None


@dataclass(frozen=True, eq=False)
class Function:
    """A named scalar function of the signals (sets and certificates read states only): one output (1,).

    ``network``: the model it consists of where the file names one, whose inputs are ``arguments`` (Model from the signals).
    """

    name: str
    value: Model
    network: Model | None = None
    arguments: Model | None = None


@dataclass(frozen=True, eq=False)
class LoopData:
    """Plant, controller and functions of one instance."""

    plant: Plant
    controller: Controller | None
    functions: Mapping[str, Function] = field(default_factory=dict)
