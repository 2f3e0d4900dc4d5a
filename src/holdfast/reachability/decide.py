"""One instance of a problem: claims about trajectories over a horizon are proved on flow tubes, or refuted by an enclosed trajectory.

The other kinds of claims (sets never left, convergence, barriers) go to `holdfast.invariance.decide`; an instance may have both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from holdfast.bounds.bounder import cores
from holdfast.invariance.answer import networks_of, verdict_of
from holdfast.invariance.prove import quiet
from holdfast.loop.tube import System
from holdfast.reachability.certify import certify_proof, certify_violation, obstacle
from holdfast.reachability.claim import Claim, claim_of
from holdfast.reachability.falsify import falsify
from holdfast.reachability.reach import check_horizon
from holdfast.reachability.simulate import horizon_of
from holdfast.reachability.split import Cell, Outcome, prove
from holdfast.reachability.start import initial_boxes
from holdfast.reachability.vacuity import Finding, check_vacuity
from holdfast.search.budget import Budget, Progress
from holdfast.spec.temporal import Instance, Problem
from holdfast.verdict import CertificateStatus, Reason, Refutation, Result, Verdict, Violation

QUICK = 2.0  # seconds of falsification once the whole box could not be proved
SHARE = 0.2  # of the time since then: for falsification again, from new points
__all__ = ["decide"]


@dataclass
class _Run:
    """What happens while the claims about trajectories of one instance are decided."""

    problem: Problem
    instance: Instance
    claim: Claim
    budget: Budget
    workers: int
    seed: int
    phases: dict[str, float] = field(default_factory=dict)
    searched: int = 0  # rounds of falsification so far
    nearest: str = ""
    violation: Violation | None = None

    def falsified(self, seconds: float) -> bool:
        """Whether a violation is found in about so many seconds."""
        begin = self.budget.seconds
        seconds = min(seconds, self.budget.left)
        found = falsify(
            self.instance, self.claim, seed=self.seed + self.searched, seconds=seconds, rounds=1 + self.searched, expired=self.budget.expired
        )  # fmt: skip
        self.searched += 1
        self.nearest = found.text
        self.violation = found.violation
        self.phases["falsify"] = self.phases.get("falsify", 0.0) + self.budget.seconds - begin
        return found.violation is not None


@dataclass(frozen=True)
class _Answer:
    reason: Reason
    detail: str = ""
    evidence: Violation | Refutation | None = None
    outcome: Outcome | None = None


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
    """Prove or refute all that an instance claims.

    ``timeout`` in seconds; ``certificate``: file to write what proves the answer to. Raises `holdfast.errors.InputError` for what makes no
    sense or is not supported yet; `KeyboardInterrupt` ends in an UNKNOWN result.
    """
    claim = claim_of(instance)
    options: dict[str, Any] = {"workers": workers, "memory_mib": memory_mib, "seed": seed, "progress": progress}
    if not claim.predicates:
        from holdfast.invariance.decide import decide as decide_others

        return decide_others(problem, instance, timeout=timeout, certificate=certificate, **options)
    budget = Budget(timeout, memory_mib or 4096, progress)
    run = _Run(problem, instance, claim, budget, workers or cores(), seed)
    try:
        with quiet():
            answer = _answer(run)
    except KeyboardInterrupt:
        answer = _Answer(Reason.INTERRUPTED)
    result = _result(run, answer, certificate)
    if not claim.others or result.verdict is Verdict.FALSIFIED:
        return result
    from holdfast.invariance.decide import decide as decide_others

    rest = replace(instance, properties=claim.others)
    other = decide_others(problem, rest, timeout=None if timeout is None else max(budget.left, 0.01), **options)
    if result.verdict is Verdict.VERIFIED or other.verdict is Verdict.FALSIFIED:
        return other
    return replace(result, detail=f"{result.detail}. {other.detail}")


def _answer(run: _Run) -> _Answer:
    instance, claim, where = run.instance, run.claim, _called(run.problem, run.instance)
    (initial,) = initial_boxes(instance, where=where)
    if instance.steps is not None or instance.time is not None:
        check_horizon(instance.loop, horizon_of(instance), where)  # a claim may end anywhere within it
    findings = check_vacuity(claim, instance)
    at_start = next((f for f in findings if f.kind == "start"), None)
    if at_start is not None:
        return _start(run, at_start)
    # said, never a proof: a property is more than one predicate, and trajectories leave what was looked at
    empty = ". ".join(f"vacuous: {f.text}" for f in findings)
    says_nothing = len([f for f in findings if f.kind == "empty"]) == len(claim.predicates)
    begin = run.budget.seconds
    since: list[float] = []  # when the whole box could not be proved

    def pause() -> bool:
        """Asked now and then while a proof is looked for: is there a violation?"""
        now = run.budget.seconds
        if not since:
            since.append(now)
            return run.falsified(QUICK)
        return now - since[0] - run.phases["falsify"] > run.phases["falsify"] / SHARE and run.falsified(
            run.phases["falsify"]
        )

    def make(degree: int | None) -> System:
        return System(instance.loop, initial, degree)

    def tell(outcome: Outcome) -> None:
        run.budget.tell("tubes", len(outcome.open), outcome.followed, float(outcome.proved) - 1.0)

    cell = Cell(initial, instance.loop.plant.parameters)
    outcome = prove(make, claim, cell, claim.end, run.budget, run.workers, pause, tell)
    run.phases["prove"] = run.budget.seconds - begin - run.phases.get("falsify", 0.0)
    if run.violation is not None:
        return _violated(run, run.violation, outcome)
    if outcome.holds:
        return _Answer(Reason.VACUOUS_OUTPUT if says_nothing else Reason.PROVED, empty, outcome=outcome)
    if outcome.refuted is not None:
        return _refuted(run, outcome, outcome.refuted)
    parts = []
    if outcome.worst is not None:
        parts.append(f"the part that failed last: {outcome.worst.text}")
    if run.nearest:
        parts.append(run.nearest)
    text = f"{where}: {'; '.join(parts)}"
    reason = Reason.TIME if outcome.late or run.budget.expired() else Reason.INCOMPLETE
    return _Answer(reason, text, outcome=outcome)


def _start(run: _Run, finding: Finding) -> _Answer:
    """Violated before anything moves."""
    where = _called(run.problem, run.instance)
    small = _at(run.instance, run.instance.initial, None)
    found = falsify(small, run.claim, seed=run.seed, seconds=min(QUICK, run.budget.left), rounds=1)
    return _Answer(Reason.WITNESS, f"{where}: {finding.text}", found.violation)


def _violated(run: _Run, violation: Violation, outcome: Outcome) -> _Answer:
    where = _called(run.problem, run.instance)
    return _Answer(Reason.WITNESS, f"{where}: property {violation.property} is violated", violation, outcome)


def _refuted(run: _Run, outcome: Outcome, cell: Cell) -> _Answer:
    """All trajectories from a cell violate the claim: one of them is shown, if it can be."""
    small = _at(run.instance, cell.states, cell.parameters)
    found = falsify(small, run.claim, seed=run.seed, seconds=QUICK, rounds=1)
    if found.violation is not None:
        return _violated(run, found.violation, outcome)
    box = cell.states
    text = "every trajectory from this box of initial states violates the claim"
    w, p = run.instance.loop.plant.disturbances, cell.parameters
    evidence = Refutation(
        0, text, tuple(box.lower.tolist()), tuple(box.upper.tolist()), tuple((0.5 * w.lower + 0.5 * w.upper).tolist()),
        tuple(p.lower.tolist()),
    )  # fmt: skip
    return _Answer(Reason.WITNESS, f"{_called(run.problem, run.instance)}: {text}", evidence, outcome)


def _at(instance: Instance, states: Any, parameters: Any) -> Instance:
    """The same claim for other initial states and unknown constants."""
    loop = instance.loop
    if parameters is not None:
        loop = replace(loop, plant=replace(loop.plant, parameters=parameters))
    return replace(instance, initial=states, loop=loop)


def _result(run: _Run, answer: _Answer, certificate: Path | None) -> Result:
    statistics: dict[str, Any] = {"phases": run.phases}
    if answer.outcome is not None:
        o = answer.outcome
        statistics |= {"sub-problems": o.followed, "proved share": float(o.proved), "degree": o.degree}
    provenance = {
        "problem": run.problem.sha256, "instance": run.instance.id, "networks": networks_of(run.instance),
        "arithmetic": "float64, outward rounded", "seed": run.seed, "workers": run.workers,
    }  # fmt: skip
    verdict = verdict_of(answer.reason)
    status = None if certificate is None else _certified(run, answer, verdict, certificate)
    return Result(
        verdict, answer.reason, answer.detail, answer.evidence, None, run.budget.seconds, statistics, "real", provenance, status
    )  # fmt: skip


def _certified(run: _Run, answer: _Answer, verdict: Verdict, path: Path) -> CertificateStatus:
    """What became of the certificate that was asked for."""
    if verdict not in (Verdict.VERIFIED, Verdict.FALSIFIED):
        return CertificateStatus(missing="the answer is not a proof")
    missing = obstacle(run.instance, run.claim)
    if missing:
        return CertificateStatus(missing=missing)
    header = {
        "problem": run.problem.sha256, "instance": run.instance.id, "networks": networks_of(run.instance),
    }  # fmt: skip
    if isinstance(answer.evidence, Violation):
        return certify_violation(path, header, answer.evidence, run.instance, run.claim)
    if verdict is Verdict.FALSIFIED or answer.outcome is None:
        return CertificateStatus(missing="only violations that are trajectories are certified")
    return certify_proof(path, header, answer.outcome.leaves)


def _called(problem: Problem, instance: Instance) -> str:
    return f"{problem.path}: instance {instance.id}" if instance.id else problem.path
