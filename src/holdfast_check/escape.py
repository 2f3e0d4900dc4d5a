"""The claim "falsified": one trajectory leaves the set of an invariant property (section 6 of the format of certificates of loops).

From `state`, as long as it stays in the box state +- radius, the trajectory moves by at most |f_i| T in time T; so it stays there if that
is at most the radius. There g_j rises by at least delta in unit time, so that at T it is at least g_j(state) + T delta.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from holdfast_check.bounds import enclose
from holdfast_check.conditions import Space, singular
from holdfast_check.contraction import ends
from holdfast_check.formula import Sum, number
from holdfast_check.loop import keys, rational_text, require, texts
from holdfast_check.problem import Inequality, Problem
from holdfast_check.slicing import sliced


def escapes(problem: Problem, given: Any, tick: Callable[[], None]) -> None:
    """Raises `Invalid` unless the trajectory certainly is outside at the time given."""
    ode, n = problem.kind == "ode", len(problem.states)
    require(problem.period is None, "of a sampled loop nothing is refuted")
    keys(given, "property", "state", "disturbances", "parameters", "side", *(("radius", "time") if ode else ()))
    k = given["property"]
    require(
        type(k) is int and 0 <= k < len(problem.properties) and problem.properties[k]["kind"] == "invariant",
        "the property is not an invariant",
    )
    claim = problem.properties[k]["set"]
    state = texts(given["state"], n)
    free = [v for key in ("disturbances", "parameters") for v in texts(given[key], len(getattr(problem, key)))]
    require(
        all(a <= v <= b for (a, b), v in zip(problem.free, free, strict=True)),
        "a disturbance or a parameter is not in its interval",
    )
    here = Space(problem)
    here.x, here.free = [number(v) for v in state], [number(v) for v in free]
    found, rates = problem.inequalities(here.f, claim, here.x), here.rates()
    j = given["side"]
    require(type(j) is int and 0 <= j < len(found), "there is no such side")
    values = at_point(here, [*found, *([] if ode else problem.inequalities(here.f, claim, rates)[j : j + 1])], rates)
    inside = [high < 0 if one.strict else high <= 0 for one, (_, high) in zip(found, values, strict=False)]
    require(all(inside), "the state is not known to lie in the set")
    if not ode:
        require(values[-1][0] > 0, "after a step the state is not known to be outside")
        return
    time, radius = rational_text(given["time"]), texts(given["radius"], n)
    require(time > 0 and min(radius) > 0, "the time and the radii are not positive")
    s = Space(problem)
    rates = s.rates()
    (rise,) = s.moved([problem.inequalities(s.f, claim, s.x)[j].value], rates)
    smooth = singular(s.f)
    nodes, output = sliced(s.f.nodes, s.f.emit([*rates, rise, *smooth]).place)
    box = [*((v - d, v + d) for v, d in zip(state, radius, strict=True)), *((v, v) for v in free)]
    below, above = (v[0] for v in enclose(nodes, output, ends([box]), tick))
    require(
        np.isfinite(below[: n + 1]).all() and np.isfinite(above[:n]).all() and np.all(below[n + 1 :] > 0),
        "on the box about the state the formulas have no bounds",
    )
    speed = [
        max(abs(Fraction(a)), abs(Fraction(b))) for a, b in zip(below[:n].tolist(), above[:n].tolist(), strict=True)
    ]
    require(
        all(v * time <= d for v, d in zip(speed, radius, strict=True)), "the trajectory is not known to stay in its box"
    )
    reached = values[j][0] + time * Fraction(below[n].item())
    require(reached > 0, f"at that time the state is not known to be outside: {float(reached):.3g}")


def at_point(s: Space, found: Sequence[Inequality], rates: Sequence[Sum]) -> list[tuple[Fraction, Fraction]]:
    """Ends of sums that do not vary: exact where they are rational numbers."""
    f = s.f
    f.emit([*(one.value for one in found), *rates])
    nodes, output = sliced(f.nodes, f.emit([*(one.value for one in found), *singular(f)]).place)
    low, high = (
        v[0] for v in enclose(nodes, output, ends([[(Fraction(0), Fraction(0))] * f.nodes[0].size]), lambda: None)
    )
    require(
        np.all(low[len(found) :] > 0) and np.isfinite(low).all() and np.isfinite(high).all(),
        "at the state the formulas are not known to be defined",
    )
    known = [
        one.value.constant if not one.value.weights and isinstance(one.value.constant, Fraction) else None
        for one in found
    ]
    return [
        (Fraction(a), Fraction(b)) if c is None else (c, c)
        for c, a, b in zip(known, low.tolist(), high.tolist(), strict=False)
    ]
