"""The proof tree of neuron splitting: kept while it fits in memory, made smaller at the end, then written.

A sub-problem that the evidence of one of its descendants already refutes needs no split: what stands below it is
dropped. Where memory does not suffice, the tree goes into the certificate as it grows, and stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from holdfast.certificate import CertificateWriter, Kind
from holdfast.certificate.writer import EMPTY
from holdfast.search.evidence import Leaf

Ends = tuple[tuple[int, float, float], ...]  # (neuron, low, high) of each split, from the root


class Event(NamedTuple):
    """One record, with neurons by their number in the search. ``first``: number of the first child."""

    node: int
    kind: Kind
    place: int = 0  # of a root: region; of a split: neuron
    case: int = 0
    at: float = 0.0  # of a root: passes
    first: int = 0
    leaf: Leaf | None = None


class Trial(NamedTuple):
    """An inner sub-problem, and the evidence to try on it."""

    region: int
    case: int
    ends: Ends
    leaf: Leaf


Attempt = Callable[[list[Trial]], Sequence[Leaf | None]]  # of one region


class Proof:
    """Records in the order of the search. ``where``: neuron -> (entry of the table, element)."""

    def __init__(self, writer: CertificateWriter, where: Callable[[int], tuple[int, int]], limit: int):
        self.writer = writer
        self._where = where
        self._limit = limit
        self._events: list[Event] | None = []
        self._held = self._numbers = 0

    def root(self, region: int, case: int, passes: int) -> int:
        """A case of a region is begun (again)."""
        return self._add(Event(self._numbers, Kind.ROOT, region, case, passes, self._numbers), 1)

    def split(self, node: int, neuron: int, at: float) -> int:
        """A sub-problem is split; returns the number of the lower half."""
        return self._add(Event(node, Kind.NEURON, neuron, 0, at, self._numbers), 2)

    def leaf(self, node: int, leaf: Leaf) -> None:
        """A sub-problem is refuted."""
        self._add(Event(node, Kind.LEAF, leaf=leaf), 0)

    def _add(self, event: Event, made: int) -> int:
        first, self._numbers = self._numbers, self._numbers + made
        if self._events is None:
            self._write(event)
            return first
        self._events.append(event)
        self._held += 200 + (event.leaf.size if event.leaf else 0)
        if self._held > self._limit:
            for waiting in self._events:
                self._write(waiting)
            self._events = None
        return first

    def _write(self, event: Event) -> int:
        """The number of the first obligation that the record makes."""
        if event.kind is Kind.ROOT:
            return self.writer.root(event.place, event.case, int(event.at))
        if event.kind is Kind.NEURON:
            return self.writer.one(event.node, Kind.NEURON, *self._where(event.place), event.at)
        assert event.leaf is not None
        if event.leaf.row == EMPTY:
            self.writer.one(event.node, Kind.LEAF, 0, EMPTY)
        else:
            self.writer.leaf(event.node, event.leaf.row, event.leaf.multipliers, event.leaf.unit, event.leaf.line)
        return 0

    def finish(self, attempt: Attempt, batch: int, expired: Callable[[], bool]) -> tuple[int, int]:
        """Everything is proved: make the tree smaller and write it; returns how many leaves there were and are.

        ``attempt`` uses the narrowest ranges of a region: cases proved on wider ones stay as they are.
        """
        if self._events is None:
            return self.writer.leaves, self.writer.leaves
        tree = _Tree(self._events)
        before = tree.shrink(attempt, batch, expired)
        for event in tree.preorder():
            first = self._write(event)
            tree.written(event, first)
        return before, self.writer.leaves


class _Tree:
    """The roots that count and what stands below them."""

    def __init__(self, events: Sequence[Event]):
        self._what = {e.node: e for e in events if e.kind is not Kind.ROOT}
        latest = {(e.place, e.case): e for e in events if e.kind is Kind.ROOT}
        self._roots = {e.node: e for e in latest.values()}
        self._passes: dict[int, float] = {}
        for root in latest.values():
            self._passes[root.place] = max(root.at, self._passes.get(root.place, 0.0))
        self._parent = {child: e.node for e in events if e.kind is Kind.NEURON for child in (e.first, e.first + 1)}
        self._number: dict[int, int] = {}

    def preorder(self) -> Iterator[Event]:
        """Roots and records, parents before children, in the numbers of the file so far (`written`)."""
        for root in self._roots.values():
            yield root
            pending = [root.node]
            while pending:
                event = self._what[pending.pop()]
                yield event._replace(node=self._number.get(event.node, event.node))
                if event.kind is Kind.NEURON:
                    pending += (event.first + 1, event.first)

    def written(self, event: Event, first: int) -> None:
        """``event`` was given the number(s) from ``first`` on."""
        if event.kind is Kind.ROOT:
            self._number[event.node] = first
        elif event.kind is Kind.NEURON:
            self._number |= {event.first: first, event.first + 1: first + 1}

    def shrink(self, attempt: Attempt, batch: int, expired: Callable[[], bool]) -> int:
        """Try the evidence of leaves on what stands above them, first where most would be dropped.

        Returns how many leaves there were.
        """
        weight: dict[int, int] = {}
        for event in reversed(list(self.preorder())):
            if event.kind is not Kind.ROOT:
                inner = event.kind is Kind.NEURON
                weight[event.node] = weight[event.first] + weight[event.first + 1] if inner else 1
        fresh = [n for n in weight if self._what[n].kind is Kind.LEAF]
        before = len(fresh)
        while fresh:
            fresh.sort(key=lambda n: -weight.get(self._parent.get(n, -1), 0))
            later: list[int] = []
            while fresh and not expired():
                taken: dict[int, Trial] = {}  # by what they are tried on
                rest = []
                for number, node in enumerate(fresh):
                    trial = self._trial(node)
                    if trial is None:
                        continue
                    region = next(iter(taken.values())).region if taken else trial.region
                    if self._parent[node] in taken or trial.region != region:
                        rest.append(node)
                        continue
                    taken[self._parent[node]] = trial
                    if len(taken) == batch:
                        rest += fresh[number + 1 :]
                        break
                fresh = rest
                found = attempt(list(taken.values())) if taken else []
                for above, leaf in zip(taken, found, strict=True):
                    if leaf is not None:
                        self._what[above] = Event(above, Kind.LEAF, leaf=leaf)
                        later.append(above)
            fresh = [] if expired() else later
        return before

    def _trial(self, node: int) -> Trial | None:
        """What to try of a leaf; None for roots, and for what has been dropped with something above it."""
        leaf = self._what[node].leaf
        if leaf is None or leaf.row == EMPTY or node not in self._parent:
            return None
        ends = []
        above, below = self._parent[node], node
        if self._what[above].kind is Kind.LEAF:
            return None
        while above in self._parent:
            above, below = self._parent[above], above
            event = self._what[above]
            if event.kind is Kind.LEAF:
                return None
            upper = below != event.first
            ends.append((event.place, event.at if upper else -float("inf"), float("inf") if upper else event.at))
        root = self._roots[above]
        if root.at < self._passes[root.place]:
            return None
        return Trial(root.place, root.case, tuple(ends[::-1]), leaf._replace(multipliers=leaf.multipliers[:-1]))
