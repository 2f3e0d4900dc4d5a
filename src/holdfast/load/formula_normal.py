"""Normal form of formulas: affine sums of atoms, an atom being one nonlinear operator on affine sums; all shared.

Second station: `expression` gives trees, `formula_graph` makes vector nodes of the atoms. Equal sub-expressions become
one atom, constants are folded exactly, repeated factors become powers.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from holdfast.load.expression import Call, Comparison, FormulaError, Name, Number, Power, Product, Sum, Tree
from holdfast.load.formula_constants import Constant, Constants

SIGNAL = "signal"
_MOST_ATOMS = 100_000
_LARGEST_POWER = 64
_ODD = frozenset({"sin", "tan", "asin", "atan", "tanh"})
_EVEN = frozenset({"cos", "abs"})


class Affine(NamedTuple):
    """constant + sum of coefficient * atom; atoms ascending, no coefficient zero."""

    constant: Constant
    terms: tuple[tuple[int, Constant], ...] = ()


class Atom(NamedTuple):
    """One signal, or one application of a nonlinear operator card. ``depth``: nonlinear operators on the longest path."""

    op: str
    arguments: tuple[Affine, ...] = ()
    attributes: tuple[tuple[str, Hashable], ...] = ()
    depth: int = 0


class Algebra:
    """Builds normal forms over given signals. ``names`` maps what formulas may read to its normal form."""

    def __init__(self, signals: Sequence[str]) -> None:
        self.constants = Constants()
        self.atoms: list[Atom] = [Atom(SIGNAL) for _ in signals]
        self.names: dict[str, Affine] = {name: _single(i) for i, name in enumerate(signals)}
        self._known: dict[tuple[object, ...], int] = {}
        self._factors: dict[int, tuple[tuple[Affine, int], ...]] = {}  # of products and powers

    # -- sums ---------------------------------------------------------------------------------------------------

    def combine(self, parts: Sequence[tuple[Constant, Affine]]) -> Affine:
        """sum of factor * form."""
        constant: Constant = Fraction(0)
        total: dict[int, Constant] = {}
        add, multiply = self.constants.add, self.constants.multiply
        for factor, form in parts:
            constant = add(constant, multiply(factor, form.constant))
            for atom, coefficient in form.terms:
                product = multiply(factor, coefficient)
                total[atom] = add(total[atom], product) if atom in total else product
        return Affine(constant, tuple((atom, c) for atom, c in sorted(total.items()) if c != 0))

    def subtract(self, a: Affine, b: Affine) -> Affine:
        """a - b."""
        return self.combine([(Fraction(1), a), (Fraction(-1), b)])

    def scale(self, factor: Constant, a: Affine) -> Affine:
        """factor * a."""
        return self.combine([(factor, a)])

    # -- products -----------------------------------------------------------------------------------------------

    def multiply(self, a: Affine, b: Affine) -> Affine:
        """a b; common factors are collected into powers."""
        if not a.terms or not b.terms:
            return self.scale(a.constant, b) if not a.terms else self.scale(b.constant, a)
        (one, left), (two, right) = self._split(a), self._split(b)
        powers = dict(left)
        for base, exponent in right:
            powers[base] = powers.get(base, 0) + exponent
        return self.scale(self.constants.multiply(one, two), self._monomial(powers))

    def power(self, a: Affine, n: int) -> Affine:
        """a^n for an integer n."""
        if n < 0:
            return self.reciprocal(self.power(a, -n))
        if not a.terms:
            return Affine(self.constants.power(a.constant, n))
        if n == 0:
            return Affine(Fraction(1))
        factor, bases = self._split(a)
        powers = {base: exponent * n for base, exponent in bases}
        return self.scale(self.constants.power(factor, n), self._monomial(powers))

    def reciprocal(self, a: Affine) -> Affine:
        """1 / a."""
        if not a.terms:
            return Affine(self.constants.invert(a.constant))
        factor, form = self._primitive(a)
        return self.scale(self.constants.invert(factor), self.atom("reciprocal", (form,)))

    def _primitive(self, a: Affine) -> tuple[Constant, Affine]:
        """a = factor * form: the coefficient of a single atom, the leading sign of a sum."""
        leading = a.terms[0][1]
        if len(a.terms) == 1 and a.constant == 0:
            return leading, _single(a.terms[0][0])
        if isinstance(leading, Fraction) and leading < 0:
            return Fraction(-1), self.scale(Fraction(-1), a)
        return Fraction(1), a

    def _split(self, a: Affine) -> tuple[Constant, tuple[tuple[Affine, int], ...]]:
        """A constant factor, and bases with their exponents."""
        factor, form = self._primitive(a)
        if form.constant == 0 and len(form.terms) == 1:
            return factor, self._factors.get(form.terms[0][0], ((form, 1),))
        return factor, ((form, 1),)

    def _monomial(self, powers: Mapping[Affine, int]) -> Affine:
        """The product of powers as a tree of least depth; the same factors give the same atom."""
        if max(powers.values()) > _LARGEST_POWER:
            raise FormulaError(f"the power {max(powers.values())} is too large, at most {_LARGEST_POWER} is accepted")
        parts: list[tuple[int, Affine, tuple[tuple[Affine, int], ...]]] = []
        for base, exponent in powers.items():
            part = base
            if exponent == 2:
                part = self.atom("square", (base,))
            elif exponent > 2:
                part = self.atom("power", (base,), (("exponent", exponent),))
            if exponent > 1:
                self._factors[part.terms[0][0]] = ((base, exponent),)
            parts.append((self._depth(part), part, ((base, exponent),)))
        while len(parts) > 1:  # the two shallowest first
            parts.sort(key=lambda p: (p[0], p[1].terms[0][0], len(p[1].terms)))
            (_, a, left), (_, b, right), *parts = parts
            product = self.atom("product", (a, b))
            self._factors[product.terms[0][0]] = (*left, *right)
            parts.append((self._depth(product), product, (*left, *right)))
        return parts[0][1]

    # -- atoms --------------------------------------------------------------------------------------------------

    def atom(self, op: str, arguments: tuple[Affine, ...], attributes: tuple[tuple[str, Hashable], ...] = ()) -> Affine:
        """An operator on normal forms; the one made before where it is the same."""
        key = (op, arguments, attributes)
        if key not in self._known:
            if len(self.atoms) >= _MOST_ATOMS:
                raise FormulaError(f"the formulas have more than {_MOST_ATOMS} nonlinear operations")
            self._known[key] = len(self.atoms)
            depth = 1 + max(self._depth(argument) for argument in arguments)
            self.atoms.append(Atom(op, arguments, attributes, depth))
        return _single(self._known[key])

    def _depth(self, a: Affine) -> int:
        return max((self.atoms[atom].depth for atom, _ in a.terms), default=0)

    def apply(self, function: str, a: Affine) -> Affine:
        """A function of one argument: a card of that name."""
        if function == "sign":
            return self._sign(a)
        if not a.terms:
            return Affine(self.constants.apply(function, a.constant))
        if function in _ODD or function in _EVEN:
            leading = a.terms[0][1]
            if isinstance(leading, Fraction) and leading < 0:
                value = self.atom(function, (self.scale(Fraction(-1), a),))
                return self.scale(Fraction(-1 if function in _ODD else 1), value)
        return self.atom(function, (a,))

    def _sign(self, a: Affine) -> Affine:
        if not a.terms:
            return Affine(self.constants.apply("sign", a.constant))
        step = self.atom("heaviside", (a,))
        return self.combine([(Fraction(2), step), (Fraction(-1), Affine(Fraction(1)))])

    def extremum(self, a: Affine, b: Affine, sign: int) -> Affine:
        """max(a, b) for sign 1, min(a, b) for sign -1: b + sign relu(sign (a - b))."""
        difference = self.scale(Fraction(sign), self.subtract(a, b))
        return self.combine([(Fraction(1), b), (Fraction(sign), self.apply("relu", difference))])

    def clip(self, a: Affine, low: Fraction, high: Fraction, plain: bool) -> Affine:
        """min(max(a, low), high); not ``plain``: moved to [-1, 1], so that clips with different ends share a node."""
        if low == high or not a.terms:
            value = a.constant if not a.terms else low
            below = self.constants.sign(self.constants.add(value, -low)) < 0
            above = self.constants.sign(self.constants.add(value, -high)) > 0
            return Affine(low if below else high if above else value)
        if plain:
            return self.atom("clip", (a,), (("high", float(high)), ("low", float(low))))
        centre, half = Affine((low + high) / 2), (high - low) / 2
        moved = self.scale(1 / half, self.subtract(a, centre))
        clipped = self.atom("clip", (moved,), (("high", 1.0), ("low", -1.0)))
        return self.combine([(half, clipped), (Fraction(1), centre)])

    # -- trees --------------------------------------------------------------------------------------------------

    def normal(self, tree: Tree) -> Affine:
        """The normal form of a syntax tree."""
        match tree:
            case Number(value):
                return Affine(value)
            case Name(name, column):
                return self._name(name, column)
            case Sum(terms, signs):
                return self.combine([(Fraction(s), self.normal(t)) for t, s in zip(terms, signs, strict=True)])
            case Product(factors, inverted):
                result = Affine(Fraction(1))
                for factor, inverse in zip(factors, inverted, strict=True):
                    form = self.normal(factor)
                    result = self.multiply(result, self.reciprocal(form) if inverse else form)
                return result
            case Power(base, exponent):
                return self._power(self.normal(base), self.normal(exponent))
            case Call("min" | "max" as function, arguments):
                forms = [self.normal(a) for a in arguments]
                result = forms[0]
                for form in forms[1:]:
                    result = self.extremum(result, form, 1 if function == "max" else -1)
                return result
            case Call(function, (argument,)):
                return self.apply(function, self.normal(argument))
        raise FormulaError("a tree of unknown form")  # pragma: no cover

    def condition(self, comparison: Comparison) -> Affine:
        """The form that is <= 0 (< 0) where the comparison holds."""
        left, right = self.normal(comparison.left), self.normal(comparison.right)
        return self.subtract(right, left) if comparison.relation.startswith(">") else self.subtract(left, right)

    def _name(self, name: str, column: int) -> Affine:
        if name == "pi":
            return Affine(self.constants.pi())
        if name not in self.names:
            raise FormulaError(f"unknown name {name} at column {column}; known: {', '.join([*self.names, 'pi'])}")
        return self.names[name]

    def _power(self, base: Affine, exponent: Affine) -> Affine:
        """Integer powers and square roots by their cards, other powers as exp(exponent log(base))."""
        r = exponent.constant if not exponent.terms else None
        if isinstance(r, Fraction) and r.denominator == 1:
            if abs(r) > _LARGEST_POWER:
                raise FormulaError(f"the power {r} is too large, at most {_LARGEST_POWER} is accepted")
            return self.power(base, int(r))
        if isinstance(r, Fraction) and r.denominator == 2 and abs(r) <= _LARGEST_POWER:
            root = self.multiply(self.power(base, int(abs(r) - Fraction(1, 2))), self.apply("sqrt", base))
            return root if r > 0 else self.reciprocal(root)
        return self.apply("exp", self.multiply(exponent, self.apply("log", base)))

    def reads(self, forms: Sequence[Affine]) -> frozenset[int]:
        """Positions of the signals that the forms depend on."""
        return frozenset(atom for atom in self.needed(forms) if self.atoms[atom].op == SIGNAL)

    def needed(self, forms: Sequence[Affine]) -> frozenset[int]:
        """All atoms that the forms depend on."""
        pending = [atom for form in forms for atom, _ in form.terms]
        seen: set[int] = set()
        while pending:
            atom = pending.pop()
            if atom not in seen:
                seen.add(atom)
                pending.extend(i for argument in self.atoms[atom].arguments for i, _ in argument.terms)
        return frozenset(seen)

    def determinant(self, matrix: Sequence[Sequence[Affine]]) -> Affine:
        """Laplace's expansion by rows, every minor once: no division, so nothing but the determinant may vanish."""
        size = len(matrix)
        minors: dict[tuple[int, ...], Affine] = {(): Affine(Fraction(1))}
        for row in range(size - 1, -1, -1):
            wanted = _subsets(size, size - row)
            minors = {
                columns: self.combine([
                    (Fraction((-1) ** k), self.multiply(matrix[row][column], minors[columns[:k] + columns[k + 1 :]]))
                    for k, column in enumerate(columns)
                ])
                for columns in wanted
            }  # fmt: skip
        return minors[tuple(range(size))]


def _subsets(n: int, k: int) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = [()]
    for _ in range(k):
        found = [(*s, i) for s in found for i in range(s[-1] + 1 if s else 0, n)]
    return found


def _single(atom: int) -> Affine:
    return Affine(Fraction(0), ((atom, Fraction(1)),))
