"""What a certificate of neuron splitting says of nonlinear functions: their names, and their slopes in one order.

Between the bounds, whose arrays go by position in the graph, and the columns of docs/certificates/format.md (sections
4, 6 and 7). The same packing carries slopes from a sub-problem to its children.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from holdfast.bounds.enclosure import Enclosures, plan
from holdfast.bounds.optimised import GRID, KINKED, UNIT, Optimised
from holdfast.bounds.propagate import loose
from holdfast.certificate import CertificateError
from holdfast.graph import Graph
from holdfast.operators import INPUT, OPERATORS, LinearOperator
from holdfast.spec.query import Query

UNSETTLED = frozenset({"clip", "heaviside", "power", "sin", "cos"})


class Function(NamedTuple):
    """One entry of the table: a nonlinear node, and its first column in the evidence of its kind."""

    position: int
    op: str
    shape: tuple[int, ...]
    size: int
    unit: bool
    first: int


class Leaf(NamedTuple):
    """A refuted sub-problem: the row of its case (EMPTY where nothing is left), and what proves it.

    ``slopes``: the free parameters of all relaxations, from which the same bound can be computed elsewhere.
    """

    row: int
    multipliers: np.ndarray
    unit: np.ndarray
    line: np.ndarray
    slopes: np.ndarray

    @property
    def size(self) -> int:
        """Bytes held."""
        own = 0 if self.slopes is self.unit else self.slopes.nbytes
        return self.multipliers.nbytes + self.unit.nbytes + self.line.nbytes + own + 600


@dataclass(frozen=True, eq=False)
class Table:
    """The nonlinear functions of a query in the order of computation.

    ``arguments``: pre-activation -> (first entry that reads it, offset of its elements there).
    """

    graph: Graph
    networks: tuple[str, ...]
    functions: tuple[Function, ...]
    arguments: Mapping[int, tuple[int, int]]

    @staticmethod
    def of(query: Query, graph: Graph) -> Table:
        """The table of a query's graph."""
        carries = plan(graph).carries
        functions: list[Function] = []
        arguments: dict[int, tuple[int, int]] = {}
        columns = {True: 0, False: 0}
        for position, node in enumerate(graph.nodes):
            if node.op == INPUT or not carries[position] or isinstance(OPERATORS[node.op], LinearOperator):
                continue
            size, unit = math.prod(node.shape), node.op in UNIT
            for k, source in enumerate(node.inputs):
                arguments.setdefault(source, (len(functions), k * size))
            functions.append(Function(position, node.op, node.shape, size, unit, columns[unit]))
            columns[unit] += size
        return Table(graph, query.networks, tuple(functions), arguments)

    def header(self) -> list[dict[str, Any]]:
        """The table as a certificate holds it; raises `CertificateError` where a function cannot be named."""
        entries: list[dict[str, Any]] = []
        for f in self.functions:
            node, network = self.graph[f.position], self.networks[f.position] if self.networks else ""
            if not network:
                raise CertificateError("the property multiplies variables")
            if node.part < 0:
                raise CertificateError(f"two nodes of the network are called {node.name}")
            readers = [self.graph[r] for r in self.graph.consumers[f.position]]
            if f.op == "product" and any(r.op == "reduce_sum" and r.name == node.name for r in readers):
                raise CertificateError(f"node {node.name} multiplies two variable matrices")
            entries.append(
                {
                    "network": network, "node": node.name, "part": node.part, "size": f.size,
                    "evidence": "unit" if f.unit else "line",
                }
            )  # fmt: skip
        labels = Counter((e["network"], e["node"], e["part"]) for e in entries)
        for (_, name, _), count in labels.items():
            if count > 1:
                raise CertificateError(f"two nodes of the network are called {name}")
        return entries

    @property
    def plain(self) -> bool:
        """Whether unit values are all that the relaxations have."""
        return all(f.unit and f.op != "product" for f in self.functions)

    @property
    def ordered(self) -> bool:
        """Whether pre-activations come in the order of the functions that read them."""
        entries = [self.arguments[p][0] for p in sorted(self.arguments)]
        return entries == sorted(entries)

    def widths(self, entry: int | None = None) -> tuple[int, int]:
        """Numbers of unit and of line values of the functions before an entry, or of all."""
        before = self.functions[:entry]
        return sum(f.size for f in before if f.unit), sum(f.size for f in before if not f.unit)

    def evidence(
        self, best: Optimised, batch: np.ndarray, row: np.ndarray, entry: int | None = None, origin: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Unit values (N, U) and line values (N, L) of the bounds ``batch``, ``row`` for the functions before an entry.

        ``origin``: where only a part of the network was used (`Enclosures.origin`). Others say 0.
        """
        units, lines = self.widths(entry)
        unit, line = np.zeros((len(row), units), np.uint8), np.zeros((len(row), lines), np.float32)
        place = None if origin is None else {old: (new, index) for new, (old, index) in origin.items()}
        for f in self.functions[:entry]:
            position, index = (f.position, None) if place is None else place.get(f.position, (-1, None))
            if f.op in KINKED:
                values = best.slopes.get(position)
            else:
                values = best.slopes.get(position) if f.op == "leaky_relu" else best.chosen.get(position)
                values = values[0] if f.op == "leaky_relu" and values is not None else values
            if values is None:
                continue
            picked = values[batch, row].reshape(len(row), math.prod(values.shape[2:]))
            column = slice(f.first, f.first + f.size) if index is None else f.first + index
            if f.unit:
                unit[:, column] = np.rint(picked * GRID)
            else:
                line[:, column] = picked
        return unit, line

    def slopes(self, best: Optimised, batch: np.ndarray, row: np.ndarray) -> np.ndarray:
        """All free parameters (N, S) of the bounds ``batch``, ``row``, on the grid of unit values."""
        parts = []
        for f in self.functions:
            count = OPERATORS[f.op].slopes  # type: ignore[attr-defined]
            if not count:
                continue
            if f.position not in best.slopes:
                parts.append(np.zeros((len(row), count * f.size), np.uint8))
                continue
            s = best.slopes[f.position]
            picked = s[batch, row] if f.op in KINKED else s[:, batch, row].swapaxes(0, 1)
            parts.append(np.rint(picked.reshape(len(row), count * f.size) * GRID).astype(np.uint8))
        return np.concatenate(parts, 1) if parts else np.zeros((len(row), 0), np.uint8)

    def unpacked(self, flat: np.ndarray, rows: int) -> dict[int, np.ndarray]:
        """Parameters as `optimise` takes them, the same for ``rows`` rows, from what `slopes` gave."""
        values, result, first = flat / GRID, {}, 0
        for f in self.functions:
            count = OPERATORS[f.op].slopes  # type: ignore[attr-defined]
            part = values[:, first : first + count * f.size]
            first += count * f.size
            if f.op in KINKED:
                result[f.position] = np.repeat(part.reshape(len(flat), 1, *f.shape), rows, axis=1)
            elif count:
                spread = part.reshape(len(flat), count, 1, *f.shape).swapaxes(0, 1)
                result[f.position] = np.repeat(spread, rows, axis=2)
        return result

    @property
    def settled(self) -> bool:
        """Whether the format says which lines are taken of every function where no evidence is given (section 7)."""
        return not any(f.op in UNSETTLED for f in self.functions)

    def ranges_bytes(self, state: Enclosures | None = None) -> int:
        """How large the evidence for narrowing all ranges of a region may get (section 7)."""
        total = 0
        for position, (entry, _) in self.arguments.items():
            if position not in plan(self.graph).settled:
                units, lines = self.widths(entry)
                size = math.prod(self.graph[position].shape)
                count = size if state is None else int(np.asarray(loose(state, position)).sum())
                total += 2 * count * (units + 4 * lines)
        return total


Block = tuple[int, np.ndarray, np.ndarray, np.ndarray]  # entry, elements, unit and line values


def range_recorder(table: Table, emit: Callable[[Block], None]) -> Callable[..., None]:
    """For `refine_optimised`: hands on the evidence for what it narrows, of one region."""

    def record(whole: Enclosures, node: int, elements: np.ndarray, part: Enclosures, best: Optimised) -> None:
        entry, offset = table.arguments[node]
        m, chosen = elements.shape[1], elements[0]
        low, high = (side[node].reshape(-1)[chosen] for side in (whole.lower, whole.upper))
        (gained,) = np.nonzero((best.value[0, :m] > low) | (-best.value[0, m:] < high))
        if len(gained):
            rows = np.concatenate([gained, gained + m])
            evidence = table.evidence(best, np.zeros(len(rows), int), rows, entry, part.origin)
            emit((entry, chosen[gained] + offset, *evidence))

    return record
