"""VNN-LIB text -> regions, cases and rows (section 3 of the format), all numbers exact rationals.

A variable is a number: i >= 0 is the flat input i, -1 - j the flat output j. A row (coefficients, constant, strict) says that a sum
is <= 0 (or < 0). A formula becomes its disjunctive normal form: a list of conjunctions of rows; `true` is the one empty conjunction,
`false` the empty list. What is not understood raises an exception of some kind.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import chain, product
from typing import Any, NamedTuple

import numpy as np

from holdfast_check.arithmetic import Unreadable

Row = tuple[tuple[tuple[int, Fraction], ...], Fraction, bool]
Conjunction = tuple[Row, ...]
# a decimal number, or a hexadecimal one that float64 holds exactly
NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?|0x[01](\.[0-9a-f]{1,13})?(p[+-]?\d{1,4})?)", re.ASCII)
NEGATION = {"<=": ">", "<": ">=", ">=": "<", ">": "<=", "=": "!=", "==": "!=", "!=": "="}


class Region(NamedTuple):  # float64 ends enclose the exact ones; a case holds indices of rows
    lower: np.ndarray
    upper: np.ndarray
    exact_lower: tuple[Fraction, ...]
    exact_upper: tuple[Fraction, ...]
    cases: tuple[tuple[int, ...], ...]


class Declared(NamedTuple):  # a network; names and sizes of its tensors, none in VNN-LIB 1.0; which other one it equals
    name: str = "N"
    inputs: tuple[tuple[str, int], ...] = ()
    outputs: tuple[tuple[str, int], ...] = ()
    same: str = ""


class Property(NamedTuple):
    networks: tuple[Declared, ...]
    inputs: int
    rows: tuple[Row, ...]
    regions: tuple[Region, ...]


def tree(words: Iterator[str]) -> list[Any]:
    """Nested lists of words, up to the parenthesis that closes this one."""
    return [tree(words) if word == "(" else word for word in iter(words.__next__, ")")]


@cache
def number(text: str) -> Fraction:
    if not NUMBER.fullmatch(text):
        raise Unreadable(f"{text[:40]} is not a number")
    if "x" not in text:
        return Fraction(text)
    mantissa, _, exponent = text.partition("p")  # the mantissa alone is a float64 number, whatever the exponent
    if abs(int(exponent or 0)) > 1100:
        raise Unreadable(f"{text[:40]} is not a number")
    return Fraction(float.fromhex(mantissa)) * Fraction(2) ** int(exponent or 0)


def enclosing(exact: Sequence[Fraction], upper: bool) -> np.ndarray:
    """The smallest float64 numbers not below, or the largest not above; comparisons with fractions are exact."""
    near, beyond = [float(q) for q in exact], math.inf if upper else -math.inf
    right = [a >= q if upper else a <= q for a, q in zip(near, exact, strict=True)]
    return np.array([a if ok else math.nextafter(a, beyond) for a, ok in zip(near, right, strict=True)])


def terms(words: Any, names: dict[str, int], factor: Fraction) -> list[tuple[int | None, Fraction]]:
    """Variables (None: the constant) and coefficients of factor times an expression of +, - and *."""
    if isinstance(words, str):
        return [(names[words], factor)] if words in names else [(None, factor * number(words))]
    operator, *parts = words
    if operator == "*":
        factors = [terms(part, names, Fraction(1)) for part in parts]
        a, b = sorted(factors, key=lambda sums: {v for v, _ in sums} == {None})
        if {v for v, _ in b} != {None}:
            raise Unreadable("the property has a row that is not linear")
        return [(v, factor * w * x) for v, w in a for _, x in b]
    signs = [{"+": factor, "-": -factor}[operator]] * len(parts)
    signs[0] = factor if len(parts) > 1 else signs[0]
    return [term for part, sign in zip(parts, signs, strict=True) for term in terms(part, names, sign)]


def less(a: Any, b: Any, strict: bool, names: dict[str, int]) -> list[Conjunction]:
    """The atom a <= b, or a < b."""
    total: dict[int | None, Fraction] = {}
    for v, w in terms(a, names, Fraction(1)) + terms(b, names, Fraction(-1)):
        total[v] = total[v] + w if v in total else w
    constant = total.pop(None, Fraction(0))
    coefficients = tuple(sorted((v, w) for v, w in total.items() if w and v is not None))
    if coefficients:
        return [((coefficients, constant, strict),)]
    return [()] if constant < 0 or (constant == 0 and not strict) else []


def conjunction(members: Iterable[list[Conjunction]]) -> list[Conjunction]:
    """Members of one conjunction come first; the others are multiplied out, the last one varying fastest."""
    return [tuple(chain(*choice)) for choice in product(*sorted(members, key=lambda member: len(member) != 1))]


def formula(words: Any, names: dict[str, int], true: bool = True) -> list[Conjunction]:
    """The disjunctive normal form of a formula, or of its negation."""
    head, *rest = words if isinstance(words, list) else []
    if head == "not" and len(rest) == 1:
        return formula(rest[0], names, not true)
    if head in ("and", "or"):
        members = [formula(w, names, true) for w in rest]
        return conjunction(members) if (head == "and") == true else list(chain(*members))
    (a, b), head = rest, (NEGATION[head], head)[true]
    if head in ("=", "=="):
        return conjunction([less(a, b, False, names), less(b, a, False, names)])
    if head == "!=":
        return less(a, b, True, names) + less(b, a, True, names)
    return less(a, b, head == "<", names) if head in ("<=", "<") else less(b, a, head == ">", names)


def regions(conjunctions: list[Conjunction], inputs: int) -> tuple[tuple[Row, ...], tuple[Region, ...]]:
    """All different rows; the different boxes in order of first appearance, with their different lists of rows."""
    numbers: dict[Row, int] = {}
    boxes: dict[tuple[tuple[Fraction, ...], ...], dict[tuple[int, ...], None]] = {}
    for rows in conjunctions:
        kept: list[Row] = []
        known: dict[tuple[int, bool, bool], tuple[Fraction, bool]] = {}  # what v, or -v, is at least, or more than
        for row in rows:
            ((v, w), *others), constant, strict = row
            bound = v >= 0 and not others
            kept += [row] if strict or not bound else []
            for box in () if others else [True] * bound + [False] * (strict or not bound):
                place, end = (v, w > 0, box), (constant / abs(w), strict and not box)  # w > 0: an upper end of v
                known[place] = max(end, known.get(place, end))
        pairs = [(low, known.get((v, True, box))) for (v, high, box), low in known.items() if not high]
        if not any(high and (low[0] + high[0], low[1] or high[1]) > (Fraction(0), False) for low, high in pairs):
            lower = tuple(known[v, False, True][0] for v in range(inputs))
            upper = tuple(-known[v, True, True][0] for v in range(inputs))
            case = tuple(dict.fromkeys(numbers.setdefault(row, len(numbers)) for row in kept))
            boxes.setdefault((lower, upper), {})[case] = None
    found = (Region(enclosing(a, False), enclosing(b, True), a, b, tuple(cases)) for (a, b), cases in boxes.items())
    return tuple(numbers), tuple(found)


def read_property(data: bytes) -> Property:
    found = re.findall(r"[()]|[^\s()[\]]+(?:\s*\[[\d\s,]*\])?|\S", re.sub(r";[^\r\n]*", "", data.decode()))
    words = iter(["".join(word.split()) for word in found] + [")"])  # NAME [i, j] is one word NAME[i,j]
    names: dict[str, int] = {}
    networks: list[Declared] = []
    assertions: list[list[Conjunction]] = []
    for statement in tree(words):
        match statement:
            case ["vnnlib-version", "<1.0>" | "<2.0>"]:
                continue
            case ["declare-const", str(name), "Real"] if not networks and re.fullmatch(r"[XY]_(0|[1-9][0-9]*)", name):
                names[name] = int(name[2:]) if name[0] == "X" else -1 - int(name[2:])
            case ["declare-network", str(name), *parts] if networks or not names:
                tensors: dict[str, list[tuple[str, int]]] = {"declare-input": [], "declare-output": []}
                for kind, tensor, what in (part for part in parts if part[0] not in ("equal-to", "isomorphic-to")):
                    (shape,) = re.findall(r"^(?:[Rr]eal|float32|float64)\[([\d,]*)\]$", what)
                    places = np.argwhere(np.ones([int(n) for n in shape.split(",") if n])).tolist()
                    tensors[kind].append((tensor, len(places)))
                    output = kind == "declare-output"
                    for k, place in enumerate(places, sum((v < 0) == output for v in names.values())):
                        names[f"{tensor}[{','.join(map(str, place))}]" if place else tensor] = -1 - k if output else k
                same = "".join(part[1] for part in parts if part[0] == "equal-to")
                networks.append(Declared(name, tuple(tensors["declare-input"]), tuple(tensors["declare-output"]), same))
            case ["assert", condition]:
                assertions.append(formula(condition, names))
            case _:
                raise Unreadable(f"the property holds {str(statement)[:80]}, which is not supported")
    if next(words, None) or found.count("(") != found.count(")"):
        raise Unreadable("the parentheses of the property do not match")
    if networks and len(names) != sum(size for n in networks for _, size in n.inputs + n.outputs):
        raise Unreadable("the property declares a name twice")
    count = sum(v >= 0 for v in names.values())
    return Property(tuple(networks) or (Declared(),), count, *regions(conjunction(assertions), count))
