"""The validated tube of one trajectory: from exact initial states, with exact unknown constants and disturbances.

What a violation found by simulation is proved with: `holdfast.loop.tube` started from a point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from holdfast.loop.tube import Segment, System
from holdfast.reachability.witness import Witness
from holdfast.spec.plant import LoopData
from holdfast.spec.region import Box


class Replay:
    """One trajectory of a loop, enclosed. ``system``: for its first values of disturbances.

    ``changes``: when disturbances take their next values (the first at 0). ``resolution``: how finely steps are made, see `System`.
    """

    def __init__(self, data: LoopData, witness: Witness, changes: tuple[Fraction, ...], resolution: float):
        self._witness, self._changes = witness, changes
        self._point = Box.of(witness.state, witness.state)
        self._constants = Box.of(witness.parameters, witness.parameters)
        near = witness.drive
        middle = Box.of(
            near.states[0].tolist(), near.states[0].tolist()
        )  # nothing varies: widths of an ulp are no variables
        constants = Box.of(near.parameters[0].tolist(), near.parameters[0].tolist())
        self._systems: dict[tuple[str, ...], System] = {}
        for values in witness.disturbances:
            if values not in self._systems:
                plant = replace(data.plant, parameters=constants, disturbances=Box.of(values, values))
                self._systems[values] = System(replace(data, plant=plant), middle, resolution=resolution)
        self.system = self._systems[witness.disturbances[0]]

    def segments(self, horizon: Fraction) -> Iterator[list[Segment]]:
        """Period by period; ends early where nothing is known of the trajectory any more."""
        front = self.system.start([self._point], horizon, [self._constants])
        changes = [t for t, _ in zip(self._changes, self._witness.disturbances, strict=False)]
        # a map tells where it is at the start of each step: one step more shows the end
        last = horizon + 1 if self.system.kind == "map" else horizon
        while front.time < last and len(front.origin):
            piece = max((k for k, t in enumerate(changes) if t <= front.time), default=0)
            until = min((t for t in changes if t > front.time), default=last)
            front, found = self._systems[self._witness.disturbances[piece]].advance(front, min(until, last))
            yield found
