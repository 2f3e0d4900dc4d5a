"""Finds sets that a closed loop never leaves, around an equilibrium: candidates grow by sampling, then a rigorous proof decides.

Search (Newton, linearisation, evolution strategy: plain arithmetic) proposes; what is returned went through the same conditions and the
same branch and bound as a set given in a file (`polytope`, `level_set`), all disturbances and parameters included. Nothing that sampling
suggests is ever returned unproved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from holdfast.errors import InputError
from holdfast.invariance.equilibrium import krawczyk, newton
from holdfast.invariance.level_set import boundary, image
from holdfast.invariance.polytope import face_conditions, image_condition
from holdfast.invariance.prove import Proved, prove
from holdfast.invariance.sets import inequalities
from holdfast.invariance.shapes import FORMS, Form, Sampled, Shape, candidates, evolve, grow, largest_size
from holdfast.loop import ClosedLoop
from holdfast.search.budget import Budget
from holdfast.spec.condition import Condition
from holdfast.spec.temporal import Ellipsoid, Instance, Polytope, TemporalProperty
from holdfast.transforms import evaluate

Kind = Literal["auto", "parallelotope", "ellipsoid", "box"]
ROUNDS = 400  # of growth before a proof is tried
SHARE = 0.3  # of the time left that one round of growth, or one proof, may take at most
LEAST = 0.5  # seconds for a proof
CLEARANCES = (0.02, 0.005, 0.001)  # asked of samples, as a share of the largest speed
CLEARER = 1.7  # how much more clearly samples must be kept after a proof took too long
WEIGHTS: Mapping[Form, int] = {"box": 1, "ellipsoid": 3, "parallelotope": 3}  # how the time is shared out
HARD, IDLE = 5, 3  # so many proofs that take too long, or rounds that add nothing, are enough
RADII = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9)  # of boxes in which the equilibrium may be the only one
REACH = 10.0  # half-width of the search where the plant has no domain


@dataclass(frozen=True, eq=False)
class Found:
    """A proved set. ``volume``: in plain arithmetic. ``equilibrium``: near its middle; ``unique``: half-widths of a box around it in
    which it is proved to be the only one (None: not proved). ``instance``: asks for exactly this set, so that it can be written
    (`load.problem_writing.write_problem`) and verified. ``seconds``: until it was proved, all told."""

    states: Polytope | Ellipsoid
    form: Form
    volume: float
    equilibrium: np.ndarray
    unique: np.ndarray | None
    instance: Instance
    seconds: float


def find_invariant(
    loop: ClosedLoop, instance: Instance, *, timeout: float = 60.0, seed: int = 0, kind: Kind = "auto", workers: int = 1,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Found]:  # fmt: skip
    """The largest proved set of each form that was found, the largest first; empty where none was proved.

    ``loop``: of the instance. Deterministic for a seed as long as the time does not run out. InputError for an unknown kind.
    """
    if kind != "auto" and kind not in FORMS:
        raise InputError(f"kind {kind!r}: accepted are auto, {', '.join(FORMS)}")
    begin = time.monotonic()
    low, high = search_box(loop)
    centers = equilibria(loop, instance, low, high)
    if not centers:
        tell("no equilibrium was found")
        return []
    forms: Sequence[Form] = FORMS if kind == "auto" else (kind,)
    found: list[Found] = []
    grown: list[Shape] = []  # directions that are good for one form may be for another
    for k, form in enumerate(forms):
        share = WEIGHTS[form] / sum(WEIGHTS[f] for f in forms[k:])
        end = time.monotonic() + share * (begin + timeout - time.monotonic())
        rng = np.random.default_rng(seed)
        sampled = Sampled(loop, form, rng)
        shape = _first(loop, sampled, form, centers, grown, low, high, rng, end)
        if shape is None:
            tell(f"{form}: sampling suggests none")
            continue
        proved = _largest(loop, sampled, shape, low, high, rng, end, workers, tell)
        if proved is None:
            continue
        grown.append(proved)
        center = min(centers, key=lambda c: float(np.linalg.norm(c - proved.center)))
        states, volume = proved.states(), math.exp(proved.log_volume)
        asked, unique = asking(instance, states), _unique(loop, center)
        found.append(Found(states, form, volume, center, unique, asked, time.monotonic() - begin))
    return sorted(found, key=lambda f: -f.volume)


def search_box(loop: ClosedLoop) -> tuple[np.ndarray, np.ndarray]:
    """Where to look: the plant's domain, and a plain range for states without ends."""
    n, plant = len(loop.states), loop.data.plant
    low, high = np.full(n, -REACH), np.full(n, REACH)
    if plant.domain is not None:
        bounded = np.array(plant.bounded or [True] * n, bool)
        low, high = np.where(bounded, plant.domain.lower, low), np.where(bounded, plant.domain.upper, high)
    return low, high


def equilibria(loop: ClosedLoop, instance: Instance, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    """Different equilibria inside the box, from several starts: the origin, the middle, the initial set, where trajectories go."""
    starts = [np.clip(np.zeros(len(low)), low, high), 0.5 * (low + high)]
    if instance.initial is not None:
        starts.append(0.5 * (instance.initial.lower + instance.initial.upper))
    starts += [end for end in (_settled(loop, s, low, high) for s in starts) if end is not None]
    found: list[np.ndarray] = []
    for start in starts:
        c = newton(loop, start)
        if c is not None and (c > low).all() and (c < high).all():
            c = np.where(abs(c) < 1e-12 * (high - low), 0.0, c)
            if all(np.abs(c - other).max() > 1e-6 * (high - low).max() for other in found):
                found.append(c)
    return found


def _settled(loop: ClosedLoop, x: np.ndarray, low: np.ndarray, high: np.ndarray, steps: int = 400) -> np.ndarray | None:
    """Where a trajectory goes, by steps that change the state by a hundredth of the box at most."""
    middle = 0.5 * (loop.others.lower + loop.others.upper)
    graph = loop.dynamics.graph
    for _ in range(steps):
        with np.errstate(all="ignore"):
            f = evaluate(graph, loop.dynamics.parameters, [np.concatenate([x, middle])[None]])[graph.outputs[0]][0]
        if not np.isfinite(f).all():
            return None
        if loop.kind == "map":
            x = f
        else:
            speed = float((abs(f) / (high - low)).max())
            x = x + min(0.05, 0.01 / max(speed, 1e-9)) * f
        if (abs(x) > 1e3 * (abs(low) + abs(high) + 1)).any():
            return None
    return x


def _first(
    loop: ClosedLoop, sampled: Sampled, form: Form, centers: Sequence[np.ndarray], grown: Sequence[Shape], low: np.ndarray,
    high: np.ndarray, rng: np.random.Generator, end: float,
) -> Shape | None:  # fmt: skip
    """The largest set of a form that the samples say is kept, among first candidates, as many as the time allows."""
    starts = [s for center in centers for s in candidates(loop, center, form, 0.5 * (high - low))]
    if form != "box":
        starts += [replace(s, form=form) for s in grown]
    for clearance in CLEARANCES:
        sampled.clearance = clearance
        kept: list[Shape] = []
        for start in starts:
            if time.monotonic() < end:
                kept += grow(sampled, start, low, high, rng, 0)
        if kept:
            return max(kept, key=lambda s: s.log_volume)
    return None


def _largest(
    loop: ClosedLoop, sampled: Sampled, shape: Shape, low: np.ndarray, high: np.ndarray, rng: np.random.Generator,
    end: float, workers: int, tell: Callable[[str], None],
) -> Shape | None:  # fmt: skip
    """The largest proved set: growth and proof in turn, points at which a proof fails are samples from then on."""
    proved: Shape | None = None
    hard = idle = 0
    while time.monotonic() < end and hard < HARD and idle < IDLE:
        slice_end = time.monotonic() + SHARE * (end - time.monotonic())
        before = shape.log_volume
        for better in evolve(sampled, shape, low, high, rng, ROUNDS, lambda e=slice_end: time.monotonic() > e):  # type: ignore[misc]
            shape = better
        idle = 0 if shape.log_volume > before + 0.01 else idle + 1
        trial = shape
        if proved is not None and trial.log_volume <= proved.log_volume + 1e-3:
            continue
        seconds = max(LEAST, SHARE * (end - time.monotonic()))
        done = attempt(loop, trial.states(), seconds, workers)
        if done is None:
            proved, hard = trial, 0
            tell(f"{shape.form}: proved, volume {math.exp(trial.log_volume):.4g}")
            continue
        idle = 0
        points = _states_of(done, trial)
        if len(points):
            sampled.add(trial, points)
            again = largest_size(sampled, shape, 0.97 ** np.arange(60.0), low, high)
            if not again and proved is None:
                break
            shape = shape.scaled(again) if again else (proved or shape)
            tell(f"{shape.form}: {len(points)} points to heed, volume {math.exp(shape.log_volume):.4g} suggested now")
        else:
            tell(f"{shape.form}: no proof within {seconds:.1f} s at volume {math.exp(trial.log_volume):.4g}")
            hard += 1
            sampled.clearance *= CLEARER
            again = largest_size(sampled, shape, 0.97 ** np.arange(60.0), low, high)
            if not again:
                sampled.clearance /= CLEARER
            shape = shape.scaled(again or 0.85)
    return proved


def attempt(loop: ClosedLoop, states: Polytope | Ellipsoid, seconds: float, workers: int = 1) -> Proved | None:
    """None where the set is proved to be invariant within the time; else how the first condition that was not proved went.

    Ends at once where a point violates a condition in plain arithmetic.
    """
    budget = Budget(seconds)
    for condition in conditions_of(loop, states):
        done = prove(condition, budget, workers, stop=lambda region, x: True)
        if not done.holds:
            return done
    return None


def holds(loop: ClosedLoop, states: Polytope | Ellipsoid, seconds: float, workers: int = 1) -> bool:
    """Whether the set is proved to be invariant within the time."""
    return attempt(loop, states, seconds, workers) is None


def _states_of(done: Proved, shape: Shape) -> np.ndarray:
    """The points at which a proof failed as (states, disturbances, parameters), (K, variables)."""
    points = np.array([x for _, x in done.points])
    if not len(points) or shape.form == "ellipsoid":
        return points
    n = len(shape.center)
    rows = [int(name.removeprefix("row ")) - 1 for name in done.condition.variables[:n]]
    polytope = shape.states()
    assert isinstance(polytope, Polytope)
    y = np.empty((len(points), n))
    y[:, rows] = points[:, :n]
    y = y / np.array([float(v or 0) for v in polytope.upper])
    return np.concatenate([shape.center + y @ shape.V.T, points[:, n:]], axis=1)


def conditions_of(loop: ClosedLoop, states: Polytope | Ellipsoid, where: str = "set found") -> list[Condition]:
    """What proves that a set is invariant: the same conditions as for a set given in a file."""
    if isinstance(states, Polytope):
        if loop.kind == "ode":
            return face_conditions(loop, states, where)[0]
        return [image_condition(loop, states, where)[0]]
    asked = inequalities(states, loop, where)
    return boundary(loop, asked, where) if loop.kind == "ode" else [image(loop, asked, where)]


def asking(instance: Instance, states: Polytope | Ellipsoid) -> Instance:
    """The instance with one property: the set is invariant."""
    if isinstance(states, Polytope):
        inside: dict[str, Any] = {"H": _rows(states.H), "lower": list(states.lower), "upper": list(states.upper)}
        inside = {"polytope": {**inside, "center": list(states.center)}}
    else:
        inside = {"ellipsoid": {"center": list(states.center), "P": _rows(states.P), "level": states.level}}
    dropped = ("property", "expected", "instance", "initial", "horizon")
    document: Mapping[str, Any] = {k: v for k, v in instance.document.items() if k not in dropped}
    document = {**document, "property": [{"id": "found", "kind": "invariant", "set": inside}]}
    prop = TemporalProperty("found", "invariant", states)
    return replace(instance, properties=(prop,), initial=None, steps=None, time=None, expected=None, document=document)


def _rows(matrix: Sequence[Sequence[Fraction]]) -> list[list[Fraction]]:
    return [list(row) for row in matrix]


def _unique(loop: ClosedLoop, center: np.ndarray) -> np.ndarray | None:
    """Half-widths of the largest of some boxes in which there is proved to be exactly one equilibrium."""
    scale = np.maximum(abs(center), 1.0)
    for radius in RADII:
        with np.errstate(all="ignore"):
            if krawczyk(loop, center, radius * scale) is not None:
                return radius * scale
    return None
