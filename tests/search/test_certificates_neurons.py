"""Certificates of neuron splitting: the records are complete, the evidence has the right size and proves what it says."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import holdfast
from holdfast.bounds.enclosure import Problem
from holdfast.bounds.optimised import GRID, Schedule
from holdfast.certificate import CertificateError, CertificateWriter, Kind
from holdfast.certificate.writer import EMPTY
from holdfast.graph import Model
from holdfast.load import load_model
from holdfast.load.vnnlib import load_property
from holdfast.operators import INPUT, OPERATORS, LinearOperator
from holdfast.rigor import FLOAT32, FLOAT64
from holdfast.search import neuron_split as driver
from holdfast.search.budget import Budget
from holdfast.search.evidence import Leaf, Table
from holdfast.search.input_split import Outcome
from holdfast.search.minimise import Event, Proof, Trial
from holdfast.search.neuron_step import NeuronSplit, Node
from holdfast.search.replay import Replay
from holdfast.spec.query import Query, bind
from holdfast.transforms.evaluate import evaluate
from holdfast.transforms.simplify import simplify
from holdfast.verdict import Reason

BENCHMARKS = os.environ.get("HOLDFAST_BENCHMARKS")
INPUTS = 4
# share of the output's range by which the property holds: a few dozen sub-problems each
MARGINS = {"product": 2.0, "softmax": 0.6, "residual": 0.05}
ENDINGS = {
    "Relu": ("Relu",), "LeakyRelu": ("LeakyRelu",), "Abs": ("Abs",), "Tanh": ("Tanh",), "Sigmoid": ("Sigmoid",),
    "product": ("Relu", "gate"), "maximum": ("halves",), "clip": ("Clip",), "softmax": ("Tanh", "Softmax"),
    "residual": ("Relu", "skip"),
}  # fmt: skip
PIECEWISE = ("Relu", "LeakyRelu", "Abs", "maximum", "residual")


def build(folder: Path, kind: str, seed: int, *, names: str = "act{}", radius: float = 0.7) -> tuple[Path, Path]:
    """A random network whose functions are of a kind, and a property that holds by a small margin (of samples)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    nodes: list[Any] = []
    constants: list[Any] = []

    def layer(source: str, out: str, n: int, m: int) -> str:
        w, b = rng.normal(size=(n, m)) / np.sqrt(n), 0.3 * rng.normal(size=m)
        constants.extend(
            [numpy_helper.from_array(np.float32(w), out + "w"), numpy_helper.from_array(np.float32(b), out + "b")]
        )
        nodes.append(helper.make_node("Gemm", [source, out + "w", out + "b"], [out], name="lin" + out))
        return out

    def function(op: str, sources: list[str], out: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, sources, [out], name=names.format(len(nodes)), **attributes))
        return out

    value, width = "x", INPUTS
    for k in range(2):
        value = layer(value, f"h{k}", width, 10)
        width = 10
        before = value
        for op in ENDINGS[kind]:
            out = f"{op}{k}"
            if op == "gate":
                value = function("Mul", [value, layer(before, f"g{k}", 10, 10)], out)
            elif op == "halves":
                value = function("Max", [value, layer(before, f"g{k}", 10, 10), layer(before, f"f{k}", 10, 10)], out)
            elif op == "skip":
                value = function("Add", [value, before], out)
            elif op == "Clip":
                constants.extend([numpy_helper.from_array(np.float32(v), f"{out}{v}") for v in (-0.5, 0.75)])
                value = function("Clip", [value, f"{out}-0.5", f"{out}0.75"], out)
            elif op == "Softmax" and k == 0:
                continue
            else:
                value = function(op, [value], out, **({"alpha": 0.2} if op == "LeakyRelu" else {}))
    value = layer(value, "y", 10, 2)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [info("x", TensorProto.FLOAT, (1, INPUTS))], [info("y", TensorProto.FLOAT, (1, 2))], constants
    )
    network = folder / "net.onnx"
    network.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    )
    model = load_model(network)
    x = np.clip(rng.uniform(-2 * radius, 2 * radius, (20000, 1, INPUTS)), -radius, radius)  # corners and faces too
    y = evaluate(model.graph, model.parameters, [x])[model.graph.outputs[0]][:, 0]
    low, span, margin = y.min(0), float(np.ptp(y, axis=0).max()), MARGINS.get(kind, 0.1)
    lines = [f"(declare-const {v}_{i} Real)" for v, n in (("X", INPUTS), ("Y", 2)) for i in range(n)]
    lines += [f"(assert (>= X_{i} {-radius}))\n(assert (<= X_{i} {radius}))" for i in range(INPUTS)]
    lines.append(
        f"(assert (or (and (<= Y_0 {low[0] - margin * span:.6f})) (and (<= Y_1 {low[1] - margin * span:.6f})"
        f" (<= (+ Y_0 Y_1) {y.sum(1).max() + span:.6f}))))"
    )
    prop = folder / "true.vnnlib"
    prop.write_text("\n".join(lines) + "\n")
    return network, prop


@dataclass
class Written:
    """What a search left behind."""

    outcome: Outcome
    query: Query
    search: NeuronSplit | None
    events: list[Event]
    path: Path


def searched(
    network: Path,
    prop: Path,
    path: Path | None,
    *,
    semantics: str = "real",
    timeout: float = 60.0,
    minimise: bool = True,
) -> Written:
    """Neuron splitting on a question, with a certificate where ``path`` is given."""
    model = load_model(network)
    given = bind(load_property(prop), model)
    query = given if semantics == "float32" else bind(load_property(prop), simplify(model).model)
    budget = Budget(timeout)
    execution = FLOAT32 if semantics == "float32" else None
    problem = Problem.make(query.graph, query.parameters, query.radii, FLOAT64, execution)
    problem = replace(problem, expired=budget.expired)
    writers: list[CertificateWriter] = []
    proofs: list[Proof] = []
    searches: list[NeuronSplit] = []

    def begin(entries: Mapping[str, Any]) -> CertificateWriter:
        assert path is not None
        header = {
            "claim": "unsat", "semantics": semantics, "networks": {n: m.sha256 for n, m in query.models.items()},
            "property": query.property.sha256, "producer": "test", **entries,
        }  # fmt: skip
        writers.append(CertificateWriter(path, header))
        return writers[-1]

    class Kept(Proof):
        def __init__(self, *arguments: Any):
            super().__init__(*arguments)
            proofs.append(self)

    class Search(NeuronSplit):
        def __post_init__(self) -> None:
            super().__post_init__()
            searches.append(self)

    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(driver, "Proof", Kept)
        patch.setattr(driver, "NeuronSplit", Search)
        if not minimise:
            patch.setattr(driver, "MINIMISE_SHARE", 0.0)
        outcome = driver.neuron_split(query, problem, Replay(query, problem), budget, 1, begin if path else None)
    for writer in writers:
        writer.finish() if outcome.reason is Reason.PROVED else writer.discard()
    events = list(proofs[0]._events or []) if proofs else []
    return Written(outcome, query, searches[0], events, path or Path())


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, np.ndarray]], list[bytes], dict[str, bytes]]:
    """Header, record chunks by column, evidence of leaves, range blocks."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chunks, leaves = [], []
    for k in range(sum(name.startswith("records/") for name in members)):
        data = members[f"records/{k:06d}"]
        n, first, columns = len(data) // 21, 0, {}
        for name, dtype in (("node", "<u4"), ("kind", "u1"), ("place", "<u4"), ("element", "<u4"), ("at", "<f8")):
            columns[name] = np.frombuffer(data, dtype, n, first)
            first += columns[name].nbytes
        assert first == len(data)
        chunks.append(columns)
        leaves.append(members.get(f"leaves/{k:06d}", b""))
    ranges = {name: data for name, data in members.items() if name.startswith("ranges/")}
    return json.loads(members["header.json"]), chunks, leaves, ranges


def structure(path: Path, query: Query) -> int:
    """Checks everything that can be counted; returns the number of leaves."""
    header, chunks, leaves, ranges = read(path)
    table = header["nonlinear"]
    sizes = {kind: sum(f["size"] for f in table if f["evidence"] == kind) for kind in ("unit", "line")}
    made, depth, root_of, recorded, complete = 0, {}, {}, set(), {}
    total = 0
    for columns, evidence in zip(chunks, leaves, strict=True):
        expected = 0
        for node, kind, place, element, at in zip(*columns.values(), strict=True):
            if kind == Kind.ROOT:
                assert node == made
                depth[made], root_of[made] = 0, made
                complete[made] = (int(place), int(element) - 1, int(at))
                made += 1
                continue
            assert node in depth and node not in recorded
            recorded.add(node)
            if kind == Kind.LEAF:
                total += 1
                if element != EMPTY:
                    case = query.regions[complete[root_of[node]][0]].cases[complete[root_of[node]][1]]
                    assert element < len(case)
                    expected += 4 * depth[node] + sizes["unit"] + 4 * sizes["line"]
            else:
                assert kind == Kind.NEURON and np.isfinite(at)
                assert element < table[place]["size"] * 2
                for child in (made, made + 1):
                    depth[child], root_of[child] = depth[node] + 1, root_of[node]
                made += 2
        assert len(evidence) == expected
    open_roots = {root_of[node] for node in depth if node not in recorded}
    proved = {(region, case) for root, (region, case, _) in complete.items() if root not in open_roots}
    assert proved == {(r, c) for r, region in enumerate(query.regions) for c in range(len(region.cases))}
    for data in ranges.values():
        region, number, entry, m = np.frombuffer(data, "<u4", 4)
        before = [f for f in table[:entry]]
        wide = sum(f["size"] * (1 if f["evidence"] == "unit" else 4) for f in before)
        assert len(data) == 16 + 4 * m + 2 * m * wide
        elements = np.frombuffer(data, "<u4", m, 16)
        assert m and (elements < 2 * table[entry]["size"]).all() and len(np.unique(elements)) == m
        assert region < len(query.regions) and number in (1, 2)
    return total


@pytest.fixture(scope="module", params=list(ENDINGS))
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Written, Path, Path]:
    """A certificate for each kind of function."""
    folder = tmp_path_factory.mktemp(request.param)
    network, prop = build(folder, request.param, 1)
    return request.param, searched(network, prop, folder / "c.hfc"), network, prop


def test_proved_with_all_records_and_evidence_of_the_right_size(written: tuple[str, Written, Path, Path]) -> None:
    _, found, _, _ = written
    assert found.outcome.reason is Reason.PROVED
    assert structure(found.path, found.query) >= 2


def test_checker_says_valid(written: tuple[str, Written, Path, Path]) -> None:
    kind, found, network, prop = written
    if kind == "softmax":
        pytest.skip("the checker does not read Softmax, and `verify` says so")
    answer = holdfast.check(network, prop, found.path)
    assert answer.valid, answer.message


def test_same_verdict_and_work_without_a_certificate(written: tuple[str, Written, Path, Path]) -> None:
    _, found, network, prop = written
    plain = searched(network, prop, None)
    assert plain.outcome.reason is found.outcome.reason
    assert plain.outcome.boxes == found.outcome.boxes


def paths(events: list[Event]) -> dict[int, tuple[Event, tuple[tuple[int, float, float], ...]]]:
    """Each obligation's root and imposed ends."""
    held: dict[int, tuple[Event, tuple[tuple[int, float, float], ...]]] = {}
    for event in events:
        if event.kind is Kind.ROOT:
            held[event.node] = (event, ())
        elif event.kind is Kind.NEURON:
            root, ends = held[event.node]
            held[event.first] = (root, (*ends, (event.place, -np.inf, event.at)))
            held[event.first + 1] = (root, (*ends, (event.place, event.at, np.inf)))
    return held


def test_evidence_of_every_leaf_gives_a_positive_bound_again(written: tuple[str, Written, Path, Path]) -> None:
    kind, found, _, _ = written
    if kind not in PIECEWISE:
        pytest.skip("the shifts of other lines are the checker's own")
    search, held = found.search, paths(found.events)
    assert search is not None
    refined = max((root.at for root, _ in held.values()), default=0)
    seen = 0
    for event in found.events:
        leaf = event.leaf
        if leaf is None or leaf.row == EMPTY or held[event.node][0].at < refined:
            continue
        root, ends = held[event.node]
        node = Node(root.place, root.case, ends, -np.inf, leaf.unit, leaf.multipliers)
        with np.errstate(all="ignore"):
            again = search.bounded([node], Schedule(iterations=1), [leaf.row])
        assert again.refuted.all()
        unit, _ = search.table.evidence(again.best, np.array([0]), np.array([0]))
        assert (unit[0] == leaf.unit).all()
        seen += 1
    assert seen


def test_float32_semantics(tmp_path: Path) -> None:
    network, prop = build(tmp_path, "Tanh", 1)
    found = searched(network, prop, tmp_path / "c.hfc", semantics="float32")
    assert found.outcome.reason is Reason.PROVED
    structure(found.path, found.query)
    answer = holdfast.check(network, prop, found.path)
    assert answer.valid, answer.message


def test_small_memory_writes_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, prop = build(tmp_path, "Relu", 1)
    whole = searched(network, prop, tmp_path / "a.hfc")
    create = Proof.__init__
    monkeypatch.setattr(Proof, "__init__", lambda self, writer, where, limit: create(self, writer, where, 5000))
    found = searched(network, prop, tmp_path / "b.hfc")
    assert found.outcome.reason is Reason.PROVED and not found.events
    assert structure(found.path, found.query) >= structure(whole.path, whole.query)
    assert holdfast.check(network, prop, found.path).valid


def test_ranges_that_would_be_too_large_are_not_narrowed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, prop = build(tmp_path, "Relu", 1)
    monkeypatch.setattr(driver, "RANGES_BYTES", 10)
    monkeypatch.setattr(driver, "REFINE_AFTER", 4)
    found = searched(network, prop, tmp_path / "c.hfc")
    assert found.outcome.reason is Reason.PROVED
    assert not read(found.path)[3]
    assert holdfast.check(network, prop, found.path).valid


def test_leaves_that_need_no_split_are_merged() -> None:
    """A tree of two splits whose upper half is refuted without either; the other case needs its split."""
    written: list[tuple[Any, ...]] = []

    class Writer:
        leaves = 0
        obligations = 0

        def one(self, node: int, kind: Kind, place: int = 0, element: int = 0, at: float = 0.0) -> int:
            first, self.obligations = self.obligations, self.obligations + (2 if kind is Kind.NEURON else 0)
            written.append((kind, node, place))
            return first

        def root(self, region: int, case: int, passes: int) -> int:
            self.obligations += 1
            written.append((Kind.ROOT, self.obligations - 1, region, case, passes))
            return self.obligations - 1

        def leaf(self, node: int, row: int, *evidence: np.ndarray) -> None:
            self.leaves += 1
            written.append((Kind.LEAF, node, row))

    def leaf(row: int, splits: int) -> Leaf:
        none = np.zeros(0, np.uint8)
        return Leaf(row, np.zeros(splits, np.float32), none, none, none)

    proof = Proof(Writer(), lambda neuron: (0, neuron), 1 << 20)  # type: ignore[arg-type]
    abandoned = proof.root(0, 0, 0)
    proof.split(abandoned, 3, 0.0)
    first, second = proof.root(0, 0, 1), proof.root(0, 1, 0)
    low = proof.split(first, 1, 0.5)
    deep = proof.split(low + 1, 2, 0.0)
    for node, row, splits in ((low, 0, 1), (deep, 1, 2), (deep + 1, 0, 2), (second, 0, 0)):
        proof.leaf(node, leaf(row, splits))
    tried: list[Trial] = []

    def attempt(trials: list[Trial]) -> list[Leaf | None]:
        tried.extend(trials)
        return [t.leaf if t.ends == ((1, 0.5, np.inf),) and t.leaf.row == 1 else None for t in trials]

    assert proof.finish(attempt, 8, lambda: False) == (4, 3)
    assert all(len(t.leaf.multipliers) == len(t.ends) for t in tried)
    assert written == [
        (Kind.ROOT, 0, 0, 0, 1), (Kind.NEURON, 0, 0), (Kind.LEAF, 1, 0), (Kind.LEAF, 2, 1),
        (Kind.ROOT, 3, 0, 1, 0), (Kind.LEAF, 3, 0),
    ]  # fmt: skip


def test_names_that_are_not_unique_are_refused_before_the_search(tmp_path: Path) -> None:
    network, prop = build(tmp_path, "Relu", 1, names="same")
    with pytest.raises(CertificateError, match="same"):
        searched(network, prop, tmp_path / "c.hfc")
    assert not list(tmp_path.glob("c.hfc*"))


def test_nodes_without_names_are_called_after_their_output(tmp_path: Path) -> None:
    network, prop = build(tmp_path, "Relu", 1, names="")
    found = searched(network, prop, tmp_path / "c.hfc")
    assert [f["node"] for f in read(found.path)[0]["nonlinear"]] == ["Relu0", "Relu1"]
    assert holdfast.check(network, prop, found.path).valid


def labels(model: Model) -> list[tuple[str, int, tuple[int, ...]]]:
    """Names, parts and shapes of the nonlinear nodes."""
    nodes = (n for n in model.graph.nodes if n.op != INPUT and not isinstance(OPERATORS[n.op], LinearOperator))
    return [(n.name, n.part, n.shape) for n in nodes]


@pytest.mark.skipif(not BENCHMARKS, reason="HOLDFAST_BENCHMARKS is not set")
@pytest.mark.parametrize(
    "family", ["acasxu", "cgan", "cifar10_resnet", "dist_shift", "eran", "mnist_fc", "nn4sys", "oval21", "verivital"]
)
def test_labels_of_real_networks_are_unique_and_survive_simplification(family: str) -> None:
    files = sorted(Path(BENCHMARKS or "", "vnncomp", family, "onnx").rglob("*.onnx.gz"), key=lambda f: f.stat().st_size)
    for file in files[:3]:
        model = load_model(file, check=False)
        before = labels(model)
        assert before and len({entry[:2] for entry in before}) == len(before)
        assert labels(simplify(model).model) == before


def test_slopes_survive_packing(tmp_path: Path) -> None:
    network, prop = build(tmp_path, "product", 1)
    query = bind(load_property(prop), simplify(load_model(network)).model)
    table = Table.of(query, query.graph)
    width = sum(OPERATORS[f.op].slopes * f.size for f in table.functions)  # type: ignore[attr-defined]
    flat = np.random.default_rng(0).integers(0, 256, (3, width)).astype(np.uint8)
    back = table.unpacked(flat, 2)
    for f in table.functions:
        assert back[f.position].shape[-len(f.shape) :] == f.shape
    again = np.concatenate(
        [np.rint((b[:, 0] if f.op == "relu" else b[:, :, 0].swapaxes(0, 1)) * GRID).reshape(3, -1)
         for f, b in ((f, back[f.position]) for f in table.functions)], 1
    )  # fmt: skip
    assert (again == flat).all()
