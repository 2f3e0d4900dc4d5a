"""Conditions are proved here, one after the other, by the branch and bound of `holdfast.search` over boxes.

Nothing is special about closed loops from here on: each condition is a query whose counterexamples must be excluded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from holdfast.bounds.enclosure import Problem
from holdfast.certificate import CertificateWriter
from holdfast.errors import InternalError
from holdfast.rigor import FLOAT64
from holdfast.search.budget import Budget
from holdfast.search.input_split import Outcome, input_split
from holdfast.spec.condition import Condition
from holdfast.verdict import Reason


@dataclass
class Witnesses:
    """Receives points at which a condition seems to be violated; ``seen`` keeps some, ``judge`` may confirm one."""

    judge: Callable[[int, np.ndarray], Any] | None = None
    thin: int = 0
    executed: None = None
    certain: bool = False
    seen: list[tuple[int, np.ndarray]] = field(default_factory=list)
    limit: int = 64

    def confirm(self, region: int, x: np.ndarray) -> Any:
        """Remember the point, and ask the judge."""
        if len(self.seen) < self.limit:
            self.seen.append((region, np.array(x, np.float64)))
        return None if self.judge is None else self.judge(region, x)


@dataclass(frozen=True)
class Proved:
    """How one condition went."""

    condition: Condition
    outcome: Outcome
    seconds: float
    points: tuple[tuple[int, np.ndarray], ...] = ()  # region and point: candidates for a violation

    @property
    def holds(self) -> bool:
        """Whether it is proved."""
        return self.outcome.reason is Reason.PROVED


class Numbered:
    """A certificate's writer for the regions of one condition, which are numbered behind those of all earlier ones."""

    def __init__(self, writer: CertificateWriter, first: int):
        self._writer, self._first = writer, first

    def root(self, region: int, case: int | None = None, passes: int = 0) -> int:
        """A root of a region of this condition."""
        return self._writer.root(self._first + int(region), case, passes)

    def record(self, *fields: Any, **named: Any) -> np.ndarray:
        """As of the certificate."""
        return self._writer.record(*fields, **named)


@contextmanager
def quiet() -> Iterator[None]:
    """Overflows cost a bound (NaN proves nothing); small products are not worth threads."""
    with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
        yield


def prove(
    condition: Condition, budget: Budget, workers: int, writer: CertificateWriter | None = None, first: int = 0,
    stop: Callable[[int, np.ndarray], Any] | None = None,
) -> Proved:  # fmt: skip
    """Prove one condition. ``first``: number of its first region in the certificate.

    ``stop``: told of points that seem to violate the condition; a result other than None ends the search (WITNESS).
    """
    begin = budget.seconds
    if any(() in place.cases for place in condition.regions):  # the search would take it for nothing to do
        raise InternalError(f"{condition.purpose}: a case without rows can never be refuted")
    if not condition.regions:
        return Proved(condition, Outcome(Reason.PROVED, None, np.inf, 0), 0.0)
    query = condition.query()
    problem = replace(Problem.make(query.graph, query.parameters, query.radii, FLOAT64), expired=budget.expired)
    witnesses = Witnesses(stop)
    begun: Callable[[Mapping[str, Any]], Any] | None = None
    if writer is not None:
        numbered = Numbered(writer, first)
        begun = lambda _: numbered  # noqa: E731
    with quiet():
        outcome = input_split(query, problem, witnesses, budget, workers, begun, cheap=condition.rough)  # type: ignore[arg-type]
    return Proved(condition, outcome, budget.seconds - begin, tuple(witnesses.seen))
