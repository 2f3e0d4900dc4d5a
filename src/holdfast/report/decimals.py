"""Decimal texts of floating-point numbers that never claim more than the number does.

Used wherever a bound or a witness is printed; shortening always goes outward (towards the weaker claim).
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import SupportsFloat


def exact_text(value: SupportsFloat) -> str:
    """The decimal that is this number, digit for digit: readers of any precision recover it, exact ones included.

    A shorter decimal that merely rounds to the number could lie outside the region that the number lies in.
    """
    if isinstance(value, int):
        return str(value)
    short = repr(float(value))
    exact = Decimal(float(value))
    return short if not exact.is_finite() or Decimal(short) == exact else str(exact)


def round_down(value: float, digits: int = 6) -> str:
    """A decimal of at most ``digits`` digits that is <= value (as real numbers)."""
    return _shorten(value, digits, ROUND_FLOOR)


def round_up(value: float, digits: int = 6) -> str:
    """A decimal of at most ``digits`` digits that is >= value (as real numbers)."""
    return _shorten(value, digits, ROUND_CEILING)


def _shorten(value: float, digits: int, rounding: str) -> str:
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    short = Context(prec=digits, rounding=rounding).plus(Decimal(value))
    if short.is_zero():
        return "0"
    if -5 <= short.adjusted() < digits + 3:
        text = format(short, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = format(short, "e").split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{exponent}"
