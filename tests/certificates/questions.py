"""Small questions with a clear answer: a network file, a property that holds and one that does not, a certificate."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from holdfast.load import load_model
from holdfast.load.vnnlib import load_property
from holdfast.search.input_split import InputSplit
from holdfast.verdict import Result
from holdfast_check.__main__ import main

VERIFY = importlib.import_module("holdfast.search.verify")


@dataclass(frozen=True)
class Question:
    """Files of one network; ``true`` says that a certain output combination never happens, ``false`` that it does not
    either, although it does."""

    network: Path
    true: Path
    false: Path


def asked(folder: Path, *, neurons: bool = False, activation: str = "Relu") -> Question:
    """A question that takes some dozens of sub-problems, whatever is split."""
    if not neurons:
        return question(folder, 3, activation=activation)
    if activation == "Relu":
        return question(folder, 5, inputs=4, widths=(12, 12), radius=0.6)
    return question(folder, 3, inputs=4, activation=activation, radius=0.8)


def question(
    folder: Path, seed: int, *, inputs: int = 3, widths: tuple[int, ...] = (10, 10), activation: str = "Relu", radius: float = 1.0,
    margin: float = 0.05,
) -> Question:  # fmt: skip
    """A random network with two outputs; properties in two cases, one of two rows, thresholds beside sampled extrema."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    nodes, constants, name, source = [], [], "x", inputs
    arrays = []
    for k, width in enumerate((*widths, 2)):
        w = (rng.normal(size=(width, source)) / np.sqrt(source)).astype(np.float32)
        b = (0.3 * rng.normal(size=width)).astype(np.float32)
        arrays.append((w.astype(float), b.astype(float)))
        constants += [numpy_helper.from_array(w, f"w{k}"), numpy_helper.from_array(b, f"b{k}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{k}", f"b{k}"], [f"h{k}"], name=f"layer{k}", transB=1))
        name = f"h{k}"
        if k < len(widths):
            nodes.append(helper.make_node(activation, [name], [f"a{k}"], name=f"act{k}"))
            name = f"a{k}"
        source = width
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [value("x", TensorProto.FLOAT, (1, inputs))], [value(name, TensorProto.FLOAT, (1, 2))], constants
    )
    opset = [helper.make_opsetid("", 13)]
    network = folder / "net.onnx"
    network.write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
    x = rng.uniform(-radius, radius, (40000, inputs))
    function = {"Relu": lambda z: np.maximum(z, 0), "Sigmoid": lambda z: 1 / (1 + np.exp(-z)), "Tanh": np.tanh}[
        activation
    ]
    for w, b in arrays[:-1]:
        x = function(x @ w.T + b)
    y = x @ arrays[-1][0].T + arrays[-1][1]
    low = y.min(0)
    span = float(np.ptp(y, axis=0).max())
    both = float((y[:, 0] + y[:, 1]).min())
    files = {}
    for word, shift in (("true", -margin * span), ("false", 0.1 * span)):
        lines = [f"(declare-const X_{i} Real)" for i in range(inputs)] + [
            f"(declare-const Y_{i} Real)" for i in range(2)
        ]
        lines += [f"(assert (>= X_{i} {-radius:.6f}))\n(assert (<= X_{i} {radius:.6f}))" for i in range(inputs)]
        lines.append(
            f"(assert (or (and (<= Y_0 {low[0] + shift:.6f}))"
            f" (and (<= (+ Y_0 Y_1) {both - margin * span:.6f}) (<= Y_1 {y[:, 1].max() + span:.6f}))))"
        )
        files[word] = folder / f"{word}.vnnlib"
        files[word].write_text("\n".join(lines) + "\n")
    return Question(network, files["true"], files["false"])


@contextlib.contextmanager
def splitting(neurons: bool) -> Iterator[None]:
    """Choose what the search splits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InputSplit, "few_matter", lambda _: not neurons)
        yield


def certify(
    network: Path, prop: Path, certificate: Path, *, neurons: bool = False, semantics: str = "real", attack: bool = True
) -> Result:
    """`verify` with a certificate."""
    with splitting(neurons), pytest.MonkeyPatch.context() as patch:
        if not attack:
            patch.setattr(VERIFY, "_attack", lambda *arguments, **options: None)
        return VERIFY.verify(
            load_model(network),
            load_property(prop),
            timeout=60.0,
            workers=1,
            semantics=semantics,
            certificate=certificate,
        )


def check(network: Path, prop: Path, certificate: Path, *options: str) -> tuple[int, str]:
    """Exit status and first line of the checker, run in this process."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        status = main([str(network), str(prop), str(certificate), *options])
    return status, out.getvalue().split("\n", 1)[0]
