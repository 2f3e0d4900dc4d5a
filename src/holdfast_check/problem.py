"""One instance of a problem: the closed loop, its functions and its sets, as formulas. All numbers are exact."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from holdfast_check.arithmetic import Unreadable
from holdfast_check.formula import Formulas, Number, Sum, ball, number, plus, scale
from holdfast_check.network import demand, read_network

Pair = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Inequality:
    """value <= 0, or < 0; `side`: it is a side of the domain."""

    value: Sum
    strict: bool = False
    side: bool = False


@dataclass(frozen=True)
class Facets:
    """A box or a polytope: lower <= H (x - center) <= upper, ends that are None are open."""

    H: list[list[Fraction]]
    lower: list[Fraction | None]
    upper: list[Fraction | None]
    center: list[Fraction]


def table(value: Any, keys: Sequence[str], where: str) -> dict[str, Any]:
    demand(isinstance(value, dict), f"{where} is not a table")
    unknown = sorted(value.keys() - {*keys})
    demand(not unknown, f"{where} has the unknown key {unknown[:1]}")
    return value


def rational(value: Any) -> Fraction:
    demand(isinstance(value, int | Fraction) and not isinstance(value, bool), f"{value!r} is not a number")
    return Fraction(value)


def interval(value: Any) -> Pair:
    ends = value if isinstance(value, list) else [value, value]
    demand(len(ends) == 2, f"{value!r} is not an interval")
    low, high = map(rational, ends)
    demand(low <= high, f"the ends of {value!r} are not in order")
    return low, high


def vector(value: Any, n: int) -> list[Fraction]:
    demand(isinstance(value, list) and len(value) == n, f"{n} numbers are wanted in place of {value!r}"[:200])
    return [rational(v) for v in value]


def end(value: Any, sign: int) -> Fraction | None:
    return None if value == sign * math.inf else rational(value)


def logit(level: Fraction) -> Number | float:
    return math.inf if level >= 1 else -math.inf if level <= 0 else ball(level / (1 - level)).log()


def beyond(h: Sum, level: Number | float, sign: int) -> Sum:
    """sign (h - level); where the level is infinite a number of that sign."""
    if isinstance(level, float):
        return number(-1 if (level > 0) == (sign > 0) else 1)
    return scale(plus(h, number(level), Fraction(-1)), Fraction(sign))


@dataclass
class Problem:
    """One instance. `files(path)` gives the bytes of a network; `used`: those that have been read."""

    kind: str
    states: list[str]
    inputs: list[str]
    disturbances: dict[str, Pair]
    parameters: dict[str, Pair]
    constants: dict[str, Fraction]
    plant: dict[str, Any]
    controller: dict[str, Any] | None
    functions: dict[str, Any]
    domain: dict[int, Pair]
    initial: dict[str, Any]
    properties: list[dict[str, Any]]
    files: Callable[[str], bytes]
    period: Fraction | None = None  # of sampled feedback
    used: dict[str, bytes] = field(default_factory=dict)

    @property
    def free(self) -> list[Pair]:
        """The box of disturbances and parameters."""
        return [*self.disturbances.values(), *self.parameters.values()]

    def paths(self) -> set[str]:
        """All networks that the instance names."""
        named = {g["network"] for g in self.functions.values() if "network" in g}
        return named | ({self.controller["network"]} if self.controller else set())

    def names(self, f: Formulas, values: Mapping[str, Sum]) -> dict[str, Sum]:
        """With constants, and all definitions that can be made of these."""
        names = {name: number(value) for name, value in self.constants.items()} | dict(values)
        for name, text in self.plant.get("definitions", {}).items():
            try:
                names[name] = f.read(text, names)
            except Unreadable:  # it reads what is not there: refused where it is used
                continue
        return names

    def network(self, f: Formulas, path: str, values: Sequence[Sum]) -> tuple[list[Sum], Any]:
        demand(
            isinstance(path, str) and not re.match(r"[/\\]|\w:", path), f"the path {path!r} is not relative to the file"
        )
        if path not in self.used:
            self.used[path] = self.files(path)
        return f.attach(lambda nodes: read_network(self.used[path], path, nodes, 0), values, path)

    def dynamics(self, f: Formulas, x: Sequence[Sum], free: Sequence[Sum]) -> list[Sum]:
        """x' or x+, one formula for each state."""
        return self.plant_rates(f, x, free, self.controls(f, x, free))

    def controls(self, f: Formulas, x: Sequence[Sum], free: Sequence[Sum]) -> dict[str, Sum]:
        """The inputs of the plant, as the controller sets them."""
        if self.controller is None:
            return {}
        names = self.names(f, self.variables(x, free))
        texts = self.controller["network_inputs"]
        outputs, _ = self.network(f, self.controller["network"], [f.read(t, names) for t in texts])
        names |= {f"y{k}": y for k, y in enumerate(outputs)}
        made = {u: f.read(text, names) for u, text in self.controller["plant_inputs"].items()}
        demand(made.keys() == {*self.inputs}, "plant_inputs does not name the plant's inputs")
        for u, limits in self.controller.get("saturate", {}).items():
            demand(u in made, f"saturate names {u}, which is no input")
            made[u] = f.clip(made[u], *interval(limits))
        return made

    def variables(self, x: Sequence[Sum], free: Sequence[Sum]) -> dict[str, Sum]:
        return dict(zip([*self.states, *self.disturbances, *self.parameters], [*x, *free], strict=True))

    def plant_rates(self, f: Formulas, x: Sequence[Sum], free: Sequence[Sum], inputs: Mapping[str, Sum]) -> list[Sum]:
        """x' or x+, for values of the plant's inputs."""
        values = self.variables(x, free) | dict(inputs)
        names = self.names(f, values)
        explicit = self.plant["next" if self.kind == "map" else "derivative"]
        rates = {s: f.read(text, names) for s, text in explicit.items()}
        others = self.plant.get("accelerations", [])
        if others:
            mass = [[f.read(text, names) for text in row] for row in self.plant["mass"]]
            forces = [f.read(text, names) for text in self.plant["forces"]]
            n = len(others)
            demand(
                n <= 6 and len(forces) == len(mass) == n and {len(row) for row in mass} == {n},
                "the mass matrix does not fit",
            )
            whole = f.reciprocal(determinant(f, mass))
            for k, s in enumerate(others):  # Cramer's rule
                swapped = [[*row[:k], force, *row[k + 1 :]] for row, force in zip(mass, forces, strict=True)]
                rates[s] = f.product(determinant(f, swapped), whole)
        demand(rates.keys() == {*self.states}, "the formulas of the plant are not those of its states")
        return [rates[s] for s in self.states]

    # ---- functions and sets of states

    def function(self, f: Formulas, name: str, x: Sequence[Sum], strip: bool = True) -> tuple[Sum, bool]:
        """The value; or, of a network that ends with Sigmoid, what that is taken of (and true)."""
        demand(name in self.functions, f"there is no function {name!r}")
        given, names = self.functions[name], self.names(f, dict(zip(self.states, x, strict=True)))
        if given.keys() == {"expression"}:
            return f.read(given["expression"], names), False
        demand(
            given.keys() == {"network", "inputs"}, f"the function {name} has other keys than a network and its inputs"
        )
        outputs, last = self.network(f, given["network"], [f.read(text, names) for text in given["inputs"]])
        demand(len(outputs) == 1, f"the function {name} does not have one value")
        if strip and last.kind == "sigmoid":
            return f.elements(f.nodes[last.inputs[0]])[0], True
        return outputs[0], False

    def formula(self, f: Formulas, text: Any, x: Sequence[Sum]) -> Sum:
        """A function that a proof brings along: of the states alone."""
        return f.read(text, dict(zip(self.states, x, strict=True)))

    def sides(self, x: Sequence[Sum], box: Mapping[int, Pair]) -> list[Inequality]:
        """x_i - u_i and l_i - x_i, state by state."""
        return [
            Inequality(scale(plus(x[i], number(e), Fraction(-1)), Fraction(sign)), side=True)
            for i, (low, high) in sorted(box.items())
            for e, sign in ((high, 1), (low, -1))
        ]

    def facets(self, given: Mapping[str, Any]) -> Facets | None:
        n = len(self.states)
        if given.keys() == {"box"}:
            ends = {self.states.index(s): interval(v) for s, v in given["box"].items()}
            rows = sorted(ends)
            H = [[Fraction(i == j) for j in range(n)] for i in rows]
            return Facets(H, [ends[i][0] for i in rows], [ends[i][1] for i in rows], [Fraction(0)] * n)
        if given.keys() == {"polytope"}:
            p = table(given["polytope"], ["H", "lower", "upper", "center"], "a polytope")
            H = [vector(row, n) for row in p["H"]]
            lower, upper = (
                [end(v, s) for v in p.get(k, [s * math.inf] * len(H))] for k, s in (("lower", -1), ("upper", 1))
            )
            demand(len(H) == len(lower) == len(upper), "a polytope has not as many ends as rows")
            return Facets(H, lower, upper, vector(p.get("center", [0] * n), n))
        return None

    def inequalities(self, f: Formulas, given: Any, x: Sequence[Sum]) -> list[Inequality]:
        """The set {all <= 0} in the order of the format."""
        demand(isinstance(given, dict) and len(given) == 1, "a set is not one of the known ones")
        if facets := self.facets(given):
            rows = [affine(row, x, facets.center) for row in facets.H]
            return [
                Inequality(beyond(y, e, sign))
                for ends, sign in ((facets.upper, 1), (facets.lower, -1))
                for y, e in zip(rows, ends, strict=True)
                if e is not None
            ]
        ((kind, data),) = given.items()
        if kind == "where":
            names = self.names(f, dict(zip(self.states, x, strict=True)))
            return [Inequality(*f.condition(text, names)) for text in data] + self.sides(x, self.domain)
        if kind == "ellipsoid":
            center, P, level = self.ellipsoid(data)
            return [Inequality(quadratic(f, P, center, x, level))]
        demand(kind == "level", f"{kind} is not a kind of set")
        data = table(data, ["function", "at_most", "at_least"], "a level set")
        h, stripped = self.function(f, data["function"], x)
        found = []
        for key, sign in (("at_most", 1), ("at_least", -1)):
            if key in data:
                level = rational(data[key])
                found.append(Inequality(beyond(h, logit(level) if stripped else level, sign)))
        demand(found, "a level set has no level")
        return found + self.sides(x, self.domain)

    def ellipsoid(self, data: Any) -> tuple[list[Fraction], list[list[Fraction]], Fraction]:
        data, n = table(data, ["center", "P", "level"], "an ellipsoid"), len(self.states)
        P = [vector(row, n) for row in data["P"]]
        demand(len(P) == n and [list(c) for c in zip(*P, strict=True)] == P, "P is not symmetric")
        return vector(data.get("center", [0] * n), n), P, rational(data["level"])


def affine(row: Sequence[Fraction], x: Sequence[Sum], center: Sequence[Fraction]) -> Sum:
    """row . (x - center)."""
    total = number(-sum((a * c for a, c in zip(row, center, strict=True) if a and c), Fraction(0)))
    for a, v in zip(row, x, strict=True):
        total = plus(total, v, a) if a else total
    return total


def quadratic(
    f: Formulas, P: Sequence[Sequence[Fraction]], center: Sequence[Fraction], x: Sequence[Sum], level: Fraction
) -> Sum:
    """(x - center)' P (x - center) - level."""
    y, total = [plus(v, number(-c)) for v, c in zip(x, center, strict=True)], number(-level)
    for i in range(len(y)):
        for j in range(i + 1):
            if P[i][j]:
                total = plus(total, f.product(y[i], y[j]), P[i][j] * (1 if i == j else 2))
    return total


def determinant(f: Formulas, m: Sequence[Sequence[Sum]]) -> Sum:
    if len(m) == 1:
        return m[0][0]
    total = number(0)
    for k, first in enumerate(m[0]):
        minor = [[*row[:k], *row[k + 1 :]] for row in m[1:]]
        total = plus(total, f.product(first, determinant(f, minor)), Fraction((-1) ** k))
    return total
