"""Random tiny ReLU networks as ONNX files, random properties of them, and what is exactly true (`regions`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from regions import Layer, Row, least

from holdfast.graph import Model
from holdfast.load import load_model
from holdfast.spec.property import Case, Constraint, Declaration, NetworkDeclaration, Property, Role
from holdfast.spec.region import Box

Exact = tuple[Fraction, ...]


@dataclass(frozen=True)
class Tiny:
    """A network, twice: exact layers and the loaded file."""

    layers: tuple[Layer, ...]
    model: Model
    inputs: int
    outputs: int


def tiny_network(rng: np.random.Generator, folder: Path, *, real: bool = False) -> Tiny:
    """1-3 inputs, at most 8 neurons; weights are quarters (float32 runs nearly exactly) or any float32 numbers."""
    n, m = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    widths = [int(w) for w in ([rng.integers(1, 9)] if rng.random() < 0.4 else rng.integers(1, 5, 2))]
    nodes, constants, layers, source = [], [], [], n
    name = "x"
    for k, width in enumerate([*widths, m]):
        w = rng.normal(size=(width, source)).astype(np.float32) if real else rng.integers(-8, 9, (width, source)) / 4
        b = rng.normal(size=width).astype(np.float32) if real else rng.integers(-8, 9, width) / 4
        constants += [numpy_helper.from_array(np.float32(w), f"w{k}"), numpy_helper.from_array(np.float32(b), f"b{k}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{k}", f"b{k}"], [f"h{k}"], transB=1))
        name = f"h{k}"
        if k < len(widths):
            nodes.append(helper.make_node("Relu", [name], [f"r{k}"]))
            name = f"r{k}"
        layers.append(Layer(tuple(_row(r) for r in w), _row(b), k < len(widths)))
        source = width
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "tiny", [value("x", TensorProto.FLOAT, (1, n))], [value(name, TensorProto.FLOAT, (1, m))], constants
    )
    path = folder / "tiny.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    )
    return Tiny(tuple(layers), load_model(path, check=False), n, m)


def _row(values: Sequence[float]) -> Exact:
    return tuple(Fraction(float(v)) for v in values)


def tiny_box(rng: np.random.Generator, n: int) -> tuple[Exact, Exact]:
    """Eighths, or decimals; degenerate in some inputs at times."""
    if rng.random() < 0.25:
        low = [Fraction(int(v), 10) for v in rng.integers(-20, 15, n)]
        width = [Fraction(int(v), 100) for v in rng.integers(0, 200, n)]
    else:
        low = [Fraction(int(v), 8) for v in rng.integers(-16, 13, n)]
        width = [Fraction(int(v), 8) for v in rng.integers(0, 24, n)]
    width = [w if rng.random() < 0.85 else Fraction(0) for w in width]
    return tuple(low), tuple(a + w for a, w in zip(low, width, strict=True))


def beside(value: Fraction, steps: int) -> Fraction:
    """A float64 number ``steps`` ulps from the value (the value itself for 0)."""
    if not steps:
        return value
    x = float(value)
    for _ in range(abs(steps)):
        x = math.nextafter(x, math.inf if steps > 0 else -math.inf)
    return Fraction(x)


def random_row(rng: np.random.Generator, tiny: Tiny, low: Exact, high: Exact) -> tuple[Row, Fraction]:
    """A row whose least value over the box is at, one ulp beside, or clearly beside zero; and that least value."""
    outputs = tuple(Fraction(int(v), 2) for v in rng.integers(-2, 3, tiny.outputs))
    outputs = outputs if any(outputs) else (Fraction(1),) * tiny.outputs
    mixed = rng.random() < 0.3
    inputs = tuple(Fraction(int(v), 2) if mixed else Fraction(0) for v in rng.integers(-2, 3, tiny.inputs))
    strict = bool(rng.random() < 0.4)
    bare = Row(outputs, inputs, Fraction(0), strict)
    bottom = least(tiny.layers, low, high, bare)
    kind = rng.choice(
        ["at", "above", "below", "clear above", "clear below", "random"], p=[0.2, 0.15, 0.15, 0.15, 0.15, 0.2]
    )
    threshold = {
        "at": bottom, "above": beside(bottom, -1), "below": beside(bottom, 1), "clear above": bottom - Fraction(1, 4),
        "clear below": bottom + Fraction(1, 4), "random": bottom + Fraction(int(rng.integers(-8, 9)), 8),
    }[str(kind)]  # fmt: skip
    return Row(outputs, inputs, -threshold, strict), bottom - threshold


def constraint(row: Row) -> Constraint:
    """The row in the words of a property."""
    terms = {(("Y", j),): c for j, c in enumerate(row.outputs)} | {(("X", i),): c for i, c in enumerate(row.inputs)}
    return Constraint.of({**terms, (): row.constant}, row.strict)


def as_property(
    tiny: Tiny, low: Exact, high: Exact, cases: Sequence[Sequence[Row]], *, semantics: str = "real"
) -> Property:
    """The property whose counterexamples satisfy some case."""
    box = Box.of(list(low), list(high))
    declared = (
        Declaration("N", "X", Role.INPUT, tiny.inputs),
        Declaration("N", "Y", Role.OUTPUT, tiny.outputs),
    )
    built = tuple(Case(box, tuple(constraint(r) for r in case)) for case in cases)
    return Property(declared, built, (NetworkDeclaration("N"),), semantics=semantics, name="random")
