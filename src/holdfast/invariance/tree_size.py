"""How many boxes a search will take, from a few paths through its tree: random points, each followed down to the box that is refuted.

A box B of the tree is met by points of density p with probability p vol B, so that 1 / (p vol B), summed over the boxes on a path, has the
number of boxes as its mean. Knuth, Estimating the efficiency of backtrack programs, Mathematics of Computation 29, 1975.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from holdfast.bounds.enclosure import OutOfTime, Problem
from holdfast.invariance.prove import quiet
from holdfast.rigor import FLOAT64
from holdfast.search.budget import Budget
from holdfast.search.frontier import Boxes
from holdfast.search.input_split import InputSplit
from holdfast.spec.condition import Condition

DEEPEST = 400  # boxes on one path
SLACK = 1e-9  # as where a certificate is written


@dataclass(frozen=True, eq=False)
class Paths:
    """``boxes`` (K,): per point the sum of 1 / vol over the boxes on its path, infinite where it did not end; ``seconds`` for one box."""

    boxes: np.ndarray
    seconds: float


def paths(condition: Condition, points: np.ndarray, budget: Budget) -> Paths:
    """Follow ``points`` (K, N) of the first region of a condition, values of all its variables; vol is in the units of these.

    Inputs that do not vary count with the width 1. Points whose path the time did not suffice for count as infinite.
    """
    query = condition.query()
    problem = replace(Problem.make(query.graph, query.parameters, query.radii, FLOAT64), expired=budget.expired)
    search = InputSplit(query, problem, SLACK, condition.rough)
    begin, done = time.perf_counter(), 0
    total = np.full(len(points), np.inf)
    with quiet():
        for first in range(0, len(points), search.batch()):
            part = points[first : first + search.batch()]
            try:
                sums, count = _followed(search, part, budget)
            except OutOfTime:
                break
            total[first : first + len(part)] = sums
            done += count
    return Paths(total, (time.perf_counter() - begin) / max(done, 1))


def _followed(search: InputSplit, points: np.ndarray, budget: Budget) -> tuple[np.ndarray, int]:
    """The sums for a batch of points, and the number of boxes bounded."""
    x = points[:, search.columns]
    boxes = search.roots().take(np.zeros(len(points), np.int64))
    who = np.arange(len(points))
    sums, done = np.zeros(len(points)), 0
    for _ in range(DEEPEST):
        if not len(boxes):
            return sums, done
        if budget.expired():
            break
        width = boxes.high - boxes.low
        sums[who] += np.exp(-np.log(np.where(width > 0, width, 1.0)).sum(1))
        done += len(boxes)
        children = search.step(boxes).children
        parent = children.node >> 1
        own = x[who[parent]]
        met = np.flatnonzero(((children.low <= own) & (own <= children.high)).all(1))
        met = met[np.unique(parent[met], return_index=True)[1]]  # a point on the cut is in both halves
        who, boxes = who[parent[met]], _numbered(children.take(met))
    sums[who] = np.inf
    return sums, done


def _numbered(boxes: Boxes) -> Boxes:
    return replace(boxes, node=np.zeros(len(boxes), np.int64))
