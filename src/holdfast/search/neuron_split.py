"""Branch and bound over neurons: for networks of which many inputs vary.

A sub-problem is one case of one region with ends imposed on some pre-activations (z <= t or z >= t); its bound is
optimised over slopes and split multipliers (beta-CROWN, Wang et al., NeurIPS 2021) on the ranges of the root. The
neuron whose relaxation costs most at the minimiser of the bound is split next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from holdfast.bounds.backward import unit_rows
from holdfast.bounds.enclosure import Enclosures, OutOfTime, Problem, plan
from holdfast.bounds.optimised import Optimised, Schedule, optimise, refine_optimised
from holdfast.bounds.propagate import propagate
from holdfast.operators import OPERATORS, UnaryOperator
from holdfast.search.attack import margins, pad_cases, violation
from holdfast.search.budget import Budget
from holdfast.search.explain import case_text
from holdfast.search.input_split import Outcome
from holdfast.search.replay import Replay
from holdfast.search.workers import Workers
from holdfast.spec.query import Query
from holdfast.verdict import Reason


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
    slopes: np.ndarray  # float16, all movable slopes of the root row one after the other
    multipliers: np.ndarray  # one per split


@dataclass(eq=False)
class NeuronSplit:
    """Constant tables of one search, and `step`, a pure function of a batch of nodes of one region."""

    query: Query
    problem: Problem
    schedule: Schedule
    places: list[tuple[int, int, int]] = field(init=False)  # pre-activation: graph position, first, last column
    unary: dict[int, list[int]] = field(init=False)  # pre-activation -> nonlinear readers
    width: int = field(init=False)
    roots: dict[int, Root] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.problem.graph
        facts = plan(graph)
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
        """Bound the pre-activations of a region once, by backward substitution."""
        box = self.query.regions[region].box
        state = propagate(self.problem, box.lower[None], box.upper[None], refine=refine)
        low = np.concatenate([state.lower[p].reshape(-1) for p, _, _ in self.places]) if self.places else np.zeros(0)
        high = np.concatenate([state.upper[p].reshape(-1) for p, _, _ in self.places]) if self.places else np.zeros(0)
        self.roots[region] = Root(low, high)
        return state

    def rows(self, state: Enclosures, nodes: list[Node]) -> tuple[int, np.ndarray, Any, np.ndarray]:
        """Functionals of the nodes' cases: (node, coefficients (B, k, *shape), constant, row numbers (B, k))."""
        table = pad_cases([self.query.regions[n.region].cases[n.case] for n in nodes])
        chosen = np.where(table >= 0, table, table[:, :1])
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
            crossed = state.lower[p] > state.upper[p]
            if crossed.any():
                empty |= crossed.reshape(count, -1).any(1)
                state.lower[p], state.upper[p] = (
                    np.minimum(state.lower[p], state.upper[p]),
                    np.maximum(state.lower[p], state.upper[p]),
                )
        return state, split_low, split_high, empty

    def _shape(self, position: int) -> tuple[int, ...]:
        return self.problem.graph[position].shape

    def step(self, nodes: list[Node]) -> tuple[list[Node], list[Node], list[tuple[int, np.ndarray]]]:
        """Bound a batch of one region: (children of what is open, open nodes that cannot be split, candidates)."""
        state, split_low, split_high, empty = self.state(nodes)
        source, rows, constant, chosen = self.rows(state, nodes)
        splits = {
            p: (
                split_low[:, a:b].reshape(len(nodes), *self._shape(p)),
                split_high[:, a:b].reshape(len(nodes), *self._shape(p)),
            )
            for p, a, b in self.places
            if np.isfinite(split_low[:, a:b]).any() or np.isfinite(split_high[:, a:b]).any()
        }
        best = optimise(
            state, source, rows, constant=constant, schedule=self.schedule, splits=splits,
            slopes=self._unpack_slopes(nodes, rows.shape[1]), multipliers=self._unpack_multipliers(nodes, rows.shape[1], splits),
            target=0.0,
        )  # fmt: skip
        strict = self.query.strict[chosen]
        value = np.maximum(best.value, [[n.bound] for n in nodes])
        refuted = ((best.value > 0) | (strict & (best.value >= 0))).any(1) | empty
        row = best.value.argmax(1)
        alive = np.flatnonzero(~refuted)
        if not len(alive):
            return [], [], []
        candidates = self._candidates(nodes, best, row, alive)
        scores = self._scores(state, best, row)
        children: list[Node] = []
        stuck: list[Node] = []
        packed = self._pack_slopes(best, row)
        for i in alive:
            node = nodes[i]
            neuron = int(scores[i].argmax())
            bound = float(value[i].max())
            if not scores[i, neuron] > 0:
                stuck.append(node._replace(bound=bound))
                continue
            position, first, _ = next(place for place in self.places if place[1] <= neuron < place[2])
            low = float(state.lower[position][i].reshape(-1)[neuron - first])
            high = float(state.upper[position][i].reshape(-1)[neuron - first])
            at = self._point(position, low, high)
            if not low < at < high:
                stuck.append(node._replace(bound=bound))
                continue
            betas = np.append(self._multipliers_of(best, node, int(i), int(row[i])), np.float32(0.0))
            for ends in ((-np.inf, at), (at, np.inf)):
                children.append(Node(node.region, node.case, (*node.splits, (neuron, *ends)), bound, packed[i], betas))
        return children, stuck, candidates

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

    def _pack_slopes(self, best: Optimised, row: np.ndarray) -> np.ndarray:
        index = np.arange(len(row))
        parts = []
        for p in sorted(best.slopes):
            s = best.slopes[p]
            picked = s[index, row] if s.shape[:2] == best.value.shape else s[:, index, row].swapaxes(0, 1)
            parts.append(picked.reshape(len(row), -1))
        return np.concatenate(parts, 1).astype(np.float16) if parts else np.zeros((len(row), 0), np.float16)

    def _unpack_slopes(self, nodes: list[Node], rows: int) -> dict[int, np.ndarray] | None:
        if not all(n.slopes.size for n in nodes):  # some have not been bounded before
            return None
        flat = np.stack([n.slopes for n in nodes]).astype(np.float64)
        graph, result, first = self.problem.graph, {}, 0
        for p in sorted({r for readers in self.unary.values() for r in readers} | set(self._products())):
            count = OPERATORS[graph[p].op].slopes  # type: ignore[attr-defined]
            if not count or p > graph.outputs[0]:
                continue
            shape = graph[p].shape
            size = math.prod(shape) * (1 if graph[p].op in ("relu", "abs") else count)
            part = flat[:, first : first + size]
            first += size
            if graph[p].op in ("relu", "abs"):
                result[p] = np.repeat(part.reshape(len(nodes), 1, *shape), rows, axis=1)
            else:
                spread = part.reshape(len(nodes), count, 1, *shape).swapaxes(0, 1)
                result[p] = np.repeat(spread, rows, axis=2)
        return result

    def _products(self) -> list[int]:
        return [
            i
            for i, n in enumerate(self.problem.graph.nodes)
            if n.op == "product" and plan(self.problem.graph).carries[i]
        ]

    def _multipliers_of(self, best: Optimised, node: Node, i: int, row: int) -> np.ndarray:
        result = np.zeros(len(node.splits), np.float32)
        for k, (neuron, _, _) in enumerate(node.splits):
            position, first, _ = next(place for place in self.places if place[1] <= neuron < place[2])
            if position in best.multipliers:
                result[k] = best.multipliers[position][i, row].reshape(-1)[neuron - first]
        return result

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


def neuron_split(query: Query, problem: Problem, replay: Replay, budget: Budget, workers: int) -> Outcome:
    """Run the search to its end or to its limits: all regions, all cases, worst bound first."""
    search = NeuronSplit(query, problem, Schedule(iterations=20))
    open_nodes: list[Node] = []
    done = 0
    nothing = np.zeros(0, np.float16)
    began = budget.seconds
    for region, facts in enumerate(query.regions):
        try:
            problem.check_time()
            search.root(region)
        except OutOfTime:
            return Outcome(Reason.TIME, None, -np.inf, done, "the time ended while the whole region was being bounded")
        open_nodes += [
            Node(region, case, (), -np.inf, nothing, np.zeros(0, np.float32)) for case in range(len(facts.cases))
        ]
    cost = budget.seconds - began  # of one pass over all regions
    stuck: list[Node] = []
    refined = False
    team: Workers | None = None
    widest = max(math.prod(node.shape) for node in problem.graph.nodes)
    batch = int(np.clip(65536 // max(widest, 1), 4, 64))
    limit = max(256, budget.memory_mib * (1 << 20) // 2 // max(1, 12 * search.width + 4096))
    try:
        while open_nodes:
            worst = min(n.bound for n in (*open_nodes, *stuck))
            if budget.expired() or len(open_nodes) > limit:
                reason = Reason.TIME if budget.expired() else Reason.MEMORY
                return Outcome(reason, None, worst, done, search.explain(min(open_nodes, key=lambda n: n.bound)))
            if done >= 64 and not refined:
                refined = True
                _refine_roots(search, {n.region for n in open_nodes}, cost, budget)
                # sub-problems begun on the looser ranges are begun again
                cases = sorted({(n.region, n.case) for n in (*open_nodes, *stuck)})
                open_nodes = [Node(r, c, (), -np.inf, nothing, np.zeros(0, np.float32)) for r, c in cases]
                stuck = []
                search.schedule = Schedule(iterations=10)
                team = Workers(search.step, workers)
            open_nodes.sort(key=lambda n: -n.bound)
            lanes = team.count if team is not None else 1
            tasks = []
            for _ in range(lanes):
                if not open_nodes:
                    break
                first = open_nodes[-1]
                size = min(batch, max(1, -(-len(open_nodes) // lanes)))
                task = [n for n in open_nodes[-2 * size :] if n.region == first.region]
                task = task[-size:]
                chosen = set(map(id, task))
                open_nodes = [n for n in open_nodes if id(n) not in chosen]
                tasks.append(task)
            try:
                results = team.map(tasks) if team is not None else [search.step(t) for t in tasks]
            except OutOfTime:
                open_nodes += [node for task in tasks for node in task]
                continue  # the time is over, which is seen above
            done += sum(map(len, tasks))
            for children, lost, candidates in results:
                for region, point in candidates:
                    found = replay.confirm(region, point)
                    if found is not None:
                        return Outcome(Reason.WITNESS, found, -np.inf, done)
                open_nodes += children
                stuck += lost
            budget.tell("splitting neurons", len(open_nodes), done, worst)
    finally:
        if team is not None:
            team.close()
    if stuck:
        return Outcome(
            Reason.THIN if replay.thin else Reason.INCOMPLETE, None, min(n.bound for n in stuck), done,
            f"{len(stuck)} sub-problems have no neuron left to split",
        )  # fmt: skip
    return Outcome(Reason.PROVED, None, np.inf, done)


def _refine_roots(search: NeuronSplit, regions: set[int], cost: float, budget: Budget) -> None:
    """Optimise the slopes of every single pre-activation bound, as far as a sixth of the time left allows."""
    iterations = int(np.clip(budget.left / 6 / max(2.0 * cost, 1e-3), 0, 10)) if np.isfinite(budget.left) else 10
    if iterations < 2:
        return
    for region in regions:
        if budget.expired():
            return
        before = search.roots[region]
        try:
            search.root(region, refine_optimised(Schedule(iterations=iterations)))
        except OutOfTime:
            return
        after = search.roots[region]
        search.roots[region] = Root(np.maximum(before.low, after.low), np.minimum(before.high, after.high))
