"""Corrupted certificates of closed loops: none is accepted unless what is left is a true proof, and a false claim is never accepted."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import HARMLESS, MUTATIONS, Archive, Mutation, _some_json, header_value
from onnx import TensorProto, helper, numpy_helper

from holdfast.invariance.decide import decide
from holdfast.load.problem import load_problem
from holdfast_check.__main__ import main

LINEAR = """format = "holdfast-problem/1"
title = "two states"
[plant]
kind = "ode"
states = ["x", "y"]
disturbances = {{ w = [-{w}, {w}] }}
derivative = {{ x = "-x + 0.5*y + w", y = "-0.5*x - y + 0.3*x*y" }}
domain = {{ x = [-2, 2], y = [-2, 2] }}
[initial]
x = [-0.6, 0.6]
y = [-0.6, 0.6]
[functions]
V = {{ expression = "x^2 + y^2 - 1" }}
[[property]]
id = "p"
{claim}
"""
SAMPLED = """format = "holdfast-problem/1"
title = "sampled integrator"
[plant]
kind = "ode"
states = ["x"]
inputs = ["u"]
derivative = {{ x = "u + 0.1*sin(x)" }}
domain = {{ x = [-2, 2] }}
[controller]
network = "c.onnx"
feedback = "sampled"
period = {period}
network_inputs = ["x", "0*x"]
plant_inputs = {{ u = "y0" }}
[[property]]
id = "p"
kind = "invariant"
set = {{ ellipsoid = {{ center = [0], P = [[1]], level = 0.04 }} }}
"""
BOX = 'kind = "invariant"\nset = {{ box = {{ x = [-{h}, {h}], y = [-{h}, {h}] }} }}'
LEVELS = 'kind = "attracts"\nfrom = {{ level = {{ function = "V", at_most = 0 }} }}\nto = {{ level = {{ function = "V", at_most = {a} }} }}'
UNTIL = 'kind = "until"\nfirst = {{ where = ["x <= {first}"] }}\nthen = {{ box = {{ x = [-0.5, 0.5], y = [-0.5, 0.5] }} }}\nfunction = "V"'


def linear(w: str, claim: str, **ends: str) -> str:
    return LINEAR.format(w=w, claim=claim.format(**ends))


# what is certified, and a claim beside it that is not so
PROBLEMS = {
    "faces": (linear("0.1", BOX, h="0.5"), linear("0.5", BOX, h="0.5")),
    "stages": (linear("0.1", LEVELS, a="-0.9"), linear("0.1", LEVELS, a="-0.999")),
    "reach-avoid": (linear("0.05", UNTIL, first="1.1"), linear("0.05", UNTIL, first="0.9")),
    "held": (SAMPLED.format(period="0.05"), SAMPLED.format(period="1.5")),
    "escape": (linear("0.5", BOX, h="0.5"), linear("0.1", BOX, h="0.5")),
}
KEYS = ("format", "version", "claim", "problem", "instance", "networks", "mode", "producer", "proofs", "escape")
OTHERS = ("node", "kind", "place", "element", "at", "drop record", "drop last records", "repeat record", "order", "early leaf",
          "evidence length", "header shape", "end", "drop member", "more members", "flipped byte", "cut", "stale digest", "member order")  # fmt: skip
EACH = {"claims": 10, "false": 3}
TRUE_PROOFS = HARMLESS | {
    "choice": "levels, functions, boxes, bases and points are choices: what is asked for follows from them and from the problem, and is proved",
    "early leaf": "a leaf that is not refuted at once is cut further by the checker: all of it is proved",
    "proofs": "see choice: a proof that is accepted is one of the claim of the problem file",
    "escape": "see choice: a trajectory that is accepted leaves the set of the problem file",
}


def controller() -> bytes:
    """u = -2 tanh(th) - tanh(om)."""
    arrays = {"w": np.eye(2), "b": np.zeros(2), "v": np.array([[-2.0, -1.0]]), "c": np.zeros(1)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], transB=1),
        helper.make_node("Tanh", ["h"], ["a"]),
        helper.make_node("Gemm", ["a", "v", "c"], ["y"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, k]) for n, k in (("x", 2), ("y", 1))]
    constants = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def check(problem: Path, certificate: Path) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        status = main([str(problem), str(certificate), "--timeout", "2"])
    return status, out.getvalue()


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to the numbers and texts in nested lists and objects."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for key, inner in items for found in leaves(inner, (*path, key))]
    return [path]


def choice(a: Archive, rng: np.random.Generator) -> Archive | None:
    """Another number, or text, somewhere in the proofs or the escape."""
    header = a.header
    key = "proofs" if "proofs" in header else "escape"
    places = leaves(header[key])
    path = places[int(rng.integers(len(places)))]
    inner = header[key]
    for step in path[:-1]:
        inner = inner[step]
    old = inner[path[-1]]
    try:
        number = float.fromhex(old) if "x" in old else float(old)
        factors = [-1.0, 0.0, 0.5, 2.0, 1.1, 0.9, 1 + 2.0**-20, 1e300]
        inner[path[-1]] = str(
            rng.choice(
                [repr(number * float(rng.choice(factors))), "nan", "1/0", old + "0", "inf"], p=[0.8, *[0.05] * 4]
            )
        )
    except (TypeError, ValueError):
        inner[path[-1]] = _some_json(old, rng)
    a.header = header
    return a


LOOP_MUTATIONS: dict[str, Mutation] = {
    **{key: header_value(key) for key in KEYS},
    **{name: MUTATIONS[name] for name in OTHERS},
    "choice": choice,
}


def made(kind: str, folder: Path) -> tuple[Path, Path, Archive]:
    """The problem, the false one, and the certificate of the first."""
    (folder / "c.onnx").write_bytes(controller())
    files = [folder / f"{name}.toml" for name in ("true", "false")]
    for path, text in zip(files, PROBLEMS[kind], strict=True):
        path.write_text(text)
    problem, certificate = load_problem(files[0]), folder / "c.hfc"
    result = decide(problem, problem.instances[0], timeout=60, certificate=certificate)
    assert result.certificate is not None and not result.certificate.missing, result
    assert main([str(files[0]), str(certificate)]) == 0
    return files[0], files[1], Archive.read(certificate.read_bytes())


def bookless(a: Archive) -> dict[str, bytes]:
    """Members but the archive's own bookkeeping, and the header, whose text may differ though it says the same."""
    return {name: data for name, data in a.members.items() if name not in ("end.json", "header.json")}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_no_corruption_is_accepted(kind: str, tmp_path: Path) -> None:
    problem, false, original = made(kind, tmp_path)
    header = copy.deepcopy(original.header)
    header["problem"] = hashlib.sha256(false.read_bytes()).hexdigest()
    stolen = copy.deepcopy(original)
    stolen.header = header
    tried: Counter[str] = Counter()
    for file, source, count in ((problem, original, EACH["claims"]), (false, stolen, EACH["false"])):
        whole = source.write()
        for number, (name, mutate) in enumerate(LOOP_MUTATIONS.items()):
            for seed in range(count * (3 if name == "choice" else 1)):
                changed = mutate(Archive.read(whole), np.random.default_rng([number, seed]))
                data = changed if changed is None or isinstance(changed, bytes) else changed.write()
                if data is None or data == whole:
                    continue
                mutant = tmp_path / "mutant.hfc"
                mutant.write_bytes(data)
                status, said = check(file, mutant)
                tried[name] += 1
                # an instance that is not one of the file: status 2; 3: the time ran out, which is no acceptance
                assert status in (0, 1, 3) or (status == 2 and name in ("instance", "flipped byte")), (name, seed, said)
                assert said.startswith(("valid", "invalid: ", "", "")[status]), (name, seed, status, said)
                if status == 0:
                    assert file == problem, f"the false claim was accepted: {name} {seed}"
                    left, right = map(Archive.read, (data, whole))
                    same = left.header == right.header and bookless(left) == bookless(right)
                    assert name in TRUE_PROOFS or same, f"{name} {seed} was accepted"
    assert sum(tried.values()) > (200 if kind == "escape" else 300), tried
