"""What a counterexample must satisfy: declared tensors and a disjunction of cases, exact to the last decimal.

Loaders produce it, `bind` joins it with networks, replay asks it whether a concrete point really is a
counterexample. Meaning of the cases: VNN-LIB, a satisfying assignment is a counterexample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from functools import cached_property

from holdfast.spec.region import Box, Exact, exact

Variable = tuple[str, int]  # tensor name, flat index
Monomial = tuple[Variable, ...]  # sorted, with repetition; () is the constant monomial
Polynomial = Mapping[Monomial, Fraction]


class Role(Enum):
    """Where a declared tensor stands in its network."""

    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True)
class Declaration:
    """A tensor of a network as the property declares it.

    ``dtype`` is an element type in ONNX's words, or "real". ``shape`` is None where the property only counts
    elements (VNN-LIB 1.0). ``onnx_name`` is set where the property maps tensors by name instead of by order.
    """

    network: str
    name: str
    role: Role
    size: int
    shape: tuple[int, ...] | None = None
    dtype: str = "real"
    onnx_name: str | None = None


@dataclass(frozen=True)
class NetworkDeclaration:
    """A network as the property declares it; ``equal_to`` names another that must be the same model."""

    name: str
    equal_to: str | None = None
    isomorphic_to: str | None = None


@dataclass(frozen=True)
class Constraint:
    """sum coefficient * monomial + constant <= 0, or < 0 where strict. Terms are sorted, without zeros."""

    terms: tuple[tuple[Monomial, Fraction], ...]
    constant: Fraction
    strict: bool = False

    @cached_property
    def _hash(self) -> int:
        return hash((self.terms, self.constant, self.strict))

    def __hash__(self) -> int:  # hashing fractions is slow, and a constraint is looked up once per case
        return self._hash

    @staticmethod
    def of(polynomial: Polynomial, strict: bool = False) -> Constraint:
        """The constraint polynomial <= 0."""
        terms = tuple(sorted((m, c) for m, c in polynomial.items() if m and c))
        return Constraint(terms, Fraction(polynomial.get((), 0)), strict)

    @cached_property
    def variables(self) -> frozenset[Variable]:
        """All variables that occur."""
        return frozenset(v for monomial, _ in self.terms for v in monomial)

    @property
    def degree(self) -> int:
        """The total degree; 0 for a constant."""
        return max((len(monomial) for monomial, _ in self.terms), default=0)

    def value(self, lookup: Callable[[Variable], Fraction]) -> Fraction:
        """The exact left side."""
        return self.constant + sum(
            (c * math.prod((lookup(v) for v in m), start=Fraction(1)) for m, c in self.terms), Fraction(0)
        )

    def holds(self, value: Fraction) -> bool:
        """Whether a left side of ``value`` satisfies it."""
        return value < 0 if self.strict else value <= 0


@dataclass(frozen=True)
class Case:
    """One way to be a counterexample: the inputs lie in ``box`` and every constraint holds."""

    box: Box
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True, eq=False)
class Property:
    """Declarations and the disjunction of cases. Cases with the same region share one `Box` object.

    Inputs are flat and concatenated in the order of the input declarations, and so are outputs.
    ``semantics`` is "float32" or "real" (which executions of the networks the property speaks of).
    """

    declarations: tuple[Declaration, ...]
    cases: tuple[Case, ...]
    networks: tuple[NetworkDeclaration, ...]
    version: str = "1.0"
    semantics: str = "real"
    name: str = ""
    sha256: str = field(default="", repr=False)

    @cached_property
    def inputs(self) -> tuple[Declaration, ...]:
        """Input tensors in the order of declaration."""
        return tuple(d for d in self.declarations if d.role is Role.INPUT)

    @cached_property
    def outputs(self) -> tuple[Declaration, ...]:
        """Output tensors in the order of declaration."""
        return tuple(d for d in self.declarations if d.role is Role.OUTPUT)

    @property
    def input_size(self) -> int:
        """Number of input variables, all tensors together."""
        return sum(d.size for d in self.inputs)

    @property
    def output_size(self) -> int:
        """Number of output variables, all tensors together."""
        return sum(d.size for d in self.outputs)

    @cached_property
    def offsets(self) -> Mapping[str, tuple[Role, int]]:
        """For each tensor name its role and the position of its first element in the flat inputs or outputs."""
        result = {}
        for role, tensors in ((Role.INPUT, self.inputs), (Role.OUTPUT, self.outputs)):
            start = 0
            for tensor in tensors:
                result[tensor.name] = (role, start)
                start += tensor.size
        return result

    def violated(self, inputs: Sequence[Exact], outputs: Sequence[Exact]) -> bool:
        """Whether the point is a counterexample: exact, without any tolerance; floats are taken exactly.

        A NaN or infinite value satisfies no constraint. Raises ValueError where the number of values is wrong.
        """
        if len(inputs) != self.input_size or len(outputs) != self.output_size:
            raise ValueError(
                f"{self.name}: expected {self.input_size} inputs and {self.output_size} outputs, "
                f"got {len(inputs)} and {len(outputs)}"
            )
        inside: dict[int, bool] = {}
        known: dict[Variable, Fraction] = {}
        satisfied: dict[Constraint, bool] = {}

        def lookup(variable: Variable) -> Fraction:
            if variable not in known:
                role, start = self.offsets[variable[0]]
                value = exact((inputs if role is Role.INPUT else outputs)[start + variable[1]])
                if value is None:
                    raise _NotFiniteError
                known[variable] = value
            return known[variable]

        def holds(constraint: Constraint) -> bool:
            if constraint not in satisfied:
                try:
                    satisfied[constraint] = constraint.holds(constraint.value(lookup))
                except _NotFiniteError:
                    satisfied[constraint] = False
            return satisfied[constraint]

        for case in self.cases:
            if id(case.box) not in inside:
                inside[id(case.box)] = case.box.contains(inputs)
            if inside[id(case.box)] and all(map(holds, case.constraints)):
                return True
        return False


class _NotFiniteError(Exception):
    """A constraint reads a value that is not a number."""
