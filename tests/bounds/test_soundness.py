"""Bounds of random networks against exact values, with zero tolerance; scripts/soundness.py runs the large version."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from random_networks.checks import FLOAT32, FLOAT64, Tally, check_engine
from random_networks.exact import balls, outside
from random_networks.files import check_file, check_values
from random_networks.graphs import lattice_sample, random_boxes, random_sample
from random_networks.onnx_files import KINKS, LINEAR, MOVES, SMOOTH, Writer, random_onnx, save

from holdfast.bounds import backward, cone, enclosure, propagate
from holdfast.bounds.bounder import bound
from holdfast.errors import InputError, MismatchError
from holdfast.load import load_model
from holdfast.load.lowering import RULES
from holdfast.operators import OPERATORS
from holdfast.rigor import Arithmetic


def graphs(seed: int, count: int, sample_of: Callable = random_sample, **options: object) -> Tally:
    """The checks on ``count`` random graphs."""
    tally = Tally()
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        with suppress(InputError):  # outside the domain of a function, as far as float32 can tell
            check_engine(rng, sample_of(rng), tally, **options)  # type: ignore[arg-type]
    return tally


@pytest.mark.parametrize("seed", range(6))
def test_graphs_of_all_cards(seed: int) -> None:
    tally = graphs(seed, 25, arithmetic=FLOAT64)
    assert tally.comparisons > 5000 and not tally.violations, tally.violations[:3]


@pytest.mark.parametrize("seed", range(100, 102))
def test_graphs_in_single_precision(seed: int) -> None:
    tally = graphs(seed, 20, arithmetic=FLOAT32)
    assert tally.comparisons > 3000 and not tally.violations, tally.violations[:3]


@pytest.mark.parametrize("stored", ["sparse", "dense"])
@pytest.mark.parametrize("sample_of", [random_sample, lattice_sample])
@pytest.mark.parametrize("arithmetic", [FLOAT64, FLOAT32], ids=lambda a: a.name)
def test_sparse_matrices_and_cones(
    sample_of: Callable, arithmetic: Arithmetic, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every matrix stored sparse, however small, or none; blocks of neurons bounded on their cones."""
    if stored == "sparse":
        monkeypatch.setattr(enclosure, "SPARSE_ENTRIES", 0)
        monkeypatch.setattr(enclosure, "SPARSE_SHARE", 2.0)
        monkeypatch.setattr(propagate, "CONE_ROWS", 3)
    cuts = []
    real = cone.cone
    monkeypatch.setattr(cone, "cone", lambda *arguments: cuts.append(real(*arguments)) or cuts[-1])
    tally = graphs(150, 12, sample_of, arithmetic=arithmetic)
    assert not tally.violations, tally.violations[:3]
    assert sample_of is random_sample or stored == "dense" or any(cut is not None for cut in cuts)


@pytest.mark.parametrize("seed", range(200, 204))
def test_files_of_all_operators(seed: int, tmp_path: Path) -> None:
    """Through the loader: exact ONNX semantics, onnxruntime, float32 sums in any order."""
    tally = Tally()
    for index in range(12):
        rng = np.random.default_rng([seed, index])
        check_file(rng, random_onnx(rng), tally, tmp_path, boxes=1, count=2)
    assert tally.networks == 12 and not tally.violations, tally.violations[:3]


def test_generators_reach_everything() -> None:
    cards: set[str] = set()
    for index in range(300):
        cards |= {node.op for node in random_sample(np.random.default_rng([1, index])).graph.nodes}
    assert cards == {*OPERATORS, "input"}
    written = {op.split()[0] for op in (*KINKS, *SMOOTH, *MOVES, *LINEAR)} | {"Unsqueeze"}
    assert written == set(RULES)


@pytest.mark.parametrize("op", sorted({*KINKS, *SMOOTH, *MOVES, *LINEAR} - {"Size"}))
def test_exact_semantics_agree_with_the_loader(op: str, tmp_path: Path) -> None:
    """Two independent translations of each operator, compared in plain arithmetic (bounds are compared elsewhere)."""
    from onnx import TensorProto, helper

    for index in range(3):
        rng = np.random.default_rng([9, index])
        w = Writer(rng, mild=True, opset=17)
        w.shapes["x0"] = (1, 6)
        w.order.append("x0")
        w.write(op)
        w.node("Neg", [w.order[-1]], ())
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            w.nodes,
            "one",
            [value("x0", TensorProto.FLOAT, (1, 6))],
            [value(w.order[-1], TensorProto.FLOAT, None)],
            w.constants,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        model = load_model(save(proto, tmp_path))
        x = rng.normal(size=6)
        exact, ours = check_values(proto, model, x)
        assert exact.shape == ours.shape
        theirs = np.array([float(v) for v in exact.reshape(-1)])
        np.testing.assert_allclose(ours.reshape(-1), theirs, rtol=1e-9, atol=1e-9)


def test_plain_arithmetic_is_close() -> None:
    """No error terms, no claim: but the same bounds up to rounding."""
    for index in range(40):
        rng = np.random.default_rng([300, index])
        model = random_sample(rng, smooth=False, mild=True).model
        if model.radii:
            continue
        n = int(np.prod(model.inputs[0].shape))
        low, high = -rng.random(n), rng.random(n)
        rigorous, plain = bound(model, low, high), bound(model, low, high, plain=True)
        size = 1.0 + np.maximum(np.abs(rigorous.lower), np.abs(rigorous.upper))
        if np.isfinite(size).all():
            scale = 1e-6 * (size + (rigorous.upper - rigorous.lower))
            assert (np.abs(rigorous.lower - plain.lower) <= scale).all(), index
            assert (np.abs(rigorous.upper - plain.upper) <= scale).all(), index


@pytest.mark.parametrize("fault", ["no error terms", "relaxation", "adjoint", "box"])
def test_the_checks_find_faults(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine with a mistake in it is caught within a few networks."""
    if fault == "no error terms":
        for module in (enclosure, backward):
            monkeypatch.setattr(module, "gamma", lambda terms, arithmetic: 0.0)
    elif fault == "relaxation":
        card = OPERATORS["relu"]
        monkeypatch.setattr(type(card), "relax", _optimistic(type(card).relax))  # type: ignore[attr-defined]
    elif fault == "adjoint":
        card = OPERATORS["gather"]
        monkeypatch.setattr(type(card), "adjoint", lambda self, xp, node, p, y: (_last_wins(xp, node, y),))
    else:
        real = enclosure.start
        monkeypatch.setattr(
            "holdfast.bounds.propagate.start", lambda problem, low, high: real(problem, low, 0.999 * high + 0.001 * low)
        )
    assert any(graphs(seed, 1, boxes=1).violations for seed in range(300))


def _optimistic(relax):
    def shifted(self, xp, node, lower, upper, arithmetic, slopes=None):
        lines = relax(self, xp, node, lower, upper, arithmetic, slopes)
        return lines._replace(upper_shift=lines.upper_shift * (1 - 1e-12))

    return shifted


def _last_wins(xp, node, y):
    """A gather's adjoint that forgets to add where indices repeat."""
    axis = y.ndim - len(node.shape) + node["axis"]
    back = np.zeros((*y.shape[:axis], node.input_shapes[0][node["axis"]], *y.shape[axis + 1 :]), y.dtype)
    moved = np.moveaxis(back, axis, 0)
    moved[list(node["indices"])] = np.moveaxis(y, axis, 0)
    return np.moveaxis(moved, 0, axis)


def test_the_comparison_is_exact() -> None:
    third = balls([1.0]) / 3
    assert not outside(third, [np.nextafter(1 / 3, 0)], [np.nextafter(1 / 3, 1)]).any()
    assert outside(third, [np.nextafter(1 / 3, 1)], [1.0]).all() and outside(third, [0.0], [1 / 3]).all()
    assert outside(balls([1.0]), [np.nan], [2.0]).all()


def test_many_boxes_at_once_equal_one_by_one() -> None:
    rng = np.random.default_rng(4)
    for _ in range(10):
        model = random_sample(rng, mild=True).model
        n = int(np.prod(model.inputs[0].shape))
        low, high = random_boxes(rng, n, 3)
        shape = (3, *model.inputs[0].shape)
        try:
            together = bound(model, low.reshape(shape), high.reshape(shape), method="interval")
        except InputError:
            continue
        for i in range(3):
            alone = bound(model, low[i], high[i], method="interval")
            np.testing.assert_allclose(together.lower[i], alone.lower, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(together.upper[i], alone.upper, rtol=1e-9, atol=1e-9)


def test_boxes_that_make_no_sense_are_refused() -> None:
    models = (random_sample(np.random.default_rng(seed)).model for seed in range(20))
    model, n = next((m, size) for m in models if (size := int(np.prod(m.inputs[0].shape))) > 2)
    for low, high, error in (
        (np.zeros(n + 1), np.ones(n + 1), MismatchError),
        (np.ones(n), np.zeros(n), InputError),
        (np.full(n, -np.inf), np.ones(n), InputError),
        (np.full(n, np.nan), np.ones(n), InputError),
    ):
        with pytest.raises(error, match="box"):
            bound(model, low, high)
    with pytest.raises(InputError, match="method"):
        bound(model, np.zeros(n), np.ones(n), method="magic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="semantics"):
        bound(model, np.zeros(n), np.ones(n), semantics="float16")
