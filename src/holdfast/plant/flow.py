"""What every integrator gives: one validated step in time, for a batch of sets; see the files beside this one.

taylor_flow (smooth plants, tight), linear_flow (affine in the states: exact but for rounding), zonotope_flow (linearised over the
step), embedding_flow (boxes only: cheapest, thousands at once). `holdfast.loop.tube` chooses between the first two.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol

import numpy as np

from holdfast.sets.taylor_model import TaylorModel

Array = np.ndarray


class Flow(Protocol):
    """All solutions of x' = f(x, p) over 0 <= s <= ``length`` from B sets of n states, inputs and parameters p held.

    Of the members that are ``sound`` (B,) everything below is an enclosure; of the others nothing is known. Where the sets that the
    step began with had variables and symbols, the enclosures refer to the same ones; later symbols are the step's own.
    """

    @property
    def length(self) -> Fraction:
        """How long the step is."""

    @property
    def sound(self) -> Array:
        """Which members (B,) were verified."""

    @property
    def states(self) -> tuple[Array, Array]:
        """A box (lower, upper), each (B, n), of all states of the step."""

    @property
    def deviation(self) -> Array | None:
        """What signals that change at any time have moved the states by (B, n); None: there are none, or they are in ``lost``."""

    @property
    def lost(self) -> Array:
        """What the method itself adds to the error (B, n) at the end, about."""

    @property
    def nbytes(self) -> int:
        """Memory, about."""

    def at(self, time: Fraction) -> TaylorModel:
        """The states at a time within the step."""

    def at_end(self) -> TaylorModel:
        """The states at the end of the step."""

    def between(self, first: Fraction, last: Fraction) -> TaylorModel:
        """All states at first <= s <= last."""

    def __getitem__(self, chosen: Array) -> Flow:
        """These members of the batch."""
