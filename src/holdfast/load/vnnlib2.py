"""VNN-LIB 2.0 text to a `Property`: typed tensors, several networks, polynomial conditions.

Syntax, scopes and types are checked by the reference parser (package ``vnnlib``); its tree is reduced to cases with
the same functions as version 1.0. Reference: VNN-LIB 2.0 standard, chapter "Query Language".
Constants and arithmetic of conditions are taken exactly (over the reals), also where tensors are float32.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from holdfast.errors import PropertyError
from holdfast.spec.cases import (
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

MAX_DEPTH = 200  # the reference parser and this module recurse
MAX_DIGITS = 1_000
MAX_SIZE = 10_000_000
_VERSION = re.compile(r"\s*\(\s*vnnlib-version\s*<\s*2\s*\.\s*0\s*>\s*\)")
# a constant outside brackets; the lengths keep an unclosed bracket from being searched again and again
_CONSTANT = re.compile(r"\[[^\][()]{0,200}\]|(?<=[\s(])-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?=[\s)])")
_MAPPED = re.compile(
    r'(\(\s*declare-(?:input|output)\s+([A-Za-z]\w*)\s+\w+\s*\[[\s,0-9]*\])(\s*"[^"\s]*"\s*)\)', re.ASCII
)
_REAL = re.compile(r"(declare-(?:input|hidden|output)\s+[A-Za-z]\w*\s+)Real\b", re.ASCII)
_LINE = re.compile(r"line (\d+)")
_TYPES = {"F32": "float32", "Real": "real"}
_RELATIONS = {
    "LessEqual": "<=",
    "GreaterEqual": ">=",
    "LessThan": "<",
    "GreaterThan": ">",
    "Equal": "==",
    "NotEqual": "!=",
}


def parse_version_2(text: str, name: str, sha256: str = "") -> Property:
    """Parse a text without comments. Raises PropertyError, one sentence with file and line where it is known."""
    if not _VERSION.match(text):
        raise PropertyError(f"{name}: only version <2.0> of VNN-LIB 2 is accepted")
    text, names = _prepared(text, name)
    query = _parsed(text, name)
    networks, declarations = _declarations(query, names, name)
    tensors = {d.name: d for d in declarations}
    positions: dict[Variable, int] = {}
    for declaration in declarations:
        if declaration.role is Role.INPUT:
            start = len(positions)
            positions.update({(declaration.name, i): start + i for i in range(declaration.size)})
    reduce = _Reduction(tensors, positions)
    formulas = []
    for number, assertion in enumerate(query.assertions, start=1):
        try:
            formulas.append(reduce.condition(assertion.expr))
        except TooLargeError as error:
            raise PropertyError(f"{name}: assertion {number}: {error}") from None
    single = [f[0] for f in formulas if len(f) == 1]
    base = Conjunction(tuple(b for c in single for b in c.bounds), tuple(c for s in single for c in s.constraints))
    try:
        choices = conjunction([f for f in formulas if len(f) != 1])
    except TooLargeError as error:
        raise PropertyError(f"{name}: {error}") from None
    cases = assemble(base, choices, declarations, name)
    semantics = "float32" if any(d.dtype == "float32" for d in declarations) else "real"
    return Property(declarations, cases, networks, "2.0", semantics, name, sha256)


def _prepared(text: str, name: str) -> tuple[str, dict[str, str]]:
    """The text as the reference parser accepts it, and the ONNX names of mapped tensors, which it does not know.

    The standard allows more than that parser: exponents, whole numbers as constants, Real for real.
    """
    depth, deepest = 0, 0
    for match in re.finditer(r"[()]", text):
        depth += 1 if match[0] == "(" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise PropertyError(f"{name}: parentheses are nested deeper than {MAX_DEPTH}")
    if "\0" in text:
        raise PropertyError(f"{name}: a zero byte is not text")
    names: dict[str, str] = {}

    def take_name(match: re.Match[str]) -> str:
        names[match[2]] = match[3].strip()[1:-1]
        return match[1] + "\n" * match[3].count("\n") + ")"

    def expand(match: re.Match[str]) -> str:
        if match[0][0] == "[":
            return match[0]
        exponent = match[0].lower().partition("e")[2]
        if len(match[0]) > MAX_DIGITS or len(exponent) > 6 or abs(int(exponent or "0")) > MAX_DIGITS:
            raise PropertyError(f"{name}: the number {match[0][:40]} has more than {MAX_DIGITS} digits")
        plain = format(Decimal(match[0]), "f") if exponent else match[0]
        return plain if "." in plain else plain + ".0"

    text = _REAL.sub(r"\1real", text)  # the standard writes it both ways
    return _CONSTANT.sub(expand, _MAPPED.sub(take_name, text)), names


def _parsed(text: str, name: str) -> Any:
    import vnnlib  # a compiled parser that version 1.0 does without

    try:
        return vnnlib.parse_query_string(text)
    except vnnlib.VNNLibException as error:
        message = str(error)
    except (IndexError, ValueError, OverflowError) as error:  # what its C++ number conversions throw
        raise PropertyError(f"{name}: a number is out of range ({error})") from None
    try:
        first = json.loads(message)["errors"][0]
        where, what = f":{first['line']}", f"{first['message']} {first['offendingSymbol']}: {first['hint']}"
    except (ValueError, KeyError, IndexError, TypeError):
        line = _LINE.search(message)
        where, what = (f":{line[1]}" if line else ""), " ".join(message.split())
    short = what if len(what) <= 300 else what[:300] + "..."  # it quotes tokens in full length
    raise PropertyError(f"{name}{where}: {short.rstrip('.')}")


def _declarations(
    query: Any, names: dict[str, str], name: str
) -> tuple[tuple[NetworkDeclaration, ...], tuple[Declaration, ...]]:
    networks, declarations = [], []
    for network in query.networks:
        if network.hidden:
            raise PropertyError(
                f"{name}: the hidden tensor {network.hidden[0].name} is declared, hidden tensors are not supported"
            )
        networks.append(NetworkDeclaration(network.name, network.equal_to or None, network.isometric_to or None))
        mapped = [d.name in names for d in (*network.inputs, *network.outputs)]
        if any(mapped) and not all(mapped):
            raise PropertyError(
                f"{name}: network {network.name} maps some tensors by ONNX name, all or none are accepted"
            )
        for role, tensors in ((Role.INPUT, network.inputs), (Role.OUTPUT, network.outputs)):
            for tensor in tensors:
                dtype = _TYPES.get(tensor.dtype.name)
                if dtype is None:
                    raise PropertyError(
                        f"{name}: {tensor.name} has element type {tensor.dtype.name}, float32 and real are supported"
                    )
                shape = tuple(tensor.shape)
                size = math.prod(shape)
                if size > MAX_SIZE:
                    raise PropertyError(f"{name}: {tensor.name} has {size} elements, at most {MAX_SIZE} are accepted")
                mapping = names.get(tensor.name)
                declarations.append(Declaration(network.name, tensor.name, role, size, shape, dtype, mapping))
    known = [n.name for n in networks]
    if len(set(known)) != len(known):
        raise PropertyError(f"{name}: a network is declared twice")
    return tuple(networks), tuple(declarations)


class _Reduction:
    """Tree to formula; depth is bounded by MAX_DEPTH."""

    def __init__(self, tensors: dict[str, Declaration], positions: dict[Variable, int]) -> None:
        self.tensors, self.positions = tensors, positions

    def condition(self, node: Any) -> Formula:
        kind = type(node).__name__
        if kind in _RELATIONS:
            return comparison(_RELATIONS[kind], self.term(node.lhs), self.term(node.rhs), self.positions)
        if kind in ("And", "Or"):
            join: Callable[..., Formula] = conjunction if kind == "And" else disjunction
            return join([self.condition(child) for child in node.args])
        raise TooLargeError(f"the condition {kind} is not supported")

    def term(self, node: Any) -> dict:
        kind = type(node).__name__
        if kind == "Var":
            return {(self.variable(node),): Fraction(1)}
        if kind in ("Float", "Int", "Literal", "IntExpr"):
            return self.literal(node.lexeme)
        if kind == "Negate":
            return {m: -c for m, c in self.term(node.expr).items()}
        if kind == "Minus":
            parts = [node.head, *node.rest]
        elif kind in ("Plus", "Multiply"):
            parts = list(node.args)
        else:
            raise TooLargeError(f"the term {kind} is not supported")
        total = self.term(parts[0])
        for part in parts[1:]:
            other = self.term(part)
            total = multiply(total, other) if kind == "Multiply" else add(total, other, -1 if kind == "Minus" else 1)
        return total

    def variable(self, node: Any) -> Variable:
        flat = 0
        for index, size in zip(node.indices, self.tensors[node.name].shape or (), strict=True):
            flat = flat * size + index
        return (node.name, flat)

    def literal(self, lexeme: str) -> dict:
        if len(lexeme) > 2 * MAX_DIGITS:
            raise TooLargeError(f"a number has more than {2 * MAX_DIGITS} digits")
        value = Fraction(lexeme)
        return {(): value} if value else {}
