"""Pictures of flow tubes: in planes of two states, coloured by time, and state by state over time.

Draws the numbers of `holdfast.report.tube_scene`. Colours: Okabe, Ito, Color universal design, 2008 (safe for the colour-blind).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.errors import InputError
from holdfast.report.plot import BLUE, DARK, GREEN, PURPLE, RED
from holdfast.report.tube_scene import Area, Course, Plane, TubeScene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIGHT, DEEP = (0.80, 0.90, 0.97), (0.03, 0.27, 0.52)  # of the tube, first to last
ROLES = {  # role -> colour, how full, hatch
    "goal": (GREEN, 0.22, None),
    "unsafe": (RED, 0.25, "////"),
    "outside": (RED, 0.10, None),
}
WORDS = {"goal": "to be reached", "unsafe": "never to be entered", "outside": "not to be in"}
MOST = 9  # tubes in one picture


def draw_tubes(scenes: Sequence[TubeScene], path: Path, title: str = "") -> None:
    """Write the picture of one tube with all its panels, or one plane (or course) each of several tubes. Raises InputError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not scenes:
        raise InputError(f"--plot {path}: there is no tube to draw")
    figure = Figure(figsize=_size(scenes), layout="constrained")
    FigureCanvasAgg(figure)
    if len(scenes) == 1:
        _alone(figure, scenes[0])
        head = " - ".join(part for part in (title, scenes[0].title, scenes[0].status) if part)
    else:
        shown = scenes[:MOST]
        columns = min(3, len(shown))
        grid = figure.subplots(-(-len(shown) // columns), columns, squeeze=False)
        for scene, ax in zip(shown, grid.ravel(), strict=False):
            _first(ax, scene)
            ax.set_title(f"{scene.title}: {scene.status}", fontsize=10)
        for ax in grid.ravel()[len(shown) :]:
            ax.set_visible(False)
        head = title
    entries: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, text in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(text, handle)
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=min(4, len(entries)), frameon=False,
        fontsize=9,
    )  # fmt: skip
    figure.suptitle(head, fontsize=12)
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise InputError(f"--plot {path}: cannot be written ({error.strerror})") from error


def _size(scenes: Sequence[TubeScene]) -> tuple[float, float]:
    if len(scenes) > 1:
        columns = min(3, len(scenes[:MOST]))
        return 4.6 * columns, 3.9 * -(-len(scenes[:MOST]) // columns) + 0.8
    planes, courses = len(scenes[0].planes), len(scenes[0].courses)
    rows = max(1, -(-courses // 2)) if planes != 1 or courses > 2 else courses
    return (5.6 * max(planes, 0) + (4.6 if planes <= 1 and courses <= 2 else 7.4), max(4.6, 2.1 * rows + 1.0))


def _alone(figure: Any, scene: TubeScene) -> None:
    planes, courses = scene.planes, scene.courses
    columns = 1 if len(courses) <= 2 else 2
    rows = -(-len(courses) // columns)
    ratios = [1.5] * len(planes) + [1.0] * columns
    grid = figure.add_gridspec(rows, len(ratios), width_ratios=ratios)
    for k, plane in enumerate(planes):
        _plane(figure.add_subplot(grid[:, k]), plane, scene.jumps)
    for k, course in enumerate(courses):
        _course(figure.add_subplot(grid[k // columns, len(planes) + k % columns]), course, scene.jumps)


def _first(ax: Axes, scene: TubeScene) -> None:
    if scene.planes:
        _plane(ax, scene.planes[0], scene.jumps)
    else:
        _course(ax, scene.courses[0], scene.jumps)


def _plane(ax: Axes, plane: Plane, jumps: bool) -> None:
    from matplotlib.collections import PolyCollection

    for area in plane.areas:
        _fill(ax, area)
    span = max(float(np.ptp(plane.times)), 1e-300)
    share = ((plane.times - plane.times.min()) / span)[:, None]
    colors = np.array(LIGHT) * (1 - share) + np.array(DEEP) * share
    ax.add_collection(
        PolyCollection(list(plane.polygons), facecolors=colors, edgecolors=colors, linewidths=0.6, zorder=3)
    )
    ax.fill([], [], color=0.5 * (np.array(LIGHT) + np.array(DEEP)), label="tube (light: early, dark: late)")
    if plane.paths is not None:
        style: dict[str, Any] = {"marker": ".", "ms": 2.5, "lw": 0} if jumps else {"lw": 0.35}
        ax.plot(plane.paths[:, :, 0], plane.paths[:, :, 1], color=DARK, alpha=0.55, zorder=4, **style)
        ax.plot([], [], color=DARK, label="simulated trajectories", **{**style, "lw": 0 if jumps else 0.8})
    if plane.violation is not None:
        _violation(ax, plane.violation, jumps)
    for k, polygon in enumerate(plane.initial):
        _edge(ax, polygon, PURPLE, "initial set" if k == 0 else None)
    for k, polygon in enumerate(plane.final):
        _edge(ax, polygon, "black", "end of the tube" if k == 0 else None)
    (x0, y0), (x1, y1) = plane.view
    ax.set_xlim(x0, x1)
    ax.set_ylim(y0, y1)
    _labels(ax, *plane.names)


def _violation(ax: Axes, points: np.ndarray, jumps: bool) -> None:
    ax.plot(
        *points.T, color=RED, lw=0 if jumps else 1.8, marker="o" if jumps else None, ms=4, zorder=7,
        label="violates the claim, proved",
    )  # fmt: skip


def _edge(ax: Axes, polygon: np.ndarray, color: str, label: str | None) -> None:
    closed = np.concatenate([polygon, polygon[:1]])
    point = np.ptp(closed, axis=0).max() == 0
    ax.plot(*closed.T, color=color, lw=1.5, marker="." if point else None, label=label, zorder=6)


def _fill(ax: Axes, area: Area) -> None:
    color, alpha, hatch = ROLES[area.role]
    height = np.clip(area.height, -1e300, 1e300)
    if not (height <= 0).any():
        return
    first, last = area.window
    when = "" if area.always else f", at {first:g}" if first == last else f", from {first:g} to {last:g}"
    for_a_while = area.role == "outside" and not area.always  # most of the tube may well be there: its edge is enough
    if not for_a_while:
        lowest = min(float(height.min()), -1e-300) * 2 - 1
        ax.contourf(
            area.xs, area.ys, height, levels=[lowest, 0], colors=[color], alpha=alpha, zorder=1, hatches=[hatch]
        )
        ax.fill([], [], color=color, alpha=alpha, hatch=hatch, label=WORDS[area.role] + when)
    if (height > 0).any():
        style = "--" if for_a_while else "-"
        ax.contour(area.xs, area.ys, height, levels=[0], colors=[color], linewidths=1.4, linestyles=[style], zorder=5)
        if for_a_while:
            ax.plot([], [], color=color, lw=1.4, ls=style, label="not to be crossed" + when)


def _course(ax: Axes, course: Course, jumps: bool) -> None:
    if jumps:
        ax.vlines(course.start, course.low, course.high, color=BLUE, lw=3, alpha=0.8, zorder=3)
    else:
        from matplotlib.collections import PolyCollection

        boxes = [
            [(a, low), (b, low), (b, high), (a, high)]
            for a, b, low, high in zip(course.start, course.end, course.low, course.high, strict=True)
        ]
        ax.add_collection(PolyCollection(boxes, facecolors="#8DBEDF", edgecolors="#8DBEDF", linewidths=0.4, zorder=3))
    if course.paths is not None and course.moments is not None:
        style: dict[str, Any] = {"marker": ".", "ms": 2.5, "lw": 0} if jumps else {"lw": 0.3}
        ax.plot(course.moments, course.paths, color=DARK, alpha=0.5, zorder=4, **style)
    if course.violation is not None:
        _violation(ax, course.violation, jumps)
    ends = float(course.start.min()), float(course.end.max())
    margin = 0.06 * max(float(course.high.max() - course.low.min()), 1e-12)
    low, high = float(course.low.min()) - margin, float(course.high.max()) + margin
    width = (ends[1] - ends[0]) or 1.0
    for area in course.areas:
        first, last = area.window
        first, last = (first - 0.01 * width, last + 0.01 * width) if first == last else (first, last)
        color, alpha, hatch = ROLES[area.role]
        inside = area.height[:, 0] <= 0
        for bottom, top in _runs(inside, area.ys):
            ax.fill(
                [first, last, last, first],
                [bottom, bottom, top, top],
                color=color,
                alpha=max(alpha, 0.2),
                hatch=hatch,
                lw=0,
                zorder=1,
            )
            for y in (bottom, top):
                if area.ys[0] < y < area.ys[-1]:
                    ax.plot([first, last], [y, y], color=color, lw=1.4, zorder=5)
        near = area.ys[np.flatnonzero(np.diff(inside.astype(int)))]
        if len(near):  # the edges of what is asked for are shown
            low, high = min(low, float(near.min()) - margin), max(high, float(near.max()) + margin)
    ax.set_xlim(ends[0] - 0.02 * width, ends[1] + 0.02 * width)
    ax.set_ylim(low, high)
    _labels(ax, "step" if course.unit == "step" else f"time ({course.unit})", course.name)


def _runs(inside: np.ndarray, ys: np.ndarray) -> list[tuple[float, float]]:
    """Intervals of the values for which it is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(int), [0]])))
    return [(float(ys[a]), float(ys[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _labels(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.tick_params(labelsize=8)
    ax.locator_params(nbins=6)
