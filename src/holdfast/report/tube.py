"""Flow tubes as text and JSON: how far, how wide at the end and on the way, beside simulated trajectories, and what limited it.

Bounds are rounded outward; what is sampled is called so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from holdfast.errors import InputError
from holdfast.reachability.limits import SOURCES, Stopped
from holdfast.reachability.simulate import Trajectories
from holdfast.reachability.tube import Boxes, Tube, bounds
from holdfast.report.decimals import round_down, round_up
from holdfast.report.table import table
from holdfast.spec.plant import LoopData
from holdfast.spec.temporal import Problem

DIGITS = 5
MOST = 3  # sources told


def status(tube: Tube) -> str:
    """One word."""
    return "complete" if tube.complete else "stopped"


def tube_lines(tube: Tube, data: LoopData, sampled: Trajectories | None = None) -> list[str]:
    """Sentences about a tube, and a table of its widths."""
    lines = [_summary(tube)]
    if tube.stopped is not None:
        lines += stopped_lines(tube, tube.stopped)
    left = leaves_domain(tube, data)
    if left is not None:
        lines.append(f"{left}; the formulas are not meant there")
    end = tube.at(tube.end)
    whole = tube.between(0, tube.end)
    now = f"at {_time(tube, tube.end)}"
    head = ["state", f"least {now}", f"most {now}", "width", "sampled width", "least on the way", "most on the way"]
    seen = sampled_widths(sampled, tube)
    rows = []
    for i, name in enumerate(tube.states):
        row = [name, *_interval(end, i), round_up(end.width[i], 4), "" if seen is None else f"{seen[i]:.4g}"]
        rows.append([*row, *_interval(whole, i)])
    if seen is None:
        head, rows = [h for h in head if h != "sampled width"], [[*r[:4], *r[5:]] for r in rows]
    return [*lines, *table(head, rows).splitlines()]


def _summary(tube: Tube) -> str:
    boxes = f"{len(tube.initial)} box" + ("es" if len(tube.initial) > 1 else "")
    steps = len({(s.start, s.end) for s in tube.segments})
    order = f", order {tube.order} in time" if tube.order else ""
    return (
        f"all trajectories from t = 0 to {_time(tube, tube.end)}: {boxes}, {steps} steps, polynomials of degree {tube.degree}"
        f" in the initial states{order}, {tube.seconds:.2f} s"
    )


def _time(tube: Tube, time: Any) -> str:
    return f"step {int(time)}" if tube.kind == "map" else f"{float(time):.6g} s"


def _interval(boxes: Boxes, i: int) -> tuple[str, str]:
    low, high = boxes.hull
    return round_down(low[i], DIGITS), round_up(high[i], DIGITS)


def stopped_lines(tube: Tube, stopped: Stopped) -> list[str]:
    """Why a tube ended before its horizon."""
    why = {
        "blow-up": "the enclosure became too wide",
        "time": "the time limit was reached",
        "memory": "the memory budget was reached",
    }[stopped.why]
    box = "" if len(tube.initial) == 1 else f" (box {stopped.box + 1} of {len(tube.initial)})"
    lines = [f"stopped at {_time(tube, stopped.time)} of {_time(tube, tube.horizon)}{box}: {why}"]
    wide = f"widest there: {stopped.state}, {stopped.width:.3g}"
    if stopped.shares:
        parts = [f"{SOURCES[k]} ({100 * v:.0f} %)" for k, v in list(stopped.shares.items())[:MOST] if v >= 0.01]
        wide += f"; mostly from {', '.join(parts)}"
    return [*lines, wide]


def leaves_domain(tube: Tube, data: LoopData) -> str | None:
    """When and through which state some box of the tube leaves the domain of the formulas, if it does."""
    plant = data.plant
    if plant.domain is None:
        return None
    bounded = np.array(plant.bounded)
    for piece in tube.pieces(upto=tube.end):
        low, high = bounds(piece.states)
        out = (~((low >= plant.domain.lower) & (high <= plant.domain.upper)) & bounded).any(0)
        if out.any():
            name = tube.states[int(np.flatnonzero(out)[0])]
            return f"from {_time(tube, piece.start)} on the tube may leave the domain in {name}"
    return None


def sampled_widths(sampled: Trajectories | None, tube: Tube) -> np.ndarray | None:
    """Widths (n,) of the simulated states at the end of the tube; None where there is no such time."""
    if sampled is None or tube.end not in sampled.times:
        return None
    states = sampled.states[sampled.times.index(tube.end)]
    known = states[np.isfinite(states).all(1)]
    return np.ptp(known, axis=0) if len(known) else None


def tube_json(instance: str, tube: Tube, sampled: Trajectories | None = None) -> dict[str, Any]:
    """A JSON-ready dictionary: the tube as boxes over pieces of time, its end, what limited it. Times are exact, as text."""
    arrays = tube.to_numpy()
    end = tube.at(tube.end)
    seen = sampled_widths(sampled, tube)
    stopped = tube.stopped
    return {
        "instance": instance, "status": status(tube), "states": list(tube.states), "horizon": str(tube.horizon),
        "end": str(tube.end), "seconds": tube.seconds, "boxes": len(tube.initial), "segments": len(tube.segments),
        "degree": tube.degree, "order": tube.order,
        "initial": [{"lower": list(b.lower_text), "upper": list(b.upper_text)} for b in tube.initial],
        "reached": [str(t) for t in tube.reached],
        "stopped": None if stopped is None else {
            "why": stopped.why, "time": str(stopped.time), "box": stopped.box, "state": stopped.state,
            "width": _number(stopped.width), "source": stopped.source, "shares": dict(stopped.shares),
        },
        "final": {"lower": _plain(end.hull[0]), "upper": _plain(end.hull[1]), "width": _plain(end.width)},
        "sampled_width": None if seen is None else _plain(seen),
        "times": [str(t) for t in tube.times],
        "pieces": {name: _plain(arrays[name]) for name in ("start", "end", "origin", "lower", "upper")},
    }  # fmt: skip


def tubes_json(problem: Problem, found: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The whole file."""
    whole = "complete" if all(one["status"] == "complete" for one in found.values()) else "stopped"
    return {
        "problem": problem.path, "title": problem.title, "sha256": problem.sha256, "status": whole,
        "instances": list(found.values()),
    }  # fmt: skip


def projection(text: str, states: tuple[str, ...]) -> tuple[str, str]:
    """Two states from "x,y". Raises InputError."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or parts[0] == parts[1] or any(part not in states for part in parts):
        raise InputError(f"--project {text}: accepted are two of the states {', '.join(states)}")
    return parts[0], parts[1]


def _number(value: float) -> float | str:
    return float(value) if np.isfinite(value) else str(float(value))  # JSON has no infinities


def _plain(array: np.ndarray) -> Any:
    if array.ndim == 0:
        return _number(float(array)) if array.dtype.kind == "f" else array.item()
    return [_plain(row) for row in array] if array.ndim > 1 or not np.isfinite(array).all() else array.tolist()
