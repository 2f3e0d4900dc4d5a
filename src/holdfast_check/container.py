"""The file of a certificate (sections 1, 2, 5, 6 and 7 of the format): read, checked against its digests and its schema.

Nothing is unpacked before the declared sizes are known to fit into memory; evidence is read when the proof asks for it.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from holdfast_check.arithmetic import Invalid

LEAF, NOTHING_LEFT = 1, 2**32 - 1
RECORD = np.dtype([("node", "<u4"), ("kind", "u1"), ("place", "<u4"), ("element", "<u4"), ("at", "<f8")])
MEMBER = re.compile(r"(header\.json|end\.json|(records|ranges|leaves)/\d{6})")
JSON_LIMIT = 16 * 2**20
MODES = {"boxes": (0, 1, 2, 4), "neurons": (0, 1, 3)}  # the kinds of records


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
    archive: zipfile.ZipFile
    digests: dict[str, str]
    size: int  # bytes of all members, unpacked

    @property
    def leaves(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each chunk of records: all multipliers, all unit values, all line values."""
        entries = self.header.get("nonlinear", [])
        units, lines = (sum(e["size"] for e in entries if e["evidence"] == kind) for kind in ("unit", "line"))
        for number in range(sum(name.startswith("records/") for name in self.digests)):
            chunk = records(self.member(f"records/{number:06d}"))
            count = int(np.count_nonzero((chunk["kind"] == LEAF) & (chunk["element"] != NOTHING_LEFT)))
            name = f"leaves/{number:06d}"
            data = self.member(name) if name in self.digests else b""
            first = len(data) - count * (units + 4 * lines)
            if first < 0 or first % 4:
                raise Invalid(f"{name} has a wrong length")
            second = first + count * units
            yield (
                np.frombuffer(data[:first], "<f4"),
                np.frombuffer(data[first:second], "u1"),
                np.frombuffer(data[second:], "<f4"),
            )

    @property
    def ranges(self) -> Iterator[Block]:
        entries = self.header.get("nonlinear", [])
        for name in sorted(n for n in self.digests if n.startswith("ranges/")):
            data = self.member(name)
            head = np.frombuffer(data[:16], "<u4").tolist()
            if len(head) < 4 or head[2] >= len(entries):
                raise Invalid(f"{name} has no head, or speaks of an unknown function")
            m, before = head[3], entries[: head[2]]
            units, lines = (sum(e["size"] for e in before if e["evidence"] == kind) for kind in ("unit", "line"))
            first, second = 16 + 4 * m, 16 + 4 * m + 2 * m * units
            if len(data) != second + 8 * m * lines:
                raise Invalid(f"{name} has a wrong length")
            unit = np.frombuffer(data[first:second], "u1").reshape(2 * m, units)
            line = np.frombuffer(data[second:], "<f4").reshape(2 * m, lines)
            yield Block(head[0], head[1], head[2], np.frombuffer(data[16:first], "<u4"), unit, line)

    def member(self, name: str) -> bytes:
        return unpacked(self.archive, name, self.digests[name])


def unpacked(archive: zipfile.ZipFile, name: str, digest: str | None) -> bytes:
    size = archive.getinfo(name).file_size
    try:
        with archive.open(name) as member:
            data = member.read(size + 1)
    except (OSError, EOFError, NotImplementedError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise Invalid(f"member {name} cannot be unpacked ({error})") from None
    if len(data) != size or (digest is not None and hashlib.sha256(data).hexdigest() != digest):
        raise Invalid(f"member {name} is not what end.json says (sha256)")
    return data


def records(data: bytes) -> np.ndarray:
    """The five columns of one chunk."""
    count, rest = divmod(len(data), RECORD.itemsize)
    if rest:
        raise Invalid("a chunk of records has a wrong length")
    table, start = np.empty(count, RECORD), 0
    for name in RECORD.names or ():
        width = RECORD[name].itemsize
        table[name] = np.frombuffer(data, RECORD[name], count, start)
        start += width * count
    return table


def parsed(data: bytes, name: str) -> dict[str, Any]:
    """One JSON object without repeated keys; numbers are whole."""

    def object_of(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key is given twice")
        return dict(pairs)

    def refuse(text: str) -> Any:
        raise ValueError(f"the number {text[:20]} is not whole")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=object_of, parse_float=refuse, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{name} is not JSON of the format ({error})") from None
    if not isinstance(value, dict):
        raise Invalid(f"{name} is not one JSON object")
    return value


def fits(value: Any, schema: Any) -> bool:
    """A schema is a type, a list of one schema, a dictionary (key "" stands for any keys), or a test."""
    if isinstance(schema, dict) and isinstance(value, dict):
        wanted = schema | dict.fromkeys(value, schema[""]) if "" in schema else schema
        return set(value) == set(wanted) - {""} and all(fits(value[key], wanted[key]) for key in value)
    if isinstance(schema, list) and isinstance(value, list):
        return all(fits(v, schema[0]) for v in value)
    return type(value) is schema if isinstance(schema, type) else callable(schema) and bool(schema(value))


def is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def checked_header(header: dict[str, Any]) -> dict[str, Any]:
    """The header if it has exactly the keys and values of section 2."""
    one_of = lambda *names: lambda v: type(v) is str and v in names  # noqa: E731
    natural = lambda v: type(v) is int and 0 <= v < 2**31  # noqa: E731
    if (
        not one_of("holdfast-certificate")(header.get("format"))
        or type(header.get("version")) is not int
        or header["version"] != 1
    ):
        raise Invalid("the file is not a holdfast certificate of version 1")
    schema = {"format": str, "version": int, "producer": str, "networks": {"": is_digest}, "property": is_digest}
    schema |= {"claim": one_of("sat", "unsat"), "semantics": one_of("real", "float32")}
    if header.get("claim") == "sat":
        schema |= {"witness": {"": [str]}}
    else:
        schema |= {"mode": one_of(*MODES)}
    if header.get("mode") == "neurons":
        entry = {"network": str, "node": str, "part": natural, "size": natural, "evidence": one_of("unit", "line")}
        schema |= {"nonlinear": [entry]}
    if not fits(header, schema):
        raise Invalid(
            "header.json does not have exactly the keys and the kinds of values that belong to its claim and mode"
        )
    return header


def open_certificate(file: BinaryIO, limit: int) -> Certificate:
    """Read the certificate; `limit` is the number of bytes that all its members may have."""
    try:
        archive = zipfile.ZipFile(file)
    except (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise Invalid(f"truncated, or not a ZIP archive ({error})") from None
    members = archive.infolist()
    names = sorted(m.filename for m in members)
    size = sum(m.file_size for m in members)
    if len(set(names)) < len(names) or not all(MEMBER.fullmatch(n) for n in names):
        raise Invalid("the archive holds members that are repeated or not of the format")
    if any(m.flag_bits & 1 or m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members):
        raise Invalid("the archive holds members that are encrypted or packed in another way than deflated")
    if size > limit:
        raise Invalid(f"it unpacks to {size >> 20} MiB, more than the {limit >> 20} MiB allowed (--memory)")
    if "header.json" not in names or "end.json" not in names:
        raise Invalid("truncated: header.json or end.json is missing")
    if any(archive.getinfo(name).file_size > JSON_LIMIT for name in ("header.json", "end.json")):
        raise Invalid("header.json or end.json is longer than 16 MiB")
    for folder in ("records", "ranges", "leaves"):
        numbers = [n.split("/")[1] for n in names if n.startswith(folder)]
        if folder != "leaves" and sorted(numbers, key=int) != [f"{k:06d}" for k in range(len(numbers))]:
            raise Invalid(f"the numbers of {folder} have gaps")
        if folder == "leaves" and not {f"records/{number}" for number in numbers} <= set(names):
            raise Invalid("a chunk of leaves has no chunk of records")
    end = parsed(unpacked(archive, "end.json", None), "end.json")
    digests: Any = end.get("members")
    if (
        not fits(end, {"records": int, "leaves": int, "members": {"": is_digest}})
        or sorted([*digests, "end.json"]) != names
    ):
        raise Invalid("end.json does not count records and leaves and list the other members with their digests")
    for name in digests:
        unpacked(archive, name, digests[name])
    header = checked_header(parsed(unpacked(archive, "header.json", digests["header.json"]), "header.json"))
    chunks = [records(unpacked(archive, n, digests[n])) for n in names if n.startswith("records/")]
    table = np.concatenate(chunks) if chunks else np.empty(0, RECORD)
    if (end["records"], end["leaves"]) != (len(table), np.count_nonzero(table["kind"] == LEAF)):
        raise Invalid("end.json counts records or leaves that are not there")
    if not np.all(np.isfinite(table["at"])) or not np.all(
        np.isin(table["kind"], MODES.get(header.get("mode", ""), ()))
    ):
        raise Invalid("a record is of a kind that its mode does not have, or its `at` is not finite")
    return Certificate(header, table, archive, digests, size)
