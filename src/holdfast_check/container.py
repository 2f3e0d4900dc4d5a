"""The file of a certificate (sections 1, 2, 5, 6 and 7 of the format), checked against its digests.

Nothing is unpacked before the declared sizes are known to fit into memory, and no member beyond its declared size. What is malformed
raises an exception of some kind. Evidence needs no checks but its length: it holds choices, and every choice is sound.
"""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from itertools import accumulate, count, takewhile
from typing import Any, BinaryIO

import numpy as np

from holdfast_check.arithmetic import Invalid

LEAF, NOTHING_LEFT = 1, 2**32 - 1
FIELDS = [("node", "<u4"), ("kind", "u1"), ("place", "<u4"), ("element", "<u4"), ("at", "<f8")]
RECORD = np.dtype(FIELDS)
NETWORK = ["format", "version", "claim", "networks", "producer", "property", "semantics"]
LOOP = ["format", "version", "claim", "networks", "producer", "problem", "instance"]
# format, claim and mode -> keys, and kinds of records
CLAIMS: dict[tuple[str, str, str | None], tuple[list[str], list[int]]] = {
    ("holdfast-certificate", "sat", None): ([*NETWORK, "witness"], []),
    ("holdfast-certificate", "unsat", "boxes"): ([*NETWORK, "mode"], [0, 1, 2, 4]),
    ("holdfast-certificate", "unsat", "neurons"): ([*NETWORK, "mode", "nonlinear"], [0, 1, 3]),
    ("holdfast-loop-certificate", "verified", "boxes"): ([*LOOP, "mode", "proofs"], [0, 1, 2, 4]),
    ("holdfast-loop-certificate", "falsified", "boxes"): ([*LOOP, "mode", "escape"], []),
}


@dataclass(frozen=True, eq=False)
class Block:
    """Evidence for ranges of m elements of a function's argument: 2 m rows of unit values and of line values."""

    region: int
    number_of_pass: int
    entry: int
    elements: np.ndarray
    unit: np.ndarray
    line: np.ndarray


@dataclass(frozen=True, eq=False)
class Certificate:
    header: dict[str, Any]
    records: np.ndarray
    leaves: list[list[np.ndarray]]  # for each chunk of records: all multipliers, all unit values, all line values
    ranges: list[Block]


def cut(data: bytes, *columns: tuple[str, int]) -> list[np.ndarray]:
    """Arrays of (type, length) that stand one behind the other and are all of the data."""
    ends = list(accumulate((np.dtype(kind).itemsize * length for kind, length in columns), initial=0))
    if ends != sorted(ends) or ends[-1] != len(data):
        raise Invalid("a member has a wrong length")
    return [np.frombuffer(data[ends[i] : ends[i + 1]], kind) for i, (kind, _) in enumerate(columns)]


def open_certificate(file: BinaryIO, limit: int) -> Certificate:
    """Read a certificate whose members have no more than `limit` bytes."""
    archive = zipfile.ZipFile(file) if zipfile.is_zipfile(file) else None
    if archive is None or "end.json" not in archive.namelist():
        raise Invalid("the certificate is truncated, or not a ZIP archive")
    infos = archive.infolist()
    if sum(info.file_size for info in infos) > limit:
        raise Invalid(f"the certificate unpacks to more than {limit >> 20} MiB (--memory)")
    members = {info.filename: archive.open(info).read(info.file_size) for info in infos}
    end, header = json.loads(members.pop("end.json")), json.loads(members["header.json"])
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    kind = header["format"], header["claim"], header.get("mode")
    if kind not in CLAIMS or header.get("version") != 1 or header.get("semantics", "real") not in ("real", "float32"):
        raise Invalid("the file is not a holdfast-certificate or holdfast-loop-certificate of version 1")
    names, kinds = CLAIMS[kind]
    if header.keys() != {*names}:
        raise Invalid("header.json has other keys than those of its claim and mode")

    def widths(entries: list[dict[str, Any]]) -> list[int]:
        return [sum(e["size"] for e in entries if e["evidence"] == kind) for kind in ("unit", "line")]

    table, chunks, leaves, ranges = header.get("nonlinear", []), [np.empty(0, RECORD)], [], []
    for name in takewhile(members.__contains__, map("records/{:06d}".format, count())):
        data, evidence = members.pop(name), members.pop(name.replace("records", "leaves"), b"")
        columns = cut(data, *((kind, len(data) // RECORD.itemsize) for _, kind in FIELDS))
        chunks.append(np.rec.fromarrays(columns, dtype=RECORD).view(np.ndarray))
        number = int(np.sum((chunks[-1]["kind"] == LEAF) & (chunks[-1]["element"] != NOTHING_LEFT)))
        units, lines = (number * width for width in widths(table))
        leaves.append(cut(evidence, ("<f4", (len(evidence) - units - 4 * lines) // 4), ("u1", units), ("<f4", lines)))
    for name in takewhile(members.__contains__, map("ranges/{:06d}".format, count())):
        data = members.pop(name)
        region, number, entry, m = np.frombuffer(data[:16], "<u4").tolist()
        units, lines = widths(table[:entry])
        _, elements, unit, line = cut(data, ("<u4", 4), ("<u4", m), ("u1", 2 * m * units), ("<f4", 2 * m * lines))
        ranges.append(Block(region, number, entry, elements, unit.reshape(2 * m, units), line.reshape(2 * m, lines)))
    records = np.concatenate(chunks)
    if members.keys() != {"header.json"} or len(infos) != len(digests) + 1:
        raise Invalid("the archive holds members that are repeated or not of the format")
    if end != {"records": len(records), "leaves": int(np.sum(records["kind"] == LEAF)), "members": digests}:
        raise Invalid("end.json does not describe what the archive holds (counts, sha256)")
    if not np.isfinite(records["at"]).all() or not np.isin(records["kind"], kinds).all():
        raise Invalid("a record is of a kind that its mode does not have, or its `at` is not finite")
    return Certificate(header, records, leaves, ranges)
