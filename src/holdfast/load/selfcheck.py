"""The loader checks itself: the graph (float64, NumPy) against onnxruntime on sample points.

Last step of loading. This is a check of the translation, not of rounding; the tolerance is that of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from holdfast.errors import ModelError
from holdfast.graph import Model
from holdfast.transforms.evaluate import evaluate

_TOLERANCE = 2e-3
_ROUNDING = 2.0**-20  # some units of float32 roundoff
_CHANGES = 4
_MANY_PARAMETERS = 50_000_000


def session(source: bytes) -> Any:
    """An onnxruntime session on one thread, without graph optimisations; None where onnxruntime refuses the file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime's exceptions share no base class of their own
        return None


def sample_points(model: Model) -> list[list[np.ndarray]]:
    """The origin and two seeded random points, in [-1, 1] and in [0, 1], as values of the inputs' element types."""
    generator = np.random.default_rng(20240229)
    points = [[np.zeros(t.shape) for t in model.inputs]]
    if sum(p.size for p in model.parameters.values()) <= _MANY_PARAMETERS:
        points.append([generator.uniform(-1.0, 1.0, t.shape) for t in model.inputs])
        points.append([generator.uniform(0.0, 1.0, t.shape) for t in model.inputs])
    else:
        points = [[generator.uniform(-1.0, 1.0, t.shape) for t in model.inputs]]
    return [
        [x.astype(_numpy(t.dtype)).astype(np.float64) for x, t in zip(p, model.inputs, strict=True)] for p in points
    ]


def _numpy(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype


def self_check(model: Model, where: str) -> bool:
    """Whether onnxruntime can replay the model; ModelError where its values differ from the graph's."""
    runtime = session(model.source) if model.source is not None else None
    if runtime is None:
        return False
    names = [t.name for t in model.outputs]
    for point in sample_points(model):
        feed = {t.name: x.astype(_numpy(t.dtype)) for t, x in zip(model.inputs, point, strict=True)}
        try:
            expected = runtime.run(names, feed)
        except Exception:  # as above
            return False
        with np.errstate(all="ignore"):
            values = evaluate(model.graph, model.parameters, point)
        shifts: dict[int, np.ndarray] = {}
        for tensor, position, theirs in zip(model.outputs, model.graph.outputs, expected, strict=True):
            ours, theirs = np.asarray(values[position]), np.asarray(theirs)
            if _apart(where, tensor.name, ours, theirs, tensor.dtype, 0.0) is not None:
                # large terms that cancel: right to load, and only as near to onnxruntime as its rounding lets it be
                shifts = shifts or _shifts(model, point, values)
                fault = _apart(where, tensor.name, ours, theirs, tensor.dtype, shifts[position])
                if fault is not None:
                    raise fault
    return True


def _shifts(model: Model, point: list[np.ndarray], values: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    """How far float32 rounding may move the outputs, roughly.

    A dot product computed in floating point is the exact one of slightly changed weights (Higham, Accuracy and
    Stability of Numerical Algorithms, section 3.1), so the weights are changed, at random.
    """
    generator = np.random.default_rng(0)
    shifts = {i: np.zeros(np.shape(values[i])) for i in model.graph.outputs}
    for _ in range(_CHANGES):
        changed = {
            key: value * (1.0 + _ROUNDING * generator.choice([-1.0, 1.0], np.shape(value)))
            for key, value in model.parameters.items()
        }
        with np.errstate(all="ignore"):
            moved = evaluate(model.graph, changed, point)
            shifts = {i: np.fmax(shift, np.abs(moved[i] - values[i])) for i, shift in shifts.items()}
    return shifts


def _apart(
    where: str, name: str, ours: np.ndarray, theirs: np.ndarray, dtype: str, shift: np.ndarray | float
) -> ModelError | None:
    """What there is to say where two outputs differ by more than the tolerance and ``shift``."""
    if ours.shape != theirs.shape:
        raise ModelError(
            f"{where}: output '{name}' has the shape {ours.shape} in holdfast and {theirs.shape} in onnxruntime; please report this"
        )
    theirs = theirs.astype(np.float64)
    finite = np.isfinite(ours) & np.isfinite(theirs)  # the origin may lie outside the domain of a division
    if not finite.any():
        return None
    scale = 1.0 + float(np.abs(theirs[finite]).max())
    tolerance = _TOLERANCE * (20.0 if dtype in ("float16", "bfloat16") else 1.0)
    gap = np.where(finite, np.abs(np.where(finite, ours, 0.0) - np.where(finite, theirs, 0.0)), 0.0)
    gap = gap - np.where(np.isfinite(shift), shift, 0.0)
    worst = int(gap.argmax())
    if gap.flat[worst] <= tolerance * scale:
        return None
    return ModelError(
        f"{where}: output '{name}' is {ours.flat[worst]:.9g} in holdfast and {theirs.flat[worst]:.9g} in onnxruntime "
        "at a sample point; please report this"
    )
