"""One inequality of a condition about a closed loop, with what messages call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Row:
    """sum coefficient * feature + constant <= 0, or < 0 where strict; ``text`` says it in the words of the problem.

    The exact constant lies in [constant, constant + doubt]: a row is never larger than what it stands for.
    """

    terms: tuple[tuple[int, Fraction], ...]
    constant: Fraction
    strict: bool
    text: str
    doubt: Fraction = Fraction(0)

    def negated(self, text: str, strict: bool = True) -> Row:
        """The other side of the same boundary."""
        terms = tuple((i, -c) for i, c in self.terms)
        return Row(terms, -self.constant - self.doubt, strict, text, self.doubt)

    def moved(self, by: int) -> Row:
        """The same of features that stand further behind."""
        return Row(tuple((i + by, c) for i, c in self.terms), self.constant, self.strict, self.text, self.doubt)


def row(
    terms: Mapping[int, Fraction | int], constant: Fraction | int, text: str, strict: bool = False, doubt: Fraction | int = 0
) -> Row:  # fmt: skip
    """A row from a mapping of features."""
    kept = tuple(sorted((i, Fraction(c)) for i, c in terms.items() if c))
    return Row(kept, Fraction(constant), strict, text, Fraction(doubt))
