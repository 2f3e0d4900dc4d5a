"""Every integrator against the Taylor series' on a folder of problems: do the tubes intersect everywhere, how wide, how long?

    python benchmarks/integrators.py FOLDER [--periods N] [--filter REGEX]

Each tube starts from the whole initial set and is carried for N periods by itself; the inputs are the same enclosures of the controller.
At 100 times, and over the spans between, the sets must intersect, and so must what they say of the same initial states (20 of them).
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from tubes import instances

from holdfast.errors import HoldfastError
from holdfast.loop.tube import ORDER, Segment, System
from holdfast.plant.embedding_flow import Embedding
from holdfast.plant.embedding_flow import step as embedding_step
from holdfast.plant.flow import Flow
from holdfast.plant.linear_flow import affine
from holdfast.plant.linear_flow import step as linear_step
from holdfast.plant.taylor_flow import step as taylor_step
from holdfast.plant.zonotope_flow import step as zonotope_step
from holdfast.reachability.simulate import horizon_of
from holdfast.report.table import table
from holdfast.sets.taylor_model import TaylorModel, reduced, restricted
from holdfast.spec.temporal import Instance

Array = np.ndarray
Step = Callable[[TaylorModel, TaylorModel | None, Fraction], Flow]
TIMES = 100
POINTS = 20
FINEST = 256  # parts of a step of the reference, at the most
WORTH = 0.02  # of the width of the set: what a step may lose


@dataclass(frozen=True)
class Found:
    """``apart``: how often sets did not intersect; ``widths`` at the end over those of the reference; ``reached``, steps, seconds."""

    asked: int
    apart: int
    width: float
    reached: float
    steps: int
    seconds: float


def reference(instance: Instance, periods: int) -> tuple[System, list[Segment]]:
    """The tube by Taylor series, as far as it goes."""
    assert instance.initial is not None
    system = System(instance.loop, instance.initial)
    system.linear = None
    horizon = Fraction(horizon_of(instance))
    front = system.start([instance.initial], horizon)
    segments: list[Segment] = []
    for _ in range(periods):
        if front.time >= horizon:
            break
        front, more = system.advance(front, horizon)
        if not len(front.origin) or any(len(s.origin) != 1 for s in more):
            break
        segments += more
    return system, segments


def others(instance: Instance, system: System) -> dict[str, Step]:
    """The other integrators that the plant has."""
    plant, problem, w = instance.loop.plant, system.dynamics, system.disturbance
    n, signals, d = len(plant.signals.states), plant.signals, plant.disturbances
    embedding = Embedding.of(plant.dynamics, n)
    found: dict[str, Step] = {
        "zonotope": lambda x, p, h: zonotope_step(problem, x, p, h, w),
        "embedding": lambda x, p, h: embedding_step(embedding, x, p, h, disturbance=w),
    }
    first = len(signals) - len(signals.disturbances) - len(signals.schedule)
    linear = affine(problem, n, first, d.lower, d.upper, d.lower if w is None else w.nominal)
    if linear is not None:
        found["linear"] = lambda x, p, h: linear_step(linear, x, p, h)
    return found


def alone(model: TaylorModel | None) -> TaylorModel | None:
    """Without symbols, which mean something else in another tube."""
    if model is None:
        return None
    K = len(model.basis)
    error = (model.error + abs(model.terms[K:]).sum(0)) * (1 + 1e-12)
    return TaylorModel(model.basis, model.terms[:K], error)


def carried(step: Step, system: System, segments: list[Segment]) -> Iterator[tuple[Fraction, Flow]]:
    """Steps with the times at which they begin, halved where they lose too much."""
    states = segments[0].states
    for segment in segments:
        now, length, rest = segment.start, segment.end - segment.start, alone(segment.rest)
        shortest = length / FINEST
        while now < segment.end:
            length = min(length, segment.end - now)
            found = step(states, rest, length)
            spread = states.spread()
            small = (found.lost <= WORTH * (spread.max(1, keepdims=True) * 1e-2 + spread + 1e-6)).all()
            if not (found.sound.all() and small) and length / 2 >= shortest:
                length /= 2
                continue
            if not found.sound.all():
                return
            yield now, found
            now, states = now + length, found.at_end()
            length *= 2
        states = reduced(states, system.symbols)


def compared(segments: list[Segment], steps: list[tuple[Fraction, Flow]], rng: np.random.Generator) -> tuple[int, int]:
    """How many questions, and how often the sets do not intersect."""
    end = steps[-1][0] + steps[-1][1].length
    marks = [end * Fraction(k, TIMES) for k in range(TIMES + 1)]
    asked = apart = 0
    for a, b in pairwise(marks):
        for first, last in ((b, b), (a, b)):
            ours = [s.between(max(first, s.start), min(last, s.end)) for s in segments if _within(s.start, s.end, first, last)]  # fmt: skip
            theirs = [f.between(max(first - t, Fraction(0)), min(last - t, f.length)) for t, f in steps if _within(t, t + f.length, first, last)]  # fmt: skip
            asked += 1
            apart += int(not _meet(_hull(ours), _hull(theirs)).all())
            if first == last:
                points = np.round(rng.uniform(-1.4, 1.4, (POINTS, ours[0].basis.variables)), 3).clip(-1, 1)
                asked += POINTS
                apart += POINTS - int(_meet(_hull(ours, points), _hull(theirs, points)).sum())
    return asked, apart


def _within(start: Fraction, end: Fraction, first: Fraction, last: Fraction) -> bool:
    return start < last <= end if first == last else start < last and end > first


def _hull(models: list[TaylorModel], points: Array | None = None) -> tuple[Array, Array]:
    """Boxes around all of them; ``points``: of what began at each of these values of the variables."""
    if points is not None:
        models = [restricted(m[np.zeros(len(points), int)], points, points) for m in models]
    ranges = [m.range() for m in models]
    return np.min([a for a, _ in ranges], axis=0), np.max([b for _, b in ranges], axis=0)


def _meet(a: tuple[Array, Array], b: tuple[Array, Array]) -> Array:
    return (np.maximum(a[0], b[0]) <= np.minimum(a[1], b[1])).all(1)


def measured(name: str, instance: Instance, periods: int) -> Iterator[tuple[str, Found]]:
    """The reference, then each of the others."""
    rng = np.random.default_rng(0)
    system, segments = reference(instance, periods)
    if not segments:
        return
    begin = time.process_time()
    for s in segments:
        taylor_step(system.dynamics, s.states, s.rest, s.end - s.start, ORDER, system.disturbance).at_end()
    yield "taylor", Found(0, 0, 1.0, float(segments[-1].end), len(segments), time.process_time() - begin)
    for word, step in others(instance, system).items():
        begin = time.process_time()
        steps = list(carried(step, system, segments))
        seconds = time.process_time() - begin
        if not steps:
            yield word, Found(0, 0, np.nan, 0.0, 0, seconds)
            continue
        end = steps[-1][0] + steps[-1][1].length
        (reached,) = [s for s in segments if s.start < end <= s.end]
        (low, high), (below, above) = reached.between(end, end).range(), steps[-1][1].at_end().range()
        wide = (above - below) / np.maximum(high - low, 1e-9)
        asked, apart = compared(segments, steps, rng)
        yield word, Found(asked, apart, float(wide.max()), float(end), len(steps), seconds)


def main() -> int:
    """Prints a row for each tube; exit status 1 where two do not intersect."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--periods", type=int, default=5)
    parser.add_argument("--filter", default="")
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    apart, seen = 0, set()
    for name, instance in instances(options.folder):
        plant = instance.loop.plant
        if plant.kind != "ode" or name in seen or not re.search(options.filter, name):
            continue
        seen.add(name)  # the other instances have the same plant
        try:
            with np.errstate(all="ignore"):
                for word, f in measured(name, instance, options.periods):
                    apart += f.apart
                    rows.append((name, word, f"{f.reached:.3g}", str(f.steps), f"{1000 * f.seconds:.0f}", f"{f.width:.3g}", str(f.asked), str(f.apart)))  # fmt: skip
                    sys.stderr.write(" ".join(rows[-1]) + "\n")
        except HoldfastError as error:
            sys.stderr.write(f"{name}: {error}\n")
    heads = ("problem", "integrator", "until s", "steps", "ms", "width", "questions", "apart")
    sys.stdout.write(table(heads, rows) + f"\n{apart} times apart\n")
    return int(apart > 0)


if __name__ == "__main__":
    sys.exit(main())
