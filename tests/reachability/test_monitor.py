"""Verdicts on flow tubes, against exact solutions sampled densely: whatever is proved or refuted holds, or fails, on every sample."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from holdfast.load.problem import load_problem
from holdfast.loop.tube import System
from holdfast.reachability.claim import Claim, claim_of
from holdfast.reachability.judgement import judged
from holdfast.reachability.monitor import Monitor, Status
from holdfast.reachability.signals import Signal, evaluate
from holdfast.spec.region import Box
from holdfast.spec.temporal import Instance
from holdfast.transforms import evaluate as value_of

SPRING = """
format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x", "v"]
parameters = { k = [0.4, 0.5] }
schedule = { r = [[0, 2.0], [3.0, 0.5]] }
derivative = { x = "v", v = "-x" }
[initial]
x = [0.9, 1.1]
v = [-0.1, 0.1]
[horizon]
time = 6
"""
STEP = Fraction(1, 64)
GRID = [k * STEP for k in range(6 * 64 + 1)]
SPEED = 4.0  # how fast atoms of these tests change, at the most


def instance(tmp_path: Path, properties: str, plant: str = SPRING) -> Instance:
    path = tmp_path / "problem.toml"
    path.write_text(plant + properties)
    return load_problem(path).instances[0]


def parts(box: Box, count: int) -> list[Box]:
    """Equal parts along each of two states."""
    cuts = [np.linspace(box.lower[i], box.upper[i], count + 1).tolist() for i in range(2)]
    for i in range(2):
        cuts[i][0], cuts[i][-1] = Fraction(box.lower_text[i]), Fraction(box.upper_text[i])
    return [
        Box.of([cuts[0][i], cuts[1][j]], [cuts[0][i + 1], cuts[1][j + 1]]) for i in range(count) for j in range(count)
    ]


def watched(one: Instance, boxes: list[Box]) -> tuple[Claim, Status, Monitor]:
    claim = claim_of(one)
    assert one.initial is not None
    system = System(one.loop, one.initial)
    front = system.start(boxes, claim.end)
    monitor = Monitor.of(claim, system, len(boxes))
    before: Status | None = None
    while front.time < claim.end and len(front.origin):
        front, segments = system.advance(front, claim.end)
        monitor = monitor.observe(segments)
        status = monitor.status()
        if before is not None:  # what is decided stays so
            assert (status.proved >= before.proved).all() and (status.refuted >= before.refuted).all()
            assert not (status.proved & before.failed).any()
        before = status
    monitor = monitor.finish(front, system)
    status = monitor.status()
    assert not status.open.any()
    return claim, status, monitor


def sampled(claim: Claim, start: np.ndarray, k: float) -> tuple[bool, bool]:
    """What dense samples of one exact solution say: known to hold, possible. Between samples only where they are clear."""
    t = np.array([float(s) for s in GRID])
    x, v = start[0] * np.cos(t) + start[1] * np.sin(t), start[1] * np.cos(t) - start[0] * np.sin(t)
    r = np.where(t < 3, 2.0, 0.5)
    graph = claim.values.graph
    g = value_of(graph, claim.values.parameters, [np.stack([x, v, np.full_like(x, k), r], 1)])[graph.outputs[0]]
    slack = 1e-9 + SPEED * float(STEP)  # plain arithmetic, and what happens between samples
    low = np.empty((2 * len(t), g.shape[1]))
    high = low.copy()
    low[::2], high[::2] = g - 1e-9, g + 1e-9
    low[1:-1:2], high[1:-1:2] = np.minimum(g[:-1], g[1:]) - slack, np.maximum(g[:-1], g[1:]) + slack
    jump = 2 * GRID.index(Fraction(3)) - 1
    low[jump], high[jump], low[-1], high[-1] = -np.inf, np.inf, -np.inf, np.inf
    known, possible = high < 0, low <= 0
    signals = []
    for p in claim.predicates:
        found = judged(p.formula, known, possible)
        signals.append(Signal(tuple(GRID), np.stack(found, 1)[..., None], False))
    now = evaluate(claim.formula, signals, (Fraction(0), Fraction(0))).values[0, :, 0]
    return bool(now[0]), bool(now[1])


PROVED, REFUTED, MIXED = "proved", "refuted", "mixed"
CLAIMS = {
    "G[0,6](sqrt(x^2 + v^2) <= 1.11)": PROVED,
    "G[0,6](sqrt(x^2 + v^2) >= 0.89)": PROVED,
    "G[0,6](x <= 1.2 & v >= -1.2)": PROVED,
    "G[0,6](x <= 1.0)": MIXED,
    "G[0,6](v <= 0.8)": REFUTED,
    "F[0,6](x <= -0.85)": PROVED,
    "F[0,6](x <= -1.0)": MIXED,
    "F[0,6](x <= -1.2)": REFUTED,
    "F[3,3.5](x <= -0.85)": PROVED,
    "F[1,2](v <= -0.85 & abs(x) <= 0.3)": PROVED,
    "G[1,2] F[0,2.5](x <= -0.8)": PROVED,
    "F[0,1] G[2,3](x <= -0.5)": PROVED,
    "F[0,1] G[2,3](x <= -0.9)": MIXED,
    "(x >= 0.3) U[0,2] (v <= -0.7)": PROVED,
    "(x >= 0.6) U[0,2] (v <= -1)": REFUTED,
    "(v <= 0.2) U[3,6] (x >= -0.2 & v >= 0.5)": REFUTED,
    "(v <= 0.4) U[3,6] (v >= 0.1)": PROVED,
    "(v <= 0.2) U[3.5,6] (v >= 0.2)": REFUTED,
    "!((v <= 0.2) U[0,3] (x >= 1.2))": PROVED,
    "!F[0,6](x >= 1.2 | v <= -1.2)": PROVED,
    "G[0,6](!(x >= 0.2 & v >= 0.2) | x + v <= 1.7)": PROVED,
    "G[2,4](x < -k | v < -k | v > k)": PROVED,
    "G[0,6](x <= 2*r)": MIXED,
    "G[0,5.5](x <= 2*r)": PROVED,
    "G[3,6](x <= 2*r) & F[0,3](x >= r)": REFUTED,
    "G[0,6](x <= r + 0.5)": MIXED,
    "G[0,6](v <= r + 0.2)": REFUTED,
    "G[5,6](x <= 1.2) | F[0,1](x >= 5)": PROVED,
    "G[0,0](x >= 0.95)": MIXED,
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("text", CLAIMS)
def test_verdicts_agree_with_all_samples(tmp_path: Path, text: str, count: int) -> None:
    one = instance(tmp_path, f"[[property]]\nid = 'p'\nkind = 'stl'\nformula = '{text}'\n")
    assert one.initial is not None
    boxes = parts(one.initial, count)
    claim, status, _ = watched(one, boxes)
    rng = np.random.default_rng(0)
    for b, box in enumerate(boxes):
        corners = np.array([[x, v] for x in (box.lower[0], box.upper[0]) for v in (box.lower[1], box.upper[1])])
        points = np.concatenate([corners, rng.uniform(box.lower, box.upper, (4, 2))])
        found = [sampled(claim, p, k) for p, k in zip(points, np.tile([0.4, 0.5, 0.45, 0.43], 2), strict=True)]
        assert not status.proved[b] or all(possible for _, possible in found)
        assert not status.refuted[b] or not any(known for known, _ in found)
        if not (status.proved[b] or status.refuted[b]):
            assert status.failed[b] and "property p" in status.reason(b)
            assert status.causes.margin[0, b] >= 0 and status.causes.influence[0, b].max() > 0
    expected = CLAIMS[text]
    assert status.proved.all() == (expected == PROVED)
    if count > 1:
        assert status.refuted.all() == (expected == REFUTED)
    if expected == MIXED:
        assert not status.proved.all() and not status.refuted.all()


def test_all_properties_together(tmp_path: Path) -> None:
    one = instance(tmp_path, """
[[property]]
id = "avoid"
kind = "always"
not_set = { box = { x = [-0.5, 0.5], v = [-0.5, 0.5] } }
[[property]]
id = "goal"
kind = "at"
time = 3.5
set = { box = { x = [-1.1, -0.7] } }
[[property]]
id = "reach-avoid"
kind = "until"
first = { where = ["v <= 0.2"] }
then = { where = ["x <= -0.8"] }
""")  # fmt: skip
    assert one.initial is not None
    _, status, monitor = watched(one, [one.initial])
    assert status.proved.all() and len(monitor.times) < 100  # what does not change is not kept


def test_the_first_failure_is_told(tmp_path: Path) -> None:
    one = instance(tmp_path, """
[[property]]
id = "goal"
kind = "at"
time = 5
set = { where = ["x >= 5"] }
[[property]]
id = "slow"
kind = "always"
set = { where = ["v >= -0.3"] }
""")  # fmt: skip
    claim = claim_of(one)
    assert one.initial is not None
    system = System(one.loop, one.initial)
    front = system.start([one.initial], claim.end)
    monitor = Monitor.of(claim, system, 1)
    while monitor.status().open.all():
        front, segments = system.advance(front, claim.end)
        monitor = monitor.observe(segments)
    assert front.time < 1
    status = monitor.status()
    assert status.failed.all() or status.refuted.all()
    assert "property slow" in status.reason(0) and "v >= -0.3" in status.reason(0)


def test_boxes_can_be_taken_on(tmp_path: Path) -> None:
    one = instance(tmp_path, "[[property]]\nid = 'p'\nkind = 'always'\nset = { box = { x = [-1.2, 1.05] } }\n")
    assert one.initial is not None
    _, status, monitor = watched(one, parts(one.initial, 4))
    chosen = np.array([15, 0, 0, 3])
    again = monitor.take(chosen).status()
    for name in ("proved", "refuted", "failed"):
        assert (getattr(again, name) == getattr(status, name)[chosen]).all()
    assert 0 < status.proved.sum() < 16


MAP = """
format = "holdfast-problem/1"
[plant]
kind = "map"
states = ["x", "y"]
schedule = { r = [[0, 1.0], [3, 0.25]] }
next = { x = "x/2 + y", y = "-y/2" }
[initial]
x = [0.5, 1.0]
y = [0.0, 0.25]
[horizon]
steps = 6
"""
STEPS = {
    "G[0,6](x <= 1.3)": PROVED,
    "G[1,6](x <= 0.8)": PROVED,
    "G[0,6](x <= r)": MIXED,
    "G[0,6](x <= 1.2*r)": PROVED,
    "F[4,6](x <= 0.06)": PROVED,
    "F[4,5](x <= 0.01)": MIXED,
    "(x >= 0.1) U[1,3] (x <= 0.5)": PROVED,
    "(x >= 0.3) U[3,3] (x <= 0.9)": MIXED,
    "G[0,2] F[0,3](y <= 0.001)": PROVED,
    "G[0,3](x >= 0.3 | r <= 0.5)": MIXED,
}


@pytest.mark.parametrize("text", STEPS)
def test_steps_of_a_map(tmp_path: Path, text: str) -> None:
    one = instance(tmp_path, f"[[property]]\nid = 'p'\nkind = 'stl'\nformula = '{text}'\n", MAP)
    assert one.initial is not None
    boxes = parts(one.initial, 3)
    claim, status, _ = watched(one, boxes)
    rng = np.random.default_rng(1)
    for b, box in enumerate(boxes):
        corners = np.array([[x, y] for x in (box.lower[0], box.upper[0]) for y in (box.lower[1], box.upper[1])])
        for point in np.concatenate([corners, rng.uniform(box.lower, box.upper, (50, 2))]):
            x, y, rows = *map(Fraction, point), []
            for step in range(7):
                rows.append([float(x), float(y), 1.0 if step < 3 else 0.25])
                x, y = x / 2 + y, -y / 2
            graph = claim.values.graph
            g = value_of(graph, claim.values.parameters, [np.array(rows)])[graph.outputs[0]]
            truth = []
            for p in claim.predicates:  # undecided within what plain arithmetic may be off
                found = np.stack(judged(p.formula, g < -1e-12, g <= 1e-12), 1)
                found = np.concatenate([found, [[False, True]]])
                truth.append(Signal(tuple(map(Fraction, range(7))), found[..., None], True))
            known, possible = evaluate(claim.formula, truth, (Fraction(0), Fraction(0))).values[0, :, 0]
            assert not status.proved[b] or possible
            assert not status.refuted[b] or not known
    assert status.proved.all() == (STEPS[text] == PROVED)


def test_nothing_known_proves_nothing(tmp_path: Path) -> None:
    """A tube that blows up: neither proved nor refuted."""
    one = instance(tmp_path, "[[property]]\nid = 'p'\nkind = 'always'\nset = { where = ['x >= -1'] }\n", """
format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x"]
derivative = { x = "x^2" }
[initial]
x = [0.5, 1]
[horizon]
time = 3
""")  # fmt: skip
    claim = claim_of(one)
    assert one.initial is not None
    system = System(one.loop, one.initial)
    monitor = Monitor.of(claim, system, 1)
    front = system.start([one.initial], claim.end)
    for _ in range(200):
        front, segments = system.advance(front, claim.end)
        monitor = monitor.observe(segments)
        if not len(front.origin) or front.time >= claim.end:
            break
    status = monitor.status()
    assert not status.proved.any() and not status.refuted.any()
