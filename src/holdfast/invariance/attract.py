"""Convergence: every trajectory from a sub-level set reaches another set and stays, or converges to the equilibrium.

A chain: the given function decreases down to some level; inside what is kept then, polynomials decrease further; the last of these sets
lies in an ellipsoid on which the loop contracts. docs/certificates/loops.md, section 4, attracts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from holdfast.errors import InputError
from holdfast.graph import Model
from holdfast.invariance.axes import FLAT, choose, for_band
from holdfast.invariance.band import Sample
from holdfast.invariance.contraction import Contraction
from holdfast.invariance.equilibrium import Linearisation, largest_contraction, newton
from holdfast.invariance.features import Features, features
from holdfast.invariance.level_set import Sublevel, inside, later, reached
from holdfast.invariance.lyapunov import Polynomial, fit
from holdfast.invariance.oblique import Oblique
from holdfast.invariance.prove import Proved, prove
from holdfast.invariance.sets import Enclosed, Inequalities, inequalities
from holdfast.invariance.sets import level as sublevel_level
from holdfast.load.formula_graph import compile_formulas
from holdfast.loop import ClosedLoop
from holdfast.search.budget import Budget
from holdfast.spec.condition import Condition
from holdfast.spec.region import Box
from holdfast.spec.temporal import Ellipsoid, Level, SetOfStates, TemporalProperty
from holdfast.transforms import evaluate

DEGREES = (2, 4, 6)
ROUNDS = 3  # of a candidate and its counterexamples
STARTS = 8  # points of the lowest values of the function, from which the equilibrium is looked for
STAGES = 3  # polynomials one after the other
SECONDS = (6.0, 30.0)  # for the proof of one of them, before and after everything was tried
# of the way from where the function stops to decrease up to the level of the claim: the higher, the clearer the decrease above it,
# and the harder to find a polynomial below
SHARES = (0.05, 0.01, 0.15, 0.002)
SAMPLES = 20000


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be proved, in order, and how a certificate says it (section 4)."""

    conditions: tuple[Condition, ...]
    proof: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)


def start_of(prop: TemporalProperty, loop: ClosedLoop, where: str) -> tuple[Sublevel, Inequalities]:
    """The set ``from`` as a sub-level set in a box."""
    assert prop.states is not None
    states = inequalities(prop.states, loop, where)
    if len(states.sides) != 1:
        raise InputError(f"{where}: needs a set of one inequality (a level set {{V <= c}} or an ellipsoid)")
    g = states.sides[0]
    if isinstance(prop.states, Level):
        if prop.states.at_most is None:
            raise InputError(f"{where}: needs at_most")
        stripped = loop.function(prop.states.function)[1]
        level = enclosed(g.constant, g.doubt)
        return Sublevel(states.functions, level, states.hull, prop.states.function, stripped), states
    return Sublevel(states.functions, enclosed(g.constant, g.doubt), states.hull, "the function of the set"), states


def enclosed(constant: Fraction, doubt: Fraction) -> Enclosed:
    """The level c of a row h - c <= 0."""
    return -constant - doubt, -constant


def same_level(a: SetOfStates, b: Any) -> bool:
    """Whether both are sub-level sets of one function, the second lower."""
    return (
        isinstance(a, Level) and isinstance(b, Level) and a.function == b.function and a.at_least is None is b.at_least
    )


def to_set(
    loop: ClosedLoop, prop: TemporalProperty, where: str, *, budget: Budget | None = None, workers: int = 1
) -> Plan:
    """The plan for a target that is a set of states."""
    assert prop.states is not None and prop.target is not None and prop.target != "equilibrium"
    top, _ = start_of(prop, loop, f"{where} from")
    target = inequalities(prop.target, loop, f"{where} to")
    if same_level(prop.states, prop.target):
        g = target.sides[0]
        bottom = enclosed(g.constant, g.doubt)
        if bottom[1] >= top.top[0]:
            raise InputError(f"{where}: the level of `to` must be below that of `from`")
        assert isinstance(prop.target, Level)
        conditions, stage = first_stage(loop, top, bottom, str(prop.target.at_most), budget or Budget())
        return Plan(tuple(conditions), {"stages": [stage], "end": "set"})
    points = _drawn(top, SAMPLES, np.random.default_rng(0))
    values = _values(target.functions, points)
    outside = np.zeros(len(points), bool)
    for g in target.sides:
        outside |= sum(float(c) * values[:, i] for i, c in g.terms) + float(g.constant) > 0
    h = _values(top.h, points)[:, 0]
    least = float(h[outside].min()) if outside.any() else float(top.top[0])
    a, bottom = _lower_level(loop, prop.states, h.min() + 0.9 * (least - h.min()))
    conditions, stage = first_stage(loop, top, bottom, str(a), budget or Budget())
    kept = Sublevel(top.h, bottom, top.domain, top.name, top.stripped)
    return Plan((*conditions, inside(loop, [kept], top.domain, target)), {"stages": [stage], "end": "set"})


def first_stage(
    loop: ClosedLoop, top: Sublevel, bottom: Enclosed, level: str, budget: Budget
) -> tuple[list[Condition], dict[str, Any]]:
    """That the function of the claim falls down to ``bottom``, in coordinates that suit it; and how a certificate says it."""

    def make(axes: Oblique | None) -> Condition:
        return reached(loop, top, bottom, axes)[0]

    axes = for_band(loop, make, top.h, top.domain, float(bottom[1]), float(top.top[0]), budget)
    return reached(loop, top, bottom, axes), {"level": level, **_said(axes)}


def _said(axes: Oblique | None) -> dict[str, Any]:
    return {} if axes is None else {"coordinates": axes.text}


def to_equilibrium(
    loop: ClosedLoop, prop: TemporalProperty, where: str, tell: Callable[[str], None] = lambda _: None,
    *, budget: Budget | None = None, workers: int = 1,
) -> Plan | str:  # fmt: skip
    """The plan for the equilibrium as a target, or a sentence that says why there is none.

    What leads from a low level to the equilibrium is tried out with proofs of some seconds each, so that only the first stage of a
    plan may turn out not to hold. ``budget``: the time left is not exceeded (by much).
    """
    assert prop.states is not None
    if loop.disturbances:
        raise InputError(
            f"{where}: a loop with disturbances ({', '.join(loop.disturbances)}) need not settle at an equilibrium; give a set as `to`"
        )
    budget = budget or Budget()
    top, _ = start_of(prop, loop, f"{where} from")
    rng = np.random.default_rng(0)
    points = _drawn(top, SAMPLES, rng)
    if not len(points):
        return "no point of the set `from` was found"
    h = _values(top.h, points)[:, 0]
    center = _equilibrium(
        loop, [*points[np.argsort(h)[:STARTS]], 0.5 * (top.domain.lower + top.domain.upper)], top.domain
    )
    if center is None:
        return "no equilibrium was found inside the domain"
    reach = np.minimum(top.domain.upper - center, center - top.domain.lower)
    end = largest_contraction(loop, center, reach, expired=budget.expired)
    if end is None and budget.expired():
        return "the time was over before an ellipsoid was found on which the loop contracts"
    if end is None:
        return "the loop is not proved to contract around its equilibrium (its linearisation may be unstable, or its right side not smooth there)"
    tell(f"contracts on an ellipsoid of half-widths {_half_widths(end)}")
    stop, ceiling = _stop(loop, top, end, points, rng), float(top.top[0])
    for seconds in SECONDS:
        for share in SHARES:
            a, bottom = _lower_level(loop, prop.states, stop + share * (ceiling - stop))
            if not bottom[1] < top.top[0]:
                continue
            if budget.expired():
                return "the time was over before a way from a low level set to the equilibrium was found"
            first = Sublevel(top.h, bottom, top.domain, top.name, top.stripped)
            chain = _chain(loop, first, end, rng, Effort(budget, seconds, workers))
            if chain is None:
                tell(f"no proof of what happens below {top.name} = {float(a):.6g}")
                continue
            texts, below = chain
            tell(f"{top.name} leads down to {float(a):.6g}, {len(texts)} polynomials from there on")
            conditions, stage = first_stage(loop, top, first.top, str(a), budget)
            proof = {
                "stages": [stage, *texts],
                "end": {"center": [float(c).hex() for c in center], "P": [[float(v).hex() for v in row] for row in end.P], "level": str(end.level)},
            }  # fmt: skip
            notes = {
                "equilibrium": center.tolist(),
                "contraction": {"half_widths": _half_widths(end), "rate": end.rate},
            }
            return Plan((*conditions, *below), proof, notes)
    return f"no polynomials of degree up to {DEGREES[-1]} were found that decrease between a low level set of {top.name} and the ellipsoid of contraction"


def _equilibrium(loop: ClosedLoop, starts: Sequence[np.ndarray], domain: Box) -> np.ndarray | None:
    for start in starts:
        center = newton(loop, start)
        if center is not None and (center > domain.lower).all() and (center < domain.upper).all():
            return center
    return None


@dataclass(frozen=True, eq=False)
class Effort:
    """How long a proof on the way may take: so many seconds, within a budget."""

    budget: Budget
    seconds: float
    workers: int

    def prove(self, condition: Condition) -> Proved:
        """The condition, with what is allowed."""
        return prove(condition, Budget(min(self.seconds, max(self.budget.left, 0.0))), self.workers)


def _chain(
    loop: ClosedLoop, first: Sublevel, end: Contraction, rng: np.random.Generator, effort: Effort
) -> tuple[list[dict[str, Any]], list[Condition]] | None:
    """Stages, as a certificate says them, from the set ``first`` into the ellipsoid, and their conditions: all were proved just now."""
    target = inequalities(
        Ellipsoid(tuple(Fraction(float(c)) for c in end.center), end.P, end.level), loop, "ellipsoid of contraction"
    )
    kept = [first]
    texts: list[dict[str, Any]] = []
    conditions: list[Condition] = []
    while True:
        cloud = Cloud(kept, end, rng)
        if not (cloud.inner(cloud.draw(4000)) > 1.0).any():
            last = inside(loop, kept, first.domain, target)
            if effort.prove(last).holds:
                return texts, [*conditions, last]
        if len(kept) > STAGES:
            return None
        stage = _stage(loop, kept, cloud, end, effort)
        if stage is None:
            return None
        p, value, condition, axes = stage
        text = p.formula(loop.states)
        texts.append({"function": text, "level": value.hex(), **_said(axes)})
        conditions.append(condition)
        kept.append(_sublevel(loop, text, value, first.domain, len(kept)))


def _stage(
    loop: ClosedLoop, kept: Sequence[Sublevel], cloud: Cloud, end: Contraction, effort: Effort
) -> tuple[Polynomial, float, Condition, Oblique | None] | None:
    """A polynomial that decreases, which is proved, from ``kept`` down into the ellipsoid, or into a multiple of it where none is found."""
    line = Linearisation(loop)
    turn = cloud.turn / cloud.far
    sphere = np.random.default_rng(1).normal(size=(20000, len(end.center)))
    sphere /= np.linalg.norm(sphere, axis=1)[:, None]
    hole = 1.0
    while hole == 1.0 or 2 * hole * cloud.radius < cloud.far:
        for degree in DEGREES:
            more = np.zeros((0, len(end.center)))
            for _ in range(ROUNDS):
                p = fit(line.flow, partial(cloud.draw, hole=hole), turn, end.center, degree, loop.kind == "map", more)
                if p is None or effort.budget.expired():
                    break
                x = cloud.draw(20000, hole)
                shell = end.center + hole * cloud.radius * sphere @ np.linalg.inv(cloud.turn).T
                around = np.concatenate([x[cloud.inner(x) >= 0.97 * hole], shell])
                value = 0.9 * float(p(around).min())
                if value <= 0:
                    break
                stage = _sublevel(loop, p.formula(loop.states), value, kept[0].domain, len(kept))
                condition, axes = later(loop, kept, stage), None
                result = effort.prove(condition)
                if not result.holds and not result.points:  # perhaps only too many boxes
                    axes = _axes(loop, kept, stage, cloud, hole, effort)
                    condition = condition if axes is None else later(loop, kept, stage, axes)
                    result = result if axes is None else effort.prove(condition)
                if result.holds:
                    return p, value, condition, axes
                if not result.points:
                    break
                met = np.array([x[: len(end.center)] for _, x in result.points])
                more = np.concatenate([more, met if axes is None else axes.states(met)])
        hole *= 4.0
    return None


def _axes(
    loop: ClosedLoop, kept: Sequence[Sublevel], stage: Sublevel, cloud: Cloud, hole: float, effort: Effort
) -> Oblique | None:
    if len(loop.states) < FLAT:
        return None
    budget = Budget(min(effort.seconds, max(effort.budget.left, 0.0)))
    return choose(loop, lambda axes: later(loop, kept, stage, axes), stage.h, cloud.sample(hole), budget)


def _sublevel(loop: ClosedLoop, text: str, value: float, domain: Box, number: int) -> Sublevel:
    name = f"stage {number}"
    model = loop.on_states(compile_formulas({name: text}, loop.data.plant.signals.names))
    return Sublevel(model, (Fraction(value), Fraction(value)), domain, name)


class Cloud:
    """Random points of a small set around an equilibrium, at all distances from it alike."""

    def __init__(self, kept: Sequence[Sublevel], end: Contraction, rng: np.random.Generator):
        plain = np.array([[float(v) for v in row] for row in end.P])
        self.turn = np.linalg.cholesky(plain).T
        self.radius = float(end.level) ** 0.5
        self._kept, self._end, self._rng = tuple(kept), end, rng
        self._far = self.radius
        while self._far < 1e12 * self.radius and len(self._shell(400, self._far, 2 * self._far)):
            self._far *= 2
        self._far *= 2

    def _shell(self, count: int, near: float, far: float) -> np.ndarray:
        n = len(self._end.center)
        z = self._rng.normal(size=(count, n))
        z *= (np.exp(self._rng.uniform(np.log(near), np.log(far), count)) / np.linalg.norm(z, axis=1))[:, None]
        x = self._end.center + z @ np.linalg.inv(self.turn).T
        domain = self._kept[0].domain
        x = x[((x >= domain.lower) & (x <= domain.upper)).all(1)]
        for k in self._kept:
            x = x[_values(k.h, x)[:, 0] <= float(k.top[1])] if len(x) else x
        return x

    def draw(self, count: int, hole: float = 1.0) -> np.ndarray:
        """About ``count`` points, from a third of ``hole`` times the ellipsoid outwards."""
        parts: list[np.ndarray] = []
        for _ in range(40):
            parts.append(self._shell(count, 0.3 * hole * self.radius, self._far))
            if sum(map(len, parts)) >= count:
                break
        return np.concatenate(parts)[:count]

    def sample(self, hole: float) -> Sample:
        """Points for a trial of coordinates."""
        x = self.draw(2000, hole)
        r = self.inner(x) * self.radius / self._far
        turn = np.linalg.inv(self.turn) * self._far
        return Sample(x, abs(float(np.linalg.det(turn))) * r ** len(turn) / len(x), turn, False)

    def inner(self, x: np.ndarray) -> np.ndarray:
        """Distances in units of the ellipsoid's radius."""
        return np.linalg.norm((x - self._end.center) @ self.turn.T, axis=1) / self.radius

    @property
    def far(self) -> float:
        """Beyond all points, in the same units as ``turn``."""
        return self._far


def _stop(loop: ClosedLoop, top: Sublevel, end: Contraction, points: np.ndarray, rng: np.random.Generator) -> float:
    """The level at which h stops to decrease near the equilibrium, as far as samples show."""
    x = np.concatenate([points, Cloud([top], end, rng).draw(SAMPLES)])
    f: Features = features(loop, top.h, change=True)
    others = 0.5 * (loop.others.lower + loop.others.upper)
    v = np.concatenate([x, np.broadcast_to(others, (len(x), len(others)))], axis=1)
    out = _values(f.model, v)
    assert f.value is not None and f.change is not None
    h, change = out[:, f.value], out[:, f.change]
    growing = change >= 0 if loop.kind == "ode" else change >= h
    ceiling, floor = float(top.top[0]), float(h.min())
    low = growing & (h < floor + 0.7 * (ceiling - floor))
    return float(h[low].max()) if low.any() else floor


def _drawn(states: Sublevel, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random points of the domain with h <= top."""
    low, high = states.domain.lower, states.domain.upper
    x = low + (high - low) * rng.random((4 * count, len(low)))
    x = np.concatenate([x, (0.5 * (low + high))[None]])
    return x[_values(states.h, x)[:, 0] <= float(states.top[1])][:count]


def _values(model: Model, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return evaluate(model.graph, model.parameters, [x])[model.graph.outputs[0]]


def _lower_level(loop: ClosedLoop, states: SetOfStates, h: float) -> tuple[Fraction, Enclosed]:
    """A level in the words of the file near the value ``h`` of the function without its sigmoid, and its enclosure."""
    stripped = isinstance(states, Level) and loop.function(states.function)[1]
    plain = 1 / (1 + np.exp(-h)) if stripped else h
    if isinstance(states, Ellipsoid):
        plain = h + float(states.level)  # rows read h - level
    a = Fraction(float(plain))
    if isinstance(states, Ellipsoid):
        return a, (a - states.level, a - states.level)
    return a, sublevel_level(a, stripped)


def _half_widths(end: Contraction) -> list[float]:
    plain = np.array([[float(v) for v in row] for row in end.P])
    return [float(v) for v in np.sqrt(np.diag(np.linalg.inv(plain)) * float(end.level))]
