"""Decimal texts of floating-point numbers that never claim more than the number does.

Used wherever a bound or a witness is printed; shortening always goes outward (towards the weaker claim).
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import SupportsFloat


def exact_text(value: SupportsFloat) -> str:
    """The shortest decimal that a reader of binary64 numbers turns back into exactly this number.

    A binary32 value is written as the binary64 number it equals, so that readers of either width recover it.
    """
    return str(value) if isinstance(value, int) else repr(float(value))


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
