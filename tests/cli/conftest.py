"""A stand-in for the engine: the verbs are tested against its interface alone, without loading anything heavy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from holdfast.cli.main import app
from holdfast.errors import ModelError
from holdfast.graph import Tensor
from holdfast.spec.property import Case, Declaration, NetworkDeclaration, Property, Role
from holdfast.spec.region import Box
from holdfast.verdict import Counterexample, Reason, Verdict
from holdfast.verdict import Result as Answer


@dataclass
class Engine:
    """What the next calls answer, and what they were called with. An exception as an answer is raised."""

    PROVED: ClassVar[Answer] = Answer(
        Verdict.VERIFIED,
        Reason.PROVED,
        bound=0.123456789,
        seconds=0.5,
        statistics={"sub_problems": 7, "phases": {"attack": 0.1, "bounds": 0.4}},
    )
    REFUTED: ClassVar[Answer] = Answer(
        Verdict.FALSIFIED,
        Reason.WITNESS,
        counterexample=Counterexample(
            {"x": np.array([[0.1, -2.0]], np.float32)},
            {"y": np.array([[3.5]], np.float32)},
            proved=True,
            decimals={"x": {1: "-2.000"}},
        ),
    )
    UNKNOWN: ClassVar[Answer] = Answer(Verdict.UNKNOWN, Reason.INCOMPLETE, detail="row 3 of the property", bound=-0.25)
    TIMEOUT: ClassVar[Answer] = Answer(Verdict.TIMEOUT, Reason.TIME)
    INTERRUPTED: ClassVar[Answer] = Answer(Verdict.UNKNOWN, Reason.INTERRUPTED)

    answers: list[Any] = field(default_factory=lambda: [Engine.PROVED])
    calls: list[dict[str, Any]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    version: str = "1.0"
    missing: dict[str, list[str]] = field(default_factory=dict)

    def load_model(self, path: Path) -> Any:
        self.loaded.append(Path(path).name)
        if "broken" in Path(path).name:
            raise ModelError(f"{Path(path).name}: is not an ONNX file")
        return SimpleNamespace(inputs=(Tensor("x", (1, 2)),), outputs=(Tensor("y", (1, 1)),), parameters={}, path=path)

    def load_property(self, path: Path) -> Property:
        box = Box.of(["0", "0"], ["0.1", "1"])
        declared = (
            Declaration("f", "X", Role.INPUT, 2, (1, 2), "float32"),
            Declaration("f", "Y", Role.OUTPUT, 1, (1, 1), "float32"),
        )
        return Property(declared, (Case(box), Case(box)), (NetworkDeclaration("f"),), version=self.version)

    def verify(self, networks: Any, prop: Property, **options: Any) -> Answer:
        self.calls.append({"networks": networks, "prop": prop, **options})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def bound(self, model: Any, lower: Any, upper: Any, *, method: str, semantics: str) -> Any:
        self.calls.append({"lower": lower, "upper": upper, "method": method, "semantics": semantics})
        return SimpleNamespace(lower=np.array([[-0.12345678]]), upper=np.array([[np.inf]]))

    def operators_of(self, path: Path) -> Any:
        return SimpleNamespace(used={"Gemm": 3, "Relu": 2, "LSTM": 1}, missing=self.missing)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Put the stand-in where the verbs import the engine from."""
    fake = Engine()
    modules: dict[str, dict[str, Any]] = {
        "holdfast.load": {"__path__": []},
        "holdfast.load.onnx": {
            "load_model": fake.load_model,
            "operators_of": fake.operators_of,
            "OPSETS": (6, 21),
        },
        "holdfast.load.folding": {"FOLDS": {"Gemm", "OneHot"}},
        "holdfast.load.lowering": {"RULES": {"Relu", "Gemm", "Erf"}, "supported": lambda name: name != "Erf"},
        "holdfast.load.vnnlib": {"load_property": fake.load_property},
        "holdfast.search": {"__path__": []},
        "holdfast.search.verify": {"verify": fake.verify},
        "holdfast.bounds": {"__path__": []},
        "holdfast.bounds.bounder": {"bound": fake.bound},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return fake


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run the program in this process."""
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with net.onnx, other.onnx, broken.onnx and prop.vnnlib (never read by the stand-in)."""
    for name in ("net.onnx", "other.onnx", "broken.onnx", "prop.vnnlib", "problem.toml"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path
