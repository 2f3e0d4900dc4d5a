"""Branch and bound over input boxes: for networks of which few inputs vary.

Each sub-problem is a box; it is refuted when for every open case some row (or a combination, through clipping) is
positive on the whole box. All bounds here are outward rounded, so a refuted box is a proved one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from holdfast.bounds.backward import LinearBound, Trace, concretise, substitute, unit_rows
from holdfast.bounds.enclosure import Enclosures, OutOfTime, Problem, plan
from holdfast.bounds.propagate import propagate
from holdfast.certificate import CertificateWriter, Kind
from holdfast.search.attack import margins, pad_cases, violation
from holdfast.search.branching import hopeful_rows, input_gain
from holdfast.search.budget import Budget
from holdfast.search.clipping import clip
from holdfast.search.explain import box_text, case_text
from holdfast.search.frontier import Boxes, Frontier, outward
from holdfast.search.replay import Replay
from holdfast.search.workers import Workers
from holdfast.spec.query import Query
from holdfast.verdict import Counterexample, Reason

INHERIT = 1 << 14  # ranges of more elements than this are recomputed rather than kept
FEW_INPUTS = 20  # so many varying inputs are always split themselves; of more, if few matter
REACH_ENTRIES = 1 << 22  # a larger table of slopes is not worth making only to find out
FEW_FORMS = 12  # varying inputs up to which affine forms of all neurons cost less than rows of them
SHRUNK = 0.5  # a box clipped below this share of its volume is bounded again before it is split
SLACK = 1e-9  # of the size of its terms: what a bound must exceed zero by, where a checker is to confirm it

Certify = Callable[[Mapping[str, Any]], CertificateWriter]  # entries of the header -> where to write


class Outcome(NamedTuple):
    """How a search ended; ``bound`` is the worst lower bound of what is left open (infinite: nothing)."""

    reason: Reason
    counterexample: Counterexample | None
    bound: float
    boxes: int
    detail: str = ""


class Step(NamedTuple):
    """What one batch of boxes became. ``node`` of a child: twice the place of its parent in the batch, + 1 if upper."""

    children: Boxes
    stuck: Boxes  # open, but too small to be split
    candidates: list[tuple[int, np.ndarray]]  # region and flat point that look like a counterexample
    kind: np.ndarray  # (B,) `Kind`: refuted, split, to be bounded again; a stuck box is called refuted here
    place: np.ndarray  # (B,) the flat input that was split
    at: np.ndarray  # (B,) and where


@dataclass(eq=False)
class InputSplit:
    """One search: the constant tables, and `step` that bounds and splits a batch (a pure function of the batch)."""

    query: Query
    problem: Problem
    slack: float = 0.0  # of the size of its terms, what a bound must exceed zero by
    cheap: bool = False  # ranges by affine forms: much cheaper per box, more boxes
    columns: np.ndarray = field(init=False)  # inputs that vary in some region
    low: np.ndarray = field(init=False)  # (regions, n)
    high: np.ndarray = field(init=False)
    cases: np.ndarray = field(init=False)  # (regions, C, k) rows, padded with -1
    kept: list[tuple[int, int, int]] = field(init=False)  # inherited pre-activations: node, first column, last column

    def __post_init__(self) -> None:
        regions = self.query.regions
        self.low = np.stack([r.box.lower for r in regions])
        self.high = np.stack([r.box.upper for r in regions])
        self.columns = np.flatnonzero((self.high > self.low).any(0))
        most = max(len(r.cases) for r in regions)
        tables = [pad_cases(list(r.cases)) for r in regions]
        width = max(t.shape[1] for t in tables)
        self.cases = np.full((len(regions), most, width), -1)
        for i, table in enumerate(tables):
            self.cases[i, : table.shape[0], : table.shape[1]] = table
        facts, graph = plan(self.problem.graph), self.problem.graph
        self.kept, total = [], 0
        for position in facts.preactivations:
            size = math.prod(graph[position].shape)
            if position not in facts.settled and facts.carries[position] and total + size <= INHERIT:
                self.kept.append((position, total, total + size))
                total += size

    def roots(self) -> Boxes:
        """One sub-problem per region, nothing known."""
        count = len(self.low)
        width = self.kept[-1][2] if self.kept else 0
        return Boxes(
            self.low[:, self.columns],
            self.high[:, self.columns],
            np.arange(count),
            self.cases.max(2) >= 0,
            np.full(count, -np.inf),
            np.full((count, width), -np.inf, self.kind),
            np.full((count, width), np.inf, self.kind),
            np.zeros(count, np.int64),
        )

    @property
    def kind(self) -> type[np.floating]:
        """How ranges are kept: in half the memory, unless another program is to make lines of the very same ones."""
        return np.float64 if self.slack else np.float32

    def batch(self) -> int:
        """Sub-problems bounded at once: as many as keep coefficients within the cache."""
        widest = max(math.prod(node.shape) for node in self.problem.graph.nodes)
        share = 4 if self.forms is not None else 1  # forms are small
        return int(np.clip(share * 8192 // max(widest, 1), 2, share * 64))

    @property
    def forms(self) -> np.ndarray | None:
        """The inputs to make affine forms of, where that is asked for and cheap."""
        return self.columns if self.cheap and len(self.columns) <= FEW_FORMS else None

    def enclose(self, boxes: Boxes) -> tuple[np.ndarray, np.ndarray, dict[int, tuple[np.ndarray, np.ndarray]]]:
        """The full boxes (B, n) and what is known about pre-activations on them."""
        low, high = self.low[boxes.region].copy(), self.high[boxes.region].copy()
        low[:, self.columns], high[:, self.columns] = boxes.low, boxes.high
        graph = self.problem.graph
        known = {
            position: (
                np.asarray(boxes.known_low[:, a:b], np.float64).reshape(len(boxes), *graph[position].shape),
                np.asarray(boxes.known_high[:, a:b], np.float64).reshape(len(boxes), *graph[position].shape),
            )
            for position, a, b in self.kept
        }
        return low, high, known

    def screen(self, boxes: Boxes) -> Boxes:
        """What a cheap look leaves open: ranges by intervals, one backward substitution for the rows."""
        low, high, known = self.enclose(boxes)
        state = propagate(self.problem, low, high, known=known, narrow=False)
        rows, value, _, _ = self._rows(state, boxes)
        still, _, _ = self._refute(boxes, rows, value)
        return replace(boxes, open=still).take(np.flatnonzero(still.any(1)))

    def step(self, boxes: Boxes) -> Step:
        """Bound a batch, drop what is refuted, split the rest."""
        low, high, known = self.enclose(boxes)
        state = propagate(self.problem, low, high, known=known, reach=self.columns, forward=self.forms)
        rows, value, bound, trace = self._rows(state, boxes)
        still, focus, worst = self._refute(boxes, rows, value, hopeful_rows(state, rows, value, bound))
        new_low, new_high, still = self._clip(state, boxes, rows, bound, still, low, high)
        alive = np.flatnonzero(still.any(1))
        candidates = self._candidates(boxes, low, high, bound, focus, alive)
        if not len(alive):
            refuted = np.full(len(boxes), int(Kind.LEAF))
            return Step(boxes.take(alive), boxes.take(alive), [], refuted, np.zeros_like(refuted), np.zeros(len(boxes)))
        gain = input_gain(state, bound, trace, focus, self.columns)
        below = [state.lower[p].reshape(len(boxes), -1) for p, _, _ in self.kept]
        above = [state.upper[p].reshape(len(boxes), -1) for p, _, _ in self.kept]
        if self.kept:
            known_low, known_high = outward(np.concatenate(below, 1), np.concatenate(above, 1), self.kind)
        else:
            known_low, known_high = boxes.known_low, boxes.known_high
        narrowed = Boxes(
            new_low[:, self.columns], new_high[:, self.columns], boxes.region, still, worst, known_low, known_high,
            2 * np.arange(len(boxes)),
        ).take(alive)  # fmt: skip
        return self._split(narrowed, boxes.take(alive), gain[alive], candidates, len(boxes))

    def _rows(self, state: Enclosures, boxes: Boxes) -> tuple[np.ndarray, np.ndarray, LinearBound, Trace]:
        """Bounds of all rows that open cases need: row numbers (B, K) padded with repeats, values (B, K)."""
        total = len(self.query.constraints)
        output = self.problem.graph.outputs[0]
        if total <= 32:
            chosen = np.broadcast_to(np.arange(total), (len(boxes), total))
        else:
            needed = np.zeros((len(boxes), total + 1), bool)
            wanted = np.where(boxes.open[:, :, None], self.cases[boxes.region], -1).reshape(len(boxes), -1)
            needed[np.arange(len(boxes))[:, None], wanted] = True
            needed = needed[:, :total]
            chosen = np.argsort(~needed, axis=1, kind="stable")[:, : max(1, int(needed.sum(1).max()))]
        source, rows, constant = unit_rows(state, output, chosen)
        count = chosen.shape[1]
        trace = Trace()
        bound = substitute(
            state,
            source,
            rows[:, :count],
            constant=constant if isinstance(constant, float) else constant[:, :count],
            trace=trace,
        )
        value = concretise(state, bound)
        own = np.take_along_axis(state.lower[output], chosen, axis=1)
        value = np.fmax(value, own)
        if self.slack:
            farthest = np.abs(state.center) + state.radius
            size = np.abs(bound.constant) + np.matmul(np.abs(bound.coefficients), farthest[:, :, None])[..., 0]
            value = np.where(value > 0, value - self.slack * size, value)
        return chosen, value, bound, trace

    def _case_values(self, boxes: Boxes, rows: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Per case its rows' values (B, C, k) (-inf where padded or absent) and their places among ``rows``."""
        total = len(self.query.constraints)
        place = np.full((len(boxes), total + 1), -1)
        np.put_along_axis(place, rows[:, ::-1], np.arange(rows.shape[1])[::-1][None], axis=1)
        table = self.cases[boxes.region]
        at = np.take_along_axis(place, np.where(table >= 0, table, total).reshape(len(boxes), -1), axis=1).reshape(
            table.shape
        )
        picked = np.take_along_axis(value, np.maximum(at, 0).reshape(len(boxes), -1), axis=1).reshape(table.shape)
        return np.where(at >= 0, picked, -np.inf), at

    def _refute(
        self, boxes: Boxes, rows: np.ndarray, value: np.ndarray, hopeful: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Open cases (B, C), the row (place in ``rows``) to work on, the worst bound of an open case."""
        values, at = self._case_values(boxes, rows, value)
        strict = self.query.strict[np.maximum(self.cases[boxes.region], 0)] & (at >= 0)
        refuted = ((values > 0) | (strict & (values >= 0))).any(2)
        still = boxes.open & ~refuted
        best = values.max(2)
        preferred = values
        if hopeful is not None:
            promising = np.take_along_axis(hopeful, np.maximum(at, 0).reshape(len(boxes), -1), axis=1).reshape(at.shape)
            preferred = np.where(promising & (at >= 0), values, -np.inf)
            preferred = np.where(np.isfinite(preferred).any(2)[:, :, None], preferred, values)
        best_place = np.take_along_axis(at, preferred.argmax(2)[:, :, None], axis=2)[:, :, 0]
        worst_case = np.where(still, best, np.inf).argmin(1)
        index = np.arange(len(boxes))
        worst = np.where(still.any(1), best[index, worst_case], np.inf)
        worst = np.where(np.isnan(worst), -np.inf, worst)
        return still, np.maximum(best_place[index, worst_case], 0), worst

    def _clip(
        self, state: Enclosures, boxes: Boxes, rows: np.ndarray, bound: LinearBound, still: np.ndarray,
        low: np.ndarray, high: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
        """The hull over open cases of the box clipped by all rows of the case; cases clipped away are refuted."""
        _, at = self._case_values(boxes, rows, np.zeros(rows.shape))
        index = np.arange(len(boxes))
        hull_low, hull_high = np.full_like(low, np.inf), np.full_like(high, -np.inf)
        still = still.copy()
        for case in np.flatnonzero(still.any(0)):
            case_low, case_high = low, high
            for k in range(at.shape[2]):
                place = at[:, case, k]
                if not (place >= 0).any():
                    break
                a, c = bound.coefficients[index, np.maximum(place, 0)], bound.constant[index, np.maximum(place, 0)]
                next_low, next_high = clip(a, c, case_low, case_high, self.slack)
                use = (place >= 0)[:, None]
                # a box already empty stays as it is
                use = use & np.all(case_low <= case_high, axis=1)[:, None]
                case_low, case_high = np.where(use, next_low, case_low), np.where(use, next_high, case_high)
            empty = np.any(case_low > case_high, axis=1)
            still[:, case] &= ~empty
            counts = still[:, case][:, None]
            hull_low = np.where(counts, np.minimum(hull_low, case_low), hull_low)
            hull_high = np.where(counts, np.maximum(hull_high, case_high), hull_high)
        return np.maximum(hull_low, low), np.minimum(hull_high, high), still

    def _candidates(
        self, boxes: Boxes, low: np.ndarray, high: np.ndarray, bound: LinearBound, focus: np.ndarray, alive: np.ndarray
    ) -> list[tuple[int, np.ndarray]]:
        """Centres, and the corners where the worst row's linear bound is least, that violate in plain arithmetic."""
        if not len(alive):
            return []
        slope = bound.coefficients[alive, focus[alive]]
        center = 0.5 * low[alive] + 0.5 * high[alive]
        corner = np.where(slope > 0, low[alive], high[alive])
        points = np.concatenate([center, corner])
        rows = margins(self.problem, points)
        found = []
        regions = np.concatenate([boxes.region[alive]] * 2)
        for case in range(self.cases.shape[1]):
            table = self.cases[regions, case]
            worst = np.where(table[:, 0] >= 0, violation(rows, table), np.inf)
            found += [(float(worst[i]), int(regions[i]), points[i]) for i in np.flatnonzero(worst <= 0)]
        return [(region, point) for _, region, point in sorted(found, key=lambda f: f[0])[:4]]

    def few_matter(self) -> bool:
        """Whether nearly all of the gain that splitting inputs promises for the first region lies in a few of them."""
        if len(self.columns) <= FEW_INPUTS:
            return True
        facts, graph = plan(self.problem.graph), self.problem.graph
        sizes = sum(math.prod(graph[p].shape) for p in facts.preactivations)
        if sizes * len(self.columns) > REACH_ENTRIES:
            return False
        roots = self.roots()
        first = roots.take(np.arange(1))
        low, high, known = self.enclose(first)
        state = propagate(self.problem, low, high, known=known, reach=self.columns)
        rows, value, bound, trace = self._rows(state, first)
        _, focus, _ = self._refute(first, rows, value)
        gain = np.sort(np.nan_to_num(input_gain(state, bound, trace, focus, self.columns)[0]))[::-1]
        return bool(gain[:8].sum() > 0.95 * gain.sum())

    def explain(self, worst: Boxes | None) -> str:
        """The open sub-problem with the worst bound, in words."""
        if worst is None:
            return ""
        case = int(np.flatnonzero(worst.open[0])[0])
        region = int(worst.region[0])
        where = box_text(self.query, self.columns, worst.low[0], worst.high[0])
        return f"worst open sub-problem: {case_text(self.query, region, case)}, where {where}"

    def _split(self, narrowed: Boxes, parents: Boxes, gain: np.ndarray, candidates: list, count: int) -> Step:
        """Halve each box along the input with the largest estimated gain; strongly clipped ones go on whole."""
        width, before = narrowed.high - narrowed.low, parents.high - parents.low
        ratio = np.divide(width, before, out=np.ones_like(width), where=before > 0)
        middle = 0.5 * narrowed.low + 0.5 * narrowed.high
        splittable = (middle > narrowed.low) & (middle < narrowed.high)
        score = np.where(splittable, np.maximum(np.nan_to_num(gain * ratio, posinf=1e300), 1e-300 * width), -1.0)
        again = (ratio.prod(1) < SHRUNK) & splittable.any(1)
        stuck = narrowed.take(np.flatnonzero(~splittable.any(1)))
        whole = narrowed.take(np.flatnonzero(again))
        halved = np.flatnonzero(~again & splittable.any(1))
        kind, place, at = np.full(count, int(Kind.LEAF)), np.zeros(count, np.int64), np.zeros(count)
        kind[whole.node >> 1] = Kind.AGAIN
        if not len(halved):  # perhaps no input varies at all
            return Step(whole, stuck, candidates, kind, place, at)
        axis = score[halved].argmax(1)
        left, right = narrowed.take(halved), narrowed.take(halved)
        index = np.arange(len(halved))
        left.high[index, axis] = middle[halved, axis]
        right.low[index, axis] = middle[halved, axis]
        done = left.node >> 1
        kind[done], place[done], at[done] = Kind.INPUT, self.columns[axis], middle[halved, axis]
        right.node += 1
        return Step(Boxes.join([whole, left, right]), stuck, candidates, kind, place, at)


def input_split(
    query: Query, problem: Problem, replay: Replay, budget: Budget, workers: int, certify: Certify | None = None,
    cheap: bool = False,
) -> Outcome:  # fmt: skip
    """Run the search to its end or to its limits; ``certify``: keep a record of the proof; ``cheap``: see `InputSplit`."""
    search = InputSplit(query, problem, SLACK if certify else 0.0, cheap)
    roots = search.roots()
    writer = certify({"mode": "boxes"}) if certify else None
    if writer:
        roots.node[:] = [writer.root(region) for region in roots.region]
    batch = search.batch()
    each = max(1, roots.nbytes // len(roots))
    limit = max(1024, budget.memory_mib * (1 << 20) // 2 // each)
    done, stuck, lost = 0, 0, np.inf
    if len(roots) > batch:  # many regions: most are easy
        parts = []
        for first in range(0, len(roots), batch):
            part = roots.take(np.arange(first, min(first + batch, len(roots))))
            left = part if budget.expired() else search.screen(part)
            if writer and not budget.expired():
                kinds = np.where(np.isin(part.node, left.node), Kind.AGAIN, Kind.LEAF)
                renamed = dict(zip(part.node, writer.record(part.node, kinds, element=1), strict=True))
                left.node[:] = [renamed[node] for node in left.node]
            parts.append(left)
        done = len(roots) - sum(map(len, parts))
        roots = Boxes.join(parts)
    frontier = Frontier(roots, wide=min(16384, limit // 2))
    team: Workers | None = None
    try:
        while len(frontier):
            if budget.expired() or len(frontier) > limit:
                reason = Reason.TIME if budget.expired() else Reason.MEMORY
                return Outcome(reason, None, min(frontier.bound, lost), done, search.explain(frontier.worst()))
            if team is None and workers > 1 and budget.seconds > 1.0 and len(frontier) > 2 * batch:
                team = Workers(search.step, workers)
            lanes = team.count if team is not None and len(frontier) >= 2 * batch else 1
            tasks = [frontier.pop(min(batch, max(1, -(-len(frontier) // lanes)))) for _ in range(lanes)]
            tasks = [task for task in tasks if len(task)]
            try:
                steps = team.map(tasks) if team is not None and len(tasks) > 1 else [search.step(t) for t in tasks]
            except OutOfTime:
                for task in tasks:
                    frontier.push(task)
                continue  # the time is over, which is seen above
            done += sum(map(len, tasks))
            for task, step in zip(tasks, steps, strict=True):
                for region, point in step.candidates:
                    found = replay.confirm(region, point)
                    if found is not None:
                        return Outcome(Reason.WITNESS, found, -np.inf, done)
                if writer:
                    children = writer.record(task.node, step.kind, step.place, 0, step.at)
                    step.children.node[:] = children[step.children.node >> 1] + (step.children.node & 1)
                frontier.push(step.children)
                if len(step.stuck):
                    stuck += len(step.stuck)
                    lost = min(lost, float(step.stuck.bound.min()))
            budget.tell("splitting inputs", len(frontier), done, min(frontier.bound, lost))
    finally:
        if team is not None:
            team.close()
    if stuck:
        reason = Reason.THIN if replay.thin else Reason.PRECISION
        return Outcome(reason, None, lost, done, f"{stuck} boxes are too small to be split further")
    return Outcome(Reason.PROVED, None, np.inf, done)
