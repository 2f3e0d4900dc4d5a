"""Writing a certificate while the search runs: records in chunks, evidence beside them, digests at the end.

Format: docs/certificates/format.md, whose section numbers stand in the comments. The file gets its name when it is
complete; until then it ends in `.part`, which a checker recognises as truncated.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

CHUNK_RECORDS = 1 << 16
CHUNK_BYTES = 1 << 24  # of evidence held in memory before it is written
_DATE = (1980, 1, 1, 0, 0, 0)  # equal searches write equal files


class CertificateError(Exception):
    """A certificate cannot say this; the message is a clause."""


class Kind(enum.IntEnum):
    """What a record says of its obligation (section 5)."""

    ROOT = 0
    LEAF = 1
    INPUT = 2
    NEURON = 3
    AGAIN = 4


EMPTY = 0xFFFFFFFF  # element of a leaf whose imposed ends leave nothing
_CHILDREN = np.array([1, 0, 2, 2, 1])
_COLUMNS = (("node", "<u4"), ("kind", "u1"), ("place", "<u4"), ("element", "<u4"), ("at", "<f8"))


class CertificateWriter:
    """One certificate being written; `finish` completes it, `discard` removes it."""

    def __init__(self, path: str | Path, header: Mapping[str, Any]):
        self.path = Path(path)
        self.records = 0
        self.leaves = 0
        self._unfinished = self.path.with_name(self.path.name + ".part")
        self._archive = zipfile.ZipFile(self._unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=6)
        self._digests: dict[str, str] = {}
        self._columns: list[tuple[np.ndarray, ...]] = []
        self._evidence: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._pending = self._pending_bytes = 0
        self._chunks = self._blocks = 0
        self._obligations = 0
        self._member("header.json", _json({"format": "holdfast-certificate", "version": 1, **header}))

    def record(self, node: Any, kind: Any, place: Any = 0, element: Any = 0, at: Any = 0.0) -> np.ndarray:
        """Append records (arrays that broadcast together); returns the number of the first child of each."""
        parts = np.broadcast_arrays(*(np.atleast_1d(x) for x in (node, kind, place, element, at)))
        columns = tuple(np.array(part, dtype) for part, (_, dtype) in zip(parts, _COLUMNS, strict=True))
        made = _CHILDREN[columns[1]]
        first = self._obligations + np.cumsum(made) - made
        self._obligations += int(made.sum())
        self.leaves += int((columns[1] == Kind.LEAF).sum())
        self._columns.append(columns)
        self._pending += len(made)
        if self._pending >= CHUNK_RECORDS:
            self._flush()
        return first

    def one(self, node: int, kind: Kind, place: int = 0, element: int = 0, at: float = 0.0) -> int:
        """Append one record, as `record` does: ten times faster than an array of one."""
        values = zip((node, kind, place, element, at), _COLUMNS, strict=True)
        self._columns.append(tuple(np.array([value], dtype) for value, (_, dtype) in values))
        first, self._obligations = self._obligations, self._obligations + int(_CHILDREN[kind])
        self.leaves += kind is Kind.LEAF
        self._pending += 1
        if self._pending >= CHUNK_RECORDS:
            self._flush()
        return first

    def root(self, region: int, case: int | None = None, passes: int = 0) -> int:
        """A new root of a region, of all its cases or of one (section 5); returns its number."""
        return self.one(self._obligations, Kind.ROOT, region, 0 if case is None else case + 1, float(passes))

    def leaf(self, node: int, row: int, multipliers: np.ndarray, unit: np.ndarray, line: np.ndarray) -> None:
        """A proved obligation of mode `neurons`, with its evidence (section 6)."""
        parts = np.asarray(multipliers, "<f4"), np.asarray(unit, "u1"), np.asarray(line, "<f4")
        self._evidence.append(parts)
        self._pending_bytes += sum(p.nbytes for p in parts)
        self.one(node, Kind.LEAF, 0, row)
        if self._pending_bytes >= CHUNK_BYTES:
            self._flush()

    def ranges(
        self, region: int, number: int, entry: int, elements: np.ndarray, unit: np.ndarray, line: np.ndarray
    ) -> None:
        """A block of evidence for ranges of a region (section 7): elements (m,), unit (2m, U), line (2m, F)."""
        head = np.array([region, number, entry, len(elements)], "<u4")
        parts = head, np.asarray(elements, "<u4"), np.asarray(unit, "u1"), np.asarray(line, "<f4")
        self._member(f"ranges/{self._blocks:06d}", b"".join(p.tobytes() for p in parts))
        self._blocks += 1

    def finish(self) -> int:
        """Complete the file under its own name; returns its size in bytes."""
        self._flush()
        end = {"records": self.records, "leaves": self.leaves, "members": self._digests}
        self._member("end.json", _json(end))
        self._archive.close()
        os.replace(self._unfinished, self.path)
        return self.path.stat().st_size

    def discard(self) -> None:
        """Give it up: nothing is left."""
        self._archive.close()
        self._unfinished.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._columns:
            return
        joined = [np.concatenate(column) for column in zip(*self._columns, strict=True)]
        self._member(f"records/{self._chunks:06d}", b"".join(c.tobytes() for c in joined))
        if self._evidence:
            columns = [np.concatenate(c) for c in zip(*self._evidence, strict=True)]
            self._member(f"leaves/{self._chunks:06d}", b"".join(c.tobytes() for c in columns))
        self._chunks += 1
        self.records += self._pending
        self._columns, self._evidence, self._pending, self._pending_bytes = [], [], 0, 0

    def _member(self, name: str, data: bytes) -> None:
        info = zipfile.ZipInfo(name, _DATE)
        info.compress_type = zipfile.ZIP_DEFLATED
        self._digests[name] = hashlib.sha256(data).hexdigest()
        self._archive.writestr(info, data)


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def claim(verdict: str, semantics: str, networks: Mapping[str, str], prop: str, **more: Any) -> dict[str, Any]:
    """The header of section 2: ``networks`` name -> SHA-256, ``prop`` SHA-256 of the property file."""
    return {"claim": verdict, "semantics": semantics, "networks": dict(networks), "property": prop, **more}
