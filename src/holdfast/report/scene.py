"""What a picture of a closed loop shows, as plain numbers: panels of two states each, outlines, fields, trajectories.

Between a result and `holdfast.report.plot`; the same numbers go into JSON files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np

from holdfast.errors import InputError
from holdfast.invariance.held_samples import Flight
from holdfast.invariance.plans import continuous, is_sampled
from holdfast.invariance.polytope import as_polytope
from holdfast.loop import ClosedLoop
from holdfast.report.motion import ORBIT, STEPS, flow, nominal, pace, simulate
from holdfast.report.shape import boundary_points, center_of, corners, excess, hull_of_projection, inward_flow, outline
from holdfast.spec.temporal import BoxSet, Ellipsoid, Instance, Polytope, SetOfStates, TemporalProperty
from holdfast.verdict import Escape, Result, Verdict

MOST = 6  # panels of pairs of states
GRID = 181  # of two states; less for sections
COARSE = 31
TRAJECTORIES = 10
PERIODS = 60  # of a sampled loop
Field = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Outline:
    """The edge of a set: a closed ``polygon`` (K, 2), or where ``height`` (rows: second state) over a grid is 0."""

    role: str  # set, target, unsafe, initial, ellipsoid, domain, projection
    label: str
    polygon: np.ndarray | None = None
    xs: np.ndarray | None = None
    ys: np.ndarray | None = None
    height: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Curve:
    """A trajectory (K, 2). ``role``: flow, orbit, escape, after."""

    role: str
    label: str
    points: np.ndarray


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of two states. ``field``: xs, ys and both components of the flow there; ``view``: low, high (2,)."""

    title: str
    names: tuple[str, str]
    view: tuple[np.ndarray, np.ndarray]
    outlines: tuple[Outline, ...]
    curves: tuple[Curve, ...]
    field: Field | None = None
    jumps: bool = False  # a map: the field is the change in one step
    point: np.ndarray | None = None  # the equilibrium


@dataclass(frozen=True, eq=False)
class Scene:
    """All panels of one instance, and its conditions: name, proved, sub-problems, seconds."""

    title: str
    verdict: str
    panels: tuple[Panel, ...]
    conditions: tuple[tuple[str, bool, int, float], ...] = ()
    faces: tuple[tuple[str, float], ...] = ()  # and the least inward flow found on each
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Without the grids, which are large and follow from the problem."""
        panels = [
            {
                "title": panel.title, "states": list(panel.names), "view": [end.tolist() for end in panel.view],
                "outlines": [_kept(asdict(o)) for o in panel.outlines if o.polygon is not None],
                "curves": [_kept(asdict(c)) for c in panel.curves],
                "equilibrium": None if panel.point is None else panel.point.tolist(),
            }
            for panel in self.panels
        ]  # fmt: skip
        return {"title": self.title, "panels": panels, "faces": [list(face) for face in self.faces], "note": self.note}


def _kept(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in fields.items() if v is not None}


def scene(instance: Instance, result: Result | None, only: int | None = None, title: str = "") -> Scene:
    """The scene of an instance. ``only``: the largest number of panels."""
    loop = continuous(instance.loop)
    found = None if result is None else result.counterexample
    prop = instance.properties[found.property if isinstance(found, Escape) else 0]
    stage = _Stage(loop, prop, instance, result)
    n = len(loop.states)
    pairs = list(combinations(range(n), 2))
    if len(pairs) > MOST:
        pairs = [(i, i + 1) for i in range(0, n - 1, 2)][:MOST]
    panels = [stage.panel(i, j) for i, j in pairs[:only]]
    verdict = result.verdict.value if result is not None else ""
    count = f"{len(panels)} of {n * (n - 1) // 2} pairs of states" if len(panels) < n * (n - 1) // 2 else ""
    conditions = [] if result is None else result.statistics.get("margins", [])
    rows = [(str(m["condition"]).rsplit(": ", 1)[-1], bool(m["proved"]), int(m["sub-problems"]), float(m["seconds"])) for m in conditions]  # fmt: skip
    return Scene(title or instance.id, verdict, tuple(panels), tuple(rows), stage.faces(), count)


class _Stage:
    """What all panels of one instance share."""

    def __init__(self, loop: ClosedLoop, prop: TemporalProperty, instance: Instance, result: Result | None):
        self.loop, self.prop, self.n = loop, prop, len(loop.states)
        notes = {} if result is None else result.statistics
        self.escape = result.counterexample if result and isinstance(result.counterexample, Escape) else None
        self.proved = result is not None and result.verdict is Verdict.VERIFIED
        self.sets: list[tuple[str, str, SetOfStates]] = []
        if prop.kind == "barrier":
            self._add("unsafe", "unsafe set", prop.states)
        else:
            self._add("set", "certified set" if self.proved else "claimed set", prop.states)
        if prop.target != "equilibrium":
            self._add("target", "reached set" if self.proved else "set to be reached", prop.target)
        self.initial = instance.initial if prop.kind == "barrier" else None
        point = notes.get("equilibrium")
        self.point = None if point is None else np.array(point, np.float64)
        self._ellipsoid(notes.get("contraction"))
        self._family(notes.get("family"))
        self.over = [(role, label, *excess(s, loop)) for role, label, s in self.sets]
        low, high = (end for *_, end_low, end_high in self.over[:1] for end in (end_low, end_high))
        self.low, self.high = np.array(low), np.array(high)
        middle = None if not self.sets else center_of(self.sets[0][2])
        self.anchor = self.point if self.point is not None else middle if middle is not None else self._inner()
        self.points = None
        self.flight = Flight(instance.loop) if is_sampled(instance.loop) else None  # inputs are held: there is no field
        if self.escape is not None and self.n > 2:
            self.anchor = np.array(self.escape.state)  # sections through the start show which edge is crossed
        elif self.n > 2 or self.flight is not None:
            self.points = boundary_points(self.over[0][2], self.anchor, self.low, self.high)
        self.paths = self._paths() if self.points is not None else None
        self.left = self._left()

    def _add(self, role: str, label: str, states: Any) -> None:
        if states is not None and not isinstance(states, str):
            self.sets.append((role, label, states))

    def _ellipsoid(self, found: Any) -> None:
        if isinstance(found, dict) and "P" in found and self.point is not None:
            P = tuple(tuple(Fraction(float(v)) for v in row) for row in found["P"])
            center = tuple(Fraction(float(v)) for v in self.point)
            self._add("ellipsoid", "contraction", Ellipsoid(center, P, Fraction(float(found["level"]))))

    def _family(self, found: Any) -> None:
        """Some of the nested sets: the largest, the smallest, and about eight between."""
        if not isinstance(found, dict) or not self.sets or not isinstance(self.sets[0][2], BoxSet | Polytope):
            return
        shape = as_polytope(self.sets[0][2], self.loop, "the set")
        count = len(found["lower"])
        for k in sorted({round(t) for t in np.linspace(0, count - 1, 10)} - {found["given"]}):
            low, high = (tuple(Fraction(float(v)) for v in found[end][k]) for end in ("lower", "upper"))
            role, label = ("target", "attractive set") if k == count - 1 else ("family", "nested sets")
            self._add(role, label, replace(shape, lower=low, upper=high))

    def _inner(self) -> np.ndarray:
        """A point of the set: 0, the middle of its box, or the deepest one of a sample."""
        middle = 0.5 * (self.low + self.high)
        rng = np.random.default_rng(0)
        x = np.concatenate([0 * middle[None], middle[None], rng.uniform(self.low, self.high, (20000, self.n))])
        inside = self.over[0][2](x)
        return x[0] if inside[0] <= 0 else x[1] if inside[1] <= 0 else x[int(np.argmin(inside))]

    def _paths(self) -> np.ndarray | None:
        """Trajectories (T, K, n) from the set's boundary."""
        assert self.points is not None
        if not len(self.points):
            return None
        far = (self._corners() - self.anchor) / np.maximum(self.high - self.low, 1e-300)
        ways = np.random.default_rng(3).normal(size=(TRAJECTORIES, self.n))  # the farthest points in some directions
        chosen = np.unique(np.argmax(far @ ways.T, axis=0))
        starts = self.anchor + 0.99 * (self._corners()[chosen] - self.anchor)
        if self.flight is not None:
            met = [starts[None]]
            for _ in range(PERIODS):
                met.append(self.flight.run(met[-1][-1], self.flight.middle(len(starts)))[1:])
            return np.concatenate(met)
        if self.loop.kind == "map":
            return simulate(self.loop, starts, ORBIT, steps=ORBIT)
        return simulate(self.loop, starts, pace(self.loop, self.anchor))[::2]

    def _corners(self) -> np.ndarray:
        """Points of the boundary that lie far out."""
        states = self.sets[0][2]
        if isinstance(states, BoxSet | Polytope):
            shape = as_polytope(states, self.loop, "the set")
            y = corners(shape)
            if y is not None:
                H = np.array([[float(v) for v in row] for row in shape.H])
                return np.array([float(c) for c in shape.center]) + y @ np.linalg.inv(H).T
        assert self.points is not None
        return self.points

    def faces(self) -> tuple[tuple[str, float], ...]:
        """The least inward flow found per face of a polytope (ode)."""
        if not self.sets or self.prop.kind != "invariant" or self.loop.kind != "ode" or self.flight is not None:
            return ()
        states = self.sets[0][2]
        if not isinstance(states, BoxSet | Polytope):
            return ()
        return tuple(inward_flow(as_polytope(states, self.loop, "the set"), self.loop))

    def _left(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The trajectory of the escape (T, n), and how it goes on."""
        if self.escape is None:
            return None
        others = np.array([*self.escape.disturbances, *self.escape.parameters])
        start = np.array(self.escape.state)[None]
        if self.loop.kind == "map":
            path = simulate(self.loop, start, 1, others, steps=1)[:, 0]
            return path, path[-1:]
        path = simulate(self.loop, start, self.escape.time, others, steps=60)[:, 0]
        longer = max(5 * self.escape.time, 0.25 * pace(self.loop, path[-1]))
        return path, simulate(self.loop, path[-1:], longer, others, steps=150)[:, 0]

    def panel(self, i: int, j: int) -> Panel:
        """The states i and j."""
        outlines: list[Outline] = []
        pending: list[int] = []
        for k, (role, label, states) in enumerate(self.sets):
            polygon = outline(states, self.loop, i, j)
            if polygon is not None:
                kind = " (projection)" if self.n > 2 else ""
                outlines.append(Outline(role, label + kind, polygon))
            else:
                pending.append(k)
        if self.n > 2 and 0 in pending and self.points is not None and len(self.points):
            shadow = hull_of_projection(self.over[0][2], self.points, i, j)
            outlines.append(Outline("projection", "hull of its projection (sampled)", shadow))
        if self.initial is not None:
            low, high = self.initial.lower[[i, j]], self.initial.upper[[i, j]]
            outlines.append(Outline("initial", "initial set", _corners(low, high)))
        view = self._view(i, j, outlines, bool(pending))
        for k in pending:
            outlines.append(self._contour(k, i, j, view))
        domain = self._domain(i, j)
        if domain is not None and domain.polygon is not None and _visible(domain.polygon, view):
            outlines.append(domain)
        field = self._field(i, j, view) if self.n == 2 and self.flight is None else None
        return Panel(
            "" if self.n == 2 else f"{self.loop.states[i]}, {self.loop.states[j]}",
            (self.loop.states[i], self.loop.states[j]), view, tuple(outlines), tuple(self._curves(i, j)), field,
            self.loop.kind == "map", None if self.point is None else self.point[[i, j]],
        )  # fmt: skip

    def _plane(
        self, i: int, j: int, low: np.ndarray, high: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ends = self.loop.data.plant.domain
        lines = []
        for k, axis in enumerate((i, j)):
            at = np.linspace(low[k], high[k], count)
            if ends is not None and count > COARSE:  # sets may end at the domain: lines at both sides of its edge
                edges = np.array([ends.lower[axis], ends.upper[axis]])
                near = edges[(edges > low[k]) & (edges < high[k])]
                tiny = 1e-6 * (high[k] - low[k])
                at = np.unique(np.concatenate([at, near, near - tiny, near + tiny]))
            lines.append(at)
        xs, ys = lines
        x = np.repeat(self.anchor[None], len(xs) * len(ys), axis=0)
        x[:, i], x[:, j] = (grid.ravel() for grid in np.meshgrid(xs, ys))
        return xs, ys, x

    def _view(self, i: int, j: int, outlines: Sequence[Outline], grid: bool) -> tuple[np.ndarray, np.ndarray]:
        """What the panel shows: the sets, with a margin."""
        parts = [o.polygon for o in outlines if o.polygon is not None]
        if grid:
            low, high = self.low[[i, j]], self.high[[i, j]]
            _, _, x = self._plane(i, j, low, high, 121 if self.n == 2 else 61)
            inside = np.zeros(len(x), bool)
            for _, _, over, *_ in self.over[:1]:
                inside |= over(x) <= 0
            parts.append(x[inside][:, [i, j]] if inside.any() else _corners(low, high))
        if self.left is not None:
            parts.append(self.left[0][:, [i, j]])
        shown = np.concatenate([p for p in parts if p is not None])
        low, high = shown.min(0), shown.max(0)
        margin = 0.12 * np.maximum(high - low, 1e-12 + 1e-6 * np.abs(high))
        return low - margin, high + margin

    def _contour(self, k: int, i: int, j: int, view: tuple[np.ndarray, np.ndarray]) -> Outline:
        role, label, over, *_ = self.over[k]
        count = GRID if self.n == 2 else GRID // 2
        xs, ys, x = self._plane(i, j, *view, count)
        height = over(x)
        window = np.stack(view)
        for _ in range(3):  # a set that lies between the points of the grid
            if height.min() <= 0:
                break
            best = x[int(np.argmin(height))][[i, j]]
            window = best + (window - window.mean(0)) / 12
            xs, ys, x = self._plane(i, j, window[0], window[1], count)
            height = over(x)
        kind = "" if self.n == 2 else " (section)" if self.escape is None else " (section through the start)"
        return Outline(role, label + kind, None, xs, ys, height.reshape(len(ys), len(xs)))

    def _domain(self, i: int, j: int) -> Outline | None:
        plant = self.loop.data.plant
        if plant.domain is None or not (plant.bounded[i] and plant.bounded[j]):
            return None
        return Outline("domain", "domain", _corners(plant.domain.lower[[i, j]], plant.domain.upper[[i, j]]))

    def _field(self, i: int, j: int, view: tuple[np.ndarray, np.ndarray]) -> Field:
        xs, ys, x = self._plane(i, j, *view, COARSE)
        f = flow(self.loop, x)
        if self.loop.kind == "map":
            f = f - x
        f = np.where(np.isfinite(f), f, 0.0)
        shape = (len(ys), len(xs))
        return xs, ys, f[:, i].reshape(shape), f[:, j].reshape(shape)

    def _curves(self, i: int, j: int) -> list[Curve]:
        curves: list[Curve] = []
        if self.paths is not None:
            role = "orbit" if self.loop.kind == "map" else "flow"
            label = "trajectories" + ("" if not len(nominal(self.loop)) else ", nominal")
            for k in range(self.paths.shape[1]):
                curves.append(Curve(role, label if k == 0 else "", self.paths[:, k][:, [i, j]]))
        if self.left is not None and self.escape is not None:
            when = "1 step" if self.loop.kind == "map" else f"{self.escape.time:.3g} s"
            curves.append(Curve("escape", f"escape within {when}", self.left[0][:, [i, j]]))
            if len(self.left[1]) > 1:
                curves.append(Curve("after", "how it goes on", self.left[1][:, [i, j]]))
        return curves


def _corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])


def _visible(polygon: np.ndarray, view: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether some side of a box crosses the view."""
    low, high = polygon.min(0), polygon.max(0)
    return bool(((low > view[0]) & (low < view[1])).any() or ((high > view[0]) & (high < view[1])).any())


def scenes(instances: Sequence[tuple[Instance, Result | None]], title: str) -> list[Scene]:
    """One scene per instance that can be drawn: all panels of a single one, one panel each of several, nine at most."""
    found = []
    for instance, result in instances:
        try:
            name = instance.id or title
            found.append(scene(instance, result, None if len(instances) == 1 else 1, name))
        except InputError:
            continue  # not supported, or no set with a bounded hull: nothing to draw
        if len(found) == 9:
            break
    return found


__all__ = ["ORBIT", "STEPS", "Curve", "Outline", "Panel", "Scene", "scene", "scenes"]
