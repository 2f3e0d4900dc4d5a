"""Embedding systems bound the flow on faces at every sample, all inclusions; the one-shot test proves what is true only."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from holdfast.errors import InputError
from holdfast.invariance.embedding import INCLUSIONS, Inclusion, embedding
from holdfast.load.problem import load_problem
from holdfast.loop import ClosedLoop, close
from holdfast.transforms import evaluate

HEAD = 'format = "holdfast-problem/1"\n[plant]\n'
PLANT = (
    'kind = "{kind}"\nstates = ["x", "y"]\ndisturbances = {{ w = [-0.05, 0.05] }}\nparameters = {{ k = [0.9, 1.1] }}\n'
    '{key} = {{ x = "-k*x + 0.3*y^2 + w", y = "-2*y + x*y + 0.2*sin(x)" }}\n'
)
T = ((Fraction(1), Fraction(1, 3)), (Fraction(-1, 7), Fraction(2)))
CENTER = (Fraction(1, 10), Fraction(0))


def loop_of(folder: Path, kind: str) -> ClosedLoop:
    """Disturbed, with an interval parameter."""
    path = folder / f"{kind}.toml"
    path.write_text(HEAD + PLANT.format(kind=kind, key="derivative" if kind == "ode" else "next"))
    return close(load_problem(path).instances[0].loop)


@pytest.mark.parametrize("inclusion", INCLUSIONS)
@pytest.mark.parametrize("kind", ["ode", "map"])
def test_samples_lie_within(inclusion: Inclusion, kind: str, tmp_path: Path) -> None:
    """Corners and random points of faces (maps: of the box), zero tolerance up to the rounding of the samples themselves."""
    loop = loop_of(tmp_path, kind)
    flow = embedding(loop, T, CENTER, inclusion)
    rng = np.random.default_rng(0)
    matrix = np.array([[float(v) for v in row] for row in T])
    low = np.array([[-0.3, -0.2], [-0.05, -0.4], [0.1, 0.1]])
    high = np.array([[0.4, 0.5], [-0.05, 0.3], [0.1, 0.1]])  # the last two are partly or wholly degenerate
    below, above = flow(low, high)
    for a, b, least, most in zip(low, high, below, above, strict=True):
        for i in range(2):
            for upper in (False, True):
                y = a + (b - a) * rng.integers(0, 2, size=(200, 2)) ** rng.integers(1, 2, size=(200, 2))
                y[100:] = a + (b - a) * rng.random((100, 2))
                if kind == "ode":
                    y[:, i] = b[i] if upper else a[i]
                x = np.array([float(c) for c in CENTER]) + y @ np.linalg.inv(matrix).T
                v = np.where(rng.random((200, 2)) < 0.5, loop.others.lower, loop.others.upper)
                f = evaluate(loop.dynamics.graph, loop.dynamics.parameters, [np.concatenate([x, v], axis=1)])
                rate = f[loop.dynamics.graph.outputs[0]]
                if kind == "map":
                    rate = rate - np.array([float(c) for c in CENTER])
                speed = (rate @ matrix.T)[:, i]
                if kind == "map" or not upper:
                    assert (speed >= least[i]).all()
                if kind == "map" or upper:
                    assert (speed <= most[i]).all()


def test_backward_is_at_least_as_tight_as_intervals(tmp_path: Path) -> None:
    """On every face."""
    loop = loop_of(tmp_path, "ode")
    low, high = -0.3 * np.ones(2), 0.4 * np.ones(2)
    loose, tight = (embedding(loop, T, CENTER, kind)(low, high) for kind in ("natural", "backward"))
    assert (tight[0] >= loose[0]).all() and (tight[1] <= loose[1]).all()


def test_one_shot_and_attraction(tmp_path: Path) -> None:
    """Boxes in the states themselves: large enough for the disturbance, and neither too large nor too small."""
    loop = loop_of(tmp_path, "ode")
    unit = ((Fraction(1), Fraction(0)), (Fraction(0), Fraction(1)))
    flow = embedding(loop, unit, (Fraction(0), Fraction(0)))
    sizes = np.array([0.01, 0.5, 3.0])[:, None] * np.ones(2)
    assert flow.invariant(-sizes, sizes).tolist() == [False, True, False]
    outer, inner = 0.5 * np.ones(2), 0.4 * np.ones(2)
    assert flow.attracted(-outer, outer, -inner, inner)
    assert not flow.attracted(-outer, outer, -0.01 * inner, 0.01 * inner)


def test_mistakes_are_named(tmp_path: Path) -> None:
    """A singular matrix, an unknown inclusion."""
    loop = loop_of(tmp_path, "ode")
    with pytest.raises(InputError, match="invertible"):
        embedding(loop, (T[0], T[0]), CENTER)
    with pytest.raises(InputError, match="accepted are natural"):
        embedding(loop, T, CENTER, "best")  # type: ignore[arg-type]
