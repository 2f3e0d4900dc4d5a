"""`holdfast bench`: all instances of a benchmark folder, one CSV row each, a summary, and a check against what is known."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.contract import BAD_INPUT, INTERNAL, UNDECIDED, Debug, complain, emit, positive, verb
from holdfast.cli.verify import Memory, Semantics, Workers
from holdfast.errors import InputError

if TYPE_CHECKING:
    from holdfast.cli.execution import Executor, Options
    from holdfast.cli.instances import Instance
    from holdfast.report.bench import Row


@verb
def bench(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with instances.csv, a problem.toml, or */problem.toml.")
    ],
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="S",
            callback=positive,
            help="Cut longer time limits (problem files: 60) to this many seconds.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=1, help="Instances that run at the same time.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="CSV", help="Write one row as each instance ends.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip the instances that --out already has.")] = False,
    each_process: Annotated[
        bool, typer.Option("--each-process", help="Run each instance as a process of its own, killed when late.")
    ] = False,
    containing: Annotated[
        str, typer.Option("--filter", metavar="TEXT", help="Only instances whose file names contain the text.")
    ] = "",
    certificates: Annotated[
        Path | None, typer.Option("--certificates", metavar="DIR", help="Write a certificate per solved instance.")
    ] = None,
    semantics: Semantics = None,
    workers: Workers = None,
    memory: Memory = None,
    debug: Debug = False,
) -> int:
    """Verify every instance of a benchmark folder and compare with its expected.csv (problem files: their `expected`).

    Exit status: 1 if a verdict contradicts the expected one, 2 or 4 if an instance ended in an error, 0 otherwise.
    """
    if resume and out is None:
        raise typer.BadParameter("--resume needs --out CSV, the file to go on with")
    # here and not above: what measures and runs processes is not needed to start the other verbs
    from holdfast.cli.execution import Options
    from holdfast.cli.in_process import InProcess
    from holdfast.cli.instances import read_expected, read_instances
    from holdfast.cli.journal import Journal
    from holdfast.cli.own_process import OwnProcess
    from holdfast.cli.problem_folder import problem_files, read_problems
    from holdfast.cli.schedule import run_all
    from holdfast.cli.worker_process import WorkerProcess
    from holdfast.report.bench import PROBLEMS, QUERIES, contradictions, problem_summary, summary

    files = [] if (folder / "instances.csv").is_file() else problem_files(folder)
    instances: Sequence[Instance]
    if files:
        instances, expected, silent = read_problems(files, timeout, containing)
        if semantics == "float32":
            raise InputError(
                "--semantics float32 is for networks alone; claims about closed loops are over the real numbers"
            )
        if silent:
            complain(f"{silent} instances claim nothing and are left out")
    else:
        instances, expected = read_instances(folder, timeout, containing), read_expected(folder)
    if workers is None and jobs > 1:
        workers = max(1, (os.cpu_count() or 1) // jobs)
    if certificates is not None:
        try:
            certificates.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--certificates {certificates}: the folder cannot be made ({error.strerror})") from None
    options = Options(semantics, workers, memory, certificates)
    chosen: Callable[[Options], Executor] = OwnProcess if each_process else WorkerProcess if jobs > 1 else InProcess

    journal = Journal(out, resume=resume, names=PROBLEMS if files else QUERIES) if out is not None else None
    with journal or nullcontext(), termination_as_interrupt():
        rows = list(journal.rows) if journal else []
        todo = remaining(instances, rows)
        wanted = {instance.key for instance in instances}
        rows = [row for row in rows if row.key in wanted]
        if len(todo) < len(instances):
            complain(f"{len(instances) - len(todo)} of {len(instances)} instances are already in {out}")
        interrupted = False
        try:
            with closing(run_all(todo, lambda: chosen(options), jobs)) as finished:
                for number, row in enumerate(finished, start=1):
                    if row is None:
                        interrupted = True
                        break
                    if journal:
                        journal.append(row)
                    rows.append(row)
                    complain(f"[{number}/{len(todo)}] {row.verdict:9}{row.seconds:9.3f} s  {'  '.join(row.key)}")
        except KeyboardInterrupt:
            interrupted = True
    emit((problem_summary if files else summary)(rows, expected))
    if interrupted:
        complain(f"interrupted: {len(instances) - len(rows)} of {len(instances)} instances were not run")
    return exit_status(rows, bool(contradictions(rows, expected)), interrupted)


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """While inside, SIGTERM is treated like Ctrl-C: what still runs is ended, what is done is kept."""
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def exit_status(rows: Sequence[Row], contradicted: bool, interrupted: bool) -> int:
    """The worst thing that happened, as an exit status of the contract."""
    if contradicted:
        return 1
    errors = [row.reason for row in rows if row.verdict == "error"]
    if any(reason.startswith("internal error") for reason in errors):
        return INTERNAL
    return BAD_INPUT if errors else UNDECIDED if interrupted else 0


def remaining(instances: Sequence[Instance], rows: Sequence[Row]) -> list[Instance]:
    """The instances without a row; an instance that is listed twice needs two rows."""
    present = Counter(row.key for row in rows)
    todo = []
    for instance in instances:
        if present[instance.key]:
            present[instance.key] -= 1
        else:
            todo.append(instance)
    return todo
