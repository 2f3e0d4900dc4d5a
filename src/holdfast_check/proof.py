"""The replay of a proof tree (sections 5 to 7 of the format): is every case of every region refuted on all of the region?

An obligation is a set of inputs, and cases that may hold there. Its record either refutes it (LEAF) or replaces it by obligations
that together cover it: x <= t and x >= t (INPUT), z <= t and z >= t for a pre-activation z (NEURON), itself (AGAIN). So a root
is refuted if all leaves under it are. The cuts are the certificate's; every bound is computed here. Obligations depend on those
above them only through boxes and ranges handed down, so that many are computed at once.

A leaf of mode `neurons` is refuted by a lower bound of margin - sum b (z - t), b >= 0 where z >= t is imposed and b <= 0 where
z <= t: each term b (z - t) is >= 0, so that the margin is no smaller wherever the splits hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from holdfast_check.arithmetic import TINY, Invalid, Limit, gamma, plus, size
from holdfast_check.bounds import ROOM, Graph, Ranges, forward, graph_of, least, narrow, substitute
from holdfast_check.query import Query
from holdfast_check.relaxations import KINKED, Pair

ROOT, LEAF, INPUT, NEURON, AGAIN = range(5)
NOTHING = 2**32 - 1  # element of a leaf whose imposed ends leave nothing
BATCH = 64  # obligations computed at once
MEMORY = 4096.0  # MiB of obligations that wait


@dataclass(frozen=True)
class Figures:
    """What was checked, and an estimate of the memory that it needed (MiB)."""

    leaves: int
    records: int
    memory: float


@dataclass(frozen=True, eq=False)
class Tree:
    """For each obligation its record (-1: none), its parent and the root above it (itself for a root), and the splits on the way; for
    each record the first obligation that it makes. `roots`: (region, element) to the last root all of whose obligations have records."""

    records: np.ndarray
    record: list[int]
    parent: list[int]
    top: list[int]
    depth: list[int]
    first: list[int]
    roots: dict[tuple[int, int], int]

    def root(self, region: int, element: int) -> int:
        if (region, element) not in self.roots:
            case = f", case {element - 1}" if element else ""
            raise Invalid(f"region {region}{case}: there is no root under which every obligation has a record")
        return self.roots[region, element]

    def splits(self, number: int) -> list[tuple[int, int, float, bool]]:
        """place, element, at, and whether it is the upper side, of the splits from the root to an obligation."""
        found = []
        while (above := self.parent[number]) != number:
            _, kind, place, element, at = self.records[self.record[above]].item()
            found += [(place, element, at, number != self.first[self.record[above]])] * (kind != AGAIN)
            number = above
        return found[::-1]

    def name(self, number: int) -> str:
        boxes = INPUT in self.records["kind"]
        path = [
            f"{f'x{place}' if boxes else f'z{place}.{element}'} {'>=' if upper else '<='} {at:.9g}"
            for place, element, at, upper in self.splits(number)
        ]
        return f"obligation {number} ({', '.join(['...'] * (len(path) > 4) + path[-4:]) or 'root'})"


@dataclass(frozen=True, eq=False)
class Place:
    """A function of the table: its node, whether its evidence is `unit`, and how many values of its kind stand before its own."""

    node: int
    unit: bool
    size: int
    before: int


@dataclass(frozen=True, eq=False)
class Task:
    graph: Graph
    query: Query
    tree: Tree
    places: Sequence[Place]

    @property
    def batch(self) -> int:
        return max(1, min(BATCH, ROOM // max(node.size for node in self.graph.nodes)))


def prove(query: Query, certificate: Any, *, deadline: float | None, report: Callable[[str], None]) -> Figures:
    """Raises `Invalid` unless the certificate proves that no input of any region satisfies all rows of one of its cases, `Limit` if
    time.monotonic() passes `deadline`. `report` is told the estimate before the work begins."""
    header, records = certificate.header, certificate.records
    boxes, float32 = header["mode"] == "boxes", header["semantics"] == "float32"
    for number, region in enumerate(query.regions):
        if not all(region.cases):
            raise Invalid(f"region {number}, case {region.cases.index(())}: a case without rows cannot be refuted")
    if float32 and query.obstacle:
        raise Invalid(f"float32 executions cannot be covered: {query.obstacle}")

    def tick() -> None:
        if deadline is not None and time.monotonic() > deadline:
            raise Limit("the time ran out before all obligations were checked")

    places = [] if boxes else read_places(query, header["nonlinear"])
    tree = read_tree(records, boxes, query, places)
    deepest, numbers = max(tree.depth, default=0), sum(node.size for node in query.nodes)
    evidence = 0 if boxes else int(np.sum(records["kind"] == LEAF)) * sum(p.size * (2 if p.unit else 8) for p in places)
    waiting = 16 * BATCH * (deepest + 1) * numbers * boxes
    memory = 60 + (8 * (40 * BATCH * numbers + 10 * ROOM) + waiting + evidence + 300 * len(records)) / 2**20
    report(f"{len(tree.record)} obligations, up to {deepest} splits deep; about {memory:.0f} MiB at most")
    task = Task(graph_of(query.nodes, query.inputs, float32, tick), query, tree, places)
    with np.errstate(all="ignore"):
        if boxes:
            for number in range(len(query.regions)):
                replay_boxes(task, number)
        elif query.regions:
            replay_neurons(task, certificate)
    return Figures(int(np.sum(records["kind"] == LEAF)), len(records), memory)


def read_tree(records: np.ndarray, boxes: bool, query: Query, places: Sequence[Place]) -> Tree:
    """Checks that every record is well-formed, and finds the roots that count."""
    kind, at = records["kind"], records["at"]
    node, place, element = (records[name].astype(np.int64) for name in ("node", "place", "element"))

    def demand(which: np.ndarray, good: Any, what: str) -> None:
        bad = np.flatnonzero(which & ~good)
        if len(bad):
            raise Invalid(f"record {bad[0]}: {what}")

    def entry(table: Sequence[int], which: np.ndarray) -> np.ndarray:  # table[place], and 0 where there is none
        return np.append(table, 0).astype(np.int64)[np.where(which & (place < len(table)), place, -1)]

    every, root = np.ones(len(records), bool), kind == ROOT
    made = np.array([1, 0, 2, 2, 1, 0])[np.minimum(kind, 5)]
    first = np.cumsum(made) - made
    demand(
        every,
        root | (kind == LEAF) | np.isin(kind, (INPUT, AGAIN) if boxes else (NEURON,)),
        "its kind does not belong to the mode",
    )
    demand(every, np.isfinite(at), "its number is not finite")
    demand(root, node == first, "it makes another obligation than it says")
    demand(~root, node < first, "its obligation has not been made")
    demand((kind == LEAF) | (kind == AGAIN), (place == 0) & (at == 0), "a field that is not used is not zero")
    demand(root, place < len(query.regions), "its region does not exist")
    if boxes:
        demand(root, (element == 0) & (at == 0), "a root of mode boxes is of all cases and has no passes")
        demand(~root, element <= 1, "its look is neither 0 nor 1")
        demand(kind == INPUT, place < query.inputs, "its input does not exist")
    else:
        demand(
            root,
            (element >= 1) & (element <= entry([len(r.cases) for r in query.regions], root)),
            "its case does not exist",
        )
        demand(root, (at >= 0) & (at == np.floor(at)), "its passes are no number")
        sizes = [p.size * len(query.nodes[p.node].inputs) for p in places]
        demand(kind == NEURON, element < entry(sizes, kind == NEURON), "its element does not exist")
    record, parent = np.full(int(made.sum()), -1), np.arange(int(made.sum()))
    speaks = np.flatnonzero(~root)
    record[node[speaks[::-1]]] = speaks[::-1]  # the first one stays
    demand(~root, record[np.where(root, 0, node)] == np.arange(len(records)), "its obligation has two records")
    for nth in (0, 1):
        parent[first[~root & (made > nth)] + nth] = node[~root & (made > nth)]
    parents, recorded, kinds = parent.tolist(), record.tolist(), kind.tolist()
    top, depth = list(range(len(parents))), [0] * len(parents)
    for i, above in enumerate(parents):
        if above != i:  # then it is smaller
            top[i], depth[i] = top[above], depth[above] + (kinds[recorded[above]] != AGAIN)
    without = {top[i] for i in np.flatnonzero(record < 0).tolist()}
    roots = {
        (int(place[r]), int(element[r])): int(node[r]) for r in np.flatnonzero(root) if int(node[r]) not in without
    }
    return Tree(records, recorded, parents, top, depth, first.tolist(), roots)


# ---- mode boxes


@dataclass(frozen=True, eq=False)
class Waiting:
    """An obligation: its box, the cases still open, and ranges of pre-activations (one behind the other) that hold on it."""

    number: int
    lower: np.ndarray
    upper: np.ndarray
    open: np.ndarray
    known: Pair


def replay_boxes(task: Task, number: int) -> None:
    """Depth first, some obligations at once, so that few of them wait."""
    tree, region = task.tree, task.query.regions[number]
    width = sum(task.graph.nodes[j].size for j in task.graph.loose)
    nothing = np.full(width, -np.inf), np.full(width, np.inf)
    stack = [Waiting(tree.root(number, 0), region.lower, region.upper, np.ones(len(region.cases), bool), nothing)]
    while stack:
        taken, stack = stack[-task.batch :], stack[: -task.batch]
        for look in (0, 1):
            part = [w for w in taken if tree.records["element"][tree.record[w.number]] == look]
            stack += look_at(task, number, part, look == 0) if part else []
        if len(stack) * 16 * (width + task.graph.inputs) > MEMORY * 2**20:
            raise Limit("the obligations that wait need too much memory")


def look_at(task: Task, number: int, taken: list[Waiting], full: bool) -> list[Waiting]:
    """The obligations that the records of these leave behind."""
    graph, tree, output, cases = task.graph, task.tree, task.query.output, task.query.regions[number].cases
    box = np.array([w.lower for w in taken]), np.array([w.upper for w in taken])
    still = np.array([w.open for w in taken])
    low, high = (np.array([w.known[side] for w in taken]) for side in (0, 1))
    nodes = sorted(graph.loose)
    ends = pairwise(np.cumsum([0, *(graph.nodes[j].size for j in nodes)]).tolist())
    known = {j: (low[:, a:b], high[:, a:b]) for j, (a, b) in zip(nodes, ends, strict=True)}
    ranges = forward(graph, box, known, narrow if full else None)
    rows = sorted({row for k in np.flatnonzero(still.any(axis=0)) for row in cases[k]})
    start = np.zeros((len(taken), len(rows), graph.nodes[output].size))
    start[:, np.arange(len(rows)), rows] = 1.0
    a, c = substitute(graph, ranges, {output: start})
    bound = np.fmax(least(box, a, c), ranges.lower[output][:, rows])
    good = np.where(task.query.strict[rows], bound >= 0, bound > 0)
    columns = {k: [rows.index(row) for row in cases[k]] for k in np.flatnonzero(still.any(axis=0)).tolist()}
    for k, column in columns.items():
        still[:, k] &= ~good[:, column].any(axis=1)
    if full:
        box, still = contract(box, a, c, columns, still)
    low, high = (np.concatenate([low[:, :0], *(end[j] for j in nodes)], axis=1) for end in (ranges.lower, ranges.upper))
    left = []
    for b in np.flatnonzero(still.any(axis=1)).tolist():
        record = tree.record[taken[b].number]
        _, kind, place, _, at = tree.records[record].item()
        if kind == LEAF:
            k = int(np.flatnonzero(still[b])[0])
            best = max(columns[k], key=lambda row: float(np.nan_to_num(bound[b, row], nan=-np.inf)))
            raise Invalid(
                f"region {number}, {tree.name(taken[b].number)}: case {k} is not refuted, "
                f"its best row {rows[best]} is only known to be at least {bound[b, best]:.9g}"
            )
        for side in range(1 if kind == AGAIN else 2):
            sides = box[0][b].copy(), box[1][b].copy()
            if kind == INPUT:  # a cut outside of the box is moved to its end, and the two parts cover the box
                sides[1 - side][place] = np.clip(at, box[0][b, place], box[1][b, place])
            left.append(Waiting(tree.first[record] + side, *sides, still[b].copy(), (low[b].copy(), high[b].copy())))
    return left


def contract(
    box: Pair, a: np.ndarray, c: np.ndarray, columns: dict[int, list[int]], still: np.ndarray
) -> tuple[Pair, np.ndarray]:
    """Cuts off, case by case, what a row excludes: where a . x + c <= 0 and m = c + min a . x, also a_d x_d - min (a_d x_d) <= -m.
    The hull over the cases still open, and these."""
    hull, still = (np.full(box[0].shape, np.inf), np.full(box[0].shape, -np.inf)), still.copy()
    for k, column in columns.items():
        lower, upper = box
        for row in column:
            slope = a[:, row]
            m = least((lower, upper), slope[:, None], c[:, row, None])
            still[:, k] &= ~(m[:, 0] > 0)
            shift = m / slope
            slack = gamma(2) * (np.abs(shift) + size(lower, upper)) + TINY
            ends = upper - shift - slack, lower - shift + slack  # where these are no numbers nothing is cut off
            lower, upper = (
                np.where((slope < 0) & (ends[0] > lower), ends[0], lower),
                np.where((slope > 0) & (ends[1] < upper), ends[1], upper),
            )
            still[:, k] &= np.all(lower <= upper, axis=1)
        inside = still[:, k, None]
        hull = (
            np.where(inside, np.minimum(hull[0], lower), hull[0]),
            np.where(inside, np.maximum(hull[1], upper), hull[1]),
        )
    return hull, still


# ---- mode neurons


def read_places(query: Query, table: Sequence[dict[str, Any]]) -> list[Place]:
    """The nodes of the functions of the table."""
    found: dict[tuple[str, str, int], list[int]] = {}
    for i, node in enumerate(query.nodes):
        if node.kind not in ("input", "linear"):
            found.setdefault(node.label, []).append(i)
    places: list[Place] = []
    for number, entry in enumerate(table):
        nodes = found.pop((entry["network"], entry["node"], entry["part"]), [])
        if len(nodes) != 1:
            raise Invalid(f"entry {number} of nonlinear is repeated, or {len(nodes)} functions have its name")
        node = query.nodes[nodes[0]]
        unit = node.kind in (*KINKED, "product")
        if entry["size"] != node.size or entry["evidence"] != ("unit" if unit else "line"):
            raise Invalid(f"entry {number} of nonlinear: the network has a {node.kind} of {node.size} elements there")
        places.append(Place(nodes[0], unit, node.size, sum(p.size for p in places if p.unit == unit)))
    return places


def values_of(places: Sequence[Place], unit: np.ndarray, line: np.ndarray) -> dict[int, np.ndarray]:
    """Evidence of each function, out of rows (B, all values)."""
    return {p.node: (unit if p.unit else line)[:, p.before : p.before + p.size].astype(float) for p in places}


def argument(task: Task, place: int, element: int) -> tuple[int, int]:
    """Node and element of a pre-activation; those of a second factor stand behind those of the first."""
    function = task.graph.nodes[task.places[place].node]
    return function.inputs[element // function.size], element % function.size


def replay_neurons(task: Task, certificate: Any) -> None:
    """Region by region: its ranges pass by pass, and the leaves of a root after the passes that it asks for."""
    tree, records = task.tree, task.tree.records
    asked = {int(records["node"][r]): float(records["at"][r]) for r in np.flatnonzero(records["kind"] == ROOT)}
    roots = [[tree.root(k, case + 1) for case in range(len(r.cases))] for k, r in enumerate(task.query.regions)]
    evidence = read_evidence(task, list(certificate.leaves))
    own: dict[int, list[int]] = {}
    for record in np.flatnonzero(records["kind"] == LEAF).tolist():
        own.setdefault(tree.top[records["node"][record]], []).append(record)
    blocks: dict[tuple[int, int], list[Any]] = {}
    for block in certificate.ranges:
        blocks.setdefault((block.region, block.number_of_pass), []).append(block)
    for number, region in enumerate(task.query.regions):
        ranges, done = forward(task.graph, (region.lower[None], region.upper[None]), {}, narrow), 0
        last = max((p for r, p in blocks if r == number), default=0)
        for passes, case, root in sorted((asked[root], case, root) for case, root in enumerate(roots[number])):
            while done < min(passes, last):
                done += 1
                ranges = one_pass(task, ranges, blocks.get((number, done), []))
            leaves = own.get(root, [])
            for k in range(0, len(leaves), task.batch):
                refute(task, ranges, evidence, number, case, leaves[k : k + task.batch])


def one_pass(task: Task, ranges: Ranges, blocks: Sequence[Any]) -> Ranges:
    """Ranges of a region once more front to back; blocks narrow the pre-activations of their function before it is evaluated."""

    def tighten(graph: Graph, new: Ranges, i: int) -> None:
        for block in (b for b in blocks if task.places[b.entry].node == i):
            m, function, places = len(block.elements), graph.nodes[i], task.places[: block.entry]
            if np.any(block.elements >= function.size * len(function.inputs)):
                raise Invalid(
                    f"ranges of region {block.region}, pass {block.number_of_pass}: an element does not exist"
                )
            step = max(1, ROOM // max(node.size for node in graph.nodes[:i]))
            for chosen in (range(k, min(k + step, 2 * m)) for k in range(0, 2 * m, step)):
                where = [argument(task, block.entry, int(block.elements[r % m])) for r in chosen]
                start = {j: np.zeros((len(chosen), 1, graph.nodes[j].size)) for j, _ in where}
                for b, (r, (j, e)) in enumerate(zip(chosen, where, strict=True)):
                    start[j][b, 0, e] = 1.0 if r < m else -1.0
                rows = slice(chosen.start, chosen.stop)
                bound = least(
                    new.box, *substitute(graph, new, start, values_of(places, block.unit[rows], block.line[rows]))
                )
                for r, (j, e), value in zip(chosen, where, bound[:, 0].tolist(), strict=True):
                    if r < m:
                        new.lower[j][0, e] = np.fmax(new.lower[j][0, e], value)
                    else:
                        new.upper[j][0, e] = np.fmin(new.upper[j][0, e], -value)

    known = dict(enumerate(zip(ranges.lower, ranges.upper, strict=True)))
    return forward(task.graph, ranges.box, known, tighten)


@dataclass(frozen=True, eq=False)
class Evidence:
    """The columns of all chunks, one row for each leaf with a row; `place`: its row, and its first multiplier, by its record."""

    multipliers: np.ndarray
    unit: np.ndarray
    line: np.ndarray
    place: dict[int, tuple[int, int]]


def read_evidence(task: Task, chunks: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Evidence:
    records = task.tree.records
    leaves = np.flatnonzero((records["kind"] == LEAF) & (records["element"] != NOTHING)).tolist()
    starts = np.cumsum([0, *(task.tree.depth[n] for n in records["node"][leaves].tolist())]).tolist()
    units, lines = (sum(p.size for p in task.places if p.unit == unit) for unit in (True, False))
    multipliers, unit, line = (
        (np.concatenate([np.zeros(0, "f4"), *column]) for column in zip(*chunks, strict=True))
        if chunks
        else [np.zeros(0)] * 3
    )
    if (len(multipliers), len(unit), len(line)) != (starts[-1], len(leaves) * units, len(leaves) * lines):
        raise Invalid("the evidence of leaves does not have the length that their records ask for")
    place = {leaf: (k, starts[k]) for k, leaf in enumerate(leaves)}
    return Evidence(multipliers, unit.reshape(len(leaves), units), line.reshape(len(leaves), lines), place)


def refute(task: Task, ranges: Ranges, evidence: Evidence, number: int, case: int, leaves: Sequence[int]) -> None:
    """Refutes leaves (records) of one root."""
    graph, tree, output, batch = task.graph, task.tree, task.query.output, len(leaves)
    rows, owners = task.query.regions[number].cases[case], tree.records["node"][leaves].tolist()
    asked = tree.records["element"][leaves].tolist()
    known = dict(enumerate(zip(ranges.lower, ranges.upper, strict=True)))
    start = {output: np.zeros((batch, 1, graph.nodes[output].size))}
    imposed: list[tuple[int, int, int, float, float]] = []  # leaf, node, element, t, b
    for b, (leaf, row, owner) in enumerate(zip(leaves, asked, owners, strict=True)):
        splits = tree.splits(owner)
        multipliers = [0.0] * len(splits)
        if row != NOTHING:
            if row >= len(rows):
                raise Invalid(f"region {number}, {tree.name(owner)}: case {case} has no row {row}")
            start[output][b, 0, rows[row]] = 1.0
            first = evidence.place[leaf][1]
            multipliers = evidence.multipliers[first : first + len(splits)].tolist()
        for (place, element, at, upper), weight in zip(splits, multipliers, strict=True):
            if not (0 <= weight < np.inf if upper else -np.inf < weight <= 0):
                raise Invalid(
                    f"region {number}, {tree.name(owner)}: the multiplier {weight} has the wrong sign for its side"
                )
            j, e = argument(task, place, element)
            if known[j][0] is ranges.lower[j]:
                known[j] = np.repeat(ranges.lower[j], batch, axis=0), np.repeat(ranges.upper[j], batch, axis=0)
                start[j] = np.zeros((batch, 1, graph.nodes[j].size))
            end, better = (known[j][0], max) if upper else (known[j][1], min)
            end[b, e] = better(end[b, e], at)
            start[j][b, 0, e] -= weight
            imposed.append((b, j, e, at, weight))
    box = np.repeat(ranges.box[0], batch, axis=0), np.repeat(ranges.box[1], batch, axis=0)
    found = forward(graph, box, known)
    gain, cost = np.zeros(batch), np.zeros(batch)
    for b, j, e, at, weight in imposed:  # sums of at most len(imposed) numbers; so are the coefficients of one z
        gain[b] += weight * at
        cost[b] += abs(weight) * (abs(at) + max(abs(found.lower[j][b, e]), abs(found.upper[j][b, e])))
    which = [evidence.place.get(leaf, (0, 0))[0] for leaf in leaves]  # a leaf without a row has none, and takes any
    given = values_of(
        task.places, *(x[which] if len(x) else np.zeros((batch, x.shape[1])) for x in (evidence.unit, evidence.line))
    )
    a, c = substitute(graph, found, start, given)
    bound = least(box, a, plus(c, (gain - gamma(len(imposed)) * cost - TINY)[:, None]))[:, 0]
    for b, (row, owner) in enumerate(zip(asked, owners, strict=True)):
        best, strict = -np.inf, False
        if row != NOTHING:
            best, strict = np.fmax(bound[b], found.lower[output][b, rows[row]]), task.query.strict[rows[row]]
        if not (best > 0 or (strict and best >= 0) or found.empty[b]):
            what = "something is left" if row == NOTHING else f"row {row} is only known to be at least {best:.9g}"
            raise Invalid(f"region {number}, {tree.name(owner)}: case {case} is not refuted, {what}")
