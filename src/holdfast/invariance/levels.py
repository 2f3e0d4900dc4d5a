"""The largest level up to which a condition on {h <= level} is proved, whenever the time is over.

Cells with the least values of h come first, so that what is proved grows outward from the bottom; points that violate the condition lower
the top at once, or raise the bottom of a band where they are near to it; cells proved before stay proved, as the set only shrinks. See
docs/certificates/loops.md, section 3, decrease and stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from holdfast.bounds.enclosure import OutOfTime, Problem
from holdfast.invariance.prove import quiet
from holdfast.invariance.sets import Enclosed
from holdfast.rigor import FLOAT64
from holdfast.search.budget import Budget
from holdfast.search.frontier import Boxes, Frontier
from holdfast.search.input_split import InputSplit
from holdfast.search.workers import Workers
from holdfast.spec.condition import Condition
from holdfast.transforms import evaluate

WIDE = 1 << 30  # cells kept in order of h
CLEAR = 1e-3  # of a band: by how much its bottom is raised beyond a point that violates the condition
SLACK = 1e-9  # as where a certificate is written


@dataclass(frozen=True)
class Reach:
    """The condition holds with this ``level`` as its top (None: with no level tried), and with this ``bottom``, if it has one; ``cells``
    were looked at, ``open`` were left."""

    level: float | None
    bottom: float | None
    cells: int
    open: int
    history: tuple[tuple[float, float], ...]  # seconds, level proved until then


class _Outward(InputSplit):
    """The same search, whose sub-problems are ordered by lower bounds of the first row, h - top."""

    def _refute(
        self, boxes: Boxes, rows: np.ndarray, value: np.ndarray, *more: Any, **named: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        still, focus, _ = super()._refute(boxes, rows, value, *more, **named)
        least = np.where(np.isnan(value[:, 0]), -np.inf, value[:, 0])
        return still, focus, np.maximum(least, boxes.bound)


def furthest(
    make: Callable[[Enclosed, Enclosed | None], Condition], top: float, budget: Budget, workers: int = 1,
    tell: Callable[[float, float, int], None] = lambda seconds, level, cells: None, bottom: float | None = None,
) -> Reach:  # fmt: skip
    """The largest level, at most ``top``, with which the condition ``make(level, bottom)`` is proved within the time.

    The condition's first row must be h - level <= 0, for every case of it. ``bottom``: of a band {bottom <= h <= level}, raised where points
    of its lower half violate the condition; the set is not to grow with it. ``tell``: seconds, level proved so far, cells.
    """
    search = _search(make, top, bottom, budget)
    frontier = Frontier(search.roots(), WIDE)
    team, done, lost = None, 0, np.inf
    history: list[tuple[float, float]] = []
    try:
        with quiet():
            while len(frontier) and frontier.bound < 0 and not budget.expired():
                if team is None and workers > 1 and len(frontier) > 2 * search.batch():
                    team = Workers(search.step, workers)
                tasks = [frontier.pop(search.batch()) for _ in range(1 if team is None else team.count)]
                tasks = [task for task in tasks if len(task)]
                try:
                    steps = [search.step(t) for t in tasks] if team is None or len(tasks) < 2 else team.map(tasks)
                except OutOfTime:
                    for task in tasks:
                        frontier.push(task)
                    break
                done += sum(map(len, tasks))
                for step in steps:
                    frontier.push(step.children)
                    lost = min(lost, float(step.stuck.bound.min(initial=np.inf)))
                level = _below(top, min(frontier.bound, lost, 0.0))
                news = not history or (level is not None and level > history[-1][1])
                if level is not None and news and (bottom is None or level > bottom):
                    history.append((budget.seconds, level))
                    tell(budget.seconds, level, done)
                points = [x for step in steps for _, x in step.candidates]
                lower, raised = _changed([top + _first_row(search, x) for x in points], top, bottom)
                if lower < top:  # bounds of what is open are of h - top
                    by = math.nextafter(top - lower, -math.inf)
                    frontier, lost = _moved(frontier, by), math.nextafter(lost + by, -math.inf)
                if (lower, raised) != (top, bottom):
                    top, bottom = lower, raised
                    if bottom is not None and bottom >= top:
                        return Reach(None, None, done, len(frontier), tuple(history))
                    search = _search(make, top, bottom, budget)
                    if team is not None:
                        team.close()
                        team = None
    finally:
        if team is not None:
            team.close()
    return Reach(_below(top, min(frontier.bound, lost, 0.0)), bottom, done, len(frontier), tuple(history))


def _changed(levels: Sequence[float], top: float, bottom: float | None) -> tuple[float, float | None]:
    """The band without these levels."""
    low = [] if bottom is None else [v for v in levels if v - bottom < top - v]
    high = [v for v in levels if v not in low]
    if low and bottom is not None:
        bottom = max(bottom, *low) + CLEAR * (top - bottom)
    return min([top, *high]), bottom


def _search(
    make: Callable[[Enclosed, Enclosed | None], Condition], top: float, bottom: float | None, budget: Budget
) -> _Outward:
    low = None if bottom is None else (Fraction(bottom), Fraction(bottom))
    query = make((Fraction(top), Fraction(top)), low).query()
    problem = Problem.make(query.graph, query.parameters, query.radii, FLOAT64)
    return _Outward(query, replace(problem, expired=budget.expired), SLACK, True)


def _moved(frontier: Frontier, by: float) -> Frontier:
    """The same cells, bounds of h - top for a top that is lower by so much; rounded down."""
    boxes = frontier.pop(len(frontier))
    with np.errstate(invalid="ignore"):
        bound = np.nextafter(boxes.bound + by, -np.inf)
    return Frontier(replace(boxes, bound=bound), WIDE)


def _below(top: float, least: float) -> float | None:
    """A level strictly below top + least, rounded down; top itself where nothing below it is open."""
    if least >= 0:
        return top
    if least == -math.inf:
        return None
    return math.nextafter(math.nextafter(top + least, -math.inf), -math.inf)


def _first_row(search: InputSplit, x: np.ndarray) -> float:
    """h - top at a point that violates the condition: a little less than that, so that the point is left out."""
    graph = search.query.graph
    value = float(evaluate(graph, search.query.parameters, [x[None]])[graph.outputs[0]][0, 0])
    return min(value, 0.0) - 1e-6 * (1 + abs(value))
