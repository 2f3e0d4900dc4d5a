"""Problems of closed loops made by hand, and certificates of one leaf per region, for the tests."""

from __future__ import annotations

import hashlib
import io
import math
import tempfile
import time
from pathlib import Path

import numpy as np
from evaluation import archive, model, records

from holdfast_check import __main__ as command
from holdfast_check.arithmetic import Invalid, Unreadable
from holdfast_check.loop import obligations
from holdfast_check.problem_file import read_problem

REFUSED = (Invalid, Unreadable, KeyError, TypeError, ValueError, AttributeError, IndexError)


def network(*layers, last=None, kind="Tanh") -> bytes:
    """Layers are (weights, bias); `last` an operator at the end."""
    steps, constants, x = [], {}, "x"
    for k, (w, b) in enumerate(layers):
        constants |= {f"w{k}": np.array(w, np.float32), f"b{k}": np.array(b, np.float32)}
        final = k == len(layers) - 1
        steps.append(("Gemm", [x, f"w{k}", f"b{k}"], ["y" if final and not last else f"z{k}"], {"transB": 1}))
        if not final or last:
            x = "y" if final else f"a{k}"
            steps.append((last if final else kind, [f"z{k}"], [x], {}))
    return model(steps, {"x": [1, len(layers[0][0][0])]}, constants)


FILES = {
    # u = -2 tanh(th) - tanh(om)
    "c.onnx": network(([[1, 0], [0, 1]], [0, 0]), ([[-2, -1]], [0])),
    # sigmoid(|x| + |y| - 2), by relu
    "V.onnx": network(([[1, 0], [-1, 0], [0, 1], [0, -1]], [0] * 4), ([[1] * 4], [-2]), last="Sigmoid", kind="Relu"),
}


def header(text: bytes, instance="", proofs=None, escape=None, used=(), **more) -> dict:
    head = {"format": "holdfast-loop-certificate", "version": 1, "problem": hashlib.sha256(text).hexdigest()}
    head |= {"instance": instance, "producer": "a test", "mode": "boxes"}
    head |= {"networks": {name: hashlib.sha256(FILES[name]).hexdigest() for name in used}}
    head |= {"claim": "falsified", "escape": escape} if escape is not None else {"claim": "verified", "proofs": proofs}
    return head | more


def leaves(count: int) -> bytes:
    return records(*(row for k in range(count) for row in ((k, "ROOT", k, 0, 0.0), (k, "LEAF", 0, 0, 0.0))))


def check(text: str, proofs=None, escape=None, instance="", count=None, **more) -> str:
    """The verdict on a certificate in which each region is one leaf."""
    data = text.encode()
    problem = read_problem(data, instance, FILES.__getitem__)
    members = {}
    if proofs is not None:
        if count is None:
            count = sum(len(q.regions) for q in obligations(problem, proofs).numbered)
        members = {"records/000000": leaves(count)}
    used = [name for name in FILES if name in text]
    with tempfile.TemporaryDirectory() as folder:
        path = archive(Path(folder) / "c.hfc", header(data, instance, proofs, escape, used, **more), members)
        content = path.read_bytes()
    return command.loop_verdict(data, content, FILES.__getitem__, 1 << 28, math.inf)


def timed(call) -> float:
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def opened(data: bytes) -> io.BytesIO:
    return io.BytesIO(data)
