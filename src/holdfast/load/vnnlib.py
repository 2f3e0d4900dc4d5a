"""VNN-LIB 1.0 text (an SMT-LIB dialect) to a `Property`; files of version 2.0 are handed to `vnnlib2`.

One pass over the tokens reduces every parenthesis as it closes (no recursion); negation is pushed inwards as
parentheses open. Reference: VNN-LIB standard, and the property files of VNN-COMP.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from holdfast.errors import PropertyError
from holdfast.spec.cases import (
    Bound,
    Conjunction,
    Formula,
    TooLargeError,
    add,
    assemble,
    comparison,
    conjunction,
    disjunction,
    multiply,
)
from holdfast.spec.property import Declaration, NetworkDeclaration, Property, Role, Variable
from holdfast.spec.region import Number, number

MAX_BYTES = 1 << 30
MAX_DEPTH = 2_000
MAX_DIGITS = 1_000
_TOKEN = re.compile(r"[()]|[^\s()]+")
_COMMENT = re.compile(r";[^\r\n]*")  # SMT-LIB: either character ends a line
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_NAME = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})")
_VERSION = re.compile(r"\s*\(\s*vnnlib-version\s*<\s*([0-9]{1,9})\.([0-9]{1,9})\s*>\s*\)")
_RELATIONS = {"<=": "<=", ">=": ">=", "<": "<", ">": ">", "=": "==", "==": "==", "!=": "!=", "distinct": "!="}
_NEGATED = {"<=": ">", ">=": "<", "<": ">=", ">": "<=", "==": "!=", "!=": "=="}
_ARITHMETIC = ("+", "-", "*", "/")
_IGNORED = ("set-logic", "set-info", "set-option", "check-sat", "get-model", "exit")


def load_property(path: str | Path) -> Property:
    """Read a .vnnlib or .vnnlib.gz file of version 1.0 or 2.0.

    Raises PropertyError, one sentence with file and line, for whatever cannot be read or makes no sense.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            with gzip.open(path) as stream:
                data = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PropertyError(f"{path}: the property file cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise PropertyError(f"{path}: the property file is larger than {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PropertyError(f"{path}: byte {error.start} is not text (UTF-8), a VNN-LIB file is expected") from None
    return parse_property(text, str(path), hashlib.sha256(data).hexdigest())


def parse_property(text: str, name: str = "property", sha256: str = "") -> Property:
    """Parse VNN-LIB text of version 1.0 or 2.0; ``name`` stands in front of error messages."""
    stripped = _COMMENT.sub("", text)  # line breaks stay, so lines keep their numbers
    version = _VERSION.match(stripped)
    if version and int(version[1]) == 2:
        from holdfast.load.vnnlib2 import parse_version_2  # the 2.0 parser is loaded only when it is needed

        return parse_version_2(stripped, name, sha256)
    if version:
        if int(version[1]) != 1:
            raise PropertyError(
                f"{name}: VNN-LIB version {version[1]}.{version[2]} is unknown, 1.0 and 2.0 are accepted"
            )
        stripped = "\n" * stripped[: version.end()].count("\n") + stripped[version.end() :]
    return _Parser(stripped, name).parse(sha256)


def line_of(text: str, token: int) -> int:
    """The line (from 1) of the token with that number."""
    for count, match in enumerate(_TOKEN.finditer(text)):
        if count == token:
            return text.count("\n", 0, match.start()) + 1
    return text.count("\n") + 1


class _Parser:
    """One parse of one text."""

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name
        self.tokens = _TOKEN.findall(text)
        self.at = 0
        self.numbers: dict[str, Number] = {}
        self.values: dict[Decimal | Fraction, Number] = {}
        self.variables: dict[str, Variable] = {}
        self.positions: dict[Variable, int] = {}
        self.atoms: dict[tuple[str, str, str], Formula] = {}

    def fail(self, message: str) -> PropertyError:
        return PropertyError(f"{self.name}:{line_of(self.text, self.at)}: {message}")

    def parse(self, sha256: str) -> Property:
        declarations = self.declarations()
        formulas = self.commands()
        if not formulas:
            raise PropertyError(f"{self.name}: there is no assertion, so the property says nothing")
        forks = [f for f in formulas if len(f) != 1]
        base = Conjunction(
            tuple(b for f in formulas if len(f) == 1 for b in f[0].bounds),
            tuple(c for f in formulas if len(f) == 1 for c in f[0].constraints),
        )
        try:
            choices = conjunction(forks)
        except TooLargeError as error:
            raise PropertyError(f"{self.name}: {error}") from None
        cases = assemble(base, choices, declarations, self.name)
        return Property(declarations, cases, (NetworkDeclaration("N"),), "1.0", "real", self.name, sha256)

    def declarations(self) -> tuple[Declaration, ...]:
        """Collect declared variables; they may stand anywhere."""
        tokens, end = self.tokens, len(self.tokens)
        for i in [i for i, t in enumerate(tokens) if t in ("declare-const", "declare-fun")]:
            self.at = i
            after = i + 2 if tokens[i] == "declare-const" else i + 4
            if i == 0 or tokens[i - 1] != "(" or after + 1 >= end or tokens[after + 1] != ")":
                raise self.fail("a declaration reads (declare-const X_0 Real)")
            variable, kind = tokens[i + 1], tokens[after]
            match = _NAME.fullmatch(variable)
            if not match:
                raise self.fail(f"the variable {_short(variable)} is neither an input X_i nor an output Y_i")
            if kind != "Real" or (after == i + 4 and tokens[i + 2 : i + 4] != ["(", ")"]):
                raise self.fail(f"{variable} must be declared as a constant of type Real, found {_short(kind)}")
            if variable in self.variables:
                raise self.fail(f"{variable} is declared twice")
            self.variables[variable] = (match[1], int(match[2]))
        declared = []
        for letter, role in (("X", Role.INPUT), ("Y", Role.OUTPUT)):
            indices = {index for name, index in self.variables.values() if name == letter}
            if not indices:
                raise PropertyError(
                    f"{self.name}: no {role.value} {letter}_0 is declared, inputs X_i and outputs Y_i are expected"
                )
            missing = next((i for i in range(len(indices)) if i not in indices), None)
            if missing is not None:
                raise PropertyError(f"{self.name}: {letter}_{missing} is not declared, but {letter}_{max(indices)} is")
            declared.append(Declaration("N", letter, role, len(indices)))
        self.positions = {v: v[1] for v in self.variables.values() if v[0] == "X"}
        return tuple(declared)

    def commands(self) -> list[Formula]:
        """The formulas of all assertions."""
        formulas, tokens, end, self.at = [], self.tokens, len(self.tokens), 0
        while self.at < end:
            start = self.at
            if tokens[start] != "(":
                raise self.fail(f"expected a command in parentheses, found {_short(tokens[start])}")
            command = tokens[start + 1] if start + 1 < end else ""
            if command == "assert":
                self.at = start + 2
                formula = self.expression()
                if isinstance(formula, dict):
                    self.at = start
                    raise self.fail("an assertion needs a condition, found a number or an arithmetic term")
                if self.at >= end or tokens[self.at] != ")":
                    raise self.fail("an assertion holds exactly one condition and ends with a parenthesis")
                self.at += 1
                formulas.append(formula)
            elif command in ("declare-const", "declare-fun"):
                self.at = start + (5 if command == "declare-const" else 7)
            elif command in _IGNORED:
                self.skip()
            else:
                raise self.fail(f"unknown command {_short(command)}, declare-const and assert are accepted")
        return formulas

    def skip(self) -> None:
        depth = 0
        while self.at < len(self.tokens):
            depth += {"(": 1, ")": -1}.get(self.tokens[self.at], 0)
            self.at += 1
            if depth == 0:
                return
        raise self.fail("a parenthesis is not closed")

    def expression(self) -> Formula | dict:
        """One condition or term, reduced from the inside; leaves ``at`` behind it."""
        tokens, end = self.tokens, len(self.tokens)
        stack: list[tuple[str, bool, list, int]] = []
        while True:
            i = self.at
            if i >= end:
                raise self.fail("the file ends inside an assertion, a parenthesis is not closed")
            token = tokens[i]
            value: Formula | dict
            if token == "(":
                head = tokens[i + 1] if i + 1 < end else ""
                positive = stack[-1][1] if stack else True
                if head in _RELATIONS and i + 4 < end and tokens[i + 4] == ")":
                    value = self.simple(head, tokens[i + 2], tokens[i + 3], positive)
                    self.at = i + 5
                else:
                    if head in ("(", ")"):
                        raise self.fail(f"expected an operator behind the parenthesis, found {_short(head)}")
                    if len(stack) >= MAX_DEPTH:
                        raise self.fail(f"parentheses are nested deeper than {MAX_DEPTH}")
                    stack.append((head, positive != (head == "not"), [], i))
                    self.at = i + 2
                    continue
            elif token == ")":
                if not stack:
                    raise self.fail("an assertion needs a condition, found a closing parenthesis")
                value = self.reduce(*stack.pop())
                self.at = i + 1
            else:
                value = self.term(token)
                self.at = i + 1
            if not stack:
                return value
            stack[-1][2].append(value)

    def simple(self, head: str, left: str, right: str, positive: bool) -> Formula:
        """A comparison of two tokens; most files hold thousands of equal ones."""
        relation = _RELATIONS[head]
        key = (relation if positive else _NEGATED[relation], left, right)
        known = self.atoms.get(key)
        if known is None:
            known = self.bound(key) or self.compare(key[0], self.term(left), self.term(right))
            self.atoms[key] = known
        return known

    def bound(self, key: tuple[str, str, str]) -> Formula | None:
        """The common case of an input against a constant, without any fractions."""
        relation, left, right = key
        if relation not in ("<=", ">="):
            return None
        if right in self.variables and left not in self.variables:
            left, right, relation = right, left, "<=" if relation == ">=" else ">="
        position = self.positions.get(self.variables.get(left, ("", 0)))
        if position is None or right in self.variables or right in ("(", ")"):
            return None
        return (Conjunction((Bound(position, relation == "<=", self.constant(right)),), ()),)

    def compare(self, relation: str, left: dict, right: dict) -> Formula:
        try:
            return comparison(relation, left, right, self.positions)
        except TooLargeError as error:
            raise self.fail(str(error)) from None

    def constant(self, token: str) -> Number:
        known = self.numbers.get(token)
        if known is None:
            if not _NUMBER.fullmatch(token):
                what = (
                    "is not a number" if token[:1] in "+-.0123456789" else "is neither a declared variable nor a number"
                )
                raise self.fail(f"{_short(token)} {what}")
            exponent = token.lower().partition("e")[2]
            if len(token) > MAX_DIGITS or (exponent and abs(int(exponent)) > MAX_DIGITS):
                raise self.fail(f"the number {_short(token)} has more than {MAX_DIGITS} digits")
            try:
                known = number(token)
            except OverflowError as error:
                raise self.fail(str(error)) from None
            known = self.values.setdefault(known.value, known)  # 0 and 0.0 are one constant
            self.numbers[token] = known
        return known

    def term(self, token: str) -> dict:
        if token in ("(", ")"):
            raise self.fail("a comparison takes two terms")
        variable = self.variables.get(token)
        if variable is not None:
            return {(variable,): Fraction(1)}
        value = Fraction(self.constant(token).value)
        return {(): value} if value else {}

    def reduce(self, head: str, positive: bool, arguments: list, opened: int) -> Formula | dict:
        """The value of a closed parenthesis."""
        try:
            if head in _ARITHMETIC:
                return self.arithmetic(head, self.checked(arguments, dict, head))
            if head in _RELATIONS:
                left_right = self.checked(arguments, dict, head)
                if len(left_right) != 2:
                    raise self.fail(f"{head} compares two terms, found {len(left_right)}")
                relation = _RELATIONS[head]
                return self.compare(relation if positive else _NEGATED[relation], *left_right)
            if head in ("and", "or"):
                formulas = self.checked(arguments, tuple, head)
                return conjunction(formulas) if (head == "and") == positive else disjunction(formulas)
            if head == "not" and len(self.checked(arguments, tuple, head)) == 1:
                return arguments[0]
        except TooLargeError as error:
            raise self.fail(str(error)) from None
        self.at = opened
        if head == "not":
            raise self.fail(f"not takes one condition, found {len(arguments)}")
        accepted = "and, or, not, <=, >=, <, >, =, !=, +, -, *, /"
        raise self.fail(f"unknown operator {_short(head)}, accepted are {accepted}")

    def checked(self, arguments: list, kind: type, head: str) -> list:
        wanted = "terms" if kind is dict else "conditions"
        if not arguments:
            raise self.fail(f"{head} without {wanted}")
        if not all(isinstance(a, kind) for a in arguments):
            raise self.fail(f"{head} takes {wanted} only")
        return arguments

    def arithmetic(self, head: str, terms: list[dict]) -> dict:
        first, rest = terms[0], terms[1:]
        if head == "-" and not rest:
            return {m: -c for m, c in first.items()}
        if head in "+-":
            total = dict(first)
            for term in rest:
                total = add(total, term, 1 if head == "+" else -1)
            return total
        for term in rest:
            if head == "/":
                divisor = term.get((), Fraction(0))
                if set(term) - {()} or not divisor:
                    raise self.fail("only division by a constant that is not zero is accepted")
                term = {(): 1 / divisor}
            first = multiply(first, term)
        return first


def _short(token: str) -> str:
    return f"'{token[:40]}{'...' if len(token) > 40 else ''}'"
