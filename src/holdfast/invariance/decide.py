"""One instance of a problem: what its properties claim becomes conditions, these are proved, or the claim is refuted.

Also where a certificate of a closed loop is begun, completed or removed (docs/certificates/loops.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.bounds.bounder import cores
from holdfast.certificate import CertificateWriter
from holdfast.errors import InputError, UnsupportedError
from holdfast.invariance.answer import networks_of, verdict_of
from holdfast.invariance.falsify import search as falsify
from holdfast.invariance.plans import DECIDED, Plan, continuous, is_sampled, plan_of
from holdfast.invariance.prove import Proved, prove, quiet
from holdfast.invariance.refute import refute
from holdfast.invariance.sets import inequalities
from holdfast.invariance.vacuous import is_empty
from holdfast.loop import ClosedLoop
from holdfast.search.budget import Budget, Progress
from holdfast.spec.condition import Condition
from holdfast.spec.temporal import BoxSet, Ellipsoid, Instance, Problem, TemporalProperty
from holdfast.verdict import CertificateStatus, Escape, Reason, Refutation, Result

QUICK = 1.0  # seconds of falsification before anything is proved ...
SHORT = 0.3  # ... of other claims than invariance: most of them are true
LONGER = 10.0  # and after a proof has failed
EMPTY = 2.0  # to find out whether a set without a sampled point has none
__all__ = ["decide"]


@dataclass
class _Run:
    """What happens while one instance is decided."""

    problem: Problem
    instance: Instance
    loop: ClosedLoop  # of a sampled loop: with continuous feedback, only to read sets with
    budget: Budget
    workers: int
    seed: int
    tell: Callable[[str], None]
    proved: list[Proved] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)  # properties that speak of no state, told in any case

    @property
    def falsifiable(self) -> bool:
        """Whether escapes of this loop can be looked for."""
        return not is_sampled(self.instance.loop)


def decide(
    problem: Problem,
    instance: Instance,
    *,
    timeout: float | None = None,
    workers: int | None = None,
    memory_mib: int | None = None,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    certificate: Path | None = None,
) -> Result:
    """Prove or refute what an instance claims of its closed loop.

    ``timeout`` in seconds; ``certificate``: file to write what proves the answer to. Raises `holdfast.errors.InputError` for what
    makes no sense or is not supported yet; `KeyboardInterrupt` ends in an UNKNOWN result.
    """
    budget = Budget(timeout, memory_mib or 4096, progress)
    if not instance.properties:
        raise InputError(f"{_called(problem, instance)}: nothing is claimed (no [[property]])")
    for k, prop in enumerate(instance.properties):
        if prop.kind not in DECIDED:
            raise UnsupportedError(
                f"{_place(problem, instance, k, prop)}: kind {prop.kind} is not supported yet; decided are {', '.join(DECIDED)}"
            )
    run = _Run(problem, instance, continuous(instance.loop), budget, workers or cores(), seed, lambda _: None)
    writer: CertificateWriter | None = None
    status: CertificateStatus | None = None
    try:
        with quiet():
            plans, answer = _plans(run)
            if answer is None:
                if certificate is not None:
                    writer = _writer(certificate, run, {"claim": "verified", "proofs": [plan.proof for plan in plans]})
                answer = _prove(run, plans, writer)
    except KeyboardInterrupt:
        answer = _Answer(Reason.INTERRUPTED)
    except BaseException:
        if writer is not None:
            writer.discard()
        raise
    if certificate is not None:
        status = _certificate(run, answer, writer, certificate)
    return _result(run, answer, status)


@dataclass(frozen=True)
class _Answer:
    reason: Reason
    detail: str = ""
    found: Escape | Refutation | None = None
    bound: float | None = None


def _plans(run: _Run) -> tuple[list[Plan], _Answer | None]:
    """One plan per property, or the answer where it is known already."""
    plans: list[Plan] = []
    for k, prop in enumerate(run.instance.properties):
        where = _place(run.problem, run.instance, k, prop)
        if _vacuous(run, prop, where):
            run.empty.append(f"{where}: the set it speaks of is empty")
            if len(run.empty) == len(run.instance.properties):
                return plans, _Answer(Reason.VACUOUS_REGION, ". ".join(run.empty))
        if run.falsifiable:
            seconds = min(QUICK if prop.kind == "invariant" else SHORT, 0.2 * run.budget.left)
            found = _falsified(run, k, prop, where, seconds, rounds=1)
            if found is not None:
                return plans, found
        begin = run.budget.seconds
        try:
            plan = plan_of(
                run.loop, run.instance, prop, where, lambda c: _holds(run, c), run.tell, run.budget, run.workers
            )
        except InputError as error:
            if run.budget.expired():  # what could not be shown in time is no fault of the file
                return plans, _Answer(Reason.TIME, f"{error} (the time ended before more could be shown)")
            raise
        run.phases["plan"] = run.phases.get("plan", 0.0) + run.budget.seconds - begin
        if isinstance(plan, str):
            found = _falsified(run, k, prop, where, min(LONGER, max(run.budget.left, 0.0))) if run.falsifiable else None
            if found is not None:
                return plans, found
            return plans, _Answer(Reason.TIME if run.budget.expired() else Reason.INCOMPLETE, f"{where}: {plan}")
        run.notes.update(plan.notes)
        plans.append(plan)
    return plans, None


def _holds(run: _Run, condition: Condition) -> bool:
    """Whether a condition without a certificate is proved; a point that violates it ends the attempt."""
    return prove(condition, run.budget, run.workers, stop=lambda region, point: point).holds


def _vacuous(run: _Run, prop: TemporalProperty, where: str) -> bool:
    """Whether the set that a property begins with (of a barrier: the unsafe one) is proved to have no point."""
    if prop.states is None or isinstance(prop.states, BoxSet | Ellipsoid):
        return False
    states = inequalities(prop.states, run.loop, where)

    def holds(condition: Condition) -> bool:
        return prove(condition, Budget(min(EMPTY, 0.1 * run.budget.left)), 1).holds

    return is_empty(run.loop, states, holds)


def _falsified(
    run: _Run, k: int, prop: TemporalProperty, where: str, seconds: float, starts: Sequence[np.ndarray] = (), rounds: int | None = None
) -> _Answer | None:  # fmt: skip
    """The answer, if an escape, or another refutation, is found."""
    assert prop.states is not None
    begin = run.budget.seconds
    found: Escape | Refutation | None
    if prop.kind == "invariant":
        states = inequalities(prop.states, run.loop, where)
        found = falsify(run.loop, states, k, seed=run.seed, seconds=seconds, starts=starts, rounds=rounds)
    else:
        found = refute(run.loop, run.instance, prop, k, where, seed=run.seed, seconds=seconds, starts=starts)
    run.phases["falsify"] = run.phases.get("falsify", 0.0) + run.budget.seconds - begin
    if found is None:
        return None
    return _Answer(Reason.WITNESS, f"{where}: {found.text}{' is violated' if prop.kind == 'invariant' else ''}", found)


def _prove(run: _Run, plans: Sequence[Plan], writer: CertificateWriter | None) -> _Answer:
    first = 0
    begin = run.budget.seconds
    for k, plan in enumerate(plans):
        prop = run.instance.properties[k]
        for condition in plan.conditions:
            done = prove(condition, run.budget, run.workers, writer, first)
            first += len(condition.regions)
            run.proved.append(done)
            run.phases["prove"] = run.budget.seconds - begin
            if not done.holds:
                return _open(run, k, prop, done)
    return _Answer(Reason.PROVED, ". ".join(f"vacuous: {one}" for one in run.empty))


def _open(run: _Run, k: int, prop: TemporalProperty, done: Proved) -> _Answer:
    """A condition was not proved: perhaps the claim is false."""
    where = _place(run.problem, run.instance, k, prop)
    if run.falsifiable:
        own = done.condition.variables[: len(run.loop.states)] == run.loop.states  # faces have coordinates of their own
        starts = [point for _, point in done.points] if own else []
        found = _falsified(run, k, prop, where, min(LONGER, max(run.budget.left, 0.0)), starts)
        if found is not None:
            return found
    detail = f"{where}: not proved: {done.condition.purpose}. {done.outcome.detail}"
    bound = None if np.isinf(done.outcome.bound) else float(done.outcome.bound)
    return _Answer(done.outcome.reason, detail, bound=bound)


def _writer(path: Path, run: _Run, more: Mapping[str, Any]) -> CertificateWriter:
    import holdfast

    header = {
        "format": "holdfast-loop-certificate", "version": 1, "problem": run.problem.sha256, "instance": run.instance.id,
        "networks": networks_of(run.instance),
        "producer": f"holdfast {holdfast.__version__}", "mode": "boxes", **more,
    }  # fmt: skip
    try:
        return CertificateWriter(path, header)
    except OSError as error:
        raise InputError(f"{path}: the certificate cannot be written ({error.strerror})") from None


def _certificate(run: _Run, answer: _Answer, writer: CertificateWriter | None, path: Path) -> CertificateStatus:
    if answer.reason is Reason.PROVED and writer is not None:
        size = writer.finish()
        return CertificateStatus(str(path), writer.leaves, size)
    if writer is not None:
        writer.discard()
    if isinstance(answer.found, Refutation):
        return CertificateStatus(missing="of refutations only those are certified that are trajectories out of a set")
    if answer.found is None:
        return CertificateStatus(missing="the answer is not a proof")
    e = answer.found
    escape: dict[str, Any] = {
        "property": e.property, "side": e.side, "state": [v.hex() for v in e.state],
        "disturbances": [v.hex() for v in e.disturbances], "parameters": [v.hex() for v in e.parameters],
    }  # fmt: skip
    if run.loop.kind == "ode":
        escape |= {"radius": [v.hex() for v in e.radius], "time": e.time.hex()}
    writer = _writer(path, run, {"claim": "falsified", "escape": escape})
    return CertificateStatus(str(path), 0, writer.finish())


def _result(run: _Run, answer: _Answer, status: CertificateStatus | None) -> Result:
    verdict = verdict_of(answer.reason)
    boxes = sum(done.outcome.boxes for done in run.proved)
    statistics = {"sub-problems": boxes, "conditions": len(run.proved), "phases": run.phases, **run.notes}
    statistics["margins"] = [
        {"condition": d.condition.purpose, "proved": d.holds, "sub-problems": d.outcome.boxes, "seconds": d.seconds} for d in run.proved
    ]  # fmt: skip
    provenance = {
        "problem": run.problem.sha256, "instance": run.instance.id, "networks": networks_of(run.instance),
        "arithmetic": "float64, outward rounded", "seed": run.seed, "workers": run.workers,
    }  # fmt: skip
    return Result(
        verdict, answer.reason, answer.detail, answer.found, answer.bound, run.budget.seconds, statistics, "real",
        provenance, status,
    )  # fmt: skip


def _called(problem: Problem, instance: Instance) -> str:
    return f"{problem.path}: instance {instance.id}" if instance.id else problem.path


def _place(problem: Problem, instance: Instance, k: int, prop: TemporalProperty) -> str:
    return f"{_called(problem, instance)}: property {prop.id or k + 1}"
