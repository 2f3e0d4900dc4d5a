"""Branch and bound over neurons: for networks of which many inputs vary.

Worst bound first, over all cases of all regions; after the first few sub-problems the ranges of whole regions are
narrowed once more, with optimised slopes, and what is open begins again on them. `neuron_step` says what a step is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from holdfast.bounds.enclosure import Enclosures, OutOfTime, Problem
from holdfast.bounds.optimised import Schedule, refine_optimised
from holdfast.search.budget import Budget
from holdfast.search.evidence import Block, Leaf, range_recorder
from holdfast.search.input_split import Certify, Outcome
from holdfast.search.minimise import Proof, Trial
from holdfast.search.neuron_step import Looked, NeuronSplit, Node
from holdfast.search.replay import Replay
from holdfast.search.workers import Workers
from holdfast.spec.query import Query
from holdfast.verdict import Reason

SLACK = 1e-9  # relative: a certificate is checked with roundings of the checker's own
RANGES_BYTES = 1 << 29  # evidence for the ranges of one region, at most
REFINE_AFTER = 64  # sub-problems
MINIMISE_SHARE = 0.03  # of the time of the search


def neuron_split(
    query: Query, problem: Problem, replay: Replay, budget: Budget, workers: int, certify: Certify | None = None
) -> Outcome:
    """Run the search to its end or to its limits: all regions, all cases; ``certify``: keep a record of the proof."""
    search = NeuronSplit(query, problem, Schedule(iterations=20), SLACK if certify else 0.0)
    proof = None
    if certify:
        writer = certify({"mode": "neurons", "nonlinear": search.table.header()})
        proof = Proof(writer, search.where, budget.memory_mib * (1 << 20) // 4)
    done = 0
    began = budget.seconds
    evidence: dict[int, int] = {}  # bytes that narrowing the ranges of a region once more may take in the certificate
    passes: dict[int, int] = {}  # how often evidence for narrower ranges of a region was given
    told = proof is not None and not search.table.settled and search.table.ranges_bytes() <= RANGES_BYTES
    for region in range(len(query.regions)):
        try:
            problem.check_time()
            # told: the lines taken by default are the engine's own, so they are written down
            state = _narrowed(search, region, Schedule(iterations=1), proof, passes) if told else search.root(region)
            evidence[region] = search.table.ranges_bytes(state) if proof is not None else 0
            if problem.execution is not None and not all(np.isfinite(e).all() for e in (*state.lower, *state.upper)):
                # z <= t and z >= t do not cover a z that is no number
                what = "a float32 execution may overflow on the region, so that splitting neurons proves nothing"
                return Outcome(Reason.INCOMPLETE, None, -np.inf, done, what)
        except OutOfTime:
            return Outcome(Reason.TIME, None, -np.inf, done, "the time ended while the whole region was being bounded")
    cost = budget.seconds - began  # of one pass over all regions
    open_nodes = _begun(
        [(r, c) for r, facts in enumerate(query.regions) for c in range(len(facts.cases))], passes, proof
    )
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
            if done >= REFINE_AFTER and not refined:
                refined = True
                regions = {n.region for n in open_nodes if evidence[n.region] <= RANGES_BYTES}
                _refine_roots(search, regions, cost, budget, proof, passes)
                # sub-problems begun on the looser ranges are begun again
                open_nodes = _begun(sorted({(n.region, n.case) for n in (*open_nodes, *stuck)}), passes, proof)
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
            for looked in results:
                for region, point in looked.candidates:
                    found = replay.confirm(region, point)
                    if found is not None:
                        return Outcome(Reason.WITNESS, found, -np.inf, done)
                open_nodes += _children(looked, proof)
                stuck += looked.stuck
            budget.tell("splitting neurons", len(open_nodes), done, worst)
    finally:
        if team is not None:
            team.close()
    if stuck:
        return Outcome(
            Reason.THIN if replay.thin else Reason.INCOMPLETE, None, min(n.bound for n in stuck), done,
            f"{len(stuck)} sub-problems have no neuron left to split",
        )  # fmt: skip
    if proof is not None:
        _written(search, proof, batch, budget, budget.seconds - began)
    return Outcome(Reason.PROVED, None, np.inf, done)


def _begun(cases: Iterable[tuple[int, int]], passes: Mapping[int, int], proof: Proof | None) -> list[Node]:
    """Cases of regions as sub-problems; ``passes``: how often the ranges of a region have been narrowed once more."""
    slopes, multipliers = np.zeros(0, np.uint8), np.zeros(0, np.float32)
    return [
        Node(r, c, (), -np.inf, slopes, multipliers, proof.root(r, c, passes.get(r, 0)) if proof is not None else 0)
        for r, c in cases
    ]


def _children(looked: Looked, proof: Proof | None) -> list[Node]:
    """What is open after a step; the step is kept."""
    children = []
    for split in looked.splits:
        first = proof.split(split.number, split.neuron, split.at) if proof is not None else 0
        children += [child._replace(number=first + side) for side, child in enumerate(split.children)]
    if proof is not None:
        for number, leaf in looked.leaves:
            proof.leaf(number, leaf)
    return children


def _refine_roots(
    search: NeuronSplit, regions: set[int], cost: float, budget: Budget, proof: Proof | None, passes: dict[int, int]
) -> None:
    """Optimise the slopes of every single pre-activation bound, as far as a sixth of the time left allows."""
    iterations = int(np.clip(budget.left / 6 / max(2.0 * cost, 1e-3), 0, 10)) if np.isfinite(budget.left) else 10
    for region in sorted(regions) if iterations >= 2 else ():
        if budget.expired():
            return
        try:
            _narrowed(search, region, Schedule(iterations=iterations), proof, passes)
        except OutOfTime:
            return


def _narrowed(
    search: NeuronSplit, region: int, schedule: Schedule, proof: Proof | None, passes: dict[int, int]
) -> Enclosures:
    """Narrow the ranges of a region with optimised slopes, which are written down where there is a proof."""
    number, blocks = passes.get(region, 0) + 1, []

    def emit(block: Block) -> None:
        if search.table.ordered:
            proof.writer.ranges(region, number, *block)  # type: ignore[union-attr]
        else:  # the format wants the order of the table
            blocks.append(block)

    state = search.root(region, refine_optimised(schedule, range_recorder(search.table, emit) if proof else None))
    for block in sorted(blocks, key=lambda b: b[0]):
        proof.writer.ranges(region, number, *block)  # type: ignore[union-attr]
    passes[region] = number
    return state


def _written(search: NeuronSplit, proof: Proof, batch: int, budget: Budget, spent: float) -> None:
    """Complete the proof; making it smaller may take a small share of the time ``spent``."""
    end = budget.seconds + MINIMISE_SHARE * spent

    def attempt(trials: list[Trial]) -> list[Leaf | None]:
        try:
            return search.attempt(trials)
        except OutOfTime:
            return [None] * len(trials)

    proof.finish(attempt, batch, lambda: budget.expired() or budget.seconds > end)
