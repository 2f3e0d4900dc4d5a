"""Error terms a priori, valid for any summation order, with or without fused multiply-add or flushed denormals.

Model (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1): a dot product of n terms,
however it is summed, errs by at most gamma_n * sum |a_i||x_i| with gamma_n = n u / (1 - n u); a result below the
smallest normal number may be flushed to zero, which costs at most ``tiny`` per operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Arithmetic:
    """Unit roundoff ``unit`` and underflow threshold ``tiny`` of the floating-point numbers computed with.

    ``unit = tiny = 0`` is plain arithmetic: no error term, no rigour, for search only.
    """

    name: str
    dtype: str
    unit: float
    tiny: float

    @property
    def rigorous(self) -> bool:
        """Whether bounds computed with it enclose the exact values."""
        return self.unit > 0


FLOAT64 = Arithmetic("float64", "float64", 2.0**-53, float(np.finfo(np.float64).tiny))
FLOAT32 = Arithmetic("float32", "float32", 2.0**-24, float(np.finfo(np.float32).tiny))
PLAIN = Arithmetic("plain", "float64", 0.0, 0.0)
PLAIN32 = Arithmetic("plain32", "float32", 0.0, 0.0)


def gamma(terms: int, arithmetic: Arithmetic) -> float:
    """An upper bound on the relative error of ``terms`` successive roundings, with margin for its own computation.

    The factor 2 covers the rounding of the error term itself (it is computed in the same arithmetic).
    """
    n = (terms + 2) * arithmetic.unit
    if n > 0.25:
        raise OverflowError(f"a sum of {terms} terms is too long for an error bound in {arithmetic.name}")
    return 2.0 * n / (1.0 - n)


def round_up(x: Any, arithmetic: Arithmetic, operations: int = 1) -> Any:
    """An upper bound of a quantity computed as ``x`` with at most ``operations`` roundings of relative size ``unit``."""
    return x + (abs(x) * ((operations + 2) * 2.0 * arithmetic.unit) + (operations + 1) * arithmetic.tiny)


def round_down(x: Any, arithmetic: Arithmetic, operations: int = 1) -> Any:
    """A lower bound; see `round_up`."""
    return x - (abs(x) * ((operations + 2) * 2.0 * arithmetic.unit) + (operations + 1) * arithmetic.tiny)
