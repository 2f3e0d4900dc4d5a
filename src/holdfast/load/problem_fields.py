"""Reading the tables of a problem file: every field knows its place, every refusal is one sentence that names it.

Used by all `problem_*` modules; numbers are exact (int and Decimal as TOML gives them).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn

from holdfast.errors import PropertyError
from holdfast.load.expression import LARGEST_EXPONENT, is_name


@dataclass(frozen=True)
class Place:
    """Where in which file: "van/problem.toml: [plant] derivative.x2"."""

    file: str
    table: str = ""
    keys: tuple[str, ...] = ()

    def at(self, key: str | int) -> Place:
        """One key (or one position of an array) further in."""
        if isinstance(key, int):
            return Place(self.file, self.table, (*self.keys[:-1], f"{self.keys[-1] if self.keys else ''}[{key}]"))
        return Place(self.file, self.table, (*self.keys, key)) if self.table else Place(self.file, f"[{key}]")

    def field(self, key: str) -> Place:
        """A key at the top of the file that is no table."""
        return Place(self.file, "", (key,))

    def __str__(self) -> str:
        inner = ".".join(self.keys)
        where = (
            f"{self.table}{' ' if self.table.endswith(']') else ': '}{inner}"
            if self.table and inner
            else self.table or inner
        )
        return f"{self.file}: {where}" if where else self.file

    def fail(self, message: str | Exception) -> NoReturn:
        """Raises PropertyError with this place."""
        raise PropertyError(f"{self}: {message}") from (message if isinstance(message, Exception) else None)


def shown(value: Any) -> str:
    """A value as it can stand in a message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f"'{value}'" if isinstance(value, str) else str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def table(
    place: Place, value: Any, accepted: Collection[str] | None = None, required: Collection[str] = ()
) -> dict[str, Any]:
    """A table with no key but the accepted ones, and all required ones."""
    if not isinstance(value, Mapping):
        place.fail(f"found {shown(value)}, expected a table")
    for key in value:
        if accepted is not None and key not in accepted:
            place.fail(f"unknown key {key}; accepted: {', '.join(accepted)}")
    for key in required:
        if key not in value:
            place.fail(f"{key} is missing")
    return dict(value)


def array(place: Place, value: Any, size: int | None = None, of: str = "an array") -> list[Any]:
    """An array, of a given number of elements where there is one."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        place.fail(f"found {shown(value)}, expected {of}")
    if size is not None and len(value) != size:
        place.fail(f"found {len(value)} elements, expected {size}")
    return list(value)


def string(place: Place, value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        place.fail(f"found {shown(value)}, expected a string")
    return value


def choice(place: Place, value: Any, words: Sequence[str]) -> Any:
    """One of the words."""
    if not isinstance(value, str) or value not in words:
        place.fail(f"found {shown(value)}, accepted: {', '.join(words)}")
    return value


def number(place: Place, value: Any) -> Fraction:
    """A finite number, exactly."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        place.fail(f"found {shown(value)}, expected a number")
    if isinstance(value, Decimal) and (not value.is_finite() or abs(value.adjusted()) > LARGEST_EXPONENT):
        place.fail(f"found {shown(value)}, expected a finite number within the range of float64")
    exact = Fraction(value)
    try:
        float(exact)
    except OverflowError:
        place.fail("a number exceeds the range of float64")
    return exact


def whole(place: Place, value: Any, least: int = 0) -> int:
    """An integer, at least ``least``."""
    exact = number(place, value)
    if exact.denominator != 1 or exact < least:
        place.fail(f"found {shown(value)}, expected an integer from {least} on")
    return int(exact)


def interval(place: Place, value: Any, *, degenerate: bool = True) -> tuple[Fraction, Fraction]:
    """[lower, upper] with lower <= upper; where ``degenerate``, a number stands for both ends."""
    if degenerate and not isinstance(value, list | tuple):
        end = number(place, value)
        return end, end
    ends = array(place, value, of="an interval [lower, upper]")
    if len(ends) != 2:
        place.fail(f"found {len(ends)} elements, expected an interval [lower, upper]")
    lower, upper = (number(place, end) for end in ends)
    if lower > upper:
        place.fail(f"the interval is empty: the lower end {shown(ends[0])} exceeds the upper end {shown(ends[1])}")
    return lower, upper


def intervals(
    place: Place, value: Any, names: Sequence[str], what: str, *, degenerate: bool = True
) -> dict[str, tuple[Fraction, Fraction]]:
    """name -> interval for some of the names; ``what`` the names are."""
    found = table(place, value)
    for name in found:
        if name not in names:
            place.fail(f"unknown {what} {name}; known: {', '.join(names)}")
    return {name: interval(place.at(name), ends, degenerate=degenerate) for name, ends in found.items()}


def names(place: Place, value: Any, least: int = 0) -> tuple[str, ...]:
    """Distinct names."""
    found = [checked_name(place, name) for name in array(place, value, of="an array of names")]
    if len(found) < least:
        place.fail(f"found {len(found)} names, expected at least {least}")
    for i, name in enumerate(found):
        if name in found[:i]:
            place.fail(f"the name {name} appears twice")
    return tuple(found)


def checked_name(place: Place, value: Any) -> str:
    """A name that formulas can use."""
    if not isinstance(value, str) or not is_name(value):
        place.fail(
            f"{shown(value)} cannot be a name: accepted are letters, digits and _, no digit first, no word of the grammar"
        )
    return value


def formula(place: Place, value: Any) -> str:
    """The text of a formula; a number is one as well."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        place.fail(f"found {shown(value)}, expected a formula or a number")
    exact = number(place, value)
    return f"-{abs(value)}" if exact < 0 else str(value)
