"""Counterexamples in the forms VNN-LIB prescribes.

1.0: the competition's list of (variable value) pairs; 2.0: the assignment format of the standard's solver command
line (VNN-LIB 2.0, chapter "Solver Command-line Interface", section "Command-line assignment format").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from holdfast.errors import InternalError
from holdfast.report.decimals import exact_text
from holdfast.verdict import Counterexample

if TYPE_CHECKING:
    from holdfast.spec import Declaration, Property


def witness_text(example: Counterexample, prop: Property | None = None) -> str:
    """The witness in the form that belongs to the property's version (1.0 where none is given).

    Every number reads back as exactly the number that was replayed, except the input values that the network's
    element type cannot hold inside the region: those are given by their decimals.
    """
    if prop is None or prop.version.startswith("1"):
        return _pairs(example)
    return _assignment(example, prop)


def _pairs(example: Counterexample) -> str:
    texts = [f"(X_{k} {value})" for k, value in enumerate(_all(example.inputs, example.decimals))]
    texts += [f"(Y_{k} {value})" for k, value in enumerate(_all(example.outputs, {}))]
    return "(" + "\n".join(texts) + ")"


def _all(arrays: Mapping[str, np.ndarray], decimals: Mapping[str, Mapping[int, str]]) -> Iterator[str]:
    for name, array in arrays.items():
        yield from _values(array, decimals.get(name, {}))


def _values(array: np.ndarray, decimals: Mapping[int, str]) -> Iterator[str]:
    for k, value in enumerate(np.asarray(array).reshape(-1).tolist()):
        yield decimals[k] if k in decimals else exact_text(value)


def _assignment(example: Counterexample, prop: Property) -> str:
    """``name type [dimensions]``, then one value a line in row-major order; tensors in the order of declaration."""
    inputs = _by_declaration(prop.inputs, example.inputs)
    outputs = _by_declaration(prop.outputs, example.outputs)
    lines: list[str] = []
    for tensor in prop.declarations:
        key, array = {**inputs, **outputs}[tensor.name]
        shape = array.shape if tensor.shape is None else tensor.shape
        lines.append(f"{tensor.name} {tensor.dtype} [{','.join(map(str, shape))}]")
        lines.extend(_values(array, example.decimals.get(key, {}) if tensor.name in inputs else {}))
    return "\n".join(lines)


def _by_declaration(
    tensors: Sequence[Declaration], arrays: Mapping[str, np.ndarray]
) -> dict[str, tuple[str, np.ndarray]]:
    """Declared name -> key and array, by name, or by order where the arrays go by the network's own names."""
    if all(tensor.name in arrays for tensor in tensors):
        return {tensor.name: (tensor.name, arrays[tensor.name]) for tensor in tensors}
    if len(tensors) != len(arrays):
        raise InternalError(
            f"the witness has the tensors {', '.join(arrays)}, but the property declares {len(tensors)}"
        )
    return {tensor.name: item for tensor, item in zip(tensors, arrays.items(), strict=True)}
