"""Exact constants. An array is float64 (exact), whole numbers, or, where float64 cannot hold a result, fractions.

`enclosed` turns any of them into float64 values and radii, by python-flint balls of 128 bits.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb, ctx, fmpq

from holdfast_check.arithmetic import Unreadable

BITS = 20_000  # of one fraction


def ball(q: Any) -> arb:
    """A rational number in the precision set."""
    return q if isinstance(q, arb) else arb(fmpq(int(q.numerator), int(q.denominator)))


def tidy(values: np.ndarray) -> np.ndarray:
    """An array of fractions as float64 where that is exact for all of them."""
    if any(q.numerator.bit_length() + q.denominator.bit_length() > BITS for q in values.flat):
        raise Unreadable("a constant has too many digits")
    near = values.astype(np.float64)
    same = all(math.isfinite(a) and Fraction(a) == q for a, q in zip(near.flat, values.flat, strict=True))
    return near if same else values


def rationals(array: np.ndarray) -> np.ndarray:
    if array.size > 10**7:
        raise Unreadable("arithmetic on constants of more than 10^7 elements is not supported")
    return np.array([Fraction(a) for a in array.ravel().tolist()], dtype=object).reshape(array.shape)


def single(array: np.ndarray) -> bool:
    """Whether float32 holds all elements."""
    with np.errstate(all="ignore"):
        return array.dtype.kind != "O" and np.array_equal(array.astype(np.float32), array)


def fold(operator: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Add, Sub, Mul or Div of constants."""
    if a.dtype.kind in "iub" and b.dtype.kind in "iub":
        if operator == "Div" and np.any((a < 0) | (b <= 0)):
            raise Unreadable("Div of negative integers is not supported")  # which is not rounded down
        return {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.floor_divide}[operator](a, b)
    if operator == "Mul" and single(a) and single(b):
        return a.astype(np.float64) * b  # 24 + 24 bits fit into 53
    compute = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.true_divide}[operator]
    return tidy(np.asarray(compute(rationals(a), rationals(b)), dtype=object))


def enclosed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """float64 values and radii that enclose fractions or balls; no radii where the values are exact."""
    if values.dtype.kind == "f" or (values.dtype.kind in "iub" and np.all(np.abs(values.astype(np.float64)) < 2.0**53)):
        middles, radii = values.astype(np.float64), None
    else:
        middles, radii = np.empty(values.shape), np.empty(values.shape)
        with ctx.workprec(128):
            for place, q in np.ndenumerate(values):
                middles[place] = middle = float(ball(q).mid())
                # the distance to the far end of the ball, upwards: the factor exceeds the rounding of float()
                radii[place] = float(abs(ball(q) - middle).upper()) * (1 + 2.0**-50) + 2.0**-1000
    if not np.all(np.isfinite(middles)) or not (radii is None or np.all(np.isfinite(radii))):
        raise Unreadable("a constant is not finite")
    return middles, radii
