"""Corruptions of certificates: every member, every field, with plausible values. Reads and writes archives on its own.

Each mutation has a name; `HARMLESS` says of which ones a checker may rightly accept the result, and why: what they change
is a choice that is sound whatever it is, so that the statement proved stays the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

COLUMNS = (("node", "<u4"), ("kind", "u1"), ("place", "<u4"), ("element", "<u4"), ("at", "<f8"))
WIDTH = sum(np.dtype(kind).itemsize for _, kind in COLUMNS)
CHILDREN = np.array([1, 0, 2, 2, 1])

HARMLESS = {
    "producer": "the name of the program that wrote it is not part of the claim",
    "at": "a split anywhere leaves two parts that cover the whole; both are bounded again as they are",
    "place": "which input or neuron is split is free: the parts cover the whole, and are bounded again as they are",
    "element": "which neuron of a function is split, how a box is looked at, which row refutes: all are tried out, none believed",
    "region": "roots may come in any order: what counts is that every case of every region has one",
    "order": "records of obligations that do not depend on each other may stand in any order that makes the same tree",
    "again": "a box that is only looked at again is still covered",
    "unit": "every slope on the grid is sound: the line is made from it and its bound is computed again",
    "line": "every slope is sound: the best constant is computed for it",
    "multiplier": "every weight of the right sign is sound (a wrong sign is refused): the bound is computed again",
    "range slopes": "as for leaves: a range is whatever the slopes given prove",
    "range element": "which pre-activation is narrowed is free: what is not narrowed keeps its range",
    "range head": "a block of another region or pass is not applied: bounds only get wider",
    "range block": "ranges that are left out only make bounds wider",
    "table order": "entries of the table name functions; evidence put beside another one is only another slope",
    "member order": "members are read by name",
    "early leaf": "mode boxes: a leaf that is not refuted at once is cut further by the checker, so all of it is proved",
    "semantics": "the changed claim is another one, which the same choices may prove as well, and then it is proved",
}


@dataclass
class Archive:
    """Members by name; records as columns."""

    members: dict[str, bytes]
    order: list[str] = field(default_factory=list)

    @staticmethod
    def read(data: bytes) -> Archive:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return Archive({n: archive.read(n) for n in archive.namelist()}, archive.namelist())

    def write(self, *, digests: bool = True) -> bytes:
        """As a file; with ``digests`` the list at the end is made true again."""
        members = dict(self.members)
        if digests and "end.json" in members:
            end = json.loads(members["end.json"])
            end["members"] = {n: hashlib.sha256(d).hexdigest() for n, d in members.items() if n != "end.json"}
            members["end.json"] = json.dumps(end).encode()
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in self.order or members:
                if name in members:
                    archive.writestr(name, members[name])
        return stream.getvalue()

    @property
    def header(self) -> dict:
        return json.loads(self.members["header.json"])

    @header.setter
    def header(self, content: dict) -> None:
        self.members["header.json"] = json.dumps(content).encode()

    @property
    def records(self) -> dict[str, np.ndarray]:
        data = self.members["records/000000"]
        n, at, columns = len(data) // WIDTH, 0, {}
        for name, kind in COLUMNS:
            columns[name] = np.frombuffer(data, kind, n, at).copy()
            at += n * np.dtype(kind).itemsize
        return columns

    @records.setter
    def records(self, columns: dict[str, np.ndarray]) -> None:
        self.members["records/000000"] = b"".join(columns[n].astype(k).tobytes() for n, k in COLUMNS)
        end = json.loads(self.members["end.json"])
        end["records"], end["leaves"] = len(columns["kind"]), int((columns["kind"] == 1).sum())
        self.members["end.json"] = json.dumps(end).encode()


Mutation = Callable[[Archive, np.random.Generator], Archive | bytes | None]


def _some_json(value: object, rng: np.random.Generator) -> object:
    """Another plausible value."""
    if isinstance(value, bool) or value is None:
        return 0
    if isinstance(value, int):
        return int(value + rng.choice([-1, 1, 7, 2**31, -(2**40)]))
    if isinstance(value, str):
        if len(value) == 64:  # a digest
            i = int(rng.integers(64))
            return value[:i] + "0123456789abcdef"[(int(value[i], 16) + 1 + int(rng.integers(15))) % 16] + value[i + 1 :]
        return str(rng.choice(["", value + "x", value[:-1], "other", "0"]))
    if isinstance(value, list):
        return value[:-1] if len(value) and rng.random() < 0.5 else [*value, *value[:1]]
    if isinstance(value, dict):
        return {} if rng.random() < 0.5 else {**value, "more": "0" * 64}
    return None


def header_value(key: str) -> Mutation:
    def mutate(a: Archive, rng: np.random.Generator) -> Archive | None:
        header = a.header
        if key not in header:
            return None
        if key == "semantics":
            header[key] = "float32" if header[key] == "real" else "real"
        elif key == "claim":
            header[key] = "sat" if header[key] == "unsat" else "unsat"
        elif key == "mode":
            header[key] = "neurons" if header[key] == "boxes" else "boxes"
        elif key == "networks" and header[key]:
            name = next(iter(header[key]))
            header[key] = {name: _some_json(header[key][name], rng)} if rng.random() < 0.7 else {"M": header[key][name]}
        elif key == "witness":
            name = next(iter(header[key]))
            values = list(header[key][name])
            i = int(rng.integers(len(values)))
            values[i] = str(
                rng.choice(["nan", "inf", "1e400", "9.5", "-9.5", "", "0x", "1_0", "__import__('os')", "1/0"])
            )
            header[key] = {name: values if rng.random() < 0.8 else values[:-1]}
        else:
            header[key] = _some_json(header[key], rng)
        a.header = header
        return a

    return mutate


def header_shape(a: Archive, rng: np.random.Generator) -> Archive:
    header = a.header
    if rng.random() < 0.5:
        del header[str(rng.choice([k for k in header if k != "producer"]))]
    else:
        header["extra"] = 1
    a.header = header
    return a


def table_entry(a: Archive, rng: np.random.Generator) -> Archive | None:
    header = a.header
    table = header.get("nonlinear")
    if not table:
        return None
    entry = table[int(rng.integers(len(table)))]
    key = str(rng.choice(list(entry)))
    entry[key] = {"unit": "line", "line": "unit"}.get(entry[key]) or _some_json(entry[key], rng)
    a.header = header
    return a


def table_order(a: Archive, rng: np.random.Generator) -> Archive | None:
    header = a.header
    if len(header.get("nonlinear", ())) < 2:
        return None
    header["nonlinear"] = header["nonlinear"][::-1]
    a.header = header
    return a


def column(name: str) -> Mutation:
    """One record's field, another plausible value."""

    def mutate(a: Archive, rng: np.random.Generator) -> Archive | None:
        if "records/000000" not in a.members:
            return None
        records = a.records
        i = int(rng.integers(len(records[name])))
        old = records[name][i]
        if name == "at":
            splits = np.flatnonzero(CHILDREN[records["kind"]] == 2)
            if not len(splits):
                return None
            i = int(rng.choice(splits))
            old = float(records[name][i])
            new: float | int = float(
                rng.choice(
                    [np.nextafter(old, 9), np.nextafter(old, -9), -old, old + 0.1, 50.0, -50.0, np.nan, np.inf, 1e308]
                )
            )
        elif name == "kind":
            new = int(rng.choice([k for k in (0, 1, 2, 3, 4, 5, 255) if k != old]))
        else:
            new = int(rng.choice([int(old) + 1, max(int(old) - 1, 0), 0, 1, 2, len(records[name]), 2**32 - 1]))
        if new == old:
            return None
        records[name][i] = new
        a.records = records
        return a

    return mutate


def _keep(records: dict[str, np.ndarray], index: np.ndarray) -> dict[str, np.ndarray]:
    return {n: c[index] for n, c in records.items()}


def drop_record(a: Archive, rng: np.random.Generator) -> Archive | None:
    if "records/000000" not in a.members:
        return None
    records = a.records
    a.records = _keep(records, np.delete(np.arange(len(records["kind"])), rng.integers(len(records["kind"]))))
    return a


def drop_last_records(a: Archive, rng: np.random.Generator) -> Archive | None:
    if "records/000000" not in a.members:
        return None
    records = a.records
    a.records = _keep(records, np.arange(len(records["kind"]) - int(rng.integers(1, 4))))
    return a


def repeat_record(a: Archive, rng: np.random.Generator) -> Archive | None:
    if "records/000000" not in a.members:
        return None
    records = a.records
    a.records = _keep(records, np.sort(np.append(np.arange(len(records["kind"])), rng.integers(len(records["kind"])))))
    return a


def swap_records(a: Archive, rng: np.random.Generator) -> Archive | None:
    if "records/000000" not in a.members or len(a.records["kind"]) < 3:
        return None
    records = a.records
    index = np.arange(len(records["kind"]))
    i, j = rng.choice(index, 2, replace=False)
    index[[i, j]] = index[[j, i]]
    a.records = _keep(records, index)
    return a


def early_leaf(a: Archive, rng: np.random.Generator) -> Archive | None:
    """A split is called proved, and everything below it is left out; numbers are made consistent again."""
    if "records/000000" not in a.members:
        return None
    records = a.records
    made = CHILDREN[records["kind"]]
    first = np.cumsum(made) - made
    splits = np.flatnonzero(records["kind"] > 1)
    if not len(splits):
        return None
    top = int(rng.choice(splits))
    below, pending = {top}, [top]
    owner = {int(node): i for i, node in enumerate(records["node"]) if records["kind"][i] != 0}
    while pending:
        i = pending.pop()
        for child in range(int(first[i]), int(first[i]) + int(made[i])):
            if child in owner:
                below.add(owner[child])
                pending.append(owner[child])
    gone = below - {top}
    leaves = [i for i in range(len(made)) if i in gone and records["kind"][i] == 1]
    records["kind"][top], records["element"][top], records["place"][top], records["at"][top] = 1, 0, 0, 0.0
    kept = np.array([i for i in range(len(made)) if i not in gone])
    number: dict[int, int] = {}
    count = 0
    for i in kept:
        for child in range(int(made[i]) if i != top else 0):
            number[int(first[i]) + child] = count
            count += 1
    records["node"] = np.array([number.get(int(n), 0) for n in records["node"]])
    a.records = _keep(records, kept)
    if "leaves/000000" in a.members and leaves:
        return None  # the evidence would have to be cut as well; dropping records covers that
    return a


def evidence(what: str) -> Mutation:
    """Bytes of a leaf's evidence. Multipliers come first, unit values behind them, lines last."""

    def mutate(a: Archive, rng: np.random.Generator) -> Archive | None:
        data = bytearray(a.members.get("leaves/000000", b""))
        if not data:
            return None
        table = a.header["nonlinear"]
        leaves = int(((a.records["kind"] == 1) & (a.records["element"] != 2**32 - 1)).sum())
        units = leaves * sum(e["size"] for e in table if e["evidence"] == "unit")
        lines = 4 * leaves * sum(e["size"] for e in table if e["evidence"] == "line")
        ends = {"multiplier": (0, len(data) - units - lines), "unit": (len(data) - units - lines, len(data) - lines)}
        first, last = ends.get(what, (len(data) - lines, len(data)))
        if last <= first:
            return None
        if what == "unit":
            for _ in range(int(rng.integers(1, 60))):
                data[int(rng.integers(first, last))] = int(rng.integers(256))
        else:
            values = np.frombuffer(bytes(data[first:last]), "<f4").copy()
            i = int(rng.integers(len(values)))
            values[i] = rng.choice([-values[i], np.nan, np.inf, -np.inf, values[i] * 3 + 1, 1e30, 0.0, -5.0])
            data[first:last] = values.tobytes()
        a.members["leaves/000000"] = bytes(data)
        return a

    return mutate


def evidence_length(a: Archive, rng: np.random.Generator) -> Archive | None:
    names = [n for n in a.members if n.startswith(("leaves/", "ranges/", "records/"))]
    if not names:
        return None
    name = str(rng.choice(names))
    data = a.members[name]
    a.members[name] = data[: -int(rng.integers(1, 5))] if rng.random() < 0.5 else data + b"\0" * int(rng.integers(1, 9))
    return a


def _block(a: Archive, rng: np.random.Generator) -> str | None:
    names = [n for n in a.members if n.startswith("ranges/")]
    return str(rng.choice(names)) if names else None


def range_head(a: Archive, rng: np.random.Generator) -> Archive | None:
    name = _block(a, rng)
    if name is None:
        return None
    data = a.members[name]
    head = np.frombuffer(data, "<u4", 4).copy()
    head[int(rng.integers(4))] = rng.choice([0, 1, 2, 3, 2**31, 2**32 - 1])
    a.members[name] = head.tobytes() + data[16:]
    return a


def range_element(a: Archive, rng: np.random.Generator) -> Archive | None:
    name = _block(a, rng)
    if name is None:
        return None
    data = a.members[name]
    count = int(np.frombuffer(data, "<u4", 4)[3])
    elements = np.frombuffer(data, "<u4", count, 16).copy()
    elements[int(rng.integers(count))] = rng.choice([0, 1, 5, 10**6, 2**32 - 1])
    a.members[name] = data[:16] + elements.tobytes() + data[16 + 4 * count :]
    return a


def range_slopes(a: Archive, rng: np.random.Generator) -> Archive | None:
    name = _block(a, rng)
    if name is None:
        return None
    data = bytearray(a.members[name])
    start = 16 + 4 * int(np.frombuffer(bytes(data), "<u4", 4)[3])
    if start >= len(data):
        return None
    for _ in range(20):
        data[int(rng.integers(start, len(data)))] = int(rng.integers(256))
    a.members[name] = bytes(data)
    return a


def range_block(a: Archive, rng: np.random.Generator) -> Archive | None:
    """The last block left out (numbers of blocks have no gaps)."""
    names = sorted(n for n in a.members if n.startswith("ranges/"))
    if not names:
        return None
    del a.members[names[-1]]
    return a


def end_value(a: Archive, rng: np.random.Generator) -> bytes:
    end = json.loads(a.members["end.json"])
    key = str(rng.choice(["records", "leaves", "members", "gone", "extra"]))
    if key == "gone":
        del end[str(rng.choice(list(end)))]
    elif key == "extra":
        end["more"] = 1
    elif key == "members":
        name = str(rng.choice(list(end["members"])))
        end["members"][name] = _some_json(end["members"][name], rng)
    else:
        end[key] += int(rng.choice([-1, 1]))
    a.members["end.json"] = json.dumps(end).encode()
    return a.write(digests=False)


def drop_member(a: Archive, rng: np.random.Generator) -> Archive:
    del a.members[str(rng.choice([n for n in a.members if not n.startswith("ranges/")]))]
    return a


def more_members(a: Archive, rng: np.random.Generator) -> Archive:
    name = str(
        rng.choice(["records/000007", "other", "../header.json", "leaves/000003", "ranges/000099", "header.json.bak"])
    )
    a.members[name] = b"\0" * int(rng.integers(64))
    a.order.append(name)
    return a


def flipped_byte(a: Archive, rng: np.random.Generator) -> bytes:
    data = bytearray(a.write())
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def cut(a: Archive, rng: np.random.Generator) -> bytes:
    data = a.write()
    return data[: int(rng.integers(len(data) - 1))]


def stale_digest(a: Archive, rng: np.random.Generator) -> bytes:
    name = str(rng.choice([n for n in a.members if n != "end.json" and a.members[n]]))
    data = bytearray(a.members[name])
    data[int(rng.integers(len(data)))] ^= 1
    a.members[name] = bytes(data)
    return a.write(digests=False)


def member_order(a: Archive, rng: np.random.Generator) -> Archive:
    a.order = [str(n) for n in rng.permutation(a.order)]
    return a


KEYS = ("format", "version", "claim", "semantics", "networks", "property", "mode", "producer", "witness")
MUTATIONS: dict[str, Mutation] = {
    **{key: header_value(key) for key in KEYS},
    "header shape": header_shape, "table entry": table_entry, "table order": table_order,
    **{name: column(name) for name, _ in COLUMNS},
    "drop record": drop_record, "drop last records": drop_last_records, "repeat record": repeat_record, "order": swap_records,
    "early leaf": early_leaf, "multiplier": evidence("multiplier"), "unit": evidence("unit"), "line": evidence("line"),
    "evidence length": evidence_length, "range head": range_head, "range element": range_element, "range slopes": range_slopes,
    "range block": range_block, "end": end_value, "drop member": drop_member, "more members": more_members,
    "flipped byte": flipped_byte, "cut": cut, "stale digest": stale_digest, "member order": member_order,
}  # fmt: skip
