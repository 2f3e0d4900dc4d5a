"""Constants of formulas: exact rationals, and real numbers such as pi or sin(1) as balls of 256 bits.

Part of the compilation of formulas. Balls: Johansson, Arb, IEEE Transactions on Computers 66(8), 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import flint
import numpy as np

from holdfast.load.expression import FormulaError

_BITS = 256
_SIZE = 20_000  # bits of an exact rational: beyond any use, and still fast


@dataclass(frozen=True)
class Real:
    """A real number that is not (known to be) rational. ``key`` says how it was made: equal keys, equal numbers."""

    key: int
    ball: flint.arb = field(compare=False)


Constant = Fraction | Real


def _ball(value: Constant) -> flint.arb:
    if isinstance(value, Real):
        return value.ball
    return flint.arb(flint.fmpq(value.numerator, value.denominator))


class Constants:
    """Arithmetic on constants, which are interned: the same expression gives the same `Real`."""

    def __init__(self) -> None:
        self._reals: dict[tuple[object, ...], Real] = {}
        self._negated: dict[Real, Real] = {}  # - (- b) is b itself

    def _real(self, key: tuple[object, ...], compute: Callable[[], flint.arb]) -> Real:
        if key not in self._reals:
            with flint.ctx.workprec(_BITS):
                ball = compute()
            if not ball.is_finite():
                raise FormulaError(f"the constant {key[0]}(...) is not a finite real number")
            self._reals[key] = Real(len(self._reals), ball)
        return self._reals[key]

    def pi(self) -> Real:
        """The circle number."""
        return self._real(("pi",), flint.arb.pi)

    def add(self, a: Constant, b: Constant) -> Constant:
        """a + b."""
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return _guard(a + b)
        if a == 0:
            return b
        if b == 0:
            return a
        if isinstance(b, Real) and self.multiply(Fraction(-1), b) == a:
            return Fraction(0)
        return self._real(("sum", a, b), lambda: _ball(a) + _ball(b))

    def multiply(self, a: Constant, b: Constant) -> Constant:
        """a b."""
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return _guard(a * b)
        if isinstance(a, Real) and isinstance(b, Fraction):
            a, b = b, a
        if a == 0 or a == 1:
            return Fraction(0) if a == 0 else b
        if a == -1 and b in self._negated:
            return self._negated[b]  # type: ignore[index]
        product = self._real(("product", a, b), lambda: _ball(a) * _ball(b))
        if a == -1 and isinstance(b, Real):
            self._negated[product] = b
        return product

    def invert(self, a: Constant) -> Constant:
        """1 / a; FormulaError where a is zero or may be."""
        if isinstance(a, Fraction):
            if a == 0:
                raise FormulaError("division by zero")
            return 1 / a
        return self._real(("reciprocal", a), lambda: 1 / _ball(a))

    def power(self, a: Constant, n: int) -> Constant:
        """a^n for an integer n >= 0."""
        if isinstance(a, Fraction):
            if n * max(a.numerator.bit_length(), a.denominator.bit_length()) > _SIZE and abs(a) != 1 and a != 0:
                raise FormulaError("a power of a constant is too large")
            return a**n
        result: Constant = Fraction(1)
        for _ in range(n):
            result = self.multiply(result, a)
        return result

    def sign(self, a: Constant) -> int:
        """-1, 0 or 1; FormulaError where a ball cannot tell."""
        if isinstance(a, Fraction):
            return (a > 0) - (a < 0)
        if a.ball.contains(0):
            raise FormulaError("the sign of a constant cannot be told from 0 with 256 bits")
        return 1 if a.ball > 0 else -1

    def apply(self, function: str, a: Constant) -> Constant:
        """A function of the grammar of one argument; exact where the result is an obvious rational."""
        if function in ("abs", "sign"):
            sign = self.sign(a)
            return Fraction(sign) if function == "sign" else self.multiply(Fraction(sign), a)
        if function == "relu":
            return a if self.sign(a) > 0 else Fraction(0)
        if function == "sqrt" and isinstance(a, Fraction) and a >= 0:
            top, bottom = math.isqrt(a.numerator), math.isqrt(a.denominator)
            if top * top == a.numerator and bottom * bottom == a.denominator:
                return Fraction(top, bottom)
        if a == 0 and function in ("sin", "tan", "asin", "atan", "tanh"):
            return Fraction(0)
        if (a == 0 and function in ("cos", "exp")) or (a == 1 and function in ("log", "acos")):
            return Fraction(int(a == 0))
        if a == 0 and function == "sigmoid":
            return Fraction(1, 2)
        return self._real((function, a), lambda: _FUNCTIONS[function](_ball(a)))


_FUNCTIONS: dict[str, Callable[[flint.arb], flint.arb]] = {
    "sin": flint.arb.sin, "cos": flint.arb.cos, "tan": flint.arb.tan, "asin": flint.arb.asin, "acos": flint.arb.acos,
    "atan": flint.arb.atan, "exp": flint.arb.exp, "log": flint.arb.log, "sqrt": flint.arb.sqrt, "tanh": flint.arb.tanh,
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
}  # fmt: skip


def _guard(a: Fraction) -> Fraction:
    if max(a.numerator.bit_length(), a.denominator.bit_length()) > _SIZE:
        raise FormulaError("a constant has more digits than any use needs")
    return a


def nearest(a: Constant) -> tuple[float, float]:
    """A float64 number and a bound on its distance to the constant; FormulaError where float64 cannot hold it."""
    try:
        if isinstance(a, Fraction):
            value = float(a)
            exact = abs(a - Fraction(value))
            return value, 0.0 if exact == 0 else _above(float(exact))
        with flint.ctx.workprec(_BITS):
            value = float(a.ball.mid())
            distance = float((a.ball - flint.arb(value)).abs_upper())
    except (OverflowError, ValueError) as error:
        raise FormulaError("a constant exceeds the range of float64") from error
    if not (math.isfinite(value) and math.isfinite(distance)):
        raise FormulaError("a constant exceeds the range of float64")
    return value, _above(distance)


def _above(distance: float) -> float:
    """Larger than what was rounded to nearest, also where it became a subnormal number or zero."""
    return float(np.nextafter(np.nextafter(distance, np.inf), np.inf))
