"""The replay of a proof tree (sections 5 to 7 of the format): is every case of every region refuted on all of the region?

An obligation is a set of inputs, and cases that may hold there. Its record either refutes it (LEAF) or replaces it by obligations
that together cover it: x <= t and x >= t (INPUT), z <= t and z >= t for a pre-activation z (NEURON), itself (AGAIN). So a root
is refuted if all leaves under it are. The cuts are the certificate's; every bound is computed here, for many obligations at once.

A leaf of mode `neurons` is refuted by a lower bound of margin - sum b (z - t), b >= 0 where z >= t is imposed and b <= 0 where
z <= t: each term b (z - t) is >= 0, so that the margin is no smaller wherever the splits hold.

Mode `boxes`: a leaf that is not refuted at once is cut further here, so that a proof does not depend on bounds being repeated exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from holdfast_check.arithmetic import TINY, Invalid, Limit, gamma, outward, plus, size
from holdfast_check.bounds import ROOM, Graph, Ranges, forward, graph_of, least, narrow, substitute
from holdfast_check.container import RECORD, Certificate
from holdfast_check.forms import FEW, Forms
from holdfast_check.property import Region
from holdfast_check.query import Query
from holdfast_check.relaxations import UNIT_EVIDENCE, Pair

ROOT, LEAF, INPUT, NEURON, AGAIN = range(5)
NOTHING = 2**32 - 1  # element of a leaf whose imposed ends leave nothing
BATCH, WIDE = 64, 256
DEEPEST, MOST = 24, 2**14  # levels, and boxes, that one leaf may be cut into


@dataclass(frozen=True)
class Figures:
    leaves: int
    records: int


@dataclass(frozen=True, eq=False)
class Proof:
    """Of each obligation the record (-1: none), the parent and the root (of a root itself) and the number of splits above; of each record
    the first obligation that it makes. `roots`: (region, element) to a root all of whose obligations have records, and its passes."""

    graph: Graph
    query: Query
    regions: list[tuple[int, Region]]  # of this query: number in the certificate
    # functions of the table: node; 0 for unit values, 1 for slopes; where these are in a row
    places: list[tuple[int, int, slice]]
    batch: int  # obligations computed at once
    records: np.ndarray
    record: list[int]
    parent: list[int]
    top: list[int]
    depth: list[int]
    first: list[int]
    roots: dict[tuple[int, int], tuple[int, float]]
    cut: dict[int, int] = field(default_factory=dict)  # boxes that the checker has made of a leaf


def prove(
    asked: Query | Sequence[Query], certificate: Any, *, deadline: float | None, report: Callable[[str], None]
) -> Figures:
    """Raises `Invalid` unless the certificate proves that no input of any region satisfies all rows of one of its cases, `Limit` if
    time.monotonic() passes `deadline`. Regions of several queries are numbered through. `report` is told the estimate before the work."""

    def tick() -> None:
        if deadline is not None and time.monotonic() > deadline:
            raise Limit("the time ran out before all obligations were checked")

    queries: list[Any] = list(asked) if isinstance(asked, list | tuple) else [asked]
    header, records, boxes = certificate.header, certificate.records, certificate.header["mode"] == "boxes"
    float32 = header.get("semantics") == "float32"
    graphs = [graph_of(query.nodes, query.inputs, float32, tick) for query in queries]
    proof = read_tree(graphs, queries, [] if boxes else read_places(graphs[0], header["nonlinear"]), records, boxes)
    leaves, numbers = int(np.sum(records["kind"] == LEAF)), max(sum(node.size for node in q.nodes) for q in queries)
    waiting = 2 * WIDE * (1 + max(proof.depth, default=0)) if boxes else leaves  # times as many numbers
    memory = 60 + (8 * numbers * (40 * BATCH + waiting) + 200 * ROOM + 300 * len(records)) / 2**20
    report(f"{len(proof.record)} obligations, about {memory:.0f} MiB at most")
    first = 0
    with np.errstate(all="ignore"):
        for graph, query in zip(graphs, queries, strict=True):
            regions = list(enumerate(query.regions, first))
            first += len(regions)
            batch = max(1, min(BATCH, ROOM // max(n.size for n in graph.nodes)))
            part = replace(proof, graph=graph, query=query, regions=regions, batch=batch)
            (replay_boxes if boxes else replay_neurons)(part, certificate)
    return Figures(leaves + sum(n - 1 for n in proof.cut.values()), len(records))


def assumed(queries: Sequence[Query]) -> Any:
    """A certificate of one leaf for each region: all cuts are left to the checker."""
    count = sum(len(q.regions) for q in queries)
    rows = [row for k in range(count) for row in ((k, ROOT, k, 0, 0.0), (k, LEAF, 0, 0, 0.0))]
    return Certificate({"mode": "boxes"}, np.array(rows, RECORD), [], [])


def read_tree(
    graphs: Sequence[Graph],
    queries: Sequence[Query],
    places: list[tuple[int, int, slice]],
    records: np.ndarray,
    boxes: bool,
) -> Proof:
    """Checks that every record is well-formed, and finds the roots that count."""
    kind, at = records["kind"], records["at"]
    node, place, element = (records[name].astype(int) for name in ("node", "place", "element"))
    root, made = kind == ROOT, np.array([1, 0, 2, 2, 1])[np.minimum(kind, 4)]
    first = np.cumsum(made) - made

    def entry(table: list[int]) -> np.ndarray:  # table[place], and 0 where there is none
        return np.array([*table, 0])[np.minimum(place, len(table))]

    graph, regions, inputs = graphs[0], [r for q in queries for r in q.regions], max(q.inputs for q in queries)
    cases = entry([len(region.cases) for region in regions])
    arguments = entry([graph.nodes[i].size * len(graph.nodes[i].inputs) for i, _, _ in places])  # none in mode boxes
    look, unused = (element <= 1) | (not boxes), (place == 0) & (at == 0)
    passes = (at == 0) if boxes else (element > 0) & (at >= 0) & (at == np.floor(at))
    fields = {
        ROOT: (node == first) & (cases > 0) & (element <= (0 if boxes else cases)) & passes,
        LEAF: unused & look,
        INPUT: boxes & (place < inputs) & look,
        NEURON: element < arguments,
        AGAIN: boxes & unused & look,
    }
    good = np.isfinite(at) & (root | (node < first)) & np.select([kind == k for k in fields], [*fields.values()], False)
    if not good.all():
        raise Invalid(f"record {np.argmin(good)} is not one of its mode, or of an obligation that has not been made")
    parent, others = np.repeat(node, made).tolist(), np.flatnonzero(~root)  # of a root itself, else a smaller number
    record, top, depth = np.full(len(parent), -1), list(range(len(parent))), [0] * len(parent)
    record[node[others]] = others
    if len(np.unique(node[others])) < len(others):
        raise Invalid("an obligation has two records")
    for i, above in enumerate(parent):
        if above != i:
            top[i], depth[i] = top[above], depth[above] + 1
    lacking = {top[i] for i in np.flatnonzero(record < 0).tolist()}
    roots = {(p, e): (n, t) for n, _, p, e, t in records[root].tolist() if n not in lacking}
    for number, region in enumerate(regions):
        for case in [-1] if boxes else range(len(region.cases)):
            if (number, case + 1) not in roots:
                what = f"region {number}" if boxes else f"region {number}, case {case}"
                raise Invalid(f"{what}: there is no root under which every obligation has a record")
    return Proof(graph, queries[0], [], places, 1, records, record.tolist(), parent, top, depth, first.tolist(), roots)


# ---- mode boxes


def replay_boxes(proof: Proof, _: Any) -> None:
    """Depth first, some obligations at once, so that few of them wait: number, box (2, inputs), the cases still open, ranges
    (2, ...) of pre-activations that hold on the box, how often the checker has cut it, and whether a cheap look was not enough.
    Where few inputs vary, affine forms are the cheap look, and all that a box is looked at which its record cuts."""
    graph, looks = proof.graph, proof.records["element"]
    nothing = {j: np.outer([-np.inf, np.inf], np.ones(graph.nodes[j].size)) for j in graph.loose}
    vary = max((int(np.sum(region.lower < region.upper)) for _, region in proof.regions), default=0)
    forms = vary <= FEW and not graph.float32
    many = min(WIDE, 2 * ROOM // ((1 + vary) * max(n.size for n in graph.nodes))) if forms else 0
    for number, region in proof.regions:
        box, every = np.stack([region.lower, region.upper]), np.ones(len(region.cases), bool)
        new, easy, hard = [(proof.roots[number, 0][0], box, every, nothing, 0, False)], list[Any](), list[Any]()
        while new or easy or hard:
            for one in new:
                quick = forms or (looks[proof.record[one[0]]] == 1 and one[4] == 0)
                (hard if one[5] or not quick else easy).append(one)
            full = len(hard) >= proof.batch or not easy
            stack, count = (hard, proof.batch) if full else (easy, max(many, proof.batch))
            taken, stack[-count:] = stack[-count:], []
            new = list(look_at(proof, number, region, taken, narrow if full else Forms() if forms else None))


def look_at(
    proof: Proof, number: int, region: Region, taken: list[tuple[Any, ...]], how: Callable[..., None] | None
) -> Iterator[tuple[Any, ...]]:
    """The obligations that the records of these leave behind; `how` narrows the ranges."""
    graph, query, cases = proof.graph, proof.query, region.cases
    numbers, boxes, opened, handed, levels, _ = zip(*taken, strict=True)
    box, still = np.stack(boxes, axis=1), np.array(opened)
    known = {j: tuple(np.stack([ends[j] for ends in handed], axis=1)) for j in graph.loose}
    ranges = forward(graph, (box[0], box[1]), known, how)
    still &= ~ranges.empty[:, None]
    left = np.flatnonzero(still.any(axis=0)).tolist()
    if not left:
        return
    rows = sorted({row for k in left for row in cases[k]})
    columns = {k: np.searchsorted(rows, cases[k]) for k in left}
    start = np.zeros((len(taken), len(rows), graph.nodes[query.output].size))
    start[:, np.arange(len(rows)), rows] = 1.0
    a, c = substitute(graph, ranges, {query.output: start})
    bound = np.fmax(least(ranges.box, a, c), ranges.lower[query.output][:, rows])
    good = np.where(query.strict[rows], bound >= 0, bound > 0)
    for k, column in columns.items():
        still[:, k] &= ~good[:, column].any(axis=1)
    box, still = contract(ranges.box, a, c, columns, still)
    for b in np.flatnonzero(still.any(axis=1)).tolist():
        record = proof.record[numbers[b]]
        _, kind, place, _, at = proof.records[record].item()
        level, reached = levels[b], {j: np.stack([ranges.lower[j][b], ranges.upper[j][b]]) for j in graph.loose}
        if kind == LEAF and how is not narrow:
            yield numbers[b], box[:, b], still[b], reached, level, True
            continue
        if kind == LEAF:
            asked = sorted({row for k in left if still[b, k] for row in columns[k]})
            place, level = promising(box[:, b], np.abs(a[b, asked]).max(axis=0), region, level + 1), level + 1
            at = 0.5 * box[0, b, place] + 0.5 * box[1, b, place]
            proof.cut[numbers[b]] = proof.cut.get(numbers[b], 1) + 1
            finest = not box[0, b, place] < at < box[1, b, place]
            if finest or level > DEEPEST or proof.cut[numbers[b]] > MOST:
                k = int(np.argmax(still[b]))
                what = f"case {k} is not refuted, no row is known to be more than {bound[b, columns[k]].max():.9g}"
                raise Invalid(f"region {number}, obligation {numbers[b]}: {what}")
        elif kind == INPUT and place >= query.inputs:
            raise Invalid(f"region {number}, obligation {numbers[b]}: there is no input {place}")
        for side in range(1 if kind == AGAIN else 2):
            part = box[:, b].copy()
            if kind != AGAIN:
                part[1 - side, place] = (min, max)[side](at, part[1 - side, place])
            yield numbers[b] if kind == LEAF else proof.first[record] + side, part, still[b], reached, level, False


def promising(box: np.ndarray, slopes: np.ndarray, region: Region, level: int) -> int:
    """The input along which to cut: where the rows change most; each third time the widest one, as part of the region."""
    width, whole = box[1] - box[0], region.upper - region.lower
    thin = whole <= 2.0**-40 * np.maximum(np.abs(region.lower), np.abs(region.upper))  # a number that is no float64
    gain, wide = np.where(thin, -1.0, slopes * width), np.where(thin, -1.0, width / np.where(thin, 1.0, whole))
    usable = np.isfinite(gain).all() and gain.max() > 0 and level % 3
    return int(np.argmax(gain if usable else wide))


def contract(box: Pair, a: np.ndarray, c: np.ndarray, columns: dict[int, Any], still: np.ndarray) -> Pair:
    """Cuts off, case by case, what a row excludes: where a . x + c <= 0 and m = c + min a . x <= 0, also
    |a_d| |x_d - e| <= -m, e the end of x_d where a_d x_d is least. The hull over the cases still open, and these."""
    hull, still = np.stack([np.full(box[0].shape, np.inf), np.full(box[0].shape, -np.inf)]), still.copy()
    for k, column in columns.items():
        lower, upper = box
        for row in column:
            slope, m = a[:, row], least((lower, upper), a[:, row, None], c[:, row, None])
            reach = np.abs(m / slope) * (1 + gamma(2)) + TINY
            ends = outward(upper - reach, lower + reach)
            lower = np.where(slope < 0, np.maximum(lower, ends[0]), lower)
            upper = np.where(slope > 0, np.minimum(upper, ends[1]), upper)
            still[:, k] &= ~(m[:, 0] > 0) & np.all(lower <= upper, axis=1)
        hull = np.where(still[:, k, None], [np.minimum(hull[0], lower), np.maximum(hull[1], upper)], hull)
    return hull, still


# ---- mode neurons


def read_places(graph: Graph, table: list[dict[str, Any]]) -> list[tuple[int, int, slice]]:
    places: list[tuple[int, int, slice]] = []
    used = [0, 0]
    for entry in table:
        label, size = (entry["network"], entry["node"], entry["part"]), entry["size"]
        found = [i for i, n in enumerate(graph.nodes) if n.label == label and n.kind not in ("input", "linear")]
        which = int(entry["evidence"] == "line")
        if [(graph.nodes[i].size, int(graph.nodes[i].kind not in UNIT_EVIDENCE)) for i in found] != [(size, which)]:
            raise Invalid(f"entry {label} of nonlinear is not one function of the network, or of another kind or size")
        places.append((found[0], which, slice(used[which], used[which] + size)))
        used[which] += size
    return places


def replay_neurons(proof: Proof, certificate: Any) -> None:
    """Region by region: its ranges pass by pass, and the leaves of a root after the passes that it asks for."""
    leaves, blocks = leaves_of(proof, list(certificate.leaves)), list(certificate.ranges)
    for number, region in proof.regions:
        ranges, done = forward(proof.graph, (region.lower[None], region.upper[None]), {}, narrow), 0
        if proof.graph.float32 and not np.isfinite([*map(np.sum, (*ranges.lower, *ranges.upper))]).all():
            raise Invalid(f"region {number}: an execution may overflow, and a split covers nothing that is no number")
        own = [b for b in blocks if b.region == number]
        roots = [(*proof.roots[number, case + 1], case) for case in range(len(region.cases))]
        for root, passes, case in sorted(roots, key=lambda r: r[1]):
            for this in sorted({b.number_of_pass for b in own if done < b.number_of_pass <= passes}):
                ranges, done = one_pass(proof, ranges, [b for b in own if b.number_of_pass == this]), this
            for k in range(0, len(leaves.get(root, [])), proof.batch):
                refute(proof, ranges, number, case, leaves[root][k : k + proof.batch])


def one_pass(proof: Proof, ranges: Ranges, blocks: list[Any]) -> Ranges:
    """Ranges of a region once more front to back; blocks narrow the pre-activations of their function before it is evaluated."""

    def tighten(graph: Graph, new: Ranges, i: int) -> None:
        node, step = graph.nodes[i], max(1, ROOM // max(n.size for n in graph.nodes[:i]))
        for block in (b for b in blocks if proof.places[b.entry][0] == i):
            argument, m = block.elements // node.size, len(block.elements)
            if np.any(argument >= len(node.inputs)):
                raise Invalid(f"ranges of region {block.region}: an element does not exist")
            for nth, j in enumerate(node.inputs):
                mine = np.flatnonzero(np.tile(argument, 2) == nth)
                for r in (mine[k : k + step] for k in range(0, len(mine), step)):
                    e, above = block.elements[r % m] % node.size, r >= m
                    start = np.zeros((len(r), 1, node.size))
                    start[np.arange(len(r)), 0, e] = np.where(above, -1.0, 1.0)
                    rows = block.unit[r], block.line[r]
                    given = {place: rows[which][:, part] for place, which, part in proof.places[: block.entry]}
                    bound = least(new.box, *substitute(graph, new, {j: start}, given))[:, 0]
                    np.fmax.at(new.lower[j][0], e[~above], bound[~above])  # what is no number is ignored
                    np.fmin.at(new.upper[j][0], e[above], -bound[above])

    return forward(proof.graph, ranges.box, dict(enumerate(zip(ranges.lower, ranges.upper, strict=True))), tighten)


def leaves_of(proof: Proof, chunks: list[tuple[np.ndarray, ...]]) -> dict[int, list[tuple[Any, ...]]]:
    """The leaves under each root: number, row (NOTHING: none), multipliers, unit values, slopes (zeros where there is no row)."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    sizes = [0, *(max((part.stop for _, which, part in proof.places if which == k), default=0) for k in (0, 1))]
    columns, used = [np.concatenate([np.zeros(0, "u1"), *(chunk[k] for chunk in chunks)]) for k in range(3)], [0, 0, 0]
    for number, _, _, row, _ in proof.records[proof.records["kind"] == LEAF].tolist():
        sizes[0], values = proof.depth[number], [np.zeros(proof.depth[number]), *map(np.zeros, sizes[1:])]
        if row != NOTHING:
            values = [column[first : first + n] for column, first, n in zip(columns, used, sizes, strict=True)]
            used = [first + n for first, n in zip(used, sizes, strict=True)]
        found.setdefault(proof.top[number], []).append((number, row, *values))
    if used != [len(column) for column in columns]:
        raise Invalid("the evidence of leaves does not have the length that their records ask for")
    return found


def refute(proof: Proof, ranges: Ranges, number: int, case: int, leaves: list[tuple[Any, ...]]) -> None:
    """Refutes leaves of one root."""
    graph, query, batch, rows = proof.graph, proof.query, len(leaves), proof.query.regions[number].cases[case]
    known = dict(enumerate(zip(ranges.lower, ranges.upper, strict=True)))
    start = {query.output: np.zeros((batch, 1, graph.nodes[query.output].size))}
    splits: list[tuple[int, int, int, float, float]] = []  # leaf, node, element, t, b
    for b, (n, row, weights, _, _) in enumerate(leaves):
        if row != NOTHING:
            start[query.output][b, 0, rows[row]] = 1.0
        for weight in weights[::-1].tolist():  # from the leaf upwards
            above = proof.record[proof.parent[n]]
            _, _, place, element, at = proof.records[above].item()
            node, upper, n = graph.nodes[proof.places[place][0]], n != proof.first[above], proof.parent[n]
            if not (0 <= weight < np.inf if upper else -np.inf < weight <= 0):
                raise Invalid(f"obligation {leaves[b][0]}: the multiplier {weight} has the wrong sign for its side")
            j, e = node.inputs[element // node.size], element % node.size
            if j not in start:
                known[j] = np.repeat(known[j][0], batch, axis=0), np.repeat(known[j][1], batch, axis=0)
                start[j] = np.zeros((batch, 1, node.size))
            end, tighter = (known[j][0], max) if upper else (known[j][1], min)
            end[b, e] = tighter(end[b, e], at)
            start[j][b, 0, e] -= weight
            splits.append((b, j, e, at, weight))
    low, high = np.repeat(ranges.box, batch, axis=1)
    reached = forward(graph, (low, high), known)
    gain, cost = np.zeros((2, batch))  # sums of at most len(splits) numbers; so are the coefficients of one z
    for b, j, e, at, weight in splits:
        gain[b] += weight * at
        cost[b] += abs(weight) * (abs(at) + size(reached.lower[j][b, e], reached.upper[j][b, e]))
    values = [np.array([leaf[k] for leaf in leaves]) for k in (3, 4)]
    a, c = substitute(graph, reached, start, {place: values[which][:, part] for place, which, part in proof.places})
    bound = least(reached.box, a, plus(c, (gain - gamma(len(splits)) * cost - TINY)[:, None]))[:, 0]
    for b in np.flatnonzero(~reached.empty).tolist():
        n, row = leaves[b][:2]
        if row == NOTHING:
            raise Invalid(f"region {number}, obligation {n}: case {case} is not refuted, something may be left")
        best = np.fmax(bound[b], reached.lower[query.output][b, rows[row]])
        if not (best > 0 or (best >= 0 and query.strict[rows[row]])):
            what = f"case {case} is not refuted, row {row} is only known to be at least {best:.9g}"
            raise Invalid(f"region {number}, obligation {n}: {what}")
