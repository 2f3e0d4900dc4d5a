"""Regions of conditions: boxes over all free variables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from holdfast.spec.query import Region
from holdfast.spec.region import Box, number, refined

Cases = tuple[tuple[int, ...], ...]


def region(states: Box, others: Box, cases: Cases) -> Region:
    """``states`` x ``others`` (disturbances and parameters)."""
    return Region(product(states, others), cases)


def product(a: Box, b: Box) -> Box:
    """The box of both."""
    return Box(
        np.concatenate([a.lower, b.lower]), np.concatenate([a.upper, b.upper]),
        (*a.lower_text, *b.lower_text), (*a.upper_text, *b.upper_text),
    )  # fmt: skip


def side(box: Box, i: int, upper: bool) -> Box:
    """The face of a box on which component ``i`` is at its upper (lower) end."""
    text = (box.upper_text if upper else box.lower_text)[i]
    low, high = float(box.lower[i]), float(box.upper[i])
    end = number(text)
    assert low <= end.lower and end.upper <= high
    return refined(box, {i: end}, {i: end})


def sides(names: Sequence[str]) -> list[tuple[int, bool]]:
    """All faces of a box: component and which end, in order."""
    return [(i, upper) for i in range(len(names)) for upper in (True, False)]
