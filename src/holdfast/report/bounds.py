"""Certified output bounds as a table (shortened outward) and as JSON (full precision)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from holdfast.report.decimals import round_down, round_up
from holdfast.report.table import table

Answer = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # input lower, input upper, output lower, output upper


def bounds_text(answers: Sequence[Answer], names: Sequence[str]) -> str:
    """One table per input box; the printed numbers enclose the certified ones."""
    parts = []
    for k, (_, _, lower, upper) in enumerate(answers):
        low, high = np.asarray(lower).reshape(-1).tolist(), np.asarray(upper).reshape(-1).tolist()
        rows = [(name, round_down(a), round_up(b)) for name, a, b in zip(names, low, high, strict=True)]
        title = f"box {k + 1} of {len(answers)}\n" if len(answers) > 1 else ""
        parts.append(title + table(("output", "lower", "upper"), rows))
    return "\n\n".join(parts)


def bounds_json(answers: Sequence[Answer], *, method: str, semantics: str) -> dict[str, Any]:
    """A JSON-ready dictionary; infinite ends are the texts "inf" and "-inf"."""
    names = ("input_lower", "input_upper", "lower", "upper")
    boxes = [dict(zip(names, map(_list, answer), strict=True)) for answer in answers]
    return {"method": method, "semantics": semantics, "boxes": boxes}


def _list(array: np.ndarray) -> list[float | str]:
    return [x if np.isfinite(x) else str(x) for x in np.asarray(array, dtype=np.float64).reshape(-1).tolist()]
