"""The family of nested invariant boxes around a certified parallelotope or box, for reports: what attracts, what more could be claimed.

Each member is proved (`holdfast.invariance.families`), though no certificate holds that.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from holdfast.errors import InputError
from holdfast.invariance.embedding import embedding
from holdfast.invariance.families import family
from holdfast.invariance.polytope import as_polytope
from holdfast.loop import ClosedLoop, close
from holdfast.spec.temporal import BoxSet, Instance, Polytope

MEMBERS = 60


def nested(instance: Instance, seconds: float) -> dict[str, Any] | None:
    """Ends of all members in the coordinates of the set's rows, the largest first, their volumes, and the number of the given one.

    None where the set is no bounded parallelotope, or does not pass the test of one look at each face.
    """
    prop = instance.properties[0]
    if prop.kind != "invariant" or not isinstance(prop.states, BoxSet | Polytope):
        return None
    try:
        return _nested(close(instance.loop), prop.states, time.monotonic() + seconds)
    except InputError:
        return None  # no flow of its own, unbounded, or not proved at one look


def _nested(loop: ClosedLoop, states: BoxSet | Polytope, end: float) -> dict[str, Any] | None:
    shape = as_polytope(states, loop, "the set")
    if len(shape.H) != len(loop.states) or None in (*shape.lower, *shape.upper):
        return None
    lower, upper = (np.array([float(v) for v in ends if v is not None]) for ends in (shape.lower, shape.upper))
    flow = embedding(loop, shape.H, shape.center)
    found = family(flow, lower, upper, members=MEMBERS, expired=lambda: time.monotonic() > end)
    turned = np.array([[float(v) for v in row] for row in shape.H])
    return {
        "lower": found.lower.tolist(), "upper": found.upper.tolist(), "given": found.given,
        "volumes": np.exp(found.log_volumes(turned)).tolist(),
    }  # fmt: skip


def nested_lines(found: dict[str, Any]) -> list[str]:
    """Sentences about a family."""
    sizes = found["volumes"]
    lines = [
        f"family of {len(sizes)} nested sets of the same form, each proved invariant, each reached from all larger ones",
        f"the largest has volume {sizes[0]:.6g}, the smallest, which attracts all trajectories from it, {sizes[-1]:.6g}",
    ]
    ends = [
        f"row {k + 1} in [{a:.4g}, {b:.4g}]"
        for k, (a, b) in enumerate(zip(found["lower"][-1], found["upper"][-1], strict=True))
    ]
    return [*lines, f"attractive set: {', '.join(ends[:12])}" + (", ..." if len(ends) > 12 else "")]
