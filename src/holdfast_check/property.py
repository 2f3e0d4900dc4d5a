"""VNN-LIB 1.0 and 2.0 text -> regions, cases and rows (section 3 of the format), in exact rationals.

A variable is a number: i >= 0 is the flat input i, -1 - j the flat output j. A linear expression is a dictionary of coefficients and
a constant. A formula becomes its disjunctive normal form: a list of conjunctions, each a list of bounds and a list of rows;
`true` is the one empty conjunction, `false` the empty list.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from holdfast_check.arithmetic import Unreadable
from holdfast_check.constants import BITS

Row = tuple[
    tuple[tuple[int, Fraction], ...], Fraction, bool
]  # coefficients, constant, strict: sum + constant <= 0 (or < 0)
Bound = tuple[int, bool, Fraction]  # input, whether it is an upper bound, value
Conjunction = tuple[list[Bound], list[Row]]
Expression = tuple[dict[int, Fraction], Fraction]
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
NEGATION = {"<=": ">", "<": ">=", ">=": "<", ">": "<=", "=": "!=", "==": "!=", "!=": "="}
LIMIT = 30_000_000  # bounds of all conjunctions together


@dataclass(frozen=True, eq=False)
class Region:
    """A box, float64 ends that enclose the exact ones, and its cases: indices of rows."""

    lower: np.ndarray
    upper: np.ndarray
    exact_lower: tuple[Fraction, ...]
    exact_upper: tuple[Fraction, ...]
    cases: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Declared:
    """A network of the property: its tensors' names and sizes (none in VNN-LIB 1.0), and the network whose file it shares."""

    name: str
    inputs: tuple[tuple[str, int], ...] = ()
    outputs: tuple[tuple[str, int], ...] = ()
    same: str = ""


@dataclass(frozen=True, eq=False)
class Property:
    networks: tuple[Declared, ...]
    inputs: int
    rows: tuple[Row, ...]
    regions: tuple[Region, ...]


def tree(text: str) -> list[Any]:
    """Nested lists of words."""
    stack: list[list[Any]] = [[]]
    for word in re.findall(r"[()]|[^\s()]+", re.sub(r";[^\n]*", "", text)):
        if word == "(":
            stack.append([])
            stack[-2].append(stack[-1])
        elif word != ")":
            stack[-1].append(word)
        elif len(stack) == 1:
            raise Unreadable("the property closes a parenthesis that was not opened")
        else:
            stack.pop()
        if len(stack) > 200:
            raise Unreadable("the property is nested too deeply")
    if len(stack) > 1:
        raise Unreadable("the property ends inside a parenthesis")
    return stack[0]


def shown(words: Any) -> str:
    return str(words).replace("'", "").replace(",", "").replace("[", "(").replace("]", ")")[:100]


@dataclass
class Reader:
    """The variables known so far, and what has been read of them."""

    variables: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, Fraction] = field(default_factory=dict)

    def number(self, word: str) -> Fraction:
        if word not in self.numbers:
            if not NUMBER.fullmatch(word) or len(word) > 2000:
                raise Unreadable(f"the property uses {shown(word)}, which is neither declared nor a number")
            self.numbers[word] = Fraction(word)
        return self.numbers[word]

    def expression(self, words: Any) -> Expression:
        if isinstance(words, str):
            v = self.variables.get(words)
            return ({}, self.number(words)) if v is None else ({v: Fraction(1)}, Fraction(0))
        if len(words) < 2 or words[0] not in ("+", "-", "*"):
            raise Unreadable(f"{shown(words)} is not an arithmetic expression of +, - and *")
        (total, c), *others = [self.expression(w) for w in words[1:]]
        if words[0] == "-" and not others:
            return {v: -a for v, a in total.items()}, -c
        for more, d in others:
            if words[0] == "*" and total and more:
                raise Unreadable(f"{shown(words)} is not linear: only linear rows can be checked")
            if words[0] == "*":
                total, c = {v: a * d for v, a in total.items()} | {v: a * c for v, a in more.items()}, c * d
            else:
                sign = 1 if words[0] == "+" else -1
                total, c = {v: total.get(v, 0) + sign * more.get(v, 0) for v in total | more}, c + sign * d  # type: ignore[misc]
            if any(q.numerator.bit_length() + q.denominator.bit_length() > BITS for q in (c, *total.values())):
                raise Unreadable("a number of the property has too many digits")
        return total, c

    def atom(self, left: Any, right: Any, strict: bool) -> list[Conjunction]:
        """left <= right, or left < right."""
        if isinstance(left, str) and isinstance(right, str) and not strict:  # the common case: a bound
            above, below = self.variables.get(left), self.variables.get(right)
            if above is not None and above >= 0 and below is None:
                return [([(above, True, self.number(right))], [])]
            if below is not None and below >= 0 and above is None:
                return [([(below, False, self.number(left))], [])]
        (a, c), (b, d) = self.expression(left), self.expression(right)
        both = ((v, a.get(v, Fraction(0)) - b.get(v, Fraction(0))) for v in sorted(a | b))
        coefficients, c = tuple((v, w) for v, w in both if w), c - d
        if not coefficients:
            return [([], [])] if c < 0 or (c == 0 and not strict) else []
        (v, w), bounds = coefficients[0], []
        if len(coefficients) == 1 and v >= 0:
            bounds.append((v, w > 0, -c / w))
        return [(bounds, [] if bounds and not strict else [(coefficients, c, strict)])]

    def formula(self, words: Any, true: bool = True) -> list[Conjunction]:
        """The disjunctive normal form of a formula, or of its negation."""
        if words in ("true", "false"):
            return [([], [])] if (words == "true") == true else []
        head, *rest = words if isinstance(words, list) and words and isinstance(words[0], str) else ["?"]
        if head == "not" and len(rest) == 1:
            return self.formula(rest[0], not true)
        if head in ("and", "or"):
            members = [self.formula(w, true) for w in rest]
            return conjunction(members) if (head == "and") == true else list(itertools.chain(*members))
        if head not in NEGATION or len(rest) != 2:
            raise Unreadable(f"{shown(words)} is not a formula of and, or, not and comparisons")
        head = head if true else NEGATION[head]
        a, b = rest if head in ("<=", "<", "=", "==", "!=") else rest[::-1]
        if head in ("=", "=="):
            return conjunction([self.atom(a, b, False), self.atom(b, a, False)])
        if head == "!=":
            return self.atom(a, b, True) + self.atom(b, a, True)
        return self.atom(a, b, head in ("<", ">"))

    def declare(self, words: list[Any], counts: list[int]) -> Declared:
        """(declare-network NAME [(equal-to OTHER)] (declare-input NAME TYPE [shape]) ... (declare-output ...) ...)."""
        kinds: tuple[list[tuple[str, int]], list[tuple[str, int]]] = ([], [])
        same = ""
        for part in words[2:]:
            if len(part) == 2 and part[0] in ("equal-to", "isomorphic-to"):
                same = part[1] if part[0] == "equal-to" else same
                continue
            match = re.fullmatch(r"(\w+)\[([\d,]*)\]", part[2]) if len(part) == 3 and isinstance(part[2], str) else None
            if (
                part[0] not in ("declare-input", "declare-output")
                or match is None
                or match[1].lower() not in ("real", "float32", "float64")
            ):
                raise Unreadable(f"the declaration {shown(part)} is not supported")
            shape, kind = [int(n) for n in match[2].split(",") if n], part[0] == "declare-output"
            if math.prod(shape) > 2**22:
                raise Unreadable(f"the declaration {shown(part)} is too large")
            kinds[kind].append((part[1], math.prod(shape)))
            for place in np.ndindex(*shape):
                name = f"{part[1]}[{','.join(map(str, place))}]" if shape else part[1]
                if name in self.variables:
                    raise Unreadable(f"{part[1]} is declared twice")
                self.variables[name] = -1 - counts[1] if kind else counts[0]
                counts[kind] += 1
        return Declared(words[1], tuple(kinds[0]), tuple(kinds[1]), same)


def conjunction(members: Sequence[list[Conjunction]]) -> list[Conjunction]:
    """Members of one conjunction are joined and come first; the others are multiplied out, the last one varying fastest."""
    single = [m[0] for m in members if len(m) == 1]
    joined = [b for bounds, _ in single for b in bounds], [r for _, rows in single for r in rows]
    others = [m for m in members if len(m) != 1]
    if math.prod(map(len, others)) * (1 + len(joined[0])) > LIMIT:
        raise Unreadable("the property has too many conjunctions")
    return [
        (
            list(itertools.chain(joined[0], *(b for b, _ in choice))),
            list(itertools.chain(joined[1], *(r for _, r in choice))),
        )
        for choice in itertools.product(*others)
    ]


@cache
def enclosing(q: Fraction, upper: bool) -> float:
    """The largest float64 not above q, or the smallest not below."""
    try:
        near = q.numerator / q.denominator  # correctly rounded
    except OverflowError:
        raise Unreadable("a bound of the property is beyond float64") from None
    wrong = Fraction(near) < q if upper else Fraction(near) > q
    return math.nextafter(near, math.inf if upper else -math.inf) if wrong else near


def empty(rows: Sequence[Row]) -> bool:
    """Whether rows of one single variable leave no value to it."""
    ends: dict[int, list[Any]] = {}
    for coefficients, c, strict in rows:
        if len(coefficients) == 1:
            (v, w), end = coefficients[0], -c / coefficients[0][1]
            low, high = ends.setdefault(v, [None, None])
            if w > 0:
                ends[v][1] = (end, not strict) if high is None else min(high, (end, not strict))
            else:
                ends[v][0] = (end, strict) if low is None else max(low, (end, strict))
    pairs = [(low, high) for low, high in ends.values() if low is not None and high is not None]
    return any(low[0] > high[0] or (low[0] == high[0] and (low[1] or not high[1])) for low, high in pairs)


def regions(conjunctions: Sequence[Conjunction], inputs: int) -> tuple[tuple[Row, ...], tuple[Region, ...]]:
    """Different boxes in order of first appearance, their different lists of rows, and all different rows."""
    numbers: dict[Row, int] = {}
    boxes: dict[tuple[Fraction | None, ...], dict[tuple[int, ...], None]] = {}
    for bounds, rows in conjunctions:
        ends: list[Fraction | None] = [None] * (2 * inputs)
        for v, upper, value in bounds:
            old, place = ends[v + inputs * upper], v + inputs * upper
            if old is None or (value < old if upper else value > old):
                ends[place] = value
        for v in range(inputs):
            if ends[v] is None or ends[inputs + v] is None:
                raise Unreadable(f"the property leaves the flat input {v} without a bound on both sides")
        if not any(a > b for a, b in zip(ends[:inputs], ends[inputs:], strict=True)) and not empty(rows):  # type: ignore[operator]
            case = tuple(dict.fromkeys(numbers.setdefault(row, len(numbers)) for row in rows))
            boxes.setdefault(tuple(ends), {})[case] = None
    found = []
    for box, cases in boxes.items():
        low, high = (tuple(q for q in half if q is not None) for half in (box[:inputs], box[inputs:]))
        arrays = np.array([enclosing(q, False) for q in low]), np.array([enclosing(q, True) for q in high])
        found.append(Region(*arrays, low, high, tuple(cases)))
    return tuple(numbers), tuple(found)


def read_property(data: bytes) -> Property:
    """Read the text of a property file."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("the property is not a text file") from None
    reader, networks, counts, assertions = Reader(), [], [0, 0], []
    if "vnnlib-version" in text:  # spaces before and inside of brackets are taken away
        text = re.sub(r"\s*\[([\s\d,]*)\]", lambda m: "[" + re.sub(r"\s", "", m[1]) + "]", re.sub(r";[^\n]*", "", text))
    for words in tree(text):
        match words:
            case ["vnnlib-version", str(version)]:
                if version not in ("<2.0>", "<1.0>"):
                    raise Unreadable(f"the property has version {version}, not 1.0 or 2.0")
            case ["declare-const", str(name), "Real"] | ["declare-fun", str(name), [], "Real"]:
                place = counts[name[0] == "Y"]
                if name != f"{name[0]}_{place}" or name[0] not in "XY":
                    raise Unreadable(
                        f"the property declares {shown(name)}, not X_0, X_1, ... and Y_0, Y_1, ... in order"
                    )
                reader.variables[name] = -1 - place if name[0] == "Y" else place
                counts[name[0] == "Y"] += 1
            case ["declare-network", str(_), *parts] if all(isinstance(p, list) and p for p in parts):
                networks.append(reader.declare(words, counts))
            case ["assert", formula]:
                assertions.append(reader.formula(formula))
            case _:
                raise Unreadable(f"the property holds {shown(words)}, which is not supported")
    names = [n.name for n in networks]
    if len(set(names)) < len(names) or any(n.same not in ("", *names[:i]) for i, n in enumerate(networks)):
        raise Unreadable("the networks of the property are declared twice or equal to unknown ones")
    rows, found = regions(conjunction(assertions), counts[0])
    return Property(tuple(networks) or (Declared("N"),), counts[0], rows, found)
