"""One step of branch and bound over neurons: bound a batch of sub-problems, and choose where to split what stays open.

A sub-problem is one case of one region with ends imposed on some pre-activations (z <= t or z >= t); its bound is
optimised over slopes and split multipliers (beta-CROWN, Wang et al., NeurIPS 2021) on the ranges of the root. The
neuron whose relaxation costs most at the minimiser of the bound is split next.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from holdfast.bounds.backward import unit_rows
from holdfast.bounds.enclosure import Enclosures, Problem, plan
from holdfast.bounds.optimised import Optimised, Schedule, optimise
from holdfast.bounds.propagate import propagate
from holdfast.certificate.writer import EMPTY
from holdfast.operators import OPERATORS, UnaryOperator
from holdfast.search.attack import margins, pad_cases, violation
from holdfast.search.evidence import Leaf, Table
from holdfast.search.explain import case_text
from holdfast.search.minimise import Trial
from holdfast.spec.query import Query

LAST_ITERATIONS = 100  # for a sub-problem that has no neuron left to split


class Root(NamedTuple):
    """Ranges (flat, over all split-able pre-activations) that hold on a region."""

    low: np.ndarray
    high: np.ndarray


class Node(NamedTuple):
    """One sub-problem: region, case, imposed ends as (neuron, low, high), lower bound, and where to start optimising."""

    region: int
    case: int
    splits: tuple[tuple[int, float, float], ...]
    bound: float
    slopes: np.ndarray  # of the parent's worst row (`Table.slopes`); none at a root
    multipliers: np.ndarray  # one per split
    number: int = 0  # in the proof


class Split(NamedTuple):
    """A sub-problem that stays open: where it is split, and the two halves."""

    number: int
    neuron: int
    at: float
    children: tuple[Node, Node]


class Looked(NamedTuple):
    """What looking at a batch gave: ``stuck`` cannot be split, ``candidates`` are (region, point)."""

    splits: list[Split]
    stuck: list[Node]
    candidates: list[tuple[int, np.ndarray]]
    leaves: list[tuple[int, Leaf]]  # by number, only where evidence is wanted


class Bounded(NamedTuple):
    """Bounds of a batch of sub-problems: ``chosen`` (B, k) rows, ``refuted`` those of them that are excluded."""

    state: Enclosures
    best: Optimised
    chosen: np.ndarray
    refuted: np.ndarray
    empty: np.ndarray


@dataclass(eq=False)
class NeuronSplit:
    """Constant tables of one search, and `step`, a pure function of a batch of nodes of one region.

    ``slack``: by how much of the size of its terms a bound must exceed zero (a certificate is checked with roundings of
    the checker's own); where it is positive, `step` returns evidence for what it refutes.
    """

    query: Query
    problem: Problem
    schedule: Schedule
    slack: float = 0.0
    table: Table = field(init=False)
    places: list[tuple[int, int, int]] = field(init=False)  # pre-activation: graph position, first, last column
    unary: dict[int, list[int]] = field(init=False)  # pre-activation -> nonlinear readers
    width: int = field(init=False)
    roots: dict[int, Root] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.problem.graph
        facts = plan(graph)
        self.table = Table.of(self.query, graph)
        self.places, self.unary, self.width = [], {}, 0
        for position in facts.preactivations:
            if not facts.carries[position]:
                continue
            size = math.prod(graph[position].shape)
            self.places.append((position, self.width, self.width + size))
            self.unary[position] = [
                r for r in set(graph.consumers[position]) if isinstance(OPERATORS[graph[r].op], UnaryOperator)
            ]
            self.width += size

    def root(self, region: int, refine: Any = None) -> Enclosures:
        """Bound the pre-activations of a region by backward substitution, from what is known of it."""
        box, known = self.query.regions[region].box, None
        if region in self.roots:
            ends = self.roots[region]
            known = {p: self._columns(p, ends.low[None, a:b], ends.high[None, a:b]) for p, a, b in self.places}
        state = propagate(self.problem, box.lower[None], box.upper[None], known=known, refine=refine)
        low = np.concatenate([state.lower[p].reshape(-1) for p, _, _ in self.places]) if self.places else np.zeros(0)
        high = np.concatenate([state.upper[p].reshape(-1) for p, _, _ in self.places]) if self.places else np.zeros(0)
        self.roots[region] = Root(low, high)
        return state

    def rows(
        self, state: Enclosures, nodes: list[Node], only: list[int] | None
    ) -> tuple[int, np.ndarray, Any, np.ndarray]:
        """Functionals of the nodes' cases: (node, coefficients (B, k, *shape), constant, row numbers (B, k)).

        ``only``: one row of each case.
        """
        table = pad_cases([self.query.regions[n.region].cases[n.case] for n in nodes])
        chosen = np.where(table >= 0, table, table[:, :1])
        if only is not None:
            chosen = chosen[np.arange(len(nodes)), only][:, None]
        source, rows, constant = unit_rows(state, self.problem.graph.outputs[0], chosen)
        k = chosen.shape[1]
        return source, rows[:, :k], constant if isinstance(constant, float) else constant[:, :k], chosen

    def state(self, nodes: list[Node]) -> tuple[Enclosures, np.ndarray, np.ndarray, np.ndarray]:
        """Enclosures of a batch of one region, the imposed ends (B, width), and which sub-problems are empty."""
        root = self.roots[nodes[0].region]
        box = self.query.regions[nodes[0].region].box
        count = len(nodes)
        split_low, split_high = np.full((count, self.width), -np.inf), np.full((count, self.width), np.inf)
        for i, node in enumerate(nodes):
            for neuron, low, high in node.splits:
                split_low[i, neuron] = max(split_low[i, neuron], low)
                split_high[i, neuron] = min(split_high[i, neuron], high)
        low, high = np.maximum(root.low, split_low), np.minimum(root.high, split_high)
        known = {
            p: (low[:, a:b].reshape(count, *self._shape(p)), high[:, a:b].reshape(count, *self._shape(p)))
            for p, a, b in self.places
        }
        lower = np.broadcast_to(box.lower, (count, len(box.lower)))
        upper = np.broadcast_to(box.upper, (count, len(box.upper)))
        state = propagate(self.problem, lower, upper, known=known, narrow=False)
        empty = np.zeros(count, bool)
        for p, _, _ in self.places:
            # crossing ends: no input of the box meets all imposed ends
            low, high = state.lower[p], state.upper[p]
            crossed = low > high
            if crossed.any():
                empty |= (crossed & (low - high > self.slack * (abs(low) + abs(high)))).reshape(count, -1).any(1)
                state.lower[p], state.upper[p] = (
                    np.minimum(state.lower[p], state.upper[p]),
                    np.maximum(state.lower[p], state.upper[p]),
                )
        return state, split_low, split_high, empty

    def _columns(self, position: int, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Flat ends (B, size) of a pre-activation in its own shape."""
        shape = (len(low), *self._shape(position))
        return low.reshape(shape), high.reshape(shape)

    def _shape(self, position: int) -> tuple[int, ...]:
        return self.problem.graph[position].shape

    def bounded(self, nodes: list[Node], schedule: Schedule, only: list[int] | None = None) -> Bounded:
        """Bounds of a batch of one region; ``only``: of one row of each case."""
        state, split_low, split_high, empty = self.state(nodes)
        source, rows, constant, chosen = self.rows(state, nodes, only)
        splits = {
            p: self._columns(p, split_low[:, a:b], split_high[:, a:b])
            for p, a, b in self.places
            if np.isfinite(split_low[:, a:b]).any() or np.isfinite(split_high[:, a:b]).any()
        }
        k = rows.shape[1]
        begun = all(n.slopes.size for n in nodes)  # else some have not been bounded before
        best = optimise(
            state, source, rows, constant=constant, schedule=schedule, splits=splits, target=0.0,
            slopes=self.table.unpacked(np.stack([n.slopes for n in nodes]), k) if begun else None,
            multipliers=self._unpack_multipliers(nodes, k, splits),
        )  # fmt: skip
        enough = 0.0
        if self.slack:
            reach = (abs(state.center) + state.radius)[:, :, None]
            enough = self.slack * (best.bound.size + (abs(best.bound.coefficients) @ reach)[..., 0])
        refuted = (best.value > enough) | (self.query.strict[chosen] & (best.value >= 0))
        return Bounded(state, best, chosen, refuted, empty)

    def step(self, nodes: list[Node]) -> Looked:
        """Bound a batch of one region, and split what stays open."""
        state, best, _, refuted, empty = found = self.bounded(nodes, self.schedule)
        value = np.maximum(best.value, [[n.bound] for n in nodes])
        closed = refuted.any(1) | empty
        leaves = self._leaves(nodes, found) if self.slack else []
        row = best.value.argmax(1)
        alive = np.flatnonzero(~closed)
        if not len(alive):
            return Looked([], [], [], leaves)
        candidates = self._candidates(nodes, best, row, alive)
        scores = self._scores(state, best, row)
        splits: list[Split] = []
        stuck: list[Node] = []
        packed, weights = self.table.slopes(best, alive, row[alive]), self._multipliers(best, row)
        for i, slopes in zip(alive, packed, strict=True):
            node = nodes[i]
            neuron = int(scores[i].argmax())
            bound = float(value[i].max())
            betas = weights[i, [*(n for n, _, _ in node.splits), neuron]]
            betas[-1] = 0.0
            last = node._replace(bound=bound, slopes=slopes, multipliers=betas[:-1])
            if not scores[i, neuron] > 0:
                stuck.append(last)
                continue
            position, first = self.place_of(neuron)
            low = float(state.lower[position][i].reshape(-1)[neuron - first])
            high = float(state.upper[position][i].reshape(-1)[neuron - first])
            at = self._point(position, low, high)
            if not low < at < high:
                stuck.append(last)
                continue
            below, above = (
                Node(node.region, node.case, (*node.splits, (neuron, *ends)), bound, slopes, betas)
                for ends in ((-np.inf, at), (at, np.inf))
            )
            splits.append(Split(node.number, neuron, at, (below, above)))
        if stuck:  # nothing is relaxed any more, or hardly: what is left to find are multipliers
            again = self.bounded(stuck, replace(self.schedule, iterations=LAST_ITERATIONS))
            leaves += self._leaves(stuck, again) if self.slack else []
            open_ = np.flatnonzero(~(again.refuted.any(1) | again.empty))
            stuck = [stuck[i]._replace(bound=max(stuck[i].bound, float(again.best.value[i].max()))) for i in open_]
        return Looked(splits, stuck, candidates, leaves)

    def attempt(self, trials: list[Trial]) -> list[Leaf | None]:
        """Which sub-problems the given evidence refutes, as it stands."""
        nodes = [Node(t.region, t.case, t.ends, -np.inf, t.leaf.slopes, t.leaf.multipliers) for t in trials]
        found = self.bounded(nodes, Schedule(iterations=1), [t.leaf.row for t in trials])
        results: list[Leaf | None] = [None] * len(trials)
        closed = np.flatnonzero(found.refuted.any(1) | found.empty)
        for i, (_, leaf) in zip(closed, self._leaves(nodes, found), strict=True):
            results[i] = leaf if leaf.row == EMPTY else leaf._replace(row=trials[i].leaf.row)
        return results

    def where(self, neuron: int) -> tuple[int, int]:
        """Entry of the table and element of a neuron."""
        position, first = self.place_of(neuron)
        entry, offset = self.table.arguments[position]
        return entry, neuron - first + offset

    def place_of(self, neuron: int) -> tuple[int, int]:
        """Its pre-activation, and the number of the first neuron there."""
        k = bisect_right(self.places, neuron, key=lambda place: place[1]) - 1
        return self.places[k][:2]

    def _leaves(self, nodes: list[Node], found: Bounded) -> list[tuple[int, Leaf]]:
        """Evidence of what is refuted, of the row with the largest bound."""
        best, nothing = found.best, np.zeros(0, np.uint8)
        closed = np.flatnonzero(found.refuted.any(1) | found.empty)
        row = np.where(found.refuted, best.value, -np.inf).argmax(1)
        flat, row = self._multipliers(best, row), row[closed]
        unit, line = self.table.evidence(best, closed, row)
        slopes = unit if self.table.plain else self.table.slopes(best, closed, row)
        leaves = []
        for j, i in enumerate(closed):
            if found.empty[i]:
                leaf = Leaf(EMPTY, np.zeros(0, np.float32), nothing, np.zeros(0, np.float32), nothing)
            else:
                mine, weights = unit[j].copy(), self._evident(nodes[i], flat[i])
                # a case shorter than others of the batch repeats its first row
                number = int(row[j]) if row[j] < len(self._rows_of(nodes[i])) else 0
                leaf = Leaf(number, weights, mine, line[j].copy(), mine if slopes is unit else slopes[j].copy())
            leaves.append((nodes[i].number, leaf))
        return leaves

    def _rows_of(self, node: Node) -> tuple[int, ...]:
        return self.query.regions[node.region].cases[node.case]

    def _evident(self, node: Node, flat: np.ndarray) -> np.ndarray:
        """One weight for each split: of several of one neuron, the tightest that its sign weighs has it."""
        weights = flat[[neuron for neuron, _, _ in node.splits]]
        if len({neuron for neuron, _, _ in node.splits}) == len(weights):
            return weights
        result = np.zeros_like(weights)
        tightest: dict[int, int] = {}
        for k, (neuron, low, high) in enumerate(node.splits):
            if (weights[k] > 0 and np.isfinite(low)) or (weights[k] < 0 and np.isfinite(high)):
                held = tightest.get(neuron)
                if held is None or low > node.splits[held][1] or high < node.splits[held][2]:
                    tightest[neuron] = k
        for k in tightest.values():
            result[k] = weights[k]
        return result

    def explain(self, node: Node) -> str:
        """An open sub-problem in words."""
        return (
            f"worst open sub-problem: {case_text(self.query, node.region, node.case)}, after {len(node.splits)} splits"
        )

    def _point(self, position: int, low: float, high: float) -> float:
        """Where to split: at a kink or inflection inside the range, else in the middle."""
        graph = self.problem.graph
        for reader in self.unary[position]:
            for kink in OPERATORS[graph[reader].op].split_points(graph[reader]):  # type: ignore[attr-defined]
                if low + 0.05 * (high - low) < kink < high - 0.05 * (high - low) or (
                    low < kink < high and OPERATORS[graph[reader].op].piecewise_linear  # type: ignore[attr-defined]
                ):
                    return float(kink)
        return 0.5 * low + 0.5 * high

    def _scores(self, state: Enclosures, best: Optimised, row: np.ndarray) -> np.ndarray:
        """What each relaxation costs the bound: at its minimiser, and over the whole interval (B, width)."""
        graph = self.problem.graph
        count = len(row)
        scores = np.zeros((count, self.width))
        index = np.arange(count)
        for position, first, last in self.places:
            for reader in self.unary[position]:
                if reader not in best.trace.at:
                    continue
                node = graph[reader]
                weight = best.trace.at[reader][index, row]
                z = best.values[position][index, row]
                low, high = state.lower[position], state.upper[position]
                card = OPERATORS[node.op]
                exact = card.evaluate(np, node, [], [np.clip(z, low, high)])
                here = np.abs(weight) * np.abs(exact - best.values[reader][index, row])
                if card.piecewise_linear:  # type: ignore[attr-defined]
                    loose = card.crosses_kink(node, low, high)  # type: ignore[attr-defined]
                else:
                    loose = high - low > 1e-9 * (1.0 + np.abs(low) + np.abs(high))
                span = np.where(loose, high - low, 1.0)
                area = np.maximum(-weight, 0.0) * np.where(loose, np.abs(low * high), 0.0) / span
                score = np.where(loose, 0.1 * here + area + 1e-12 * np.abs(weight) * span + 1e-30, 0.0)
                scores[:, first:last] += np.nan_to_num(score, posinf=1e30).reshape(count, -1)
        return scores

    def _candidates(
        self, nodes: list[Node], best: Optimised, row: np.ndarray, alive: np.ndarray
    ) -> list[tuple[int, np.ndarray]]:
        """Minimisers of the bounds that violate the case in plain arithmetic."""
        box = self.query.regions[nodes[0].region].box
        points = np.clip(best.minimiser[alive, row[alive]], box.lower, box.upper)
        table = pad_cases([self.query.regions[nodes[i].region].cases[nodes[i].case] for i in alive])
        worst = violation(margins(self.problem, points), table)
        return [(nodes[0].region, points[i]) for i in np.flatnonzero(worst <= 0)[:4]]

    def _multipliers(self, best: Optimised, row: np.ndarray) -> np.ndarray:
        """Multipliers (B, width) of one row each."""
        flat, index = np.zeros((len(row), self.width), np.float32), np.arange(len(row))
        for p, a, b in self.places:
            if p in best.multipliers:
                flat[:, a:b] = best.multipliers[p][index, row].reshape(len(row), b - a)
        return flat

    def _unpack_multipliers(self, nodes: list[Node], rows: int, splits: dict) -> dict[int, np.ndarray]:
        flat = np.zeros((len(nodes), self.width))
        for i, node in enumerate(nodes):
            for (neuron, low, high), beta in zip(node.splits, node.multipliers, strict=True):
                # the sign must fit the end it weighs
                if (beta > 0 and np.isfinite(low)) or (beta < 0 and np.isfinite(high)):
                    flat[i, neuron] = beta
        return {
            p: np.repeat(flat[:, a:b].reshape(len(nodes), 1, *self._shape(p)), rows, axis=1)
            for p, a, b in self.places
            if p in splits
        }
