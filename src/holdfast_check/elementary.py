"""Functions of one variable on arrays of float64: a value, and by how much it may be off; and how each function bends.

exp, sin and cos are sums of their series after a reduction of the argument, made of additions and products alone, which IEEE 754
rounds correctly; so the errors below are proved and owe nothing to the library of the machine. Each is far smaller than stated:

    exp: 14 terms, |r| < 0.35, relative 2^-46 (rounding < 2^-49, rest 0.35^15 / 15! < 2^-60);     sin, cos: |r| < 0.8, absolute 2^-46;
    tanh = (1 - t) / (1 + t) and its derivative 4 t / (1 + t)^2 with t = exp(-2 |z|): absolute 2^-44, relative 2^-44.

The others are evaluated one by one in balls (Arb, by python-flint).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np
from flint import arb

Array = np.ndarray
Enclosed = tuple[Array, Array]  # value, error
U, LEAST = 2.0**-53, 2.0**-1000
HALF_PI_HI, LN2_HI = (math.floor(x * 2.0**38) / 2.0**38 for x in (math.pi / 2, math.log(2)))  # k times these is exact
HALF_PI_LO, LN2_LO = float((arb.pi() / 2 - HALF_PI_HI).mid()), float((arb.const_log2() - LN2_HI).mid())
BEND = float((arb(1) / 3).sqrt().atanh().mid())  # where tanh' turns from concave to convex


def series(x: Array, terms: range) -> Array:
    """The sum of x^k / n! over the n in terms, k = 0, 1, ..."""
    total = np.zeros(np.shape(x))
    for n in reversed(terms):
        total *= x
        total += 1.0 / math.factorial(n)
    return total


def exponential(z: Array) -> Enclosed:
    x = np.clip(z, -700.0, 700.0)
    k = np.rint(x / math.log(2))
    y = np.ldexp(series((x - k * LN2_HI) - k * LN2_LO, range(15)), k.astype(np.int64))
    return np.where(z > 700, inf, y), y * 2.0**-46 + np.where(z < -700, y, LEAST)


def circular(z: Array, quarter: int) -> Enclosed:
    """sin(z + quarter pi / 2), |z| <= 100."""
    k = np.rint(z * (2 / math.pi))
    r = (z - k * HALF_PI_HI) - k * HALF_PI_LO
    x, turn = -r * r, np.nan_to_num(k).astype(np.int64) + quarter
    sine, cosine = (series(x, range(first, 20, 2)) for first in (1, 0))
    y = np.where(turn % 2, cosine, r * sine) * np.where(turn % 4 >= 2, -1.0, 1.0)
    return y, np.full(y.shape, 2.0**-46)


def bell(z: Array) -> Enclosed:
    """The derivative of tanh."""
    t = exponential(-2 * np.abs(z))[0]
    y = 4 * t / ((1 + t) * (1 + t))
    return y, y * 2.0**-44 + LEAST


def tangent(z: Array) -> Enclosed:
    t = exponential(-2 * np.abs(z))[0]
    y = np.copysign((1 - t) / (1 + t), z)
    return y, np.full(y.shape, 2.0**-44)


def bell_slope(z: Array) -> Enclosed:
    hump = bell(z)[0]
    return -2 * tangent(z)[0] * hump, hump * 2.0**-42 + LEAST


def scaled(f: Callable[[Array], Enclosed], factor: float, offset: float = 0.0) -> Callable[[Array], Enclosed]:
    """offset + factor f(z / 2), both powers of two (or zero)."""

    def value(z: Array) -> Enclosed:
        y, error = f(0.5 * z)
        return offset + factor * y, factor * error + (2.0**-53 if offset else 0.0)

    return value


def rounded(f: Callable[[Array], Array], count: int = 1) -> Callable[[Array], Enclosed]:
    """A value of `count` correctly rounded operations, none of which cancels."""

    def value(z: Array) -> Enclosed:
        y = f(z)
        return y, np.abs(y) * (2 * count * U) + 2.0**-1060

    return value


def balls(f: Callable[[arb], arb]) -> Callable[[Array], Enclosed]:
    """One by one; what is no number encloses nothing."""

    def value(z: Array) -> Enclosed:
        found = [f(arb(x)) for x in np.ravel(z).tolist()]
        y = np.array([float(b.mid()) for b in found]).reshape(np.shape(z))
        error = np.array([float(b.rad()) for b in found]).reshape(np.shape(z))
        return y, error * (1 + 2.0**-20) + np.abs(y) * 2.0**-50 + LEAST

    return value


@dataclass(frozen=True)
class Smooth:
    """f, f', and where f bends: between neighbouring `bends` f is convex and concave in turn, `first` (1 convex, -1 concave) on the left
    of all. `touch(s, k)`: about where f' = s on the k-th of these pieces, or beyond the end that is next to it (nothing rests on it).
    `phase`: bends are phase + k pi. `slack` pays for bends that are not float64 numbers."""

    value: Callable[[Array], Enclosed]
    slope: Callable[[Array], Enclosed]
    first: int
    touch: Callable[[Array, int | Array], Array]
    bends: tuple[float, ...] = ()
    domain: Callable[[Array, Array], Array] = np.less_equal  # intervals on which all this holds
    codomain: tuple[float, float] = (-inf, inf)
    rises: int = 0  # 1, -1: monotone
    phase: float | None = None
    slack: float = 0.0
    # f and f', quickly and without proof
    rough: tuple[Callable[[Array], Array], Callable[[Array], Array]] | None = None


def cubic(s: Array, k: int | Array) -> Array:
    """-2 y (1 - y^2) = s for y = tanh z: the root on the k-th piece."""
    angle = np.arccos(np.clip(s * (0.75 * 3**0.5), -1, 1)) / 3 - np.array([4, 2, 0])[k] * (math.pi / 3)
    return np.arctanh(np.clip(2 / 3**0.5 * np.cos(angle), -1, 1))


def side(k: int | Array) -> int | Array:
    return 2 * k - 1


def root(s: Array) -> Array:
    """sqrt(s), and infinite where s is negative."""
    return np.where(s < 0, inf, np.sqrt(np.abs(s)))


def power(n: int) -> Smooth:
    """z^n, n >= 2."""

    def product(m: int) -> Callable[[Array], Array]:
        return lambda z: math.prod([z] * (m - 1), start=z) if m else np.ones(np.shape(z))

    def touch(s: Array, k: int | Array) -> Array:
        size = (np.abs(s) / n) ** (1 / (n - 1))
        return np.sign(s) * size if n % 2 == 0 else side(k) * np.where(s > 0, size, 0.0)

    even = n % 2 == 0
    slope = rounded(lambda z: n * product(n - 1)(z), n)
    bends: tuple[float, ...] = () if even else (0.0,)
    first = 1 if even else -1
    least = 0.0 if even else -inf
    return Smooth(rounded(product(n), n - 1), slope, first, touch, bends, codomain=(least, inf), rises=1 - even)


def positive(a: Array, b: Array) -> Array:
    return (a > 0) & (b >= a)


def about(centre: float) -> Callable[[Array, Array], Array]:
    return lambda a, b: (a >= -centre) & (b <= centre)


def _tanh(s: Array, k: int | Array) -> Array:
    return side(k) * np.arctanh(np.sqrt(1 - np.clip(s, 0, 1)))


def _sigma(z: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(0.5 * z)


def _hump(z: Array) -> Array:
    return 1 - np.tanh(z) ** 2


def hyperbolic(z: Array) -> Enclosed:
    """The derivative of 1 / z; where z z overflows, or nearly so, nothing is known."""
    y, error = rounded(lambda z: -1 / (z * z), 2)(z)
    return y, np.where(np.abs(z) > 2.0**500, inf, error)


UNIT = rounded(lambda z: 1 / np.sqrt((1 - z) * (1 + z)), 8)
# fmt: off
SMOOTH = {
    "exp": Smooth(exponential, exponential, 1, lambda s, k: np.where(s > 0, np.log(s), -inf), codomain=(0.0, inf), rises=1),
    "log": Smooth(balls(lambda z: z.log()), rounded(lambda z: 1 / z), -1, lambda s, k: np.where(s > 0, 1 / s, inf), domain=positive, rises=1),
    "sqrt": Smooth(rounded(np.sqrt), rounded(lambda z: 0.5 / np.sqrt(z), 2), -1, lambda s, k: np.where(s > 0, 0.25 / (s * s), inf),
                   domain=lambda a, b: (a >= 0) & (b >= a), codomain=(0.0, inf), rises=1),
    "square": power(2),
    "reciprocal": Smooth(rounded(lambda z: 1 / z), hyperbolic, -1, lambda s, k: side(k) / root(-s), (0.0,),
                         lambda a, b: ((a > 2.0**-500) | (b < -(2.0**-500))) & (b >= a), rises=-1),
    "softplus": Smooth(balls(lambda z: z.exp().log1p()), scaled(tangent, 0.5, 0.5), 1,
                       lambda s, k: np.where(s > 0, np.where(s < 1, np.log(s / (1 - s)), inf), -inf), codomain=(0.0, inf), rises=1),
    "sigmoid": Smooth(scaled(tangent, 0.5, 0.5), scaled(bell, 0.25), 1, lambda s, k: 2 * _tanh(4 * s, k), (0.0,), codomain=(0.0, 1.0), rises=1,
                      rough=(_sigma, lambda z: 0.25 * _hump(0.5 * z))),
    "tanh": Smooth(tangent, bell, 1, _tanh, (0.0,), codomain=(-1.0, 1.0), rises=1, rough=(np.tanh, _hump)),
    "tanh_slope": Smooth(bell, bell_slope, 1, cubic, (-BEND, BEND), codomain=(0.0, 1.0), slack=2.0**-70,
                         rough=(_hump, lambda z: -2 * np.tanh(z) * _hump(z))),
    "sigmoid_slope": Smooth(scaled(bell, 0.25), scaled(bell_slope, 0.125), 1, lambda s, k: 2 * cubic(8 * s, k), (-2 * BEND, 2 * BEND),
                            codomain=(0.0, 0.25), slack=2.0**-70,
                            rough=(lambda z: 0.25 * _hump(0.5 * z), lambda z: -0.25 * np.tanh(0.5 * z) * _hump(0.5 * z))),
    "sin": Smooth(lambda z: circular(z, 0), lambda z: circular(z, 1), -1,
                  lambda s, k: k * math.pi + np.arccos(np.clip(np.where(k % 2, -s, s), -1, 1)), domain=about(100), codomain=(-1.0, 1.0), phase=0.0, slack=2.0**-70),
    "cos": Smooth(lambda z: circular(z, 1), lambda z: circular(z, 2), -1,
                  lambda s, k: k * math.pi - np.arcsin(np.clip(np.where(k % 2, -s, s), -1, 1)), domain=about(100), codomain=(-1.0, 1.0), phase=-math.pi / 2, slack=2.0**-70),
    "tan": Smooth(balls(lambda z: z.tan()), balls(lambda z: 1 + z.tan() ** 2), -1, lambda s, k: side(k) * np.arctan(root(np.maximum(s - 1, 0))), (0.0,),
                  about(1.57), rises=1),
    "atan": Smooth(balls(lambda z: z.atan()), rounded(lambda z: 1 / (1 + z * z), 4), 1, lambda s, k: side(k) * np.where(s > 0, root(1 / np.clip(s, 0, 1) - 1), inf),
                   (0.0,), codomain=(-1.5707963267948968, 1.5707963267948968), rises=1),
    "asin": Smooth(balls(lambda z: z.asin()), UNIT, -1, lambda s, k: side(k) * np.sqrt(1 - 1 / np.maximum(s, 1) ** 2), (0.0,),
                   lambda a, b: (a >= -1) & (b <= 1), rises=1),
}
# fmt: on
