"""Pictures of closed loops: phase portraits, certified sets, escapes, and how hard each condition was.

Draws the numbers of `holdfast.report.scene`. Colours: Okabe, Ito, Color universal design, 2008 (safe for the colour-blind).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.errors import InputError
from holdfast.report.scene import Outline, Panel, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
GREY, DARK = "#9A9A9A", "#333333"
# role -> (line, fill, style, width)
STYLES: dict[str, tuple[str, str | None, str, float]] = {
    "set": (BLUE, SKY, "-", 2.0),
    "target": (ORANGE, ORANGE, "-", 1.6),
    "unsafe": (RED, RED, "-", 1.6),
    "initial": (PURPLE, PURPLE, "-", 1.6),
    "ellipsoid": (GREEN, GREEN, "-", 1.6),
    "family": (PURPLE, None, "-", 0.7),
    "projection": (BLUE, None, ":", 1.4),
    "domain": (DARK, None, "--", 1.0),
}
MOST_BARS = 24


def draw(scenes: Sequence[Scene], path: Path, title: str = "") -> None:
    """Write the picture of one scene with all its panels, or one panel of each of several scenes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [(scene, panel) for scene in scenes for panel in scene.panels]
    if not panels:
        raise InputError(f"--plot {path}: there is nothing to draw: no instance has a set with a bounded hull")
    bars = len(scenes) == 1 and bool(scenes[0].conditions or scenes[0].faces)
    columns, rows = _layout(len(panels), bars)
    width, height = (6.4, 5.4) if len(panels) == 1 else (4.4, 3.9)
    figure = Figure(figsize=(width * columns + (5.6 if bars else 0.4), height * rows + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    main: Any = figure
    side: Any = None
    if bars:
        halves: Any = figure.subfigures(1, 2, width_ratios=[width * columns, 5.2])
        main, side = halves
    axes = np.array(main.subplots(rows, columns, squeeze=False)).ravel()
    entries: dict[str, Any] = {}
    for (scene, panel), ax in zip(panels, axes, strict=False):
        _panel(ax, panel, panel.title if len(scenes) == 1 else f"{scene.title}: {scene.verdict}", len(panels) == 1)
        entries.update(
            {text: handle for handle, text in zip(*ax.get_legend_handles_labels(), strict=True) if text not in entries}
        )
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    if entries:
        main.legend(
            list(entries.values()), list(entries), loc="outside lower center", ncols=min(4, len(entries)), frameon=False, fontsize=9
        )  # fmt: skip
    if bars:
        _side(side, scenes[0])
    head = title
    if len(scenes) == 1:
        head = " - ".join(
            part
            for part in (title, scenes[0].title if scenes[0].title != title else "", scenes[0].verdict, scenes[0].note)
            if part
        )
    figure.suptitle(head, fontsize=12)
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise InputError(f"--plot {path}: cannot be written ({error.strerror})") from error


def _layout(count: int, bars: bool) -> tuple[int, int]:
    columns = {1: 1, 2: 2, 3: 3 if not bars else 2, 4: 2}.get(count, 3)
    return columns, -(-count // columns)


def _panel(ax: Axes, panel: Panel, title: str, alone: bool) -> None:
    (x0, y0), (x1, y1) = panel.view
    ax.set_xlim(x0, x1)
    ax.set_ylim(y0, y1)
    if panel.field is not None:
        _field(ax, panel, alone)
    for line in sorted(panel.outlines, key=lambda o: list(STYLES).index(o.role)):
        _outline(ax, line)
    for curve in panel.curves:
        if curve.role == "flow":
            ax.plot(*curve.points.T, color=GREY, lw=0.8, label=curve.label or None, zorder=2)
        elif curve.role == "orbit":
            ax.plot(*curve.points.T, color=GREY, lw=0.5, marker=".", ms=3, label=curve.label or None, zorder=2)
        elif curve.role == "after":
            ax.plot(*curve.points.T, color=RED, lw=1.1, ls=":", label=curve.label, zorder=6)
        else:
            _escape(ax, curve.points, curve.label)
            if panel.field is not None:  # one panel, large enough
                _zoom(ax, panel, curve.points)
    inner = [o for o in panel.outlines if o.role in ("target", "ellipsoid")]
    if alone and panel.field is not None and inner and not panel.curves:
        _zoom(ax, panel, np.concatenate([_edge(o) for o in inner]), escape=False)
    if panel.point is not None:
        ax.plot(*panel.point, "+", color="black", ms=9, mew=1.6, label="equilibrium", zorder=7)
    ax.set_xlabel(panel.names[0])
    ax.set_ylabel(panel.names[1])
    ax.set_title(title, fontsize=10)
    ax.tick_params(labelsize=8)
    ax.locator_params(nbins=6)


def _field(ax: Axes, panel: Panel, alone: bool) -> None:
    assert panel.field is not None
    xs, ys, u, v = panel.field
    if panel.jumps:
        scale = (xs[-1] - xs[0], ys[-1] - ys[0])
        size = np.maximum(np.hypot(u / scale[0], v / scale[1]), 1e-300)
        ax.quiver(
            xs, ys, u / scale[0] / size, v / scale[1] / size, angles="uv", scale=34, width=0.0025, color=GREY,
            zorder=2, label="direction of one step",
        )  # fmt: skip
        return
    with np.errstate(all="ignore"):
        lines = ax.streamplot(
            xs, ys, u, v, color=GREY, density=1.3 if alone else 0.8, linewidth=0.7, arrowsize=0.8, zorder=2
        )
    lines.lines.set_label("flow, nominal")


def _outline(ax: Axes, line: Outline) -> None:
    from matplotlib.patches import Polygon

    color, fill, style, width = STYLES[line.role]
    depth = 3 + list(STYLES).index(line.role) * 0.1
    if line.polygon is not None:
        if fill:
            ax.add_patch(Polygon(line.polygon, closed=True, facecolor=fill, alpha=0.3, edgecolor="none", zorder=1))
        ax.add_patch(
            Polygon(line.polygon, closed=True, fill=False, edgecolor=color, ls=style, lw=width, zorder=depth, label=line.label)
        )  # fmt: skip
        return
    assert line.xs is not None and line.ys is not None and line.height is not None
    height = np.where(np.isfinite(line.height), line.height, 1.0)
    if height.min() > 0:
        return
    if fill:
        ax.contourf(
            line.xs, line.ys, height, levels=[min(height.min(), -1e-300) * 2 - 1, 0], colors=[fill], alpha=0.3, zorder=1
        )
    if height.max() > 0:
        ax.contour(
            line.xs, line.ys, height, levels=[0], colors=[color], linewidths=width, linestyles=style, zorder=depth
        )
    ax.plot([], [], color=color, ls=style, lw=width, label=line.label)


def _edge(line: Outline) -> np.ndarray:
    """Points (K, 2) of a set, at least one."""
    if line.polygon is not None:
        return line.polygon
    assert line.xs is not None and line.ys is not None and line.height is not None
    rows, columns = np.nonzero(line.height <= max(0.0, float(line.height.min())))
    return np.stack([line.xs[columns], line.ys[rows]], axis=1)


def _escape(ax: Axes, points: np.ndarray, label: str | None) -> None:
    ax.plot(*points.T, color=RED, lw=2, label=label, zorder=8)
    ax.plot(*points[0], "o", color=RED, ms=5, label="its start" if label else None, zorder=9)
    ax.plot(
        *points[-1], "X", color=RED, ms=6, mec="white", mew=0.6, label="outside, proved" if label else None, zorder=9
    )


def _zoom(ax: Axes, panel: Panel, points: np.ndarray, escape: bool = True) -> None:
    """An inset around what is too small to be seen, in the corner that hides the least."""
    low, high = panel.view
    span = high - low
    if not (np.ptp(points, axis=0) / span).max() <= (0.12 if escape else 0.04):
        return
    inset = ax.inset_axes((*_corner(panel, points), 0.32, 0.32))
    for line in panel.outlines:
        if line.role in ("set", "domain", "unsafe") or not escape:
            _outline(inset, line)
    if escape:
        _escape(inset, points, None)
    if panel.point is not None:
        inset.plot(*panel.point, "+", color="black", ms=9, mew=1.6, zorder=7)
    reach = np.maximum(np.ptp(points, axis=0), 1e-4 * span) * 0.9
    reach = span * (reach / span).max()
    middle = 0.5 * (points.min(0) + points.max(0))
    inset.set_xlim(middle[0] - reach[0], middle[0] + reach[0])
    inset.set_ylim(middle[1] - reach[1], middle[1] + reach[1])
    inset.set_xticks([])
    inset.set_yticks([])
    ax.indicate_inset_zoom(inset, edgecolor=DARK)


def _corner(panel: Panel, points: np.ndarray) -> tuple[float, float]:
    """Where an inset hides the least of the sets, in shares of the panel, and not what it shows."""
    low, high = panel.view
    at = (points.mean(0) - low) / (high - low)
    best, least = (0.02, 0.02), np.inf
    for corner in ((0.66, 0.66), (0.02, 0.66), (0.66, 0.02), (0.02, 0.02)):
        hidden = 1.0 if all(c - 0.05 < a < c + 0.37 for c, a in zip(corner, at, strict=True)) else 0.0
        for line in panel.outlines:
            if line.role != "set":
                continue
            if line.polygon is not None:
                place = (line.polygon - low) / (high - low)
                hidden += float(((place > corner) & (place < np.array(corner) + 0.34)).all(1).mean())
            elif line.xs is not None and line.ys is not None and line.height is not None:
                x, y = (line.xs - low[0]) / (high - low)[0], (line.ys - low[1]) / (high - low)[1]
                part = line.height[
                    np.ix_((y > corner[1]) & (y < corner[1] + 0.34), (x > corner[0]) & (x < corner[0] + 0.34))
                ]
                hidden += float((part <= 0).mean()) if part.size else 0.0
        if hidden < least:
            best, least = corner, hidden
    return best


def _side(side: Any, scene: Scene) -> None:
    """What the proof took, and how tight each face is."""
    if not scene.faces:
        _bars(side.subplots(1, 1), scene)
        return
    if scene.conditions:
        count = min(len(scene.conditions), MOST_BARS)
        upper, lower = side.subplots(2, 1, height_ratios=[max(count, 2), max(4, min(len(scene.faces), MOST_BARS))])
        _bars(upper, scene)
    else:
        lower = side.subplots(1, 1)
    faces = sorted(scene.faces, key=lambda face: face[1])[:MOST_BARS][::-1]
    places = np.arange(len(faces))
    lower.barh(places, [f for _, f in faces], height=0.7, color=[GREEN if f > 0 else RED for _, f in faces])
    lower.axvline(0, color=DARK, lw=0.8)
    lower.set_yticks(places, [name for name, _ in faces], fontsize=8)
    lower.set_ylim(-1, max(len(faces), 4))
    lower.set_xlabel("least inward flow / half-width, 1/s (sampled)", fontsize=9)
    more = len(scene.faces) - len(faces)
    lower.set_title("faces" + (f" (the {len(faces)} tightest of {len(faces) + more})" if more else ""), fontsize=10)
    lower.tick_params(axis="x", labelsize=8)
    for edge in ("top", "right"):
        lower.spines[edge].set_visible(False)


def _bars(ax: Axes, scene: Scene) -> None:
    """How many sub-problems each condition took; the hardest ones where there are many."""
    rows = list(scene.conditions)
    if len(rows) > MOST_BARS:
        rows = sorted(rows, key=lambda row: (row[1], -row[2], -row[3]))[:MOST_BARS]
    rows.reverse()
    places = np.arange(len(rows))
    ax.barh(
        places, [max(row[2], 1) for row in rows], height=0.6,
        color=[BLUE if row[1] else RED for row in rows],
    )  # fmt: skip
    top = max(max(row[2], 1) for row in rows)
    ax.set_xscale("log")
    ax.set_xlim(0.7, top * 40)
    for place, (_, proved, _, seconds) in enumerate(rows):
        ax.text(
            max(rows[place][2], 1) * 1.15,
            place,
            f"{seconds:.2f} s" + ("" if proved else ", open"),
            va="center",
            fontsize=8,
        )
    ax.set_yticks(places, [_shortened(row[0]) for row in rows], fontsize=8)
    ax.set_ylim(len(rows) - max(len(rows), 1 if scene.faces else 8) - 0.6, len(rows) - 0.4)
    ax.set_xlabel("sub-problems (boxes bounded)", fontsize=9)
    more = len(scene.conditions) - len(rows)
    ax.set_title("conditions" + (f" (the {len(rows)} hardest of {len(rows) + more})" if more > 0 else ""), fontsize=10)
    ax.tick_params(axis="x", labelsize=8)
    for edge in ("top", "right"):
        ax.spines[edge].set_visible(False)


def _shortened(text: str, width: int = 24) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width)[:3])
