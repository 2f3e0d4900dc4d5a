"""Writes a problem file back: the tables of an instance, with found sets in them, as TOML text with exact numbers.

The inverse of reading: what is written reads back to the same tables (docs/problem_format.md).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.errors import PropertyError
from holdfast.spec.temporal import Instance

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_WIDTH = 120
_PLACES = 1100  # every float64 number ends within so many decimals


def write_problem(problem: Instance | Mapping[str, Any], path: str | Path, source: str | Path | None = None) -> str:
    """Write a problem file and return its text. ``source``: the file the tables came from; paths of networks follow.

    Raises PropertyError for what a problem file cannot hold (1/3, infinity but in polytopes, None).
    """
    document = problem.document if isinstance(problem, Instance) else problem
    path = Path(path)
    if source is not None:
        document = _moved(document, Path(source).resolve().parent, path.resolve().parent)
    text = problem_text(document)
    path.write_text(text, encoding="utf-8")
    return text


def problem_text(document: Mapping[str, Any]) -> str:
    """The tables of a problem as TOML text."""
    lines: list[str] = []
    _table(lines, document, ())
    return "\n".join(lines).strip() + "\n"


def _table(lines: list[str], values: Mapping[str, Any], path: tuple[str, ...]) -> None:
    """Plain values first, then sub-tables, as TOML demands."""
    deeper: list[tuple[str, Any]] = []
    for key, value in values.items():
        tables = isinstance(value, list | tuple) and value and all(isinstance(v, Mapping) for v in value)
        long = len(path) == 1 and isinstance(value, Mapping) and len(_entry(key, value)) > _WIDTH
        if (isinstance(value, Mapping) and not path) or long or (tables and key in ("property", "instance")):
            deeper.append((key, value))
        else:
            lines.append(_entry(key, value))
    for key, value in deeper:
        header = ".".join(map(_key, (*path, key)))
        for item in [value] if isinstance(value, Mapping) else value:
            lines += ["", f"[{header}]" if isinstance(value, Mapping) else f"[[{header}]]"]
            _table(lines, item, (*path, key))


def _entry(key: str, value: Any) -> str:
    """key = value; a long array of rows has one row a line."""
    line = f"{_key(key)} = {_value(value)}"
    if len(line) <= _WIDTH or not isinstance(value, list | tuple):
        return line
    return "\n".join([f"{_key(key)} = [", *(f"  {_value(row)}," for row in value), "]"])


def _value(value: Any) -> str:
    match value:
        case np.ndarray():
            return _value(value.tolist())
        case np.generic():
            return _value(value.item())
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case int():
            return str(value)
        case float() | Fraction() | Decimal():
            return _number(value)
        case Mapping():
            return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }" if value else "{}"
        case list() | tuple():
            return "[" + ", ".join(map(_value, value)) + "]"
    raise PropertyError(f"a problem file cannot hold {value!r}")


def _number(value: float | Fraction | Decimal) -> str:
    """A decimal of exactly this value."""
    if not isinstance(value, Fraction) and Decimal(value).is_infinite():
        return "inf" if value > 0 else "-inf"
    if isinstance(value, Decimal) and value.is_finite():
        text = str(value)
        return text if any(c in text for c in ".eE") else f"{text}.0"
    try:
        exact = Fraction(value)
    except ValueError as error:
        raise PropertyError(f"a problem file cannot hold {value!r}") from error
    context = Context(prec=_PLACES, Emin=-(10**6), Emax=10**6)
    quotient = context.divide(Decimal(exact.numerator), Decimal(exact.denominator))
    if Fraction(quotient) != exact:
        raise PropertyError(f"the number {exact} is no decimal, a problem file cannot hold it exactly")
    return _number(quotient)


def _string(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    plain = "".join(escapes.get(c) or (f"\\u{ord(c):04X}" if ord(c) < 32 or ord(c) == 127 else c) for c in text)
    return f'"{plain}"'


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _moved(document: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """Paths of networks relative to the folder of the new file."""

    def moved(path: str) -> str:
        return Path(os.path.relpath(old / path, new)).as_posix()

    def holder(table: Mapping[str, Any]) -> dict[str, Any]:
        changed = dict(table)
        if "network" in table:
            changed["network"] = moved(table["network"])
        if isinstance(table.get("networks"), Sequence):
            changed["networks"] = [moved(path) for path in table["networks"]]
        return changed

    result = dict(document)
    if "controller" in document:
        result["controller"] = holder(document["controller"])
    if "functions" in document:
        result["functions"] = {name: holder(function) for name, function in document["functions"].items()}
    if "instance" in document:
        result["instance"] = [holder(instance) for instance in document["instance"]]
    return result
