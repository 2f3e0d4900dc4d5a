"""Elementary functions with bounds on the error of the libraries that compute them (NumPy's, XLA's).

Neither library promises correct rounding; the table gives, per function, the largest error assumed, with a margin of
an order of magnitude over what sampling against ball arithmetic has shown (tests/rigor). Every bound is the computed
value plus an a-priori slack: no directed rounding, no `nextafter`, both useless where denormals are flushed to zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.rigor.rounding import Arithmetic

Array = Any
Bounds = tuple[Array, Array]
_FLUSHED = 4.0  # results, intermediates and arguments below ``tiny`` may be read as zero: each costs at most ``tiny``


def largest(x: Array) -> float:
    """The largest finite number of the type of ``x``."""
    return float(np.finfo(np.dtype(x.dtype)).max)


def smallest(x: Array) -> float:
    """The smallest positive normal number of the type of ``x``: what is below may be flushed to zero."""
    return float(np.finfo(np.dtype(x.dtype)).tiny)


def pin(xp: Any, x: Array) -> Array:
    """``x``, computed once: every reader gets the same bits.

    XLA may compute a value again inside each fused kernel that reads it, with other roundings each time. A line
    whose shift was made for one slope and that is stored with another would not be sound.
    """
    if xp is np:
        return x
    import jax

    return jax.lax.optimization_barrier(x)


def clean(xp: Any, x: Array, arithmetic: Arithmetic) -> Array:
    """``x`` with everything that might be flushed to zero set to zero, then pinned (for slopes, read by others)."""
    return pin(xp, xp.where(abs(x) >= 2 * arithmetic.tiny, x, 0.0))


def widen(xp: Any, low: Array, high: Array, units: float, arithmetic: Arithmetic) -> Bounds:
    """``[low, high]`` widened by a relative error of ``units`` unit roundoffs and by what flushing may cost."""
    relative, absolute, most = (units + 4) * arithmetic.unit, (units + _FLUSHED) * arithmetic.tiny, largest(low)
    low = xp.minimum(low, most)  # an overflow says nothing about the lower bound
    high = xp.maximum(high, -most)
    down = low - (xp.minimum(abs(low), most) * relative + absolute)
    up = high + (xp.minimum(abs(high), most) * relative + absolute)
    return down, up


@dataclass(frozen=True)
class Elementary:
    """A function, how far its computed value may be off, and its range.

    ``units``: relative error in unit roundoffs (half ulps); ``absolute``: error in unit roundoffs that does not
    shrink with the value; ``low``, ``high``: the range, to which bounds are cut.
    """

    compute: Callable[[Any, Array], Array]
    units: float
    absolute: float = 0.0
    low: float = -float("inf")
    high: float = float("inf")

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def bounds(self, xp: Any, x: Array, arithmetic: Arithmetic) -> Bounds:
        """Lower and upper bound of the function at the points ``x``."""
        value = self.compute(xp, x)
        down, up = widen(xp, value, value, self.units, arithmetic)
        if self.absolute:
            # near zero sin z is about z: there the absolute term shrinks with z
            scale = xp.minimum(abs(x), 1.0) * (self.absolute * arithmetic.unit)
            down, up = down - scale, up + scale
        return xp.clip(down, self.low, self.high), xp.clip(up, self.low, self.high)


def _sigmoid(xp: Any, x: Array) -> Array:
    e = xp.exp(-abs(x))
    return xp.where(x >= 0, 1.0, e) / (1.0 + e)


def _sigmoid_slope(xp: Any, x: Array) -> Array:
    e = xp.exp(-abs(x))
    return e / ((1.0 + e) * (1.0 + e))


def _tanh_slope(xp: Any, x: Array) -> Array:
    return 4.0 * _sigmoid_slope(xp, 2.0 * x)


def _tanh_curvature(xp: Any, x: Array) -> Array:
    return -2.0 * xp.tanh(x) * _tanh_slope(xp, x)


def _sigmoid_curvature(xp: Any, x: Array) -> Array:
    return -xp.tanh(0.5 * x) * _sigmoid_slope(xp, x)


def _atan_slope(xp: Any, x: Array) -> Array:
    return 1.0 / (1.0 + x * x)


def _atan_curvature(xp: Any, x: Array) -> Array:
    y, x = _atan_slope(xp, x), xp.clip(x, -largest(x), largest(x))
    return -2.0 * (x * y) * y


def _asin(xp: Any, x: Array) -> Array:
    return xp.arctan2(x, xp.sqrt((1.0 - x) * (1.0 + x)))


def _acos(xp: Any, x: Array) -> Array:
    return xp.arctan2(xp.sqrt((1.0 - x) * (1.0 + x)), x)


def _asin_slope(xp: Any, x: Array) -> Array:
    return 1.0 / xp.sqrt((1.0 - x) * (1.0 + x))


def _softplus(xp: Any, x: Array) -> Array:
    return xp.maximum(x, 0.0) + xp.log1p(xp.exp(-abs(x)))


EXP = Elementary(lambda xp, x: xp.exp(x), 32.0, low=0.0)
LOG = Elementary(lambda xp, x: xp.log(x), 32.0)
SQRT = Elementary(lambda xp, x: xp.sqrt(x), 32.0, low=0.0)
TANH = Elementary(lambda xp, x: xp.tanh(x), 32.0, low=-1.0, high=1.0)
TANH_SLOPE = Elementary(_tanh_slope, 48.0, low=0.0, high=1.0)
SIGMOID = Elementary(_sigmoid, 48.0, low=0.0, high=1.0)
SIGMOID_SLOPE = Elementary(_sigmoid_slope, 48.0, low=0.0, high=0.25)
# the second derivatives of tanh, sigmoid and arc tangent
TANH_CURVATURE = Elementary(_tanh_curvature, 96.0, low=-0.7699, high=0.7699)
SIGMOID_CURVATURE = Elementary(_sigmoid_curvature, 96.0, low=-0.09623, high=0.09623)
ATAN = Elementary(lambda xp, x: xp.arctan(x), 32.0, low=-1.5707963267948968, high=1.5707963267948968)
ATAN_SLOPE = Elementary(_atan_slope, 16.0, low=0.0, high=1.0)
ATAN_CURVATURE = Elementary(_atan_curvature, 48.0, low=-0.6496, high=0.6496)
SOFTPLUS = Elementary(_softplus, 80.0, low=0.0)
# sin, cos: only for |x| <= `trigonometric_limit`; close to their zeros the argument reduction rules the error
SIN = Elementary(lambda xp, x: xp.sin(x), 32.0, absolute=32.0, low=-1.0, high=1.0)
COS = Elementary(lambda xp, x: xp.cos(x), 64.0, absolute=32.0, low=-1.0, high=1.0)
# asin, acos: only for |x| <= 1; the library's own may cancel near the ends
ASIN = Elementary(_asin, 64.0, low=-1.5707963267948968, high=1.5707963267948968)
ACOS = Elementary(_acos, 64.0, low=0.0, high=3.1415926535897936)
ASIN_SLOPE = Elementary(_asin_slope, 32.0, low=1.0)
RECIPROCAL = Elementary(lambda xp, x: 1.0 / x, 8.0)


def trigonometric_limit(arithmetic: Arithmetic) -> float:
    """Beyond it the argument reduction of sine and cosine is not relied on."""
    return 2.0**10 if arithmetic.dtype == "float32" else 2.0**20


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def tangent_bounds(xp: Any, x: Array, arithmetic: Arithmetic) -> Bounds:
    """Bounds of tan x for |x| < pi / 2, as the quotient of sine and cosine; infinite where the cosine may be zero."""
    sine, cosine = SIN.bounds(xp, x, arithmetic), COS.bounds(xp, x, arithmetic)
    down = sine[0] / xp.where(sine[0] < 0, cosine[0], cosine[1])
    up = sine[1] / xp.where(sine[1] > 0, cosine[0], cosine[1])
    down, up = widen(xp, down, up, 4.0, arithmetic)
    positive = cosine[0] > 0
    return xp.where(positive, down, -xp.inf), xp.where(positive, up, xp.inf)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def tangent_slope_bounds(xp: Any, x: Array, arithmetic: Arithmetic) -> Bounds:
    """Bounds of tan' x = 1 / cos^2 x for |x| < pi / 2."""
    low, high = COS.bounds(xp, x, arithmetic)
    down, up = widen(xp, 1.0 / (high * high), 1.0 / (low * low), 8.0, arithmetic)
    return xp.maximum(down, 1.0), xp.where(low > 0, up, xp.inf)
