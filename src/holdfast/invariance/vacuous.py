"""Whether a claim speaks of no state at all: then it holds, and says nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from holdfast.invariance.features import features
from holdfast.invariance.regions import region
from holdfast.invariance.sets import Inequalities
from holdfast.loop import ClosedLoop
from holdfast.spec.condition import Condition, RowsBuilder
from holdfast.transforms import evaluate

SAMPLES = 1 << 13


def is_empty(loop: ClosedLoop, states: Inequalities, holds: Callable[[Condition], bool]) -> bool:
    """Whether it is proved that the set has no point; ``holds`` is asked only where samples found none."""
    low, high = states.hull.lower, states.hull.upper
    x = low + (high - low) * np.random.default_rng(0).random((SAMPLES, len(low)))
    x = np.concatenate([x, 0.5 * (low + high)[None], low[None], high[None]])
    with np.errstate(all="ignore"):
        values = evaluate(states.functions.graph, states.functions.parameters, [x])[states.functions.graph.outputs[0]]
    inside = np.ones(len(x), bool)
    for g in states.sides:
        inside &= sum(float(c) * values[:, i] for i, c in g.terms) + float(g.constant) <= 0
    if inside.any():
        return False
    f = features(loop, states.functions)
    rows = RowsBuilder()
    case = rows.case(states.sides)
    place = region(states.hull, loop.others, (case,))
    return holds(Condition("the set is empty", loop.variables, f.model, tuple(rows.rows), (place,)))
