"""What float32 semantics assumes of executions: where they round and by how much, and what is not covered.

Any order of summation, with or without fused multiply-add, and sums of neighbouring linear nodes joined; library
functions within the stated error; no overflow.
"""

from __future__ import annotations

from typing import Any

from holdfast.errors import InputError
from holdfast.graph import Model
from holdfast.rigor import Arithmetic

Array = Any
EXACT_UNARY = frozenset({"relu", "abs", "clip", "heaviside"})  # a floating-point execution does not round here
_LARGEST_EXECUTED = 3.4e38  # beyond it a float32 execution may overflow: infinities and NaN follow
FUSIBLE = frozenset({"scale", "add"})  # executions may compute them together with the sums they read
LIBRARY_UNITS = 64.0  # float32 library functions: relative error in units of roundoff that float32 semantics allows
LIBRARY_ABSOLUTE = 2.0**-20  # ... and absolute error (rational approximations saturate)


def check_executable(model: Model) -> None:
    """Refuse what float32 semantics does not cover: narrower types, constants that an execution would round."""
    where = model.name or "the network"
    for tensor in (*model.inputs, *model.outputs):
        if tensor.dtype not in ("float32", "float64"):
            raise InputError(f"{where}: float32 semantics does not cover tensor {tensor.name} of type {tensor.dtype}")
    if model.rounded:
        raise InputError(
            f"{where}: float32 semantics does not cover constants that an execution computes with rounding, or whose "
            f"size it may not bear (node {', '.join(model.rounded[:4])}); semantics real takes them exactly"
        )


def sum_error(count: int, execution: Arithmetic) -> float:
    """Relative to the sum of sizes, the error of a sum of ``count`` products and a constant in any order (Higham, 3.1).

    The factor covers that sizes are themselves computed in float64.
    """
    k = (count + 2) * execution.unit
    return k / (1.0 - k) * (1.0 + 2.0**-40 + 8 * (count + 8) * 2.0**-53) if k < 0.5 else float("inf")


def or_overflow(xp: Any, noise: Array, size: Array) -> Array:
    """The noise, infinite where some intermediate result of an execution may leave the range of float32."""
    return xp.where(size < _LARGEST_EXECUTED, noise, xp.inf)
