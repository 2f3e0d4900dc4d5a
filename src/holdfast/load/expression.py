"""Formulas as text: tokens, and a recursive descent parser to a syntax tree; nothing is ever executed.

First station of the formulas of a problem file (docs/problem_format.md); `formula_normal` gives the tree a meaning.
Sums and products are lists, so that only parentheses, powers and signs nest, and their depth is limited.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

LONGEST = 2_000_000  # characters of one formula
DEEPEST = 60  # parentheses, calls, powers and signs inside each other
LARGEST_EXPONENT = 400  # decimal exponent of a number: beyond float64 either way
FUNCTIONS = (
    "sin", "cos", "tan", "asin", "acos", "atan", "exp", "log", "sqrt", "abs", "min", "max", "tanh", "sigmoid", "sign",
)  # fmt: skip
RESERVED = (*FUNCTIONS, "pi")
COMPARISONS = ("<=", ">=", "<", ">")


class FormulaError(ValueError):
    """A formula that cannot be read or has no meaning; the message is one clause, without the place in the file."""


@dataclass(frozen=True)
class Number:
    """A decimal number, exactly."""

    value: Fraction


@dataclass(frozen=True)
class Name:
    """A signal, a parameter, a definition, or `pi`."""

    name: str
    column: int = 0


@dataclass(frozen=True)
class Sum:
    """sign_1 term_1 + sign_2 term_2 + ...; one term with a sign is a negation."""

    terms: tuple[Tree, ...]
    signs: tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """factor_1 (* or /) factor_2 ...; ``inverted``: the factor divides."""

    factors: tuple[Tree, ...]
    inverted: tuple[bool, ...]


@dataclass(frozen=True)
class Power:
    """base ^ exponent."""

    base: Tree
    exponent: Tree


@dataclass(frozen=True)
class Call:
    """A function of the grammar applied to its arguments."""

    function: str
    arguments: tuple[Tree, ...]


Tree = Number | Name | Sum | Product | Power | Call


@dataclass(frozen=True)
class Comparison:
    """left <relation> right."""

    left: Tree
    relation: str
    right: Tree


class Token(NamedTuple):
    """kind: "number", "name", the symbol itself, or "end"; ``column`` counts from 1."""

    kind: str
    text: str
    column: int


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<symbol><=|>=|\*\*|[-+*/^(),<>&|!\[\]=]))",
    re.ASCII,
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def is_name(text: str) -> bool:
    """Whether the text can name a signal: letters, digits, underscore, and no word of the grammar."""
    return bool(_NAME.fullmatch(text)) and text not in RESERVED


def tokens(text: str) -> list[Token]:
    """The tokens of a formula, "end" the last."""
    if len(text) > LONGEST:
        raise FormulaError(f"a formula of {len(text)} characters is too long, at most {LONGEST} are accepted")
    found, position, end = [], 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            column = position + len(text[position:]) - len(text[position:].lstrip())
            raise FormulaError(f"unexpected character {text[column]!r} at column {column + 1}")
        kind = str(match.lastgroup)
        start, word = match.start(kind), match[kind]
        if word == "**":
            raise FormulaError(f"unexpected '**' at column {start + 1}; a power is written with '^'")
        found.append(Token(word if kind == "symbol" else kind, word, start + 1))
        position = match.end()
    return [*found, Token("end", "the end of the formula", end + 1)]


def decimal(text: str, column: int = 0) -> Fraction:
    """A decimal number exactly, refused where its size would need millions of digits."""
    mantissa, _, exponent = text.lower().partition("e")
    if (exponent and (len(exponent) > 6 or abs(int(exponent)) > LARGEST_EXPONENT)) or len(mantissa) > 1000:
        raise FormulaError(f"the number at column {column} is too large, too small or too long for float64")
    return Fraction(text)


class Parser:
    """One pass over the tokens; every method leaves the position behind what it has read."""

    def __init__(self, text: str) -> None:
        self.tokens = tokens(text)
        self.position = 0
        self.depth = 0

    @property
    def token(self) -> Token:
        """The next token."""
        return self.tokens[self.position]

    def accept(self, *kinds: str) -> Token | None:
        """The next token if it is one of these kinds."""
        token = self.token
        if token.kind not in kinds:
            return None
        self.position += 1
        return token

    def expect(self, kind: str, what: str) -> Token:
        """The next token, which must be of this kind."""
        return self.accept(kind) or self.fail(what)

    def fail(self, what: str) -> Token:
        """Raises: something else stands here than what is accepted."""
        found = self.token.text if self.token.kind == "end" else f"'{self.token.text}'"
        raise FormulaError(f"found {found} at column {self.token.column}, expected {what}")

    def deeper(self) -> None:
        """Counts one more level of nesting."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise FormulaError(f"more than {DEEPEST} levels of parentheses, powers and signs")

    def sum(self) -> Tree:
        """product ((+ | -) product)*"""
        terms, signs = [self.product()], [1]
        while token := self.accept("+", "-"):
            terms.append(self.product())
            signs.append(1 if token.kind == "+" else -1)
        return terms[0] if len(terms) == 1 else Sum(tuple(terms), tuple(signs))

    def product(self) -> Tree:
        """factor ((* | /) factor)*"""
        factors, inverted = [self.factor()], [False]
        while token := self.accept("*", "/"):
            factors.append(self.factor())
            inverted.append(token.kind == "/")
        return factors[0] if len(factors) == 1 else Product(tuple(factors), tuple(inverted))

    def factor(self) -> Tree:
        """- factor | atom (^ factor)?: the sign binds weaker than the power, the power is right associative."""
        self.deeper()
        result: Tree
        if self.accept("-"):
            result = Sum((self.factor(),), (-1,))
        else:
            result = self.atom()
            if self.accept("^"):
                result = Power(result, self.factor())
        self.depth -= 1
        return result

    def atom(self) -> Tree:
        """number | name | function(sum, ...) | (sum)"""
        if token := self.accept("number"):
            return Number(decimal(token.text, token.column))
        if token := self.accept("name"):
            return (
                self.call(token)
                if token.text in FUNCTIONS or self.token.kind == "("
                else Name(token.text, token.column)
            )
        if self.accept("("):
            inner = self.sum()
            self.expect(")", "')' or an operator")
            return inner
        self.fail("a number, a name, '-' or '('")
        raise AssertionError

    def call(self, token: Token) -> Tree:
        """The arguments of a function, in parentheses."""
        if token.text not in FUNCTIONS:
            raise FormulaError(f"unknown function {token.text} at column {token.column}; known: {', '.join(FUNCTIONS)}")
        self.expect("(", f"'(' after {token.text}")
        arguments = [self.sum()]
        while self.accept(","):
            arguments.append(self.sum())
        self.expect(")", "')', ',' or an operator")
        least = 2 if token.text in ("min", "max") else 1
        if len(arguments) < least or (least == 1 and len(arguments) > 1):
            count = "two or more arguments" if least == 2 else "one argument"
            raise FormulaError(f"{token.text} at column {token.column} has {len(arguments)}, it takes {count}")
        return Call(token.text, tuple(arguments))

    def comparison(self) -> Comparison:
        """sum (<= | >= | < | >) sum"""
        left = self.sum()
        relation = self.accept(*COMPARISONS)
        if relation is None:
            self.fail("a comparison <=, >=, < or >")
            raise AssertionError
        return Comparison(left, relation.kind, self.sum())

    def end(self) -> None:
        """Nothing may follow."""
        self.expect("end", "an operator or the end of the formula")


def parse(text: str) -> Tree:
    """The syntax tree of an expression; FormulaError with the column otherwise."""
    parser = Parser(text)
    tree = parser.sum()
    parser.end()
    return tree


def parse_comparison(text: str) -> Comparison:
    """The two sides of "expression <= expression" (or >=, <, >)."""
    parser = Parser(text)
    comparison = parser.comparison()
    parser.end()
    return comparison


def write(tree: Tree) -> str:
    """Text that parses to the same tree; numbers must be decimals, as all numbers of a formula are."""
    match tree:
        case Number(value):
            return _decimal_text(value)
        case Name(name):
            return name
        case Call(function, arguments):
            return f"{function}({', '.join(map(write, arguments))})"
        case Power(base, exponent):
            return f"{_atom(base)}^{_atom(exponent)}"
        case Product(factors, inverted):
            return _joined(factors, ["/" if flag else "*" for flag in inverted])
        case Sum((term,), (-1,)):
            return f"-{_atom(term)}"
        case Sum(terms, signs):
            return _joined(terms, [" + " if sign > 0 else " - " for sign in signs])


def _joined(parts: Sequence[Tree], operators: Sequence[str]) -> str:
    return _atom(parts[0]) + "".join(op + _atom(part) for op, part in zip(operators[1:], parts[1:], strict=True))


def _atom(tree: Tree) -> str:
    return write(tree) if isinstance(tree, Number | Name | Call) else f"({write(tree)})"


def _decimal_text(value: Fraction) -> str:
    """All digits of a number whose denominator is 2^a 5^b."""
    places = 0
    while value.denominator != 1 and places < 2000:
        value, places = value * 10, places + 1
    if value.denominator != 1 or value < 0:
        raise FormulaError("a number of a formula is a decimal that is not negative")
    return f"{value.numerator}e-{places}" if places else str(value.numerator)
