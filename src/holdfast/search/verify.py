"""The whole question: a property and its networks in, a `Result` out.

Attack first, then one look with bounds, then branch and bound; which kind depends on how many inputs vary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from holdfast.bounds.bounder import cores
from holdfast.bounds.enclosure import OutOfTime, Problem
from holdfast.bounds.execution import check_executable
from holdfast.certificate import CertificateError
from holdfast.errors import InputError
from holdfast.graph import Model
from holdfast.rigor import FLOAT32, FLOAT64, PLAIN32
from holdfast.search.attack import attack
from holdfast.search.budget import Budget, Progress
from holdfast.search.certify import Recording
from holdfast.search.input_split import InputSplit, Outcome, input_split
from holdfast.search.neuron_split import neuron_split
from holdfast.search.replay import Replay
from holdfast.spec.property import Property
from holdfast.spec.query import Query, bind
from holdfast.transforms.simplify import simplify
from holdfast.verdict import Counterexample, Reason, Result, Verdict

SEMANTICS = ("real", "float32")
ATTACK_SECONDS = 1.0
BETTER_SECONDS = 10.0  # to find out what is true over the reals where onnxruntime violates the property already

__all__ = ["Progress", "verify"]


def verify(
    networks: Model | Mapping[str, Model],
    prop: Property,
    *,
    timeout: float | None = None,
    semantics: str | None = None,
    workers: int | None = None,
    memory_mib: int | None = None,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    certificate: Path | None = None,
) -> Result:
    """Prove or refute a property of one network (or of several, by name).

    ``timeout`` in seconds; ``memory_mib`` bounds the open sub-problems; ``workers`` processes (default: all cores).
    ``certificate``: file to write what proves the answer to (an existing one is replaced when there is a proof).
    Raises `holdfast.errors.InputError` for what makes no sense; `KeyboardInterrupt` ends in an UNKNOWN result.
    """
    budget = Budget(timeout, memory_mib or 4096, progress)
    workers = workers or cores()
    given = bind(prop, networks)
    chosen = semantics or given.semantics
    if chosen not in SEMANTICS:
        raise InputError(f"semantics {chosen!r}: accepted are {', '.join(SEMANTICS)}")
    executed = chosen == "float32"
    for model in given.models.values() if executed else ():
        check_executable(model)
    # merging layers changes where an execution rounds, but not the function over the reals
    options = {"multiply": certificate is None, "executed": executed}
    once = {id(model): simplify(model, **options).model for model in given.models.values()}
    plain = {name: once[id(model)] for name, model in given.models.items()}
    query = bind(prop, plain) if len(plain) > 1 else bind(prop, next(iter(plain.values())))
    execution = FLOAT32 if chosen == "float32" else None
    problem = Problem.make(query.graph, query.parameters, query.radii, FLOAT64, execution)
    problem = replace(problem, expired=budget.expired)
    replay = Replay(query, problem)
    recording = Recording(certificate, given, chosen) if certificate is not None else None
    # an overflow or an invalid operation costs a bound (NaN proves nothing), it is no event
    # many small products on worker processes: threads inside them would only compete
    with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
        try:
            outcome, phases = _search(query, problem, replay, budget, workers, seed, recording)
        except KeyboardInterrupt:
            outcome, phases = Outcome(Reason.INTERRUPTED, None, -np.inf, 0), {}
        except BaseException:
            if recording is not None:
                recording.given_up()
            raise
    if replay.executed is not None:
        outcome = _with_execution(outcome, replay.executed)
    result = _result(given, outcome, phases, chosen, budget, seed, workers)
    if recording is None:
        return result
    if result.verdict is Verdict.VERIFIED:
        status = recording.proved()
    elif isinstance(result.counterexample, Counterexample):
        status = recording.found(result.counterexample, replay.certain)
    else:
        status = recording.given_up()
    return replace(result, certificate=status, seconds=budget.seconds)


def _search(
    query: Query, problem: Problem, replay: Replay, budget: Budget, workers: int, seed: int, recording: Recording | None
) -> tuple[Outcome, dict[str, float]]:
    rng = np.random.default_rng(seed)
    phases: dict[str, float] = {}
    if not query.regions:
        return Outcome(Reason.VACUOUS_REGION, None, np.inf, 0), phases
    for index, region in enumerate(query.regions):
        if () in region.cases:
            found = replay.confirm(index, 0.5 * region.box.lower + 0.5 * region.box.upper)
            if found is not None:
                return Outcome(Reason.WITNESS, found, -np.inf, 0), phases
            # nothing can refute such a case: without a replay (outputs that are not numbers ...) nothing is known
            return Outcome(
                Reason.INCOMPLETE, None, -np.inf, 0, "a case without conditions could not be replayed"
            ), phases
    found = _attack(query, replay, rng, budget)
    phases["attack"] = budget.seconds
    if found is not None:
        return Outcome(Reason.WITNESS, found, -np.inf, 0), phases
    if replay.executed is not None:  # an answer is at hand: a better one may take some time, not all
        budget.shorten(BETTER_SECONDS)
    try:
        split = input_split if InputSplit(query, problem).few_matter() else neuron_split
        try:
            outcome = split(query, problem, replay, budget, workers, recording.begin if recording else None)
        except CertificateError as reason:  # raised before anything is searched
            assert recording is not None
            recording.refused(reason)
            outcome = split(query, problem, replay, budget, workers)
    except OutOfTime:
        outcome = Outcome(Reason.TIME, None, -np.inf, 0, "the time ended while the whole region was being bounded")
    phases["search"] = budget.seconds - phases["attack"]
    return outcome, phases


def _with_execution(outcome: Outcome, executed: Counterexample) -> Outcome:
    """Under real semantics: a violation in onnxruntime is the answer, unless the real numbers are known to obey."""
    if outcome.counterexample is not None:
        return outcome
    if outcome.reason is Reason.PROVED:
        note = "over the reals; onnxruntime's float32 execution does violate the property, see semantics float32"
        return outcome._replace(detail=note)
    return Outcome(Reason.WITNESS, executed, outcome.bound, outcome.boxes)


def _attack(query: Query, replay: Replay, rng: np.random.Generator, budget: Budget) -> Counterexample | None:
    """A first, short attack in float32: what is easily broken should not be bounded at all."""
    problem = Problem.make(query.graph, query.parameters, {}, PLAIN32)
    limit = budget.seconds + min(ATTACK_SECONDS, 0.1 * budget.left)
    weights = sum(p.size for p in problem.parameters.values())
    return attack(
        query, problem, replay.confirm, rng,
        restarts=int(np.clip(4e8 / max(weights, 1), 8, 200)), steps=20, expired=lambda: budget.seconds > limit,
    )  # fmt: skip


def _result(
    query: Query, outcome: Outcome, phases: dict[str, float], semantics: str, budget: Budget, seed: int, workers: int
) -> Result:
    verdict = {
        Reason.PROVED: Verdict.VERIFIED,
        Reason.VACUOUS_REGION: Verdict.VERIFIED,
        Reason.VACUOUS_OUTPUT: Verdict.VERIFIED,
        Reason.WITNESS: Verdict.FALSIFIED,
        Reason.TIME: Verdict.TIMEOUT,
    }.get(outcome.reason, Verdict.UNKNOWN)
    provenance: dict[str, Any] = {
        "networks": {name: model.sha256 for name, model in query.models.items()},
        "property": getattr(query.property, "name", ""),
        "arithmetic": "float64, outward rounded",
        "seed": seed,
        "workers": workers,
        "versions": _versions(),
    }
    return Result(
        verdict,
        outcome.reason,
        outcome.detail,
        outcome.counterexample,
        None if np.isinf(outcome.bound) or verdict is Verdict.FALSIFIED else float(outcome.bound),
        budget.seconds,
        {"sub-problems": outcome.boxes, "phases": phases},
        semantics,
        provenance,
    )


def _versions() -> dict[str, str]:
    import holdfast

    return {"holdfast": holdfast.__version__, "numpy": np.__version__}
