"""Why a search did not end: the sub-problem it is stuck on, in the words of the property."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from holdfast.spec.property import Constraint
from holdfast.spec.query import Query
from holdfast.spec.row import Row

SHOWN = 6  # inputs, constraints or terms named before the rest is only counted


def _some(parts: Sequence[str], joint: str) -> str:
    rest = len(parts) - SHOWN
    return joint.join(parts[:SHOWN]) + (f"{joint}... ({rest} more)" if rest > 0 else "")


def constraint_text(constraint: Constraint | Row) -> str:
    """One constraint as text: "Y_1 - Y_0 + 0.5 <= 0"; numbers are shortened. Rows of conditions bring their own."""
    if isinstance(constraint, Row):
        return constraint.text
    parts = []
    for monomial, coefficient in sorted(constraint.terms, key=lambda term: term[1] < 0):  # what is added comes first
        name = "*".join(f"{tensor}_{index}" for tensor, index in monomial)
        size = "" if abs(coefficient) == 1 else f"{abs(float(coefficient)):.6g}*"
        parts.append(f"{'-' if coefficient < 0 else '+'} {size}{name}")
    if constraint.constant:
        parts.append(f"{'-' if constraint.constant < 0 else '+'} {abs(float(constraint.constant)):.6g}")
    text = _some(parts, " ").removeprefix("+ ") or "0"
    text = text.replace("- ", "-", 1) if text.startswith("- ") else text
    return f"{text} {'<' if constraint.strict else '<='} 0"


def case_text(query: Query, region: int, case: int) -> str:
    """The conditions that could not be excluded, and the region where there are several."""
    rows = query.regions[region].cases[case]
    text = _some([constraint_text(query.constraints[row]) for row in rows], " and ")
    return text if len(query.regions) == 1 else f"{text} (in region {region + 1} of {len(query.regions)})"


def box_text(query: Query, columns: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    """Where: the inputs that vary, by name."""
    parts = []
    for column, a, b in zip(columns, low, high, strict=True):
        port = next(p for p in query.inputs if p.start <= column < p.start + p.size)
        name = port.name if port.size == 1 else f"{port.name}_{column - port.start}"
        if query.property is not None and query.property.version == "1.0":
            name = f"X_{column}"
        parts.append(f"{name} in [{a:.6g}, {b:.6g}]")
    return _some(parts, ", ")
