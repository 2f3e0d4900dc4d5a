"""`holdfast invariant`: certify the set of a problem file that a closed loop never leaves, or find one.

The set's size, shape and attractive set are told beside the verdict; a found set is written as a problem file again.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from holdfast.cli.contract import UNDECIDED, Debug, emit, require_file, verb
from holdfast.cli.problem import Asked, check_targets, decide_file, decide_given, write_files
from holdfast.cli.verify import Memory, OneInstance, Plot, Seconds, Seed, Workers
from holdfast.errors import InputError
from holdfast.report.json import require_writable

if TYPE_CHECKING:
    from holdfast.spec.temporal import Instance
    from holdfast.verdict import Result

Kind = Literal["auto", "box", "parallelotope", "ellipsoid"]
FIND = 60.0  # seconds for a set to be found where nothing is said
LEAST = 30.0  # seconds for the proof that is told
NESTED = 5.0  # seconds for the family around a certified set
SHARE = 0.8  # of the time; the rest is for the proof that is told


@verb
def invariant(
    problem: Annotated[Path, typer.Argument(metavar="PROBLEM", help="problem.toml")],
    instance: OneInstance = None,
    find: Annotated[
        bool, typer.Option("--find", help="Find a set, instead of certifying the one in the file.")
    ] = False,
    kind: Annotated[Kind, typer.Option("--kind", help="Form of the set to find.")] = "auto",
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
    return _find(problem, asked, kind, out, start) if find else _certify(problem, asked, start)


def _certify(path: Path, asked: Asked, start: float) -> int:
    loaded, chosen, results = decide_file(path, asked, start)
    from holdfast.report.loop import loop_text, overall

    emit(loop_text(loaded, results, quiet=asked.quiet))
    sizes = _sizes(chosen)
    if not asked.quiet:
        _tell(sizes)
    results = with_families(chosen, results, asked)
    write_files(loaded, chosen, results, asked, sets=sizes)
    return overall(results.values()).exit_status


def _sizes(chosen: tuple[Instance, ...]) -> list[dict[str, str]]:
    """Family and volume of every set that is claimed, in plain arithmetic."""
    from holdfast.invariance.plans import continuous
    from holdfast.report.size import sizes

    found: list[dict[str, str]] = []
    for one in chosen:
        try:
            found += sizes(one, continuous(one.loop))
        except InputError:  # told already: it was not decided either
            continue
    return found


def _tell(sizes: list[dict[str, str]]) -> None:
    for size in sizes:
        name = f"{size['instance']}: " if size["instance"] else ""
        emit(f"; {name}{size['set']}: {size['family']}, volume {size['volume']}")


def with_families(chosen: tuple[Instance, ...], results: dict[str, Result], asked: Asked) -> dict[str, Result]:
    """The results, with the nested sets around what was certified in their statistics; they are told, too."""
    if asked.quiet and asked.plot is None and asked.json_file is None:
        return results
    from holdfast.report.nested import nested, nested_lines

    found = dict(results)
    for one in chosen:
        result = results[one.id]
        family = nested(one, NESTED) if result.verdict.value == "verified" else None
        if family is not None:
            found[one.id] = replace(result, statistics={**result.statistics, "family": family})
            if not asked.quiet:
                name = f"{one.id}: " if one.id else ""
                emit("\n".join(f"; {name}{line}" for line in nested_lines(family)))
    return found


def _find(path: Path, asked: Asked, kind: Kind, out: Path | None, start: float) -> int:
    """A set is found; what is told is the verdict on it, proved once more like a set given in a file."""
    from holdfast.api import find_invariant, load_problem, one_instance
    from holdfast.cli.progress import terminal_lines
    from holdfast.load.problem_writing import write_problem
    from holdfast.report.found import found_json, found_lines

    loaded = load_problem(path)
    one = one_instance(loaded, asked.instance)
    limit = FIND if asked.timeout is None else asked.timeout
    left = max(0.0, limit - (time.perf_counter() - start))
    with terminal_lines() as tell:
        found = find_invariant(
            one, timeout=SHARE * left, seed=asked.seed, kind=kind, workers=asked.workers or 1, progress=tell
        )
    if not found:
        emit("unknown" if asked.quiet else "unknown\n; no set was found that could be proved in the time")
        return UNDECIDED
    best = found[0]
    again_in = max(LEAST, limit - (time.perf_counter() - start))  # it was proved in less
    start = time.perf_counter()
    if out is not None:
        write_problem(best.instance, out, path)
        again, chosen, results = decide_file(out, replace(asked, instance=None, timeout=again_in), start)
    else:
        again, chosen = loaded, (best.instance,)
        results = decide_given(again, best.instance, replace(asked, certificate=None, timeout=again_in))
    from holdfast.report.loop import loop_text, overall

    emit(loop_text(again, results, quiet=asked.quiet))
    if not asked.quiet:
        for line in found_lines(found, one.loop.plant.signals.states):
            emit(f"; {line}")
        if out is not None:
            emit(f"; written to {out}")
    results = with_families(chosen, results, asked)
    write_files(again, chosen, results, asked, found=found_json(found))
    return overall(results.values()).exit_status
