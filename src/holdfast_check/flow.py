"""Derivatives of formulas by their variables, as formulas: what Taylor's series of a flow needs (section 7 of the format of certificates of
loops). Unlike `derivative`, which makes nodes, it can be applied to its own results.

Functions are smooth where `conditions.singular` says so. At a kink the derivative is the atom `window`, every number between the slopes of both
sides (Clarke), which has no derivative itself: what is differentiated again is locally Lipschitz.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf

from holdfast_check.formula import Formulas, Sum, number, plus, scale
from holdfast_check.network import demand

MINUS = Fraction(-1)


@dataclass
class Direction:
    """Variables (atoms) move by sums; those that are not named stay."""

    formulas: Formulas
    moves: Mapping[int, Sum]
    known: dict[int, Sum] = field(default_factory=dict)

    def of(self, total: Sum) -> Sum:
        """The derivative of a sum."""
        result = number(0)
        for i, weight in total.weights.items():
            result = plus(result, self.atom(i), weight)
        return result

    def atom(self, i: int) -> Sum:
        if i not in self.known:
            self.known[i] = self.derived(i)
        return self.known[i]

    def derived(self, i: int) -> Sum:
        f = self.formulas
        kind, args, parameters, _ = f.atoms[i]
        if kind == "variable":
            return self.moves.get(i, number(0))
        moved = [self.of(a) for a in args]
        if all(not m.weights and m.constant == 0 for m in moved):
            return number(0)
        if kind == "product":
            return plus(f.product(args[0], moved[1]), f.product(args[1], moved[0]))
        return f.product(slope(f, kind, Sum({i: Fraction(1)}), args[0], parameters), moved[0])


def slope(f: Formulas, kind: str, y: Sum, z: Sum, parameters: tuple[float, ...]) -> Sum:
    """f'(z), y = f(z)."""
    one = number(1)

    def window(low: float, high: float) -> Sum:
        return f.atom("window", z, parameters=(low, high))

    table: dict[str, Callable[[], Sum]] = {
        "relu": lambda: window(0.0, inf),
        "abs": lambda: plus(scale(window(0.0, inf), Fraction(2)), one, MINUS),
        "clip": lambda: window(*parameters),
        "exp": lambda: y,
        "log": lambda: f.reciprocal(z),
        "sqrt": lambda: scale(f.reciprocal(y), Fraction(1, 2)),
        "square": lambda: scale(z, Fraction(2)),
        "power": lambda: scale(f.power(z, number(int(parameters[0]) - 1)), Fraction(parameters[0])),
        "reciprocal": lambda: scale(f.product(y, y), MINUS),
        "sigmoid": lambda: plus(y, f.product(y, y), MINUS),
        "tanh": lambda: plus(one, f.product(y, y), MINUS),
        "sin": lambda: f.function("cos", z),
        "cos": lambda: scale(f.function("sin", z), MINUS),
        "tan": lambda: plus(one, f.product(y, y)),
        "atan": lambda: f.reciprocal(plus(one, f.product(z, z))),
        "asin": lambda: f.reciprocal(f.function("sqrt", plus(one, f.product(z, z), MINUS))),
    }
    demand(kind in table, f"{kind} has no derivative: the order of a sampled loop is too high for its plant")
    return table[kind]()


def along(f: Formulas, x: Sequence[Sum], rates: Sequence[Sum], order: int) -> list[list[Sum]]:
    """L^1 x, ..., L^order x, with L^(j+1) x = (d L^j x / dx) L^1 x; x are variables, all else stays."""
    direction = Direction(f, {variable(v): r for v, r in zip(x, rates, strict=True)})
    found = [list(rates)]
    while len(found) < order:
        found.append([direction.of(r) for r in found[-1]])
    return found


def jacobian(f: Formulas, by: Sequence[Sum], rates: Sequence[Sum]) -> list[list[Sum]]:
    """d rates_i / d by_j."""
    columns = [Direction(f, {variable(v): number(1)}) for v in by]
    return [[column.of(r) for column in columns] for r in rates]


def variable(v: Sum) -> int:
    (i,) = v.weights
    return i
