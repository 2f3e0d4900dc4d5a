"""Pictures: what they show lies where it should, and every kind of loop can be drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loop_texts import BOX, CHAIN, DISC, HALVED, LATER, MOVED, SPIRAL, problem

from holdfast.api import verify_problem
from holdfast.errors import InputError
from holdfast.loop import close
from holdfast.report.motion import simulate
from holdfast.report.nested import nested
from holdfast.report.picture_file import require_picture
from holdfast.report.plot import draw
from holdfast.report.scene import Scene, scenes
from holdfast.report.shape import boundary_points, excess, inward_flow, outline, volume
from holdfast.spec.temporal import Polytope, Problem


def drawn(folder: Path, text: str, name: str = "p.png") -> list[Scene]:
    loaded = problem(folder, text)
    results = verify_problem(loaded, timeout=60, workers=1)
    found = scenes([(one, results[one.id]) for one in loaded.instances], loaded.title)
    draw(found, folder / name, loaded.title)
    assert (folder / name).stat().st_size > 5000
    json.dumps([scene.to_json() for scene in found], allow_nan=False)
    return found


def level(loaded: Problem, k: int) -> tuple:
    states = loaded.instances[k].properties[0].states
    return excess(states, close(loaded.instances[k].loop))


@pytest.mark.parametrize("name", ["p.png", "p.svg", "p.pdf"])
def test_a_phase_portrait(tmp_path: Path, name: str) -> None:
    (scene,) = drawn(tmp_path, SPIRAL + DISC, name)
    (panel,) = scene.panels
    assert scene.verdict == "verified" and panel.field is not None and panel.names == ("x", "y")
    (disc,) = (o for o in panel.outlines if o.role == "set")
    assert disc.label == "certified set" and disc.polygon is not None
    assert np.allclose(np.linalg.norm(disc.polygon, axis=1), 1)
    assert scene.conditions and all(row[1] for row in scene.conditions)


def test_an_escape_is_drawn_from_its_start(tmp_path: Path) -> None:
    (scene,) = drawn(tmp_path, SPIRAL + BOX)
    curves = {curve.role: curve.points for curve in scene.panels[0].curves}
    assert (np.abs(curves["escape"][0]) <= [0.5, 1]).all()
    assert (np.abs(curves["escape"][-1]) > [0.5, 1]).any()
    assert len(scene.faces) == 4 and min(margin for _, margin in scene.faces) < 0


def test_maps_and_three_states(tmp_path: Path) -> None:
    (kept,) = drawn(tmp_path, HALVED)
    assert len(kept.panels) == 3 and all(panel.jumps for panel in kept.panels)
    (left,) = drawn(tmp_path, MOVED)
    assert left.verdict == "falsified"
    found = drawn(tmp_path, CHAIN)
    assert [len(scene.panels) for scene in found] == [1, 1]  # several instances: one panel each


def test_sections_and_projections(tmp_path: Path) -> None:
    (scene,) = drawn(tmp_path, CHAIN[: CHAIN.rindex("[[instance]]\nid")])
    roles = {o.role: o for o in scene.panels[0].outlines}
    assert {"set", "target", "projection"} <= set(roles)
    shadow = roles["projection"].polygon
    assert shadow is not None
    sizes = np.linalg.norm(shadow, axis=1)
    assert sizes.max() <= 1 + 1e-5 and sizes.mean() > 0.8
    height = roles["set"].height
    assert height is not None and (height <= 0).any() and (height > 0).any()


def test_outlines_of_polytopes_with_more_rows_than_states(tmp_path: Path) -> None:
    loaded = problem(tmp_path, CHAIN)
    states, loop = loaded.instances[1].properties[0].states, close(loaded.instances[1].loop)
    edge = outline(states, loop, 0, 1)
    corners = {(-1, -0.5), (-0.5, -1), (1, -1), (1, 0.5), (0.5, 1), (-1, 1)}
    assert edge is not None and {tuple(p) for p in np.round(edge, 6).tolist()} >= corners
    assert isinstance(states, Polytope)
    margins = dict(inward_flow(states, loop))
    assert margins["row 1 <= 1"] == pytest.approx(1.0, abs=1e-6)  # a' = -a
    size = volume(states, loop)
    assert size is not None and abs(size.value - 7.5) < 6 * size.off


def test_boundaries_and_volumes(tmp_path: Path) -> None:
    loaded = problem(tmp_path, CHAIN)
    over, low, high = level(loaded, 0)
    points = boundary_points(over, np.zeros(3), low, high)
    assert np.allclose(np.linalg.norm(points, axis=1), 1, atol=1e-5)
    assert not len(boundary_points(over, np.full(3, 2.0), low, high))  # from outside there is nothing to follow
    size = volume(loaded.instances[0].properties[0].states, close(loaded.instances[0].loop))
    assert size is not None and abs(size.value - 4 / 3 * np.pi) < 6 * size.off and "sampled" in str(size)


def test_nested_sets_are_inside_one_another_and_drawn(tmp_path: Path) -> None:
    loaded = problem(tmp_path, SPIRAL + BOX.replace("[-0.5, 0.5]", "[-1, 1]").replace("2*x - y", "x"))
    assert nested(loaded.instances[0], 10.0) is None  # its corners turn out: nothing to begin with
    loaded = problem(tmp_path, HALVED)
    family = nested(loaded.instances[0], 10.0)
    assert family is not None and family["volumes"] == sorted(family["volumes"], reverse=True)
    assert family["upper"][family["given"]] == [1.0, 1.0, 1.0]
    result = verify_problem(loaded, workers=1)[""]
    shown = replace(result, statistics={**result.statistics, "family": family})
    (scene,) = scenes([(loaded.instances[0], shown)], "")
    assert {"set", "family", "target"} <= {o.role for o in scene.panels[0].outlines}
    draw([scene], tmp_path / "p.png")


def test_simulation_follows_the_flow(tmp_path: Path) -> None:
    loop = close(problem(tmp_path, CHAIN).instances[0].loop)
    end = simulate(loop, np.array([[1.0, 0.5, 0.0]]), 1.0)[-1, 0]
    assert np.allclose(end[:2], np.exp(-1.0) * np.array([1.0, 0.5]), atol=1e-6)


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    loaded = problem(tmp_path, SPIRAL + DISC + LATER)
    assert [scene.title for scene in scenes([(one, None) for one in loaded.instances], "")][:1] == ["disc"]
    with pytest.raises(InputError, match=r"accepted are \.png"):
        require_picture(tmp_path / "p.gif")
    with pytest.raises(InputError, match="does not exist"):
        require_picture(tmp_path / "absent" / "p.png")
    with pytest.raises(InputError, match="nothing to draw"):
        draw([], tmp_path / "p.png")
