"""The integrators by name, called alike, and what is checked of every step that one of them makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from flows import problem_of
from taylor_points import ball, holds, random_point, value

from holdfast.plant.deviation import Disturbance
from holdfast.plant.embedding_flow import Embedding
from holdfast.plant.embedding_flow import step as embedding_step
from holdfast.plant.flow import Flow
from holdfast.plant.linear_flow import affine
from holdfast.plant.linear_flow import step as linear_step
from holdfast.plant.taylor_flow import step as taylor_step
from holdfast.plant.zonotope_flow import step as zonotope_step
from holdfast.sets.taylor_model import TaylorModel
from holdfast.spec.plant import LoopData

Step = Callable[[TaylorModel, TaylorModel | None, Fraction], Flow]


def steps(data: LoopData, disturbed: bool = False) -> dict[str, Step]:
    """States, other signals (disturbances at their nominal values), length -> step, by the names of the files; linear plants only:
    linear."""
    plant = data.plant
    n, problem = len(plant.signals.states), problem_of(data)
    w = Disturbance.of(plant, plant.dynamics) if disturbed else None
    embedding = Embedding.of(plant.dynamics, n)
    found: dict[str, Step] = {
        "taylor": lambda x, p, h: taylor_step(problem, x, p, h, 6, w),
        "zonotope": lambda x, p, h: zonotope_step(problem, x, p, h, w),
        "embedding": lambda x, p, h: embedding_step(embedding, x, p, h, disturbance=w),
    }
    d = plant.disturbances
    first = len(plant.signals) - len(plant.signals.disturbances) - len(plant.signals.schedule)
    linear = affine(problem, n, first, d.lower, d.upper, d.lower if w is None else w.nominal)
    if linear is not None:
        found["linear"] = lambda x, p, h: linear_step(linear, x, p, h)
    return found


def held(
    found: Flow,
    states: TaylorModel,
    rest: TaylorModel | None,
    exact: Callable[[Sequence[Fraction], Fraction], Sequence],
    rng: np.random.Generator,
    starts: int = 12,
    times: int = 5,
) -> None:
    """Solutions ``exact`` (start and other signals, time -> state) from points of ``states`` are inside, at times and over spans."""
    assert found.sound.all()
    h, n = found.length, states.shape[0]
    marks = sorted([Fraction(0), h, h / 10**30, *(h * Fraction(float(v)) for v in rng.random(times))])
    at, between = [found.at(t) for t in marks], [found.between(a, b) for a, b in pairwise(marks)]
    whole = found.between(Fraction(0), h)
    for _ in range(starts):
        b = int(rng.integers(len(states.error)))
        xi, eps = random_point(rng, states.basis.variables), random_point(rng, states.symbols)
        start = [value(states, (b, i), xi, eps, Fraction(int(rng.choice([-1, 1])))) for i in range(n)]
        more = [] if rest is None else [value(rest, (b, i), xi, eps, Fraction(1)) for i in range(rest.shape[0])]
        for k, t in enumerate(marks):
            for i, x in enumerate(exact([*start, *more], t)):
                models = [at[k], whole, *([between[k - 1]] if k else []), *(between[k : k + 1])]
                for model in models:
                    known(model)
                    assert holds(model, (b, i), xi, eps, x), (b, float(t), i)
                low, high = found.states[0][b, i], found.states[1][b, i]
                assert np.isfinite(low) and np.isfinite(high)
                assert not (x < ball(float(low)) or x > ball(float(high)))


def known(model: TaylorModel) -> None:
    """Sets of sound steps are finite."""
    assert np.isfinite(model.terms).all() and np.isfinite(model.error).all()


def met(a: Flow, b: Flow, pieces: int = 20) -> None:
    """Two tubes from the same sets intersect at all times, and over all spans."""
    assert a.sound.all() and b.sound.all()
    marks = [a.length * Fraction(k, pieces) for k in range(pieces + 1)]
    for s, t in pairwise(marks):
        for x, y in ((a.at(t), b.at(t)), (a.between(s, t), b.between(s, t)), (a.at(t), b.between(s, t))):
            (low, high), (below, above) = x.range(), y.range()
            assert (np.maximum(low, below) <= np.minimum(high, above)).all()
