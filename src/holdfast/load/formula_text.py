"""A model -> formula text in the grammar of problem files, exactly: so that a plant given in Python can be written.

The way back from `load.expression`. Every element is kept as an affine form, exact rational coefficients over variables
and nonlinear applications (atoms); atoms that several places read become definitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from holdfast.errors import ModelError
from holdfast.graph import Model, Node
from holdfast.operators import INPUT, OPERATORS, LinearOperator

_LONGEST = 2_000_000  # characters of all formulas together
_ZERO = Fraction(0)
_DIGITS = 40  # a decimal expansion up to this length is written as it is
_MOST_DIGITS = 900
_SHORT = 24  # a quotient up to this length is repeated rather than named
_LONG = 300  # a longer sub-expression gets a name in any case: nothing nests too deeply
_FUNCTIONS = {
    "sin": "sin", "cos": "cos", "tan": "tan", "asin": "asin", "acos": "acos", "atan": "atan", "exp": "exp", "log": "log",
    "sqrt": "sqrt", "abs": "abs", "tanh": "tanh", "sigmoid": "sigmoid",
}  # fmt: skip
_FORMATS = {
    "relu": "max({}, 0)", "softplus": "log(1 + exp({}))", "heaviside": "(sign({}) + 1)/2",
    **{card: f"{name}({{}})" for card, name in _FUNCTIONS.items()},
}  # fmt: skip
_ELEMENTWISE = (*_FORMATS, "leaky_relu", "clip", "square", "power", "reciprocal")


@dataclass(frozen=True)
class Form:
    """sum_i coefficients[i] * atom i + shift, exactly; ``coefficients`` sorted by atom, none zero."""

    coefficients: tuple[tuple[int, Fraction], ...] = ()
    shift: Fraction = _ZERO


@dataclass(frozen=True)
class Atom:
    """A variable (``op`` "input", its name in ``detail``), or a nonlinear application to forms."""

    op: str
    arguments: tuple[Form, ...] = ()
    detail: tuple[Hashable, ...] = ()


@dataclass(frozen=True)
class FormulaTexts:
    """``outputs``: one formula per output element; ``definitions``: (name, formula) in order, each may use earlier ones."""

    outputs: tuple[str, ...]
    definitions: tuple[tuple[str, str], ...] = ()


def formula_text(
    model: Model,
    names: Sequence[str],
    *,
    divisors: Mapping[str, np.ndarray] | None = None,
    prefix: str | None = "d",
) -> FormulaTexts:
    """The outputs of ``model`` as formulas in ``names``, one name per input element in order.

    Exact: every number is written out in full, or as a quotient. ``divisors``: parameter key -> the float64 numbers
    that 1 was divided by, for quotients the model holds with a radius (`load.function.TracedFunction`). ``prefix``:
    definitions are called d1, d2, ... (names already taken are passed over); None: everything stands in the formulas.

    >>> from holdfast.load.function import load_function
    >>> model = load_function(lambda x: [x[1], 2 * x[0] / (1 + x[0] ** 2)], {"x": 2})
    >>> formula_text(model, ["a", "b"]).outputs
    ('b', '2*a/(a^2 + 1)')

    Raises `holdfast.ModelError` for constants that are not known exactly, for operators the grammar has no word for,
    and for models too large to be read as text.
    """
    where = model.name or "the model"
    size = sum(math.prod(t.shape) for t in model.inputs)
    if len(names) != size or len(set(names)) != size:
        raise ModelError(f"{where}: has {size} input elements, {len(set(names))} different names were given")
    writer = _Writer(where, dict(divisors or {}))
    outputs = writer.outputs(model, list(names))
    return writer.texts(outputs, set(names), prefix)


@dataclass(eq=False)
class _Writer:
    """Forms and atoms of one model while they are collected."""

    where: str
    divisors: Mapping[str, np.ndarray]
    atoms: list[Atom] = field(default_factory=list)
    numbers: dict[Atom, int] = field(default_factory=dict)

    def atom(self, atom: Atom) -> Form:
        """The form that is one atom; equal atoms are one."""
        number = self.numbers.setdefault(atom, len(self.atoms))
        if number == len(self.atoms):
            self.atoms.append(atom)
        return Form(((number, Fraction(1)),))

    def outputs(self, model: Model, names: list[str]) -> list[Form]:
        """The forms of all output elements."""
        values: list[np.ndarray] = []
        remaining = iter(names)
        for node in model.graph.nodes:
            if node.op == INPUT:
                forms = [self.atom(Atom(INPUT, detail=(next(remaining),))) for _ in range(math.prod(node.shape))]
                values.append(_array(forms, node.shape))
            else:
                values.append(self.apply(model, node, [values[i] for i in node.inputs]))
        return [form for i in model.graph.outputs for form in values[i].flat]

    def apply(self, model: Model, node: Node, x: list[np.ndarray]) -> np.ndarray:
        """The forms of a node's elements."""
        card = OPERATORS[node.op]
        if isinstance(card, LinearOperator) and card.exact:
            return self.move(card, node, x)
        if node.op in _ELEMENTWISE:
            return _each(lambda a: self.applied(node, a), node.shape, x[0])
        if node.op == "product":
            return _each(self.product, node.shape, *x)
        if node.op == "add":
            signs = [Fraction(s) for s in node["signs"]]
            return _each(lambda *f: combine(zip(signs, f, strict=True)), node.shape, *x)
        if node.op == "reduce_sum":
            kept = [i for i in range(x[0].ndim) if i not in node["axes"]]
            rows = x[0].transpose(*kept, *node["axes"]).reshape(math.prod(node.shape), -1)
            return _array([combine((Fraction(1), f) for f in row) for row in rows], node.shape)
        parameters = [self.exact(model, key) for key in node.parameters]
        if node.op == "constant":
            return _each(lambda c: Form(shift=c), node.shape, parameters[0])
        if node.op == "scale":
            s, t = (np.broadcast_to(p, node.shape) for p in parameters)
            return _each(lambda a, s, t: combine([(s, a)], t), node.shape, x[0], s, t)
        if node.op == "dense":
            weight, rows = parameters[0], x[0].reshape(-1, x[0].shape[-1])
            bias = parameters[1] if len(parameters) > 1 else np.full(weight.shape[1], Fraction(0), object)
            forms = [
                combine(zip(weight[:, m], row, strict=True), bias[m]) for row in rows for m in range(weight.shape[1])
            ]
            return _array(forms, node.shape)
        raise ModelError(f"{self.where}: operator {node.op} has no word in the grammar of formulas")

    def applied(self, node: Node, a: Form) -> Form:
        """A function of one form; of a number where the result is rational, that number."""
        if not a.coefficients and node.op in ("reciprocal", "square", "power") and (a.shift or node.op != "reciprocal"):
            exponent = {"reciprocal": -1, "square": 2}.get(node.op) or int(node["exponent"])
            return Form(shift=a.shift**exponent)
        return self.atom(Atom(node.op, (a,), tuple(node.attributes)))

    def move(self, card: LinearOperator, node: Node, x: list[np.ndarray]) -> np.ndarray:
        """Operators that move or copy numbers, run on positions; 0 stands for a zero put in (padding)."""
        pool: list[Form] = [Form()]
        positions = []
        for array in x:
            positions.append(len(pool) + np.arange(array.size, dtype=np.float64).reshape(array.shape))
            pool.extend(array.flat)
        moved = np.asarray(card.linear(np, node, (), positions)).reshape(-1)
        return _array([pool[int(i)] for i in moved], node.shape)

    def product(self, a: Form, b: Form) -> Form:
        """a * b, affine where one of them is a number."""
        for one, other in ((a, b), (b, a)):
            if not one.coefficients:
                return combine([(one.shift, other)])
        factor = Fraction(1)
        if len(a.coefficients) == 1 and not a.shift:  # numbers stand in front, so that equal products are one
            factor, a = factor * a.coefficients[0][1], Form(((a.coefficients[0][0], Fraction(1)),))
        if len(b.coefficients) == 1 and not b.shift:
            factor, b = factor * b.coefficients[0][1], Form(((b.coefficients[0][0], Fraction(1)),))
        first, second = sorted((a, b), key=lambda form: (form.coefficients, form.shift))
        atom = Atom("square", (a,)) if a == b else Atom("product", (first, second))
        return combine([(factor, self.atom(atom))])

    def exact(self, model: Model, key: str) -> np.ndarray:
        """A parameter as exact numbers."""
        values = np.asarray(model.parameters[key], np.float64)
        if key in self.divisors:
            flat = [1 / Fraction(float(v)) for v in np.broadcast_to(self.divisors[key], values.shape).flat]
        elif key in model.radii and np.any(model.radii[key]):
            raise ModelError(
                f"{self.where}: a constant near {values.flat[0]:.6g} is not a float64 number, so no text can hold it"
            )
        else:
            flat = [Fraction(float(v)) for v in values.flat]
        return _array(flat, values.shape)

    def texts(self, outputs: Sequence[Form], taken: set[str], prefix: str | None) -> FormulaTexts:
        """Writes the forms; atoms with several readers first, as definitions."""
        live, readers = self._readers(outputs)
        words: dict[int, tuple[str, int]] = {}  # atom -> its text, and how tightly it binds (0 sum, 1 product, 2 all)
        definitions: list[tuple[str, str]] = []
        length = 0
        for number in live:  # arguments come before what reads them
            text, tight = self._word(self.atoms[number], words)
            shared = readers[number] > 1 and (self.atoms[number].op != "reciprocal" or len(text) > _SHORT)
            if prefix is not None and (shared or len(text) > _LONG) and self.atoms[number].op != INPUT:
                name = _free(prefix, taken)
                definitions.append((name, text))
                length += len(text)
                text, tight = name, 2
            words[number] = (text, tight)
            if length + len(text) > _LONGEST:
                raise ModelError(f"{self.where}: is too large to be written as formulas (over {_LONGEST} characters)")
        return FormulaTexts(tuple(_sum(form, words) for form in outputs), tuple(definitions))

    def _readers(self, outputs: Sequence[Form]) -> tuple[list[int], dict[int, int]]:
        """The atoms some output depends on, in order, and how many forms read each."""
        readers: dict[int, int] = {}
        pending = list(outputs)
        while pending:
            for number, _ in pending.pop().coefficients:
                if number not in readers:
                    pending.extend(self.atoms[number].arguments)
                readers[number] = readers.get(number, 0) + 1
        return sorted(readers), readers

    def _word(self, atom: Atom, words: Mapping[int, tuple[str, int]]) -> tuple[str, int]:
        if atom.op == INPUT:
            return str(atom.detail[0]), 2
        arguments = [_sum(form, words) for form in atom.arguments]
        a = arguments[0]
        detail: dict[str, Any] = dict(atom.detail)  # type: ignore[arg-type]
        if atom.op == "product":
            return self._product_word(atom, words), 1
        if atom.op in ("square", "power"):
            return f"{_base(atom.arguments[0], words)}^{detail.get('exponent', 2)}", 2
        if atom.op == "reciprocal":
            return f"1/{_base(atom.arguments[0], words)}", 1
        if atom.op == "clip":
            low, high = (_number(Fraction(float(detail[end]))) for end in ("low", "high"))
            return f"min(max({a}, {low}), {high})", 2
        if atom.op == "leaky_relu":
            alpha = Fraction(float(detail["alpha"]))
            other = _sum(combine([(alpha, atom.arguments[0])]), words)
            return f"{'max' if alpha <= 1 else 'min'}({a}, {other})", 2
        return _FORMATS[atom.op].format(a), 1 if atom.op == "heaviside" else 2

    def _product_word(self, atom: Atom, words: Mapping[int, tuple[str, int]]) -> str:
        """a*b, or a/b where one of them is a reciprocal."""
        one, two = atom.arguments
        for a, b in ((one, two), (two, one)):
            if len(b.coefficients) == 1 and not b.shift:
                (number, coefficient), inner = b.coefficients[0], self.atoms[b.coefficients[0][0]]
                if inner.op == "reciprocal" and coefficient == 1 and words[number][0].startswith("1/"):
                    return f"{_factor(a, words)}/{_base(inner.arguments[0], words)}"
        return f"{_factor(one, words)}*{_factor(two, words)}"


def combine(terms: Iterable[tuple[Fraction, Form]], shift: Fraction = _ZERO) -> Form:
    """sum of factor * form, plus a number."""
    total: dict[int, Fraction] = {}
    for factor, form in terms:
        if factor:
            shift = shift + factor * form.shift
            for number, coefficient in form.coefficients:
                total[number] = total.get(number, Fraction(0)) + factor * coefficient
    return Form(tuple(sorted((n, c) for n, c in total.items() if c)), shift)


def _array(items: Sequence[Any], shape: Sequence[int]) -> np.ndarray:
    out = np.empty(len(items), object)
    out[:] = items
    return out.reshape(tuple(shape))


def _each(function: Callable[..., Form], shape: Sequence[int], *arrays: np.ndarray) -> np.ndarray:
    return _array([function(*row) for row in zip(*(a.flat for a in arrays), strict=True)], shape)


def _free(prefix: str, taken: set[str]) -> str:
    """The next name that nobody has; it is taken from then on."""
    number = 1
    while f"{prefix}{number}" in taken:
        number += 1
    taken.add(f"{prefix}{number}")
    return f"{prefix}{number}"


def _number(value: Fraction) -> str:
    """An exact number >= 0 or < 0 as text: decimal where it is short, else a quotient in parentheses."""
    if value < 0:
        return "-" + _number(-value)
    q, twos, fives = value.denominator, 0, 0
    while q % 2 == 0:
        q, twos = q // 2, twos + 1
    while q % 5 == 0:
        q, fives = q // 5, fives + 1
    places = max(twos, fives)
    if q == 1 and places + len(str(value.numerator // value.denominator)) <= _DIGITS:
        digits = str(value.numerator * 10**places // value.denominator).rjust(places + 1, "0")
        return f"{digits[:-places]}.{digits[-places:]}" if places else digits
    if value.denominator == 1:  # a large integer
        return str(value.numerator)
    text = f"({value.numerator}/{value.denominator})"
    if len(text) > _MOST_DIGITS:
        raise ModelError(f"a constant near {float(value):.6g} has too many digits to be written as text")
    return text


def _sum(form: Form, words: Mapping[int, tuple[str, int]]) -> str:
    """The text of a form."""
    text = ""
    for number, coefficient in form.coefficients:
        word, tight = words[number]
        size = abs(coefficient)
        term = (word if tight else f"({word})") if size == 1 else _times(size, word, tight)
        text += (" - " if coefficient < 0 else " + ") + term if text else ("-" if coefficient < 0 else "") + term
    if form.shift or not text:
        digits = _number(abs(form.shift))
        text += (" - " if form.shift < 0 else " + ") + digits if text else ("-" if form.shift < 0 else "") + digits
    return text


def _times(size: Fraction, word: str, tight: int) -> str:
    word = word if tight else f"({word})"
    if size.numerator == 1 and size.denominator.bit_length() < 54:
        return f"{word}/{size.denominator}"
    return f"{_number(size)}*{word}"


def _base(form: Form, words: Mapping[int, tuple[str, int]]) -> str:
    """A form as what is raised to a power or divided by."""
    single = len(form.coefficients) == 1 and not form.shift and form.coefficients[0][1] == 1
    if single and words[form.coefficients[0][0]][1] == 2 and "^" not in words[form.coefficients[0][0]][0]:
        return words[form.coefficients[0][0]][0]
    return f"({_sum(form, words)})"


def _factor(form: Form, words: Mapping[int, tuple[str, int]]) -> str:
    """A form as a factor."""
    if len(form.coefficients) == 1 and not form.shift and form.coefficients[0][1] > 0:
        return _sum(form, words)
    return f"({_sum(form, words)})"
