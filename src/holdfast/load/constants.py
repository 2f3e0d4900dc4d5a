"""Constants of a network file, and arithmetic on them over the reals: a float64 value with a bound on its error.

Integers and booleans stay what they are. Floats are float64 arrays that hold the file's number exactly; a result that
float64 cannot hold carries a radius, |real value - value| <= radius, which becomes the radius of the parameter.
Error of a sum: TwoSum (Knuth, TAOCP vol. 2, 4.2.2), exact; of a product or quotient: half an ulp, Higham section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

FLOATS = ("float16", "bfloat16", "float32", "float64")  # from narrow to wide, but for the first two
_UNIT = 2.0**-53
_TINY = float(np.finfo(np.float64).tiny)
_MARGIN = 1.0 + 2.0**-48  # covers the rounding of the few operations that compute a radius


@dataclass(frozen=True, eq=False)
class Constant:
    """A value known at load time. ``dtype``: element type of the ONNX tensor; floats are kept as float64."""

    value: np.ndarray
    radius: np.ndarray | None = None
    dtype: str = "float32"
    name: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    @property
    def exact(self) -> bool:
        return self.radius is None

    @property
    def representable(self) -> bool:
        """Whether the element type holds every number exactly (bfloat16 counts as never)."""
        if not self.is_float or not self.value.size:
            return True
        if not self.exact or self.dtype == "bfloat16":
            return False
        with np.errstate(over="ignore", under="ignore"):
            return bool(np.all(self.value.astype(self.dtype).astype(np.float64) == self.value))

    @cached_property
    def transposed(self) -> Constant:
        """Last two axes swapped; one object per constant, so that users of one matrix share it."""
        return self.map(lambda a: np.swapaxes(a, -1, -2))

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> Constant:
        """The same rearrangement (reshape, slice, gather ...) of value and radius."""
        return Constant(
            function(self.value), None if self.radius is None else function(self.radius), self.dtype, self.name
        )


def real(
    value: np.ndarray | float, radius: np.ndarray | None = None, dtype: str = "float32", name: str = ""
) -> Constant:
    """A float constant; a radius that is zero everywhere is dropped."""
    if radius is not None and not np.any(radius):
        radius = None
    return Constant(np.asarray(value, np.float64), radius, dtype, name)


def wider(a: Constant, b: Constant) -> str:
    """Element type of a result of both (ONNX demands equal types; the wider one if a file mixes them)."""
    return a.dtype if a.dtype == b.dtype or not b.is_float else max(a.dtype, b.dtype, key=FLOATS.index)


def _radius(c: Constant) -> np.ndarray | float:
    return 0.0 if c.radius is None else c.radius


def _outward(radius: np.ndarray) -> np.ndarray:
    return np.where(radius == 0, 0.0, radius * _MARGIN + _TINY * _UNIT)


def _short(a: np.ndarray) -> np.ndarray:
    """Where a number fits into float32: the product of two such numbers is exact in float64."""
    with np.errstate(over="ignore", under="ignore"):
        return a.astype(np.float32).astype(np.float64) == a


def _power_of_two(a: np.ndarray) -> np.ndarray:
    return np.abs(np.frexp(a)[0]) == 0.5


def plus(a: Constant, b: Constant, sign: float = 1.0) -> Constant:
    """a + sign b."""
    x, y = a.value, sign * b.value
    total = x + y
    part = total - x
    error = np.abs((x - (total - part)) + (y - part))  # exact (TwoSum), unless something overflowed
    return real(total, _outward(error + (_radius(a) + _radius(b))), wider(a, b))


def times(a: Constant, b: Constant) -> Constant:
    """a * b."""
    x, y = a.value, b.value
    product = x * y
    tame = (product == 0) & ((x == 0) | (y == 0)) | (np.abs(product) >= _TINY)
    exact = tame & ((_short(x) & _short(y)) | _power_of_two(x) | _power_of_two(y) | (x == 0) | (y == 0))
    error = np.where(exact, 0.0, np.abs(product) * _UNIT + _TINY)
    if a.radius is not None or b.radius is not None:
        ra, rb = _radius(a), _radius(b)
        error = error + (np.abs(x) * rb + np.abs(y) * ra + ra * rb)
    return real(product, _outward(error), wider(a, b))


def divide(a: Constant, b: Constant) -> Constant:
    """a / b; ValueError where b may be zero."""
    x, y, ry = a.value, b.value, _radius(b)
    if np.any(np.abs(y) <= 2.0 * ry):
        raise ValueError("it divides by a constant that is zero")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        quotient = np.asarray(x / y)
        ok = np.abs(quotient) >= _TINY
        exact = (x == 0) | (ok & (_power_of_two(y) | (_short(quotient) & _short(y) & (quotient * y == x))))
        error = np.where(exact, 0.0, np.abs(quotient) * _UNIT + _TINY)
    if a.radius is not None or b.radius is not None:
        # |X/Y - x/y| <= (rx + |x/y| ry) / (|y| - ry), and |y| - ry >= |y| / 2
        error = error + (_radius(a) + (np.abs(quotient) * (1 + 4 * _UNIT) + _TINY) * ry) / (np.abs(y) - ry) * (
            1 + 8 * _UNIT
        )
    return real(quotient, _outward(error), wider(a, b))


def root(a: Constant) -> Constant:
    """Square root; ValueError where a may be negative, or zero without being exactly zero."""
    x, r = a.value, _radius(a)
    if np.any(x < 0) or np.any((x <= 2.0 * r) & (np.asarray(r) > 0)):
        raise ValueError("it takes the square root of a constant that is negative")
    y = np.sqrt(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = (_short(y) & (y * y == x)) | (x == 0)
        # |sqrt(X) - sqrt(x)| <= |X - x| / sqrt(x)
        error = np.where(exact, 0.0, y * _UNIT) + np.where(
            np.asarray(r) > 0, r / np.where(y > 0, y, 1.0) * (1 + 8 * _UNIT), 0.0
        )
    return real(y, _outward(error), a.dtype)


def reciprocal_of(n: int) -> Constant:
    """1 / n."""
    return divide(real(1.0), real(float(n)))
