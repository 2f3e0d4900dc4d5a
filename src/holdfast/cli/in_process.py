"""Benchmark instances run in this very process, one after the other: networks and compiled programs stay loaded."""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from holdfast.cli.execution import Meter, Options, make_row
from holdfast.cli.instances import Instance, NetworkInstance, ProblemInstance
from holdfast.errors import InputError
from holdfast.report.bench import SOLVED, Row

CACHE_BYTES = 1 << 29  # parameters of networks kept between instances


class InProcess:
    """An `Executor`. It cannot end an instance by force: the search itself has to keep the time limit."""

    def __init__(self, options: Options):
        self._options = options
        self._models: OrderedDict[Path, Any] = OrderedDict()
        self._last: tuple[Path, Any] | None = None

    def run(self, instance: Instance) -> Row | None:
        """The row of the instance, or None when the search was interrupted."""
        meter = Meter()
        try:
            answer = self._verify(instance)
        except InputError as error:
            answer = ("error", str(error))
        except Exception as error:
            answer = ("error", f"internal error: {type(error).__name__}: {error}")
        if answer is None:
            return None
        verdict, reason = answer
        return make_row(instance, verdict, meter.seconds(), meter.cpu_seconds(), meter.peak_mib(), reason)

    def stop(self) -> None:
        """Nothing outlives a call."""

    def _verify(self, instance: Instance) -> tuple[str, str] | None:
        return self._query(instance) if isinstance(instance, NetworkInstance) else self._claim(instance)

    def _claim(self, instance: ProblemInstance) -> tuple[str, str] | None:
        start = time.perf_counter()
        from holdfast.api import verify_problem
        from holdfast.report.loop import reason_text
        from holdfast.verdict import Reason

        problem = self._problem(instance.file)
        result = verify_problem(
            problem,
            instance.instance,
            timeout=max(0.0, instance.timeout - (time.perf_counter() - start)),
            workers=self._options.workers,
            memory_mib=self._options.memory_mib,
            certificate=self._options.certificate(instance),
        )[instance.instance]
        if result.reason is Reason.INTERRUPTED:
            return None
        missing = result.certificate.missing if result.certificate and result.verdict.value in SOLVED else ""
        why = [reason_text(result, problem, instance.instance), missing and f"no certificate: {missing}"]
        return result.verdict.value, ". ".join(part for part in why if part)

    def _problem(self, path: Path) -> Any:
        """The problem file; only the last one is kept, since instances of one file follow each other."""
        from holdfast.load.problem import load_problem

        if self._last is None or self._last[0] != path:
            self._last = (path, load_problem(path))
        return self._last[1]

    def _query(self, instance: NetworkInstance) -> tuple[str, str] | None:
        start = time.perf_counter()
        from holdfast.load.vnnlib import load_property
        from holdfast.search.verify import verify
        from holdfast.verdict import Reason

        prop = load_property(instance.prop)
        model = self._model(instance.network)
        result = verify(
            model,
            prop,
            timeout=max(0.0, instance.timeout - (time.perf_counter() - start)),
            semantics=self._options.semantics,
            workers=self._options.workers,
            memory_mib=self._options.memory_mib,
            certificate=self._options.certificate(instance),
        )
        if result.reason is Reason.INTERRUPTED:
            return None
        missing = result.certificate.missing if result.certificate and result.verdict.vnnlib in SOLVED else ""
        why = [result.reason.value, result.detail, missing and f"no certificate: {missing}"]
        return result.verdict.vnnlib, ". ".join(part for part in why if part)

    def _model(self, path: Path) -> Any:
        from holdfast.load.onnx import load_model

        if path not in self._models:
            self._models[path] = load_model(path)
        self._models.move_to_end(path)
        while len(self._models) > 1 and sum(map(_bytes, self._models.values())) > CACHE_BYTES:
            self._models.popitem(last=False)
        return self._models[path]


def _bytes(model: Any) -> int:
    return sum(getattr(array, "nbytes", 0) for array in getattr(model, "parameters", {}).values())
