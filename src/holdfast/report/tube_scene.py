"""What a picture of a flow tube shows, as plain numbers: planes of two states, states over time, what the properties ask of them.

Between a tube and `holdfast.report.tube_plot`. Enclosures come from the tube; regions of properties and simulated trajectories are
evaluated in plain arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from holdfast.errors import InputError
from holdfast.reachability.projection import outlines
from holdfast.reachability.simulate import Trajectories
from holdfast.reachability.tube import Tube, bounds
from holdfast.report.paths import violating
from holdfast.report.regions import Region, Regions
from holdfast.report.tube import projection, status
from holdfast.spec.temporal import Instance
from holdfast.verdict import Result, Violation

Array = np.ndarray
PLANES = 2
TIMES = 4
GRID = 201
PATHS = 30  # trajectories drawn
PIECES = 300


@dataclass(frozen=True, eq=False)
class Area:
    """Where a region of a property is: ``height`` (Y, X) <= 0 over a grid; of a state over time X is 1 and ``window`` says when."""

    role: Literal["goal", "unsafe", "outside"]
    label: str
    xs: Array
    ys: Array
    height: Array
    window: tuple[float, float]
    always: bool = False  # the window is the whole horizon


@dataclass(frozen=True, eq=False)
class Plane:
    """Two states: ``polygons`` in time order with their ``times``; ``initial``, ``final`` polygons; ``paths`` (T, P, 2); ``violation`` (T, 2)."""

    names: tuple[str, str]
    view: tuple[Array, Array]
    polygons: tuple[Array, ...]
    times: Array
    initial: tuple[Array, ...]
    final: tuple[Array, ...]
    areas: tuple[Area, ...]
    paths: Array | None
    violation: Array | None = None


@dataclass(frozen=True, eq=False)
class Course:
    """One state over time: bands ``start``, ``end``, ``low``, ``high`` (P,); ``paths`` (T, P) at ``moments`` (T,); ``violation`` (T, 2): time, state."""

    name: str
    unit: str
    start: Array
    end: Array
    low: Array
    high: Array
    areas: tuple[Area, ...]
    moments: Array | None
    paths: Array | None
    violation: Array | None = None


@dataclass(frozen=True, eq=False)
class TubeScene:
    """The panels of one instance."""

    title: str
    status: str
    jumps: bool  # a map
    planes: tuple[Plane, ...]
    courses: tuple[Course, ...]


def tube_scene(
    instance: Instance, tube: Tube, paths: Trajectories | None, project: str | None = None, result: Result | None = None
) -> TubeScene:
    """The scene of one tube. ``project``: "x,y", the plane to show; else planes of states that properties speak of.

    ``result``: of the instance's claims; its verdict is the title's, and the trajectory that violates them is drawn.
    """
    regions = Regions(instance)
    n = len(tube.states)
    speaks = [i for i in range(n) if any(i in region.reads for region in regions.regions)]
    order = [*speaks, *(i for i in range(n) if i not in speaks)]
    if project is not None:
        i, j = (tube.state(name) for name in projection(project, tube.states))
        pairs, shown = [(i, j)], [i, j]
    else:
        pairs = [(min(p), max(p)) for k in range(0, n - 1, 2) if (p := order[k : k + 2])][:PLANES]
        shown = sorted(order[:TIMES])
    kept = _kept(paths, tube)
    planes = tuple(_plane(tube, regions, i, j, kept) for i, j in pairs)
    courses = tuple(_course(tube, regions, i, kept) for i in shown)
    if result is None:
        return TubeScene(instance.id, status(tube), tube.kind == "map", planes, courses)
    if isinstance(result.counterexample, Violation):
        bad = violating(instance.loop, result.counterexample, max(tube.end, Fraction(result.counterexample.time)))
        times, x = np.array([float(t) for t in bad.times]), bad.states[:, 0]
        places = [[tube.states.index(name) for name in plane.names] for plane in planes]
        planes = tuple(replace(p, violation=x[:, k]) for p, k in zip(planes, places, strict=True))
        courses = tuple(
            replace(c, violation=np.stack([times, x[:, tube.states.index(c.name)]], axis=1)) for c in courses
        )
    return TubeScene(instance.id, result.verdict.value, tube.kind == "map", planes, courses)


def _kept(paths: Trajectories | None, tube: Tube) -> Trajectories | None:
    """Some of the trajectories, as far as they are finite, spread over all of them."""
    if paths is None:
        return None
    finite = np.flatnonzero(np.isfinite(paths.states).all((0, 2)))
    chosen = finite[np.unique(np.linspace(0, len(finite) - 1, PATHS).astype(int))] if len(finite) else finite
    return paths[chosen] if len(chosen) else None


def _plane(tube: Tube, regions: Regions, i: int, j: int, paths: Trajectories | None) -> Plane:
    polygons: list[Array] = []
    times: list[float] = []
    for piece in tube.pieces(PIECES, upto=tube.end):
        for line in outlines(piece.states, i, j):
            polygons.append(line)
            times.append(float(piece.start + piece.end) / 2)
    if not polygons:
        raise InputError("--plot: nothing is known of the tube: nothing to draw")
    points = np.concatenate(polygons)
    low, high = points.min(0), points.max(0)
    initial = tuple(_corners(b.lower[[i, j]], b.upper[[i, j]]) for b in tube.initial)
    low, high = np.minimum(low, np.min(initial, axis=(0, 1))), np.maximum(high, np.max(initial, axis=(0, 1)))
    final = tuple(line for states in tube.fronts(tube.end) for line in outlines(states, i, j))
    middle = np.mean([0.5 * (b.lower + b.upper) for b in tube.initial], axis=0)
    here = regions.within({i, j})
    view = _view(here, middle, i, j, low, high)
    areas = tuple(_area(region, middle, i, j, view, tube) for region in here)
    return Plane(
        (tube.states[i], tube.states[j]), view, tuple(polygons), np.array(times), initial, final, areas,
        None if paths is None else paths.states[:, :, [i, j]],
    )  # fmt: skip


def _corners(low: Array, high: Array) -> Array:
    return np.array([low, [high[0], low[1]], high, [low[0], high[1]]])


def _view(regions: list[Region], middle: Array, i: int, j: int, low: Array, high: Array) -> tuple[Array, Array]:
    """The tube with a margin, and what properties ask of it where that is near."""
    span = np.maximum(high - low, 1e-9 + 1e-6 * abs(high))
    wide = low - 0.7 * span, high + 0.7 * span
    for region in regions:
        xs, ys = (np.linspace(wide[0][k], wide[1][k], 121) for k in (0, 1))
        inside = region.height(_points(middle, i, j, xs, ys)).reshape(len(ys), len(xs)) <= 0
        if not inside.any() or inside[[0, -1]].any() or inside[:, [0, -1]].any():
            continue  # nowhere near, or it goes on beyond: the tube says what is shown
        rows, columns = np.nonzero(inside)
        low = np.minimum(low, [xs[columns.min()], ys[rows.min()]])
        high = np.maximum(high, [xs[columns.max()], ys[rows.max()]])
    margin = 0.08 * np.maximum(high - low, 1e-9 + 1e-6 * abs(high))
    return low - margin, high + margin


def _points(middle: Array, i: int, j: int, xs: Array, ys: Array) -> Array:
    x = np.repeat(middle[None], len(xs) * len(ys), axis=0)
    x[:, i], x[:, j] = (grid.ravel() for grid in np.meshgrid(xs, ys))
    return x


def _area(region: Region, middle: Array, i: int, j: int, view: tuple[Array, Array], tube: Tube) -> Area:
    xs, ys = (np.linspace(view[0][k], view[1][k], GRID) for k in (0, 1))
    height = region.height(_points(middle, i, j, xs, ys)).reshape(len(ys), len(xs))
    always = region.window == (0.0, float(tube.horizon))
    return Area(region.role, region.label, xs, ys, height, region.window, always)


def _course(tube: Tube, regions: Regions, i: int, paths: Trajectories | None) -> Course:
    rows: list[tuple[Array, ...]] = []
    for piece in tube.pieces(PIECES, upto=tube.end):
        low, high = bounds(piece.states)
        size = len(low)
        rows.append((np.full(size, float(piece.start)), np.full(size, float(piece.end)), low[:, i], high[:, i]))
    start, end, low, high = (np.concatenate([row[k] for row in rows]) for k in range(4))
    bottom, top = float(low.min()), float(high.max())
    span = max(top - bottom, 1e-9 + 1e-6 * abs(top))
    ys = np.linspace(bottom - 0.5 * span, top + 0.5 * span, 401)
    middle = np.mean([0.5 * (b.lower + b.upper) for b in tube.initial], axis=0)
    x = np.repeat(middle[None], len(ys), axis=0)
    x[:, i] = ys
    areas = tuple(Area(r.role, r.label, np.zeros(1), ys, r.height(x)[:, None], r.window) for r in regions.within({i}))
    unit = "step" if tube.kind == "map" else "s"
    moments = None if paths is None else np.array([float(t) for t in paths.times])
    return Course(
        tube.states[i], unit, start, end, low, high, areas, moments, None if paths is None else paths.states[:, :, i]
    )
