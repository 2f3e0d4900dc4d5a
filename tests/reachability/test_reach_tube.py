"""Tubes as people ask them: exact solutions inside at any time, queries that cannot be answered, boxes that are halved, why it ended."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from flint import arb

import holdfast
from holdfast.errors import InputError
from holdfast.reachability.projection import zonotope
from holdfast.reachability.reach import reach_tube
from holdfast.spec.region import Box
from holdfast.spec.temporal import Problem

HEAD = 'format = "holdfast-problem/1"\n'
# x' = A x: exp(-t) times a rotation by 2 t, exactly; w moves it by at most 0.01 / 1 in norm
SPIRAL = """
[plant]
kind = "ode"
states = ["x", "y"]
derivative = { x = "-x - 2*y", y = "2*x - y" }
domain = { x = [-2, 2], y = [-2, 2] }
[initial]
x = [0.9, 1.1]
y = [-0.1, 0.1]
[horizon]
time = 2
"""
ESCAPES = """
[plant]
kind = "ode"
states = ["x"]
derivative = { x = "x^2" }
[initial]
x = [1, 1.1]
[horizon]
time = 2
"""
HALVED = """
[plant]
kind = "map"
states = ["x", "y"]
next = { x = "0.5*x + y", y = "0.5*y" }
[initial]
x = [-1, 1]
y = [0, 1]
[horizon]
steps = 4
"""
# nothing moves but by the disturbance, and at first very little
RESTING = """
[plant]
kind = "ode"
states = ["a", "b", "c"]
disturbances = { w = [-0.1, 0.1] }
derivative = { a = "b", b = "c", c = "w" }
[initial]
a = 0
b = 0
c = 0
[horizon]
time = 1
"""


def problem(folder: Path, text: str) -> Problem:
    file = folder / "problem.toml"
    file.write_text(HEAD + text)
    return holdfast.load_problem(file)


def solution(start: np.ndarray, t: Fraction) -> list[list[arb]]:
    """Enclosures of exp(-t) (rotation by 2 t) start, per start."""
    at = arb(t.numerator) / t.denominator
    shrink, c, s = (-at).exp(), (2 * at).cos(), (2 * at).sin()
    return [[shrink * (c * x - s * y), shrink * (s * x + c * y)] for x, y in start.tolist()]


def inside(points: list[list[arb]], low: np.ndarray, high: np.ndarray) -> bool:
    """Whether all points certainly lie in the box."""
    return all(arb(a) <= v <= arb(b) for p in points for v, a, b in zip(p, low.tolist(), high.tolist(), strict=True))


def starts(low: np.ndarray, high: np.ndarray, count: int = 20) -> np.ndarray:
    rng = np.random.default_rng(1)
    corners = np.array([[low[0], low[1]], [low[0], high[1]], [high[0], low[1]], high])
    return np.concatenate([corners, rng.uniform(low, high, (count, 2))])


def test_exact_solutions_are_inside_at_any_time(tmp_path: Path) -> None:
    tube = holdfast.reach(problem(tmp_path, SPIRAL))
    assert tube.complete and tube.end == tube.horizon == 2 and tube.kind == "ode"
    x = starts(np.array([0.9, -0.1]), np.array([1.1, 0.1]))
    for t in np.random.default_rng(2).uniform(0, 2, 60).tolist():
        boxes = tube.at(t)
        assert inside(solution(x, Fraction(t)), boxes.lower[0], boxes.upper[0])
        around = tube.between(max(0.0, t - 0.1), min(2.0, t + 0.03))
        assert inside(solution(x, Fraction(t)), around.lower[0], around.upper[0])
    wide = 0.2 * np.exp(-2) * (abs(np.cos(4)) + abs(np.sin(4)))
    assert (tube.at(2).width <= 1.01 * wide).all()
    assert tube.initial[0].contains(["0.9", "0.1"]) and (tube.at("0").upper == tube.initial[0].upper).all()


def test_arrays_and_files_hold_what_the_tube_holds(tmp_path: Path) -> None:
    tube = holdfast.reach(problem(tmp_path, SPIRAL))
    tube.save(tmp_path / "t.npz", count=50)
    read = np.load(tmp_path / "t.npz")
    assert read["states"].tolist() == ["x", "y"] and read["start"][0] == 0 and read["end"].max() == 2
    x = starts(np.array([0.9, -0.1]), np.array([1.1, 0.1]), 5)
    for start, end, low, high in zip(read["start"], read["end"], read["lower"], read["upper"], strict=True):
        middle = (Fraction(float(start)) + Fraction(float(end))) / 2  # times in the file are rounded
        assert inside(solution(x, middle), low, high)
    with pytest.raises(InputError, match=r"accepted is \.npz"):
        tube.save(tmp_path / "t.csv")
    assert len(tube.polygons("x", "y")) >= 100
    assert tube.times[0] == 0 and tube.times[-1] == 2 and len(tube.times) > 3


def test_outlines_enclose_what_they_outline() -> None:
    generators = np.array([[1.0, 0.5], [-0.3, 0.2], [0.0, 0.4], [0.0, 0.0]])
    edge = zonotope(np.array([1.0, -1.0]), generators)
    e = np.random.default_rng(0).choice([-1.0, 1.0], (200, 4))
    points = np.array([1.0, -1.0]) + e @ generators
    for a, b in zip(edge, np.roll(edge, -1, axis=0), strict=True):
        way = b - a
        assert (way[0] * (points - a)[:, 1] - way[1] * (points - a)[:, 0] >= -1e-12).all()
    assert len(zonotope(np.zeros(2), np.zeros((3, 2)))) == 1


def test_maps_have_states_at_steps_only(tmp_path: Path) -> None:
    tube = holdfast.reach(problem(tmp_path, HALVED))
    assert tube.complete and tube.order == 0
    assert (tube.at(1).lower[0] <= [-0.5, 0.0]).all() and (tube.at(1).upper[0] >= [1.5, 0.5]).all()
    assert tube.at(4).width[1] == pytest.approx(1 / 16)
    assert (tube.between(1, 4).upper >= tube.at(2).upper).all()
    with pytest.raises(InputError, match="no states between steps"):
        tube.at("1.5")


def test_several_boxes_from_python(tmp_path: Path) -> None:
    one = problem(tmp_path, SPIRAL).instances[0]
    tube = holdfast.reach(one, [{"x": (0, 1), "y": 0}, {"x": (0, "0.5"), "y": (1, 1.5)}], "0.5")
    boxes = tube.at("0.5")
    assert boxes.lower.shape == (2, 2) and tube.horizon == Fraction(1, 2)
    low, high = boxes.hull
    assert (low <= boxes.lower).all() and (high >= boxes.upper).all()
    other = holdfast.reach(one, ([0, 0], [1, 0]), 0.5).at(0.5)
    assert other.width == pytest.approx(boxes.upper[0] - boxes.lower[0], rel=1e-6)
    assert holdfast.reach(one, Box.of([1, 0], [1, 0]), 1).at(1).width.max() < 1e-6  # a point


def test_a_tube_that_blows_up_says_when_and_why(tmp_path: Path) -> None:
    loaded = problem(tmp_path, ESCAPES)
    tube = holdfast.reach(loaded, timeout=10)  # x -> infinity at 1 / 1.1
    assert not tube.complete and tube.stopped is not None
    assert 0.5 < float(tube.end) < 1 / 1.1 and tube.stopped.state == "x"
    assert tube.stopped.time == tube.end and tube.stopped.why in ("blow-up", "time") and tube.stopped.width > 0
    at = float(tube.end)
    assert tube.at(tube.end).lower.min() <= 1 / (1 - at) and tube.at(tube.end).upper.max() >= 1.1 / (1 - 1.1 * at)
    with pytest.raises(InputError, match="nothing is known at 2; accepted are times from 0 to 0"):
        tube.at(2)
    late = holdfast.reach(loaded, timeout=1e-9)
    assert late.stopped is not None and late.stopped.why == "time" and late.end < 2


def test_memory_is_a_reason_to_stop(tmp_path: Path) -> None:
    one = problem(tmp_path, SPIRAL).instances[0]
    assert one.initial is not None
    tube = reach_tube(one.loop, [one.initial], Fraction(2), memory_mib=0)
    assert tube.stopped is not None and tube.stopped.why == "memory"


def test_disturbances_at_work_are_no_blow_up(tmp_path: Path) -> None:
    tube = holdfast.reach(problem(tmp_path, RESTING))
    assert tube.complete
    reach = np.array([0.1 / 6, 0.1 / 2, 0.1])  # a, b, c under the constant disturbances
    found = tube.at(1).upper[0]
    exact = (Fraction(1, 60), Fraction(1, 20), Fraction(1, 10))
    assert all(Fraction(v) >= e for v, e in zip(found.tolist(), exact, strict=True))
    assert (found <= 1.05 * reach).all()


@pytest.mark.parametrize(
    ("initial", "horizon", "sentence"),
    [
        (None, 0, "the horizon 0, accepted is a positive number"),
        (None, "soon", "the horizon is 'soon'"),
        ({"x": (0, 1)}, None, "accepted are x, y"),
        ({"x": (0, 1), "z": 1}, None, "accepted are x, y"),
        ({"x": (1, 0), "y": 0}, None, "the lower bound 1 exceeds"),
        ({"x": (0, 3), "y": 0}, None, r"x leaves the domain \[-2, 2\]"),
        ({"x": float("nan"), "y": 0}, None, "cannot be used"),
        (7, None, "accepted are intervals by name"),
        (([0], [1]), None, "has 1 components; accepted are 2"),
        (Box.of([0], [1]), None, "has 1 components; accepted are 2"),
    ],
)
def test_bad_starts_are_one_sentence(tmp_path: Path, initial: object, horizon: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        holdfast.reach(problem(tmp_path, SPIRAL), initial, horizon)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\[horizon\] is missing"):
        holdfast.reach(problem(tmp_path, SPIRAL.replace("[horizon]\ntime = 2\n", "")))
    with pytest.raises(InputError, match=r"\[initial\] is missing"):
        holdfast.reach(problem(tmp_path, SPIRAL[: SPIRAL.index("[initial]")] + "[horizon]\ntime = 2\n"))
    with pytest.raises(InputError, match="whole number of steps"):
        holdfast.reach(problem(tmp_path, HALVED), None, "1.5")
    tube = holdfast.reach(problem(tmp_path, SPIRAL), None, 1)
    for wrong in ("later", 1.5, -1):
        with pytest.raises(InputError, match="tube: "):
            tube.at(wrong)
    with pytest.raises(InputError, match="the earlier one first"):
        tube.between(1, 0)
    with pytest.raises(InputError, match="accepted are x, y"):
        tube.polygons("x", "z")
