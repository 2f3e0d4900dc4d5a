"""Formulas (the grammar of problem files) -> nodes.

A formula is read as a sum of numbers times *atoms*: free variables, and functions and products of such sums. Numbers are exact
fractions, or balls where they are not rational. Atoms of one kind and one level that a set of formulas needs become one node.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb, fmpq

from holdfast_check.arithmetic import Unreadable
from holdfast_check.linear import Dense, Gather
from holdfast_check.network import Node, demand

Number = Fraction | arb
WORD = re.compile(r"\s*((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?|[A-Za-z_]\w*|<=|>=|[-+*/^()<>,])", re.ASCII)
FUNCTIONS = [
    "sin", "cos", "tan", "asin", "acos", "atan", "exp", "log", "sqrt", "abs", "min", "max", "tanh", "sigmoid", "sign"
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Sum:
    """sum of weights[i] times atom i, plus a constant."""

    weights: Mapping[int, Number]
    constant: Number = Fraction(0)


def ball(a: Number) -> arb:
    return arb(fmpq(a.numerator, a.denominator)) if isinstance(a, Fraction) else a


def added(a: Number, b: Number) -> Number:
    return a + b if isinstance(a, Fraction) and isinstance(b, Fraction) else ball(a) + ball(b)


def times(a: Number, b: Number) -> Number:
    return a * b if isinstance(a, Fraction) and isinstance(b, Fraction) else ball(a) * ball(b)


def plus(a: Sum, b: Sum, factor: Number = Fraction(1)) -> Sum:
    """a + factor b."""
    if isinstance(factor, Fraction) and factor == 0:
        return a
    if not (isinstance(factor, Fraction) and factor == 1):
        b = Sum({i: times(factor, w) for i, w in b.weights.items()}, times(factor, b.constant))
    if not a.weights and a.constant == 0:
        return b
    weights = dict(a.weights)
    for i, w in b.weights.items():
        weights[i] = added(weights[i], w) if i in weights else w
    weights = {i: w for i, w in weights.items() if not (isinstance(w, Fraction) and w == 0)}  # a ball about 0 stays
    return Sum(weights, added(a.constant, b.constant))


def scale(a: Sum, factor: Number) -> Sum:
    return plus(Sum({}), a, factor)


def number(value: Number | int) -> Sum:
    return Sum({}, Fraction(value) if isinstance(value, int) else value)


def enclosed(q: Number) -> tuple[float, float]:
    """A float64 near to q, and how far it may be off."""
    near = float(q) if isinstance(q, Fraction) else float(q.mid())
    exact = Fraction(near) == q if isinstance(q, Fraction) else q.is_exact() and arb(near) == q
    wide = 0.0 if isinstance(q, Fraction) else float(q.rad()) * (1 + 2.0**-20)
    return near, 0.0 if exact else wide + abs(near) * 2.0**-50 + 2.0**-1000


@dataclass
class Formulas:
    """Atoms: kind, arguments, parameters and level; `places`: node and element, for atoms that have become nodes already."""

    nodes: list[Node]
    atoms: list[tuple[str, tuple[Sum, ...], tuple[float, ...], int]] = field(default_factory=list)
    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    known: dict[Any, int] = field(default_factory=dict)

    # ---- sums

    def elements(self, node: Node) -> list[Sum]:
        """The elements of a node as variables."""
        first = len(self.atoms)
        self.atoms += [("variable", (), (), 0)] * node.size
        self.places.update((first + e, (node.place, e)) for e in range(node.size))
        return [Sum({first + e: Fraction(1)}) for e in range(node.size)]

    def atom(self, kind: str, *args: Sum, parameters: tuple[float, ...] = ()) -> Sum:
        keys = tuple((tuple(sorted((i, str(w)) for i, w in a.weights.items())), str(a.constant)) for a in args)
        exact = all(isinstance(w, Fraction) for a in args for w in (*a.weights.values(), a.constant))
        key = (kind, keys, parameters) if exact else len(self.atoms)
        if key not in self.known:
            level = 1 + max(self.atoms[i][3] for a in args for i in a.weights)
            self.known[key] = len(self.atoms)
            self.atoms.append((kind, args, parameters, level))
        return Sum({self.known[key]: Fraction(1)})

    def product(self, a: Sum, b: Sum) -> Sum:
        if not a.weights or not b.weights:
            return scale(b, a.constant) if not a.weights else scale(a, b.constant)
        same = a.weights == b.weights and isinstance(a.constant, Fraction) and a.constant == b.constant
        return self.atom("square", a) if same else self.atom("product", a, b)

    def reciprocal(self, a: Sum) -> Sum:
        if a.weights:
            return self.atom("reciprocal", a)
        c = a.constant
        demand(c != 0 if isinstance(c, Fraction) else not c.contains(0), "a division by zero")
        return number(1 / c)

    def power(self, a: Sum, b: Sum) -> Sum:
        n = b.constant
        if b.weights:
            return self.function("exp", self.product(b, self.function("log", a)))
        if not isinstance(n, Fraction) or n.denominator > 2 or (n.denominator == 2 and n != Fraction(1, 2)):
            return self.function("exp", scale(self.function("log", a), n))
        if n == Fraction(1, 2):
            return self.function("sqrt", a)
        demand(abs(n) <= 64, "an exponent beyond 64")
        if n < 0:
            return self.reciprocal(self.power(a, number(-n)))
        if not a.weights:
            return number(a.constant ** int(n))
        return [number(1), a, self.product(a, a)][int(n)] if n <= 2 else self.atom("power", a, parameters=(float(n),))

    def function(self, name: str, *args: Sum) -> Sum:
        demand(
            name in FUNCTIONS and (len(args) == 1 or (name in ("min", "max") and args)),
            f"{name} of {len(args)} arguments",
        )
        first = args[0]
        if name in ("min", "max"):
            sign = Fraction(1 if name == "max" else -1)
            for b in args[1:]:  # b + relu(a - b), b - relu(b - a)
                gap = scale(plus(first, b, Fraction(-1)), sign)
                first = plus(b, self.positive(gap), sign)
            return first
        demand(name != "sign", "the function sign is not continuous")
        if name == "acos":
            return plus(number(arb.pi() / 2), self.function("asin", first), Fraction(-1))
        if first.weights:
            return self.atom(name, first)
        if name == "abs" and isinstance(first.constant, Fraction):
            return number(abs(first.constant))
        z = ball(first.constant)
        value = 1 / (1 + (-z).exp()) if name == "sigmoid" else abs(z) if name == "abs" else getattr(z, name)()
        demand(value.is_finite(), f"{name} of a number where it is not defined")
        return number(value)

    def positive(self, a: Sum) -> Sum:
        if a.weights:
            return self.atom("relu", a)
        return number(max(a.constant, Fraction(0)) if isinstance(a.constant, Fraction) else a.constant.max(arb(0)))

    def clip(self, a: Sum, low: Fraction, high: Fraction) -> Sum:
        """low + (high - low) clip((a - low) / (high - low), 0, 1), so that the kinks are float64 numbers."""
        demand(low < high, "limits of saturate are not in order")
        if not a.weights:
            demand(isinstance(a.constant, Fraction), "saturate of a constant that is not rational")
            return number(min(max(a.constant, low), high))
        if Fraction(float(low)) == low and Fraction(float(high)) == high:
            return self.atom("clip", a, parameters=(float(low), float(high)))
        inner = scale(plus(a, number(-low)), 1 / (high - low))
        return plus(number(low), self.atom("clip", inner, parameters=(0.0, 1.0)), high - low)

    # ---- text

    def read(self, text: Any, names: Mapping[str, Sum]) -> Sum:
        """A formula; a number of the file is one too."""
        if isinstance(text, int | Fraction) and not isinstance(text, bool):
            return number(Fraction(text))
        reader = Text(self, words(text), names)
        result = reader.sum()
        demand(not reader.words, f"{text!r} is not a formula")
        return result

    def condition(self, text: Any, names: Mapping[str, Sum]) -> tuple[Sum, bool]:
        """`a <= b` and its like: a - b, and whether it is strict."""
        reader = Text(self, words(text), names)
        left, sign, right = reader.sum(), reader.take(), reader.sum()
        demand(not reader.words and sign in ("<=", "<", ">=", ">"), f"{text!r} is not a condition")
        a, b = (left, right) if sign[0] == "<" else (right, left)
        return plus(a, b, Fraction(-1)), len(sign) == 1

    # ---- nodes

    def append(self, kind: str, inputs: Sequence[int], count: int, **more: Any) -> Node:
        self.nodes.append(
            Node(kind, tuple(inputs), count, place=len(self.nodes), shape=(1, count), **({"rounds": False} | more))
        )
        return self.nodes[-1]

    def gather(self, where: Sequence[tuple[int, int] | None], bias: np.ndarray | None = None) -> Node:
        """Elements (node, element) one behind the other; None: a zero."""
        sources = sorted({w[0] for w in where if w}) or [0]
        sizes = tuple(self.nodes[s].size for s in sources)
        starts = dict(zip(sources, np.cumsum([0, *sizes]).tolist(), strict=False))
        index = np.array([starts[w[0]] + w[1] if w else -1 for w in where], dtype=np.int64)
        back = int(np.bincount(index[index >= 0], minlength=1).max())
        linear = Gather(sizes=sizes, index=index, back=max(1, back), exact=True, bias=bias)
        return self.append("linear", sources, len(where), linear=linear)

    def emit(self, sums: Sequence[Sum]) -> Node:
        """One node whose elements are these sums."""
        self.need({i for s in sums for i in s.weights})
        if all(simple(s) for s in sums):
            return self.gather([self.places[i] for s in sums for i in s.weights])
        used = sorted({i for s in sums for i in s.weights})
        place = self.gather([self.places[i] for i in used] or [None]).place
        column = {i: k for k, i in enumerate(used)}
        weights, bias = np.zeros((2, len(sums), max(1, len(used)))), np.zeros((2, len(sums)))
        for row, s in enumerate(sums):
            bias[:, row] = enclosed(s.constant)
            for i, w in s.weights.items():
                weights[:, row, column[i]] = enclosed(w)
        demand(np.isfinite(weights).all() and np.isfinite(bias).all(), "a number is too large")
        doubt = Dense(weights=weights[1], bias=bias[1]) if weights[1].any() or bias[1].any() else None
        terms, back = (int(np.count_nonzero(weights[0], axis=a).max(initial=1)) for a in (1, 0))
        linear = Dense(weights=weights[0], bias=bias[0], terms=max(1, terms), back=max(1, back), doubt=doubt)
        return self.append("linear", [place], len(sums), linear=linear)

    def need(self, wanted: set[int]) -> None:
        """Nodes for these atoms, level by level; simple arguments (one variable) apart, for their ranges are exact."""
        open_, stack = set(), [i for i in wanted if i not in self.places]
        while stack:
            i = stack.pop()
            if i not in open_:
                open_.add(i)
                stack += [j for a in self.atoms[i][1] for j in a.weights if j not in self.places]
        groups: dict[Any, list[int]] = {}
        for i in sorted(open_):
            kind, args, parameters, level = self.atoms[i]
            groups.setdefault((level, kind, parameters, all(map(simple, args))), []).append(i)
        for (_, kind, parameters, _), members in sorted(groups.items(), key=lambda item: item[0]):
            inputs = [self.emit(list(args)).place for args in zip(*(self.atoms[i][1] for i in members), strict=True)]
            made = self.append(kind, inputs, len(members), parameters=parameters, rounds=True)
            self.places.update((i, (made.place, e)) for e, i in enumerate(members))

    def attach(self, read: Callable[..., Any], values: Sequence[Sum], path: str) -> tuple[list[Sum], Node]:
        """A network whose flat inputs are these sums: its flat outputs, and the node of its last output tensor."""
        vector, first = self.emit(values), len(self.nodes)
        network, start = read(self.nodes), 0
        for node in network.inputs.values():
            where = [(vector.place, e) for e in range(start, min(start + node.size, vector.size))]
            demand(len(where) == node.size, f"network {path} does not have {vector.size} inputs")
            linear = Gather(sizes=(vector.size,), index=np.arange(start, start + node.size), exact=True)
            self.nodes[node.place] = replace(node, kind="linear", inputs=(vector.place,), linear=linear)
            start += node.size
        demand(start == vector.size and first < len(self.nodes), f"network {path} does not have {vector.size} inputs")
        return [s for node in network.outputs for s in self.elements(node)], network.outputs[-1]


def simple(s: Sum) -> bool:
    return s.constant == 0 and list(s.weights.values()) == [1]


def words(text: Any) -> list[str]:
    demand(isinstance(text, str), f"{text!r} is not a formula")
    found, end = [], 0
    while text[end:].strip():
        match = WORD.match(text, end)
        if match is None:
            raise Unreadable(f"{text!r} is not a formula")
        found.append(match[1])
        end = match.end()
    return found


@dataclass
class Text:
    """Words that are still to be read."""

    formulas: Formulas
    words: list[str]
    names: Mapping[str, Sum]
    depth: int = 0

    def take(self, *wanted: str) -> str:
        """The next word, or the empty one if it is none of those wanted."""
        return self.words.pop(0) if self.words and (not wanted or self.words[0] in wanted) else ""

    def sum(self) -> Sum:
        self.depth += 1
        demand(self.depth < 100, "a formula is nested too deeply")
        total = self.term()
        while sign := self.take("+", "-"):
            total = plus(total, self.term(), Fraction(1 if sign == "+" else -1))
        self.depth -= 1
        return total

    def term(self) -> Sum:
        total = self.factor()
        while sign := self.take("*", "/"):
            other = self.factor()
            total = self.formulas.product(total, other if sign == "*" else self.formulas.reciprocal(other))
        return total

    def factor(self) -> Sum:
        """Signs bind less than powers: -x^2 is -(x^2); x^-2^2 is x^(-(2^2))."""
        factor = Fraction(1)
        while sign := self.take("-", "+"):
            factor = -factor if sign == "-" else factor
        base = self.primary()
        base = self.formulas.power(base, self.factor()) if self.take("^") else base
        return scale(base, factor) if factor != 1 else base

    def primary(self) -> Sum:
        word = self.take()
        if word == "(":
            inner = self.sum()
            demand(self.take(")"), "a parenthesis is not closed")
            return inner
        if word[:1].isdigit() or word[:1] == ".":
            return number(Fraction(word))
        if self.words[:1] == ["("]:
            args, opening = [], "("
            while self.take(opening):
                args.append(self.sum())
                opening = ","
            demand(self.take(")"), "a parenthesis is not closed")
            return self.formulas.function(word, *args)
        if word == "pi":
            return number(arb.pi())
        if word not in self.names:
            raise Unreadable(f"{word or 'the end of a formula'!r} is not a name that may stand there")
        return self.names[word]
