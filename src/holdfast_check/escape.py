"""The claim "falsified": one trajectory leaves the set of an invariant property (section 6 of the format of certificates of loops).

From `state`, as long as it stays in the box state +- radius, the trajectory moves by at most |f_i| T in time T; so it stays there if that
is at most the radius. There g_j rises by at least delta in unit time, so that at T it is at least g_j(state) + T delta.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from holdfast_check.bounds import enclose
from holdfast_check.conditions import Space, pruned, singular
from holdfast_check.contraction import ends
from holdfast_check.loop import keys, rational_text, require, texts
from holdfast_check.problem import Problem


def escapes(problem: Problem, given: Any, tick: Callable[[], None]) -> None:
    """Raises `Invalid` unless the trajectory certainly is outside at the time given."""
    ode, n = problem.kind == "ode", len(problem.states)
    keys(given, "property", "state", "disturbances", "parameters", "side", *(("radius", "time") if ode else ()))
    k = given["property"]
    require(type(k) is int and 0 <= k < len(problem.properties) and problem.properties[k]["kind"] == "invariant", "the property is not an invariant")
    claim = problem.properties[k]["set"]
    state, w, p = (texts(given[key], m) for key, m in (("state", n), ("disturbances", len(problem.disturbances)), ("parameters", len(problem.parameters))))
    free = [*w, *p]
    require(all(a <= v <= b for (a, b), v in zip(problem.free, free, strict=True)), "a disturbance or a parameter is not in its interval")
    if "where" in claim:
        require(all(a <= state[i] <= b for i, (a, b) in problem.domain.items()), "the state is not in the domain")
    s = Space(problem)
    found, rates = problem.inequalities(s.f, claim, s.x), s.rates()
    j = given["side"]
    require(type(j) is int and 0 <= j < len(found), "there is no such side")
    then = problem.inequalities(s.f, claim, rates) if not ode else []
    count = len(found)
    s.f.emit(rates)
    point = [*found, then[j]] if then else found
    nodes, output = pruned(s.f.nodes, s.f.emit([*(one.value for one in point), *singular(s.f)]).place)
    here = [(v, v) for v in (*state, *free)]
    low, high = (v[0] for v in enclose(nodes, output, ends([here]), tick))
    require(np.all(low[len(point) :] > 0), "at the state the formulas are not known to be defined")
    inside = [high[i] < 0 if one.strict else high[i] <= 0 for i, one in enumerate(found)]
    require(all(inside), "the state is not known to lie in the set")
    if not ode:
        require(low[count] > 0, "after a step the state is not known to be outside")
        return
    time, radius = rational_text(given["time"]), texts(given["radius"], n)
    require(time > 0 and min(radius) > 0, "the time and the radii are not positive")
    (rise,) = s.moved([found[j].value], rates)
    smooth = singular(s.f)
    nodes, output = pruned(s.f.nodes, s.f.emit([*rates, rise, *smooth]).place)
    box = [*((v - d, v + d) for v, d in zip(state, radius, strict=True)), *((v, v) for v in free)]
    below, above = (v[0] for v in enclose(nodes, output, ends([box]), tick))
    require(np.isfinite(below[: n + 1]).all() and np.isfinite(above[:n]).all() and np.all(below[n + 1 :] > 0), "on the box about the state the formulas have no bounds")
    speed = [max(abs(Fraction(a)), abs(Fraction(b))) for a, b in zip(below[:n].tolist(), above[:n].tolist(), strict=True)]
    require(all(v * time <= d for v, d in zip(speed, radius, strict=True)), "the trajectory is not known to stay in its box")
    reached = Fraction(low[j].item()) + time * Fraction(below[n].item())
    require(reached > 0, f"at that time the state is not known to be outside: {float(reached):.3g}")
