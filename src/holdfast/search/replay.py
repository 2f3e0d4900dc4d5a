"""Candidates become counterexamples here: rounded into the region, replayed in onnxruntime, checked exactly.

Nothing is believed: the input is compared with the region in exact arithmetic, the outputs are those of onnxruntime,
and the property is evaluated over the rationals with zero tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from holdfast.bounds.backward import concretise, substitute
from holdfast.bounds.enclosure import Problem
from holdfast.bounds.propagate import propagate
from holdfast.graph import Model
from holdfast.rigor import Arithmetic
from holdfast.search.exact import violated
from holdfast.spec.query import Query
from holdfast.transforms.evaluate import evaluate
from holdfast.verdict import Counterexample


@dataclass
class Replay:
    """Replays points of one query; keeps one onnxruntime session per network.

    ``thin`` counts candidates that looked like violations and were not confirmed. ``executed``: under real semantics, a
    point that onnxruntime violates and that is not known to be a counterexample over the reals; an answer only where
    nothing better is found.
    """

    query: Query
    problem: Problem
    thin: int = 0
    executed: Counterexample | None = None
    certain: bool = False  # whether the violation confirmed last holds in every execution that the semantics speaks of
    _exact_tries: int = 3
    _sessions: dict[str, Any] = field(default_factory=dict)
    _inside: dict[tuple[int, str], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def confirm(self, region: int, x: np.ndarray) -> Counterexample | None:
        """The counterexample at (or next to) the flat point ``x`` of a region, or None."""
        point, decimals = self._round(region, x)
        box = self.query.regions[region].box
        exact: list[Fraction | float] = [
            Fraction(decimals[i]) if i in decimals else float(v) for i, v in enumerate(point)
        ]
        if not box.contains(exact if decimals else point):
            return None
        outputs = self._run(point)
        if outputs is None or not np.isfinite(outputs).all():
            return None
        if not self.query.property.violated(exact, [float(y) for y in outputs]):
            self.thin += 1
            return None
        proved = self._proved(region, exact)
        self.certain = proved if self.problem.execution is None else self._proved(region, exact, self.problem.execution)
        replayed = all(m.replayable and m.source is not None for m in self.query.models.values())
        if not proved and (decimals or not replayed):  # what was run is not the point itself, or not the network itself
            self.thin += 1
            return None
        texts: dict[str, dict[int, str]] = {}
        for i, text in decimals.items():
            port = next(p for p in self.query.inputs if p.start <= i < p.start + p.size)
            texts.setdefault(port.name, {})[i - port.start] = text
        feeds = self.query.split_inputs(point)
        dtypes = {p.name: p.dtype for p in self.query.inputs}
        inputs = {name: np.asarray(a, dtypes[name]) for name, a in feeds.items()}
        if not proved and self._exact_tries:
            self._exact_tries -= 1
            proved = bool(violated(self.query, exact))
        found = Counterexample(inputs, self.query.split_outputs(outputs), proved, texts)
        if proved or self.problem.execution is not None:
            return found
        self.thin += 1
        self.executed = self.executed or found
        return None

    def _round(self, region: int, x: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        """The nearest point with elements of the networks' types inside the exact box.

        Where an interval holds no such number at all, the decimal of its lower end is kept as text and its rounding
        is fed to the network.
        """
        box = self.query.regions[region].box
        point = np.array(x, np.float64)
        decimals: dict[int, str] = {}
        for port in self.query.inputs:
            part = slice(port.start, port.start + port.size)
            dtype = np.dtype(port.dtype if port.dtype in ("float16", "float32", "float64") else "float32")
            low, high = (end[part] for end in self._ends(region, dtype))
            rounded = np.clip(point[part].astype(dtype).astype(np.float64), low, high)
            for i in np.flatnonzero(low > high):
                decimals[port.start + int(i)] = box.lower_text[port.start + int(i)]
                rounded[i] = float(dtype.type(float(box.exact_lower(port.start + int(i)))))
            point[part] = rounded
        return point, decimals

    def _ends(self, region: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        key = (region, dtype.name)
        if key not in self._inside:
            self._inside[key] = self.query.regions[region].box.inside(dtype.name)
        return self._inside[key]

    def _run(self, x: np.ndarray) -> np.ndarray | None:
        produced = {}
        for name, feeds in self.query.feeds(x).items():
            model = self.query.models[name]
            if not model.replayable or model.source is None:
                values = evaluate(
                    model.graph, model.parameters, [feeds[t.name].astype(np.float64) for t in model.inputs]
                )
                outs = [values[i] for i in model.graph.outputs]
                produced[name] = {t.name: np.asarray(v, np.float32) for t, v in zip(model.outputs, outs, strict=True)}
                continue
            session = self._session(name, model)
            names = [t.name for t in model.outputs]
            shaped = {
                i.name: feeds[i.name].reshape(_concrete(i.shape, feeds[i.name]))
                for i in session.get_inputs()
                if i.name in feeds
            }
            produced[name] = dict(zip(names, session.run(names, shaped), strict=True))
        return self.query.join_outputs(produced)

    def _session(self, name: str, model: Model) -> Any:
        if name not in self._sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 4
            self._sessions[name] = onnxruntime.InferenceSession(
                model.source, options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[name]

    def _proved(self, region: int, exact: list[Fraction | float], execution: Arithmetic | None = None) -> bool:
        """Whether outward-rounded evaluation (over the reals, or of every execution) violates the property here."""
        if () in self.query.regions[region].cases:
            return True  # the property says nothing about outputs: to lie in the region is enough
        low = np.array([_below(v) for v in exact])
        high = np.array([-_below(-v) for v in exact])
        problem = replace(self.problem, execution=execution, expired=None)
        state = propagate(problem, low[None], high[None], narrow=False)
        if execution is not None and not all(np.isfinite(ends).all() for ends in (*state.lower, *state.upper)):
            return False  # what overflows may become no number at all, and then nothing holds
        output = self.query.graph.outputs[0]
        rows = len(self.query.constraints)
        unit = np.eye(rows)[None]
        above = np.minimum(-concretise(state, substitute(state, output, -unit))[0], state.upper[output][0])
        last = self.query.graph[output].parameters
        constants = self.query.parameters[last[1]] if len(last) > 1 else np.zeros(rows)
        above = above + np.abs(constants) * 2.0**-51  # constants of rows are rounded down
        holds = np.where(self.query.strict, above < 0, above <= 0)
        return any(all(holds[r] for r in case) for case in self.query.regions[region].cases)


def _below(value: Fraction | float) -> float:
    """The largest float64 not above an exact number."""
    if isinstance(value, float):
        return value
    near = float(value)
    return near if Fraction(near) <= value else float(np.nextafter(near, -np.inf))


def _concrete(shape: list[Any], array: np.ndarray) -> tuple[int, ...]:
    """The session's own input shape with symbolic axes filled in."""
    if len(shape) == array.ndim or not all(isinstance(n, int) or n is None or isinstance(n, str) for n in shape):
        return array.shape
    return tuple(n if isinstance(n, int) else 1 for n in shape)
