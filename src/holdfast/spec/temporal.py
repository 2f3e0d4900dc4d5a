"""What is claimed of a closed loop: sets of states, and properties of trajectories, as plain data with exact numbers.

The format of problem files (docs/problem_format.md) in the program's own terms. A set is a conjunction of inequalities
or one of four named shapes; a property says when states must lie in which set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from holdfast.graph import Model
from holdfast.spec.formula import Predicates
from holdfast.spec.plant import LoopData
from holdfast.spec.region import Box

Kind = Literal["always", "at", "eventually", "until", "invariant", "attracts", "barrier", "stl"]
Expected = Literal["verified", "falsified", "open", "none"]


@dataclass(frozen=True, eq=False)
class Conditions:
    """{x : values(signals) <= 0, componentwise}; ``strict``: < 0. ``texts``: the conditions as written.

    ``predicates``: the same set without roots, absolute values and maxima, where some could be taken apart.
    """

    values: Model
    strict: tuple[bool, ...]
    texts: tuple[str, ...]
    predicates: Predicates | None = None


@dataclass(frozen=True)
class BoxSet:
    """{x : lower_i <= x_i <= upper_i for the states i that have ends}; index of state -> (lower, upper)."""

    ends: Mapping[int, tuple[Fraction, Fraction]]


@dataclass(frozen=True)
class Polytope:
    """{x : lower <= H (x - center) <= upper}, H (m, n) as rows of exact numbers; None: open on that side."""

    H: tuple[tuple[Fraction, ...], ...]
    lower: tuple[Fraction | None, ...]
    upper: tuple[Fraction | None, ...]
    center: tuple[Fraction, ...]


@dataclass(frozen=True)
class Ellipsoid:
    """{x : (x - center)' P (x - center) <= level}, P symmetric."""

    center: tuple[Fraction, ...]
    P: tuple[tuple[Fraction, ...], ...]
    level: Fraction


@dataclass(frozen=True)
class Level:
    """{x in the domain : at_least <= function(x) <= at_most}."""

    function: str
    at_most: Fraction | None = None
    at_least: Fraction | None = None


SetOfStates = Conditions | BoxSet | Polytope | Ellipsoid | Level


@dataclass(frozen=True, eq=False)
class TemporalProperty:
    """One ``[[property]]``. Which fields are set depends on the kind (docs/problem_format.md).

    ``during``: (first, last), seconds or steps, None: the whole horizon. ``at``: the instant of kind "at".
    ``negated``: the set must never hold ("not_set"). ``target``: the second set of "until" and "attracts"
    ("equilibrium": the equilibrium itself). ``formula``: text of kind "stl", and ``predicates`` what it means.
    """

    id: str
    kind: Kind
    states: SetOfStates | None = None  # set, not_set, first, from, unsafe
    negated: bool = False
    target: SetOfStates | Literal["equilibrium"] | None = None
    during: tuple[Fraction, Fraction] | None = None
    at: Fraction | None = None
    function: str | None = None
    formula: str | None = None
    predicates: Predicates | None = None


@dataclass(frozen=True, eq=False)
class Instance:
    """One instance of a problem: everything merged. ``horizon``: seconds (or steps, for maps and sampled loops given in steps).

    ``initial``: a box over all states, or None. ``document``: the merged tables of the file as plain data, from which
    a file can be written again.
    """

    id: str
    loop: LoopData
    properties: tuple[TemporalProperty, ...] = ()
    initial: Box | None = None
    steps: int | None = None
    time: Fraction | None = None
    expected: Expected | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class Problem:
    """A problem file: title, its instances (one, called "", where the file names none), where it lies, its hash."""

    title: str
    instances: tuple[Instance, ...]
    path: str = ""
    sha256: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict, repr=False)
