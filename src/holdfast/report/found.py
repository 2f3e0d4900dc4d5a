"""Sets that were found and proved, as text and JSON: form, volume, where, how long it took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from holdfast.invariance.find import Found
from holdfast.spec.temporal import Ellipsoid


def found_lines(found: Sequence[Found], names: Sequence[str]) -> list[str]:
    """Sentences about the sets that were found, the largest first."""
    lines = []
    for k, one in enumerate(found):
        lines.append(
            f"{'' if k == 0 else 'also '}{found_name(one)}: volume {one.volume:.6g}, proved after {one.seconds:.1f} s"
        )
        if k == 0:
            lines.append(f"center: {_point(names, [float(c) for c in one.states.center])}")
            lines.append(f"equilibrium near {_point(names, one.equilibrium)}")
            if one.unique is not None:
                wide = ", ".join(f"{n} +- {float(v):.4g}" for n, v in zip(names, one.unique, strict=True))
                lines.append(f"proved to be the only one within {wide}")
    return lines


def found_name(one: Found) -> str:
    """What the set is."""
    return "ellipsoid" if isinstance(one.states, Ellipsoid) else f"{one.form} of {len(one.states.H)} rows"


def found_json(found: Sequence[Found]) -> list[dict[str, Any]]:
    """JSON-ready: exact numbers as text, in the words of problem files."""
    return [
        {
            "form": one.form, "volume": one.volume, "seconds": one.seconds,
            "center": [str(c) for c in one.states.center],
            "equilibrium": [float(v) for v in one.equilibrium],
            "unique_within": None if one.unique is None else [float(v) for v in one.unique],
        }
        for one in found
    ]  # fmt: skip


def _point(names: Sequence[str], values: Iterable[float]) -> str:
    return ", ".join(f"{name} = {float(value):.6g}" for name, value in zip(names, values, strict=True))
