"""Formulas of signal temporal logic: syntax, and what their comparisons mean; `reachability` decides them.

Grammar, weakest first: a | b, a & b, a U[s,t] b, and G[s,t] a, F[s,t] a, !a, (a), or a comparison of expressions.
Maler, Nickovic, Monitoring temporal properties of continuous signals, FORMATS 2004.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from holdfast.load.expression import Comparison, FormulaError, Parser, decimal

Window = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Temporal:
    """operator: "|", "&", "U", "G", "F" or "!"; ``window`` of U, G and F."""

    operator: str
    arguments: tuple[Temporal | Comparison, ...]
    window: Window | None = None


Formula = Temporal | Comparison


def parse_temporal(text: str) -> Formula:
    """The tree of a formula; FormulaError with the column otherwise."""
    return parse_with_texts(text)[0]


def parse_with_texts(text: str) -> tuple[Formula, dict[Comparison, str]]:
    """The tree, and how its comparisons were written."""
    parser = _Parser(text)
    formula = parser.either()
    parser.end()
    return formula, parser.texts


def comparisons(formula: Formula) -> list[Comparison]:
    """All comparisons in it, from left to right."""
    if isinstance(formula, Comparison):
        return [formula]
    return [c for argument in formula.arguments for c in comparisons(argument)]


def latest(formula: Formula) -> Fraction:
    """The last time that the formula, read at time 0, looks at."""
    if isinstance(formula, Comparison):
        return Fraction(0)
    return max(map(latest, formula.arguments)) + (formula.window[1] if formula.window else 0)


class _Parser(Parser):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.texts: dict[Comparison, str] = {}

    def comparison(self) -> Comparison:
        """As of expressions; remembers how it was written."""
        start = self.token.column
        found = super().comparison()
        self.texts.setdefault(found, self.text[start - 1 : self.token.column - 1].strip())
        return found

    def either(self) -> Formula:
        """both (| both)*"""
        self.deeper()
        parts = [self.both()]
        while self.accept("|"):
            parts.append(self.both())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Temporal("|", tuple(parts))

    def both(self) -> Formula:
        """until (& until)*"""
        parts = [self.until()]
        while self.accept("&"):
            parts.append(self.until())
        return parts[0] if len(parts) == 1 else Temporal("&", tuple(parts))

    def until(self) -> Formula:
        """unary (U[s,t] unary)?"""
        left = self.unary()
        if self.token.text != "U":
            return left
        self.position += 1
        window = self.window()
        return Temporal("U", (left, self.unary()), window)

    def unary(self) -> Formula:
        """G[s,t] unary | F[s,t] unary | ! unary | comparison | (either)"""
        self.deeper()
        token, following = self.token, self.tokens[min(self.position + 1, len(self.tokens) - 1)]
        result: Formula
        if token.text in ("G", "F") and following.kind == "[":
            self.position += 1
            window = self.window()
            result = Temporal(token.text, (self.unary(),), window)
        elif self.accept("!"):
            result = Temporal("!", (self.unary(),))
        else:
            result = self.grouped() if token.kind == "(" else self.comparison()
        self.depth -= 1
        return result

    def grouped(self) -> Formula:
        """After '(' stands a comparison that begins with a parenthesis, or a formula in parentheses."""
        start, depth = self.position, self.depth
        try:
            return self.comparison()
        except FormulaError as first:
            furthest = self.position
            self.position, self.depth = start + 1, depth
            try:
                formula = self.either()
                self.expect(")", "')', '&' or '|'")
            except FormulaError:
                if self.position >= furthest:
                    raise
                raise first from None
            return formula

    def window(self) -> Window:
        """[s, t] with s <= t."""
        column = self.expect("[", "a window [from, to]").column
        start = self.expect("number", "a number")
        self.expect(",", "','")
        end = self.expect("number", "a number")
        self.expect("]", "']'")
        window = decimal(start.text, start.column), decimal(end.text, end.column)
        if window[0] > window[1]:
            raise FormulaError(f"the window at column {column} is empty: {start.text} exceeds {end.text}")
        return window
