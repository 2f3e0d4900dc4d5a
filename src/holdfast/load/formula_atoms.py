"""Comparisons of formulas -> equivalent formulas over smoother atoms: roots are squared away, absolute values and maxima become cases.

Part of the reading of conditions, see `problem_controller`: enclosures of polynomials lose nothing at the kinks of the original.
"""

from __future__ import annotations

from fractions import Fraction

from holdfast.load.expression import FormulaError
from holdfast.load.formula_constants import Constant
from holdfast.load.formula_normal import Affine, Algebra
from holdfast.spec.formula import Formula, atom, both, either

_MOST = 64  # atoms of one comparison; beyond, the rest stays as it is
_POSITIVE = frozenset({"square", "abs", "relu", "exp", "sqrt", "sigmoid", "softplus", "heaviside"})
_PARTIAL = frozenset({"log", "reciprocal", "tan", "asin", "acos"})  # not defined everywhere


class Atoms:
    """Collects the atoms of formulas over one algebra: atom k says ``forms[k]`` <= 0 (``strict``: < 0)."""

    def __init__(self, algebra: Algebra) -> None:
        self.algebra = algebra
        self.forms: list[Affine] = []
        self.strict: list[bool] = []
        self.texts: list[str] = []

    def formula(self, form: Affine, strict: bool, text: str) -> Formula:
        """A formula that holds where ``form`` <= 0 (< 0), and is not defined where that is not."""
        limit = len(self.forms) + _MOST

        def of(form: Affine) -> Formula:
            chosen = self._special(form) if len(self.forms) < limit else None
            if chosen is None:
                self.forms.append(form)
                self.strict.append(strict)
                self.texts.append(text)
                return atom(len(self.forms) - 1)
            number, coefficient, sign = chosen
            algebra = self.algebra
            op, (inner,) = algebra.atoms[number].op, algebra.atoms[number].arguments
            rest = Affine(form.constant, tuple(term for term in form.terms if term[0] != number))
            grown = algebra.scale(coefficient, inner)
            if op == "abs":  # c |a| + r
                parts = [algebra.combine([(Fraction(s), grown), (Fraction(1), rest)]) for s in (1, -1)]
            elif op == "relu":  # c max(a, 0) + r
                parts = [algebra.combine([(Fraction(1), grown), (Fraction(1), rest)]), rest]
            else:  # c sqrt(a) + r, a >= 0: for c > 0 it is <= 0 where r <= 0 and c^2 a <= r^2, for c < 0 where r <= 0 or r^2 <= c^2 a
                squares = algebra.subtract(algebra.scale(coefficient, grown), algebra.power(rest, 2))
                parts = [rest, algebra.scale(Fraction(sign), squares)]
            found = [of(part) for part in parts]
            return both(found) if sign > 0 else either(found)

        return of(form)

    def _special(self, form: Affine) -> tuple[int, Constant, int] | None:
        """A term with a kink that can be taken apart, its coefficient and that one's sign; roots last, as their rest is squared."""
        found = None
        for number, coefficient in form.terms:
            op, arguments = self.algebra.atoms[number].op, self.algebra.atoms[number].arguments
            if op not in ("abs", "relu", "sqrt") or not self._total(arguments[0]):
                continue
            sign = self._sign(coefficient)
            if sign == 0 or (op == "sqrt" and not self._nonnegative(arguments[0])):
                continue
            if op != "sqrt":
                return number, coefficient, sign
            if found is None or sign > found[2]:
                found = number, coefficient, sign
        return found

    def _sign(self, constant: Constant) -> int:
        try:
            return self.algebra.constants.sign(constant)
        except FormulaError:
            return 0

    def _nonnegative(self, form: Affine) -> bool:
        """Whether its shape shows that it is nowhere negative."""
        if form.constant != 0 and self._sign(form.constant) <= 0:
            return False
        return all(self._sign(c) > 0 and self._positive(number) for number, c in form.terms)

    def _positive(self, number: int) -> bool:
        one = self.algebra.atoms[number]
        if one.op == "power":
            return dict(one.attributes)["exponent"] % 2 == 0  # type: ignore[operator]
        if one.op == "product":
            return all(self._nonnegative(a) for a in one.arguments)
        return one.op in _POSITIVE

    def _total(self, form: Affine) -> bool:
        """Whether it is defined for all values of the signals."""
        for number in self.algebra.needed([form]):
            one = self.algebra.atoms[number]
            if one.op in _PARTIAL or (one.op == "sqrt" and not self._nonnegative(one.arguments[0])):
                return False
        return True
