"""`holdfast invariant`: certify the set of a problem file that a closed loop never leaves, or find one.

The set's size, shape and attractive set are told beside the verdict; a found set is written as a problem file again.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.contract import UNDECIDED, Debug, complain, emit, require_file, verb
from holdfast.cli.problem import Asked, check_targets, decide_file, write_files
from holdfast.cli.verify import Memory, OneInstance, Plot, Seconds, Seed, Workers
from holdfast.errors import InputError
from holdfast.report.json import require_writable

if TYPE_CHECKING:
    from holdfast.spec.temporal import Instance, Problem
    from holdfast.verdict import Result


@verb
def invariant(
    problem: Annotated[Path, typer.Argument(metavar="PROBLEM", help="problem.toml")],
    instance: OneInstance = None,
    find: Annotated[
        bool, typer.Option("--find", help="Find a set, instead of certifying the one in the file.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the problem with the found set (.toml).")
    ] = None,
    timeout: Seconds = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="FILE", help="Write what proves the answer, for holdfast-check."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the whole result as JSON.")
    ] = None,
    plot: Plot = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the verdict.")] = False,
    workers: Workers = None,
    memory: Memory = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> int:
    """Is the set never left? First line: verified, falsified, unknown or timeout; then size and shape of the set.

    With --find: verified if a set was found and proved, else unknown. Exit status as of verify.
    """
    start = time.perf_counter()
    require_file(problem, "problem")
    if problem.suffix != ".toml":
        raise InputError(f"{problem}: accepted is a problem file (problem.toml)")
    if out is not None and not find:
        raise InputError(f"--out {out}: is for found sets, give --find too")
    if find and certificate is not None and out is None:
        raise InputError(
            f"--certificate {certificate}: a certificate speaks of a problem file, so the found set has to be written: "
            "give --out FILE.toml too"
        )
    if out is not None:
        require_writable(out)
        if out.exists() and out.samefile(problem):
            raise InputError(f"--out {out}: is the problem itself; accepted is another file")
    asked = Asked(instance, timeout, workers, memory, seed, certificate, json_file, plot, quiet)
    check_targets(asked)
    return _find(problem, asked, out, start) if find else _certify(problem, asked, start)


def _certify(path: Path, asked: Asked, start: float) -> int:
    loaded, chosen, results = decide_file(path, asked, start)
    from holdfast.report.loop import loop_text, overall

    emit(loop_text(loaded, results, quiet=asked.quiet))
    sizes = _sizes(chosen)
    if not asked.quiet:
        _tell(sizes)
    write_files(loaded, chosen, results, asked, sets=sizes)
    return overall(results.values()).exit_status


def _sizes(chosen: tuple[Instance, ...]) -> list[dict[str, str]]:
    """Family and volume of every set that is claimed, in plain arithmetic."""
    from holdfast.loop import close
    from holdfast.report.size import sizes

    found: list[dict[str, str]] = []
    for one in chosen:
        try:
            found += sizes(one, close(one.loop))
        except InputError:  # told already: it was not decided either
            continue
    return found


def _tell(sizes: list[dict[str, str]]) -> None:
    for size in sizes:
        name = f"{size['instance']}: " if size["instance"] else ""
        emit(f"; {name}{size['set']}: {size['family']}, volume {size['volume']}")


def _find(path: Path, asked: Asked, out: Path | None, start: float) -> int:
    from holdfast.api import load_problem
    from holdfast.cli.progress import terminal_progress

    loaded = load_problem(path)
    one = _one(loaded, asked.instance)
    left = None if asked.timeout is None else max(0.0, asked.timeout - (time.perf_counter() - start))
    from holdfast.invariance.find import find_invariant

    with terminal_progress() as progress:
        found = find_invariant(one, timeout=left, seed=asked.seed, progress=progress)
    from holdfast.report.found import found_problem, found_text

    if found.property is None:
        emit(found_text(found, one))
        return UNDECIDED
    emit(found_text(found, one, quiet=asked.quiet))
    written = found_problem(found, one, path, out)
    results: dict[str, Result] = {}
    if asked.certificate is not None and out is not None:
        again = Asked(None, None, asked.workers, asked.memory_mib, asked.seed, asked.certificate)
        _, _, results = decide_file(out, again, time.perf_counter())
        status = results[next(iter(results))].certificate
        complain(
            "no certificate: the written set was not proved again"
            if status is None or status.missing
            else f"certificate: {status.file}"
        )
    if asked.plot is not None or asked.json_file is not None:
        shown = found.as_instance(one)
        result = results.get("") or found.result
        write_files(loaded, (shown,), {shown.id: result}, asked, problem_with_set=written)
    return 0


def _one(problem: Problem, instance: str | None) -> Instance:
    """The instance a set is to be found for: the one of that id, or the only one."""
    ids = [one.id for one in problem.instances]
    if instance is None and len(ids) > 1:
        raise InputError(f"{problem.path}: has the instances {', '.join(ids)}; choose one with --instance ID")
    if instance is not None and instance not in ids:
        raise InputError(
            f"{problem.path}: has no instance '{instance}'; its instances: {', '.join(i for i in ids if i) or 'none'}"
        )
    return problem.instances[0 if instance is None else ids.index(instance)]
