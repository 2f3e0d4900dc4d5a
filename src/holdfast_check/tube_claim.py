"""Claims about trajectories: formulas over inequalities of states, and what an enclosed trajectory says of them (section 5 of the format of tubes).

Three values (Kleene): known to hold, possible, neither. A trajectory is looked at in cells, instants and the open intervals between them in turn
(Maler, Nickovic, Monitoring temporal properties of continuous signals, 2004); of a map there are instants only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from holdfast_check.formula import Formulas, Sum
from holdfast_check.network import demand
from holdfast_check.problem import Problem, interval, rational

Array = np.ndarray
Known = tuple[bool, bool]  # known to hold, possible
Window = tuple[Fraction, Fraction]
KEYS = {
    "always": [{"set"}, {"not_set"}], "at": [{"set"}, {"not_set"}], "eventually": [{"set"}], "until": [{"first", "then"}], "stl": [{"formula"}],
}  # fmt: skip


@dataclass(frozen=True)
class Formula:
    """`kind`: atom (its number), not, and, or; or G, F, U with a window and without further ones inside."""

    kind: str
    parts: tuple[Formula, ...] = ()
    number: int = -1
    window: Window = (Fraction(0), Fraction(0))

    @property
    def timed(self) -> bool:
        return self.kind in "GFU" or any(p.timed for p in self.parts)


@dataclass
class Claim:
    """All properties of an instance; atom k holds where its sum is <= 0 (or < 0)."""

    problem: Problem
    f: Formulas
    x: Sequence[Sum]
    parameters: Sequence[Sum]
    end: Fraction | None
    atoms: list[Sum] = field(default_factory=list)
    strict: list[bool] = field(default_factory=list)

    def all_of(self, properties: Sequence[Mapping[str, Any]]) -> Formula:
        demand(properties, "nothing is claimed")
        return Formula("and", tuple(map(self.one, properties)))

    def one(self, given: Mapping[str, Any]) -> Formula:
        kind, keys = given.get("kind"), given.keys() - {"id", "kind"}
        demand(kind in KEYS, f"properties of kind {kind!r} are not part of certificates of tubes")
        times: Any = {"at": [{"time"}, {"step"}], "stl": [set()]}.get(str(kind), [set(), {"during"}])
        demand(any(keys == a | b for a in KEYS[str(kind)] for b in times), f"a property {kind} has other keys")
        if kind == "stl":
            return Temporal(self, given["formula"]).whole()
        if kind == "at":
            step = self.problem.kind == "map" or self.problem.period is None
            at = (
                rational(given["time"])
                if "time" in given
                else rational(given["step"]) * (1 if step else self.problem.period or 1)
            )
            window = at, at
        else:
            demand("during" in given or self.end is not None, "there is no horizon")
            window = interval(given["during"]) if "during" in given else (Fraction(0), self.end or Fraction(0))
        self.check(window)
        if kind == "until":
            return Formula("U", (self.set_of(given["first"]), self.set_of(given["then"])), window=window)
        held = self.set_of(given["set"]) if "set" in given else Formula("not", (self.set_of(given["not_set"]),))
        return Formula("F" if kind == "eventually" else "G", (held,), window=window)

    def check(self, window: Window) -> None:
        demand(
            0 <= window[0] <= window[1] and (self.end is None or window[1] <= self.end),
            "a window is not one of the horizon",
        )
        whole = all(t.denominator == 1 for t in window)
        demand(self.problem.kind != "map" or whole, "a window is not one of steps")

    def names(self) -> dict[str, Sum]:
        """What conditions may read: states, constants and unknown ones, not what changes in time."""
        own = [*self.problem.states, *self.problem.parameters]
        return self.problem.names(self.f, dict(zip(own, [*self.x, *self.parameters], strict=True)))

    def set_of(self, given: Any) -> Formula:
        if isinstance(given, dict) and given.keys() == {"where"}:
            names = self.names()
            for text in given["where"]:
                value, strict = self.f.condition(text, names)
                self.atoms.append(value)
                self.strict.append(strict)
            first = len(self.atoms) - len(given["where"])
        else:
            first = len(self.atoms)
            for one in self.problem.inequalities(self.f, given, self.x):
                self.atoms.append(one.value)
                self.strict.append(one.strict)
        return Formula("and", tuple(Formula("atom", number=k) for k in range(first, len(self.atoms))))


class Temporal:
    """a | b, a & b, a U[s,t] b, G[s,t] a, F[s,t] a, !a, (a), comparisons: the grammar of problem files."""

    def __init__(self, claim: Claim, text: Any):
        demand(isinstance(text, str), "a temporal formula is not a text")
        self.claim, self.words = claim, re.findall(r"\s+|[GFU](?=\s*\[)|[A-Za-z_]\w*|<=|>=|[^\s]", text)
        self.names = claim.names()

    def whole(self) -> Formula:
        result = self.either()
        demand(not "".join(self.words).strip(), "a temporal formula does not end where it should")
        return result

    def next(self) -> str:
        while self.words and self.words[0].isspace():
            self.words.pop(0)
        return self.words[0] if self.words else ""

    def take(self, word: str) -> bool:
        if self.next() == word:
            self.words.pop(0)
            return True
        return False

    def either(self) -> Formula:
        parts = [self.both()]
        while self.take("|"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Formula("or", tuple(parts))

    def both(self) -> Formula:
        parts = [self.until()]
        while self.take("&"):
            parts.append(self.until())
        return parts[0] if len(parts) == 1 else Formula("and", tuple(parts))

    def until(self) -> Formula:
        left = self.unary()
        return self.timed("U", self.window(), left, self.unary()) if self.take("U") else left

    def unary(self) -> Formula:
        if self.take("!"):
            return Formula("not", (self.unary(),))
        for kind in "GF":
            if self.take(kind):
                return self.timed(kind, self.window(), self.unary())
        if self.next() == "(":  # of a formula, unless a comparison goes on behind it
            depth, length = 0, 0
            for length, word in enumerate(self.words):  # noqa: B007
                depth += (word == "(") - (word == ")")
                if depth == 0:
                    break
            inside = set(self.words[:length]) & {"<=", ">=", "<", ">"}
            if inside:
                self.take("(")
                result = self.either()
                demand(self.take(")"), "a parenthesis is not closed")
                return result
        return self.comparison()

    def comparison(self) -> Formula:
        depth, text = 0, ""
        while self.words:
            word = self.words[0]
            depth += (word == "(") - (word == ")")
            if depth < 0 or word in "&|U" or (depth == 0 and word == ","):
                break
            text += self.words.pop(0)
        value, strict = self.claim.f.condition(text, self.names)
        self.claim.atoms.append(value)
        self.claim.strict.append(strict)
        return Formula("atom", number=len(self.claim.atoms) - 1)

    def window(self) -> Window:
        demand(self.take("["), "a window [from, to] is missing")
        text = ""
        while self.words and self.words[0] != "]":
            text += self.words.pop(0)
        demand(self.take("]") and text.count(",") == 1, "a window is not one of two numbers")
        first, last = (Fraction(part.strip()) for part in text.split(","))
        return first, last

    def timed(self, kind: str, window: Window, *parts: Formula) -> Formula:
        demand(not any(p.timed for p in parts), "temporal operators inside others are not part of version 1")
        self.claim.check(window)
        return Formula(kind, parts, window=window)


def judged(formula: Formula, known: Array, possible: Array) -> tuple[Array, Array]:
    """A formula without times, of atoms (..., K)."""
    if formula.kind == "atom":
        return known[..., formula.number], possible[..., formula.number]
    found = [judged(p, known, possible) for p in formula.parts]
    if formula.kind == "not":
        return ~found[0][1], ~found[0][0]
    demand(found, "a set has no conditions")
    join = np.logical_and if formula.kind == "and" else np.logical_or
    return join.reduce([k for k, _ in found]), join.reduce([p for _, p in found])


def instants(formula: Formula, must: bool = True) -> list[tuple[Formula, Window, bool]]:
    """The largest parts without times, from left to right, each with the times it is asked about, and whether all is lost where it is not known."""
    if formula.kind == "U":
        return [(formula.parts[0], (Fraction(0), formula.window[1]), False), (formula.parts[1], formula.window, False)]
    if formula.kind in "GF":
        return [(formula.parts[0], formula.window, must and formula.kind == "G")]
    if not formula.timed:
        return [(formula, (Fraction(0), Fraction(0)), must)]
    return [found for p in formula.parts for found in instants(p, must and formula.kind == "and")]


Piece = tuple[Fraction, Fraction, list[Known]]  # a closed interval of time, and the parts (`instants`) on it


def decided(formula: Formula, pieces: Sequence[Piece], discrete: bool) -> Known:
    """The formula at time 0, of a trajectory known on pieces of time."""
    times = sorted({t for first, last, _ in pieces for t in (first, last)})
    if discrete and times:  # steps that are missing are not known
        times = [Fraction(k) for k in range(int(times[-1]) + 1)]
    place = {t: i for i, t in enumerate(times)}
    count = len(instants(formula))
    cells: list[list[Known]] = [[(False, True)] * count for _ in range(2 * len(times))]
    for first, last, found in pieces:
        for cell in range(2 * place[first], 2 * place[last] + 1):
            cells[cell] = [(a or c, b and d) for (a, b), (c, d) in zip(cells[cell], found, strict=True)]
    return Monitor(times, cells, discrete).of(formula, iter(range(count)))


class Monitor:
    """Cell 2 i is the instant times[i], cell 2 i + 1 the open interval behind it (of a map nothing)."""

    def __init__(self, times: Sequence[Fraction], cells: Sequence[Sequence[Known]], discrete: bool):
        self.times, self.cells, self.discrete = times, cells, discrete

    def between(self, first: Fraction, last: Fraction) -> tuple[list[int], bool]:
        """The cells that meet a window, in order, and whether they are all of it; the ends of windows are among the times."""
        inside = [i for i, t in enumerate(self.times) if first <= t <= last]
        if not inside:
            return [], False
        a, b = inside[0], inside[-1]
        whole = self.times[a] == first and self.times[b] == last
        if self.discrete:
            return [2 * i for i in inside], whole and len(inside) == last - first + 1
        return list(range(2 * a, 2 * b + 1)), whole

    def of(self, formula: Formula, numbers: Any) -> Known:
        if not formula.timed:
            cells, whole = self.between(Fraction(0), Fraction(0))
            number = next(numbers)
            return self.cells[cells[0]][number] if whole else (False, True)
        if formula.kind in "GFU":
            return (
                self.until(formula, next(numbers), next(numbers))
                if formula.kind == "U"
                else self.quantified(formula, next(numbers))
            )
        found = [self.of(p, numbers) for p in formula.parts]
        if formula.kind == "not":
            return not found[0][1], not found[0][0]
        join: Callable[..., bool] = all if formula.kind == "and" else any
        return join(k for k, _ in found), join(p for _, p in found)

    def quantified(self, formula: Formula, number: int) -> Known:
        cells, whole = self.between(*formula.window)
        found = [self.cells[c][number] for c in cells]
        if formula.kind == "G":
            return whole and all(k for k, _ in found), all(p for _, p in found)
        return any(k for k, _ in found), not whole or any(p for _, p in found)

    def until(self, formula: Formula, held: int, goal: int) -> Known:
        """At some time of the window the goal, and at all times before, from 0 on, the other part."""
        before, whole = self.between(Fraction(0), formula.window[1])
        window = set(self.between(*formula.window)[0])
        result = [False, not whole]
        if not self.times or self.times[0] != 0:
            return False, True
        for which in range(2):
            for cell in before:
                instant = cell % 2 == 0
                first, now = self.cells[cell][goal][which], self.cells[cell][held][which]
                if cell in window and first and (instant or now):
                    result[which] = True
                    break
                if not now:
                    break
        return result[0], result[1]
