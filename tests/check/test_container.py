"""Certificates that are damaged, incomplete, too large or of another form are refused with one sentence."""

import hashlib
import io
import json
import struct
import zipfile
import zlib

import numpy as np
import pytest
from evaluation import archive, dense_model, header, records

from holdfast_check.arithmetic import Invalid
from holdfast_check.container import open_certificate

MODEL, TEXT = dense_model(), b"(assert true)"
HEAD = header(MODEL, TEXT)
BOXES = {"records/000000": records((0, "ROOT", 0, 0, 0.0), (0, "LEAF", 0, 0, 0.0))}
TABLE = [
    {"network": "N", "node": "relu0", "part": 0, "size": 3, "evidence": "unit"},
    {"network": "N", "node": "tanh", "part": 0, "size": 2, "evidence": "line"},
]
NEURONS = header(MODEL, TEXT, mode="neurons", nonlinear=TABLE)
TREE = {
    "records/000000": records((0, "ROOT", 0, 1, 1.0), (0, "NEURON", 0, 1, 0.5), (1, "LEAF", 0, 0, 0.0)),
    "ranges/000000": struct.pack("<6I", 0, 1, 1, 2, 0, 1) + bytes(range(4 * 3)),
    "leaves/000000": np.float32([0.25]).tobytes() + b"abc" + np.float32([1.5, -2]).tobytes(),
    "records/000001": records((2, "LEAF", 2**32 - 1, 0, 0.0)),
}


# what `__main__` turns into one sentence
REFUSED = (
    Invalid,
    AttributeError,
    LookupError,
    OSError,
    EOFError,
    RuntimeError,
    TypeError,
    ValueError,
    zlib.error,
    zipfile.BadZipFile,
)


def opened(path, limit=2**20):
    with path.open("rb") as file:
        return open_certificate(file, limit)


def test_boxes(tmp_path):
    certificate = opened(archive(tmp_path / "c", HEAD, BOXES))
    assert certificate.records["kind"].tolist() == [0, 1] and not certificate.ranges
    assert [len(part) for part in certificate.leaves[0]] == [0, 0, 0]


def test_neurons(tmp_path):
    members = TREE | {"records/000001": records((2, "LEAF", 0, 2**32 - 1, 0.0))}
    certificate = opened(archive(tmp_path / "c", NEURONS, members))
    assert certificate.records["node"].tolist() == [0, 0, 1, 2] and certificate.records["at"][1] == 0.5
    assert [part.tolist() for part in certificate.leaves[0]] == [[0.25], list(b"abc"), [1.5, -2.0]]
    assert [len(part) for part in certificate.leaves[1]] == [0, 0, 0]
    (block,) = certificate.ranges
    assert (block.region, block.number_of_pass, block.entry, block.elements.tolist()) == (0, 1, 1, [0, 1])
    assert block.unit.shape == (4, 3) and block.unit[3].tolist() == [9, 10, 11] and block.line.shape == (4, 0)


WRONG = {
    "format": (HEAD | {"format": "other"}, BOXES, None),
    "version": (HEAD | {"version": 2}, BOXES, None),
    "more keys": (HEAD | {"note": ""}, BOXES, None),
    "no mode": ({k: v for k, v in HEAD.items() if k != "mode"}, BOXES, None),
    "table for boxes": (HEAD | {"nonlinear": []}, BOXES, None),
    "semantics": (HEAD | {"semantics": "float16"}, BOXES, None),
    "claim": (HEAD | {"claim": "unknown"}, BOXES, None),
    "claim list": (HEAD | {"claim": ["unsat"]}, BOXES, None),
    "sizes": (NEURONS | {"nonlinear": [TABLE[0] | {"size": 4}, TABLE[1]]}, TREE, None),
    "unknown member": (HEAD, BOXES | {"notes": b""}, None),
    "path": (HEAD, BOXES | {"../records/000000": b""}, None),
    "gap": (HEAD, BOXES | {"records/000002": b""}, None),
    "leaves alone": (HEAD, BOXES | {"leaves/000001": b""}, None),
    "length of records": (HEAD, {"records/000000": b"1234"}, None),
    "length of leaves": (NEURONS, TREE | {"leaves/000000": b"ab"}, None),
    "odd leaves": (NEURONS, TREE | {"leaves/000000": TREE["leaves/000000"] + b"a"}, None),
    "length of ranges": (NEURONS, TREE | {"ranges/000000": TREE["ranges/000000"][:-1]}, None),
    "head of ranges": (NEURONS, TREE | {"ranges/000000": b"abc"}, None),
    "many elements": (NEURONS, TREE | {"ranges/000000": struct.pack("<4I", 0, 1, 1, 2**32 - 1)}, None),
    "not finite": (HEAD, {"records/000000": records((0, "ROOT", 0, 0, np.nan))}, None),
    "kind": (HEAD, {"records/000000": records((0, "NEURON", 0, 0, 0.0))}, None),
    "count": (HEAD, BOXES, {"records": 3}),
    "leaf count": (HEAD, BOXES, {"leaves": 0}),
    "digests": (HEAD, BOXES, {"members": {"header.json": hashlib.sha256(json.dumps(HEAD).encode()).hexdigest()}}),
    "digest": (HEAD, BOXES, {"members": {"header.json": "0" * 64, "records/000000": "0" * 64}}),
    "mode of sat": (HEAD | {"mode": "sat"}, BOXES, None),
    "claim of the mode": (HEAD | {"claim": "sat"}, BOXES, None),
    "sat without witness": ({k: v for k, v in HEAD.items() if k != "mode"} | {"claim": "sat"}, BOXES, None),
    "unsat with a witness": (header(MODEL, TEXT, witness={"x": []}) | {"claim": "unsat"}, {}, None),
    "records of sat": (header(MODEL, TEXT, witness={"x": []}), BOXES, None),
    "list": ([HEAD], BOXES, None),
    "end": (HEAD, BOXES, {"more": 1}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_of_the_format_is_refused(name, tmp_path):
    with pytest.raises(REFUSED):
        opened(archive(tmp_path / "c", *WRONG[name]))


def rewritten(path, change):
    """The same archive with other bytes for its members."""
    with zipfile.ZipFile(path) as file:
        contents = [(i.filename, file.read(i)) for i in file.infolist()]
    with zipfile.ZipFile(path, "w") as file:
        for name, content in change(contents):
            file.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "change",
    [
        lambda c: c[:-1],
        lambda c: c[1:],
        lambda c: [*c, c[0]],
        lambda c: [(n, b"[1]" if n == "header.json" else d) for n, d in c],
        lambda c: [(n, b"{" if n == "end.json" else d) for n, d in c],
        lambda c: [(n, d + b" " if n == "header.json" else d) for n, d in c],
        lambda c: [(n, d.replace(b'"leaves"', b'"records"') if n == "end.json" else d) for n, d in c],
        lambda c: [(n, b"[" * 10**6 if n == "end.json" else d) for n, d in c],
        lambda c: [(n, b"NaN" if n == "end.json" else d) for n, d in c],
        lambda c: [(n, b'{"records": ' + b"9" * 5000 + b"}" if n == "end.json" else d) for n, d in c],
        lambda c: [(n, b"\xff" if n == "end.json" else d) for n, d in c],
    ],
)
def test_members_that_were_changed_are_refused(change, tmp_path):
    with pytest.raises(REFUSED):
        opened(rewritten(archive(tmp_path / "c", HEAD, BOXES), change))


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    path = archive(tmp_path / "c", HEAD, {"records/000000": bytes(2**24)})
    assert path.stat().st_size < 2**16
    with pytest.raises(Invalid, match="MiB"):
        opened(path)


def test_other_ways_of_packing_are_refused(tmp_path):
    path = archive(tmp_path / "c", HEAD, BOXES)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_BZIP2) as file:
        file.writestr("records/000001", b"")
    with pytest.raises(Invalid):
        opened(path)


def test_sizes_that_lie_are_refused(tmp_path):
    path = archive(tmp_path / "c", HEAD, {"records/000000": bytes(2**22)})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 2**22), struct.pack("<I", 21)))
    with pytest.raises(REFUSED):
        opened(path)


def test_every_truncation_and_random_damage_is_refused(tmp_path):
    rng = np.random.default_rng(5)
    path = archive(tmp_path / "c", NEURONS, TREE | {"records/000001": records((2, "LEAF", 0, 2**32 - 1, 0.0))})
    data = path.read_bytes()
    for length in [0, 1, 21, *rng.integers(0, len(data), 60)]:
        with pytest.raises(REFUSED):
            open_certificate(io.BytesIO(data[:length]), 2**20)
    for _ in range(300):
        broken = bytearray(data)
        broken[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        try:
            certificate = open_certificate(io.BytesIO(bytes(broken)), 2**20)
        except REFUSED:
            continue
        # what is left are bits that mean nothing: dates, attributes, versions
        assert certificate.header == NEURONS and certificate.records["node"].tolist() == [0, 0, 1, 2]
