"""`holdfast reach`: the flow tube of a closed loop, everything it can do from its initial set over its horizon.

Nothing is claimed of the tube here (`holdfast verify` does that); it is told, written as JSON or arrays, and drawn.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.contract import UNDECIDED, Debug, emit, positive, require_file, verb
from holdfast.errors import InputError, UnsupportedError
from holdfast.report.json import require_writable, write_json

if TYPE_CHECKING:
    from holdfast.reachability.simulate import Trajectories
    from holdfast.reachability.tube import Tube
    from holdfast.spec.temporal import Instance, Problem

LIMIT = 60.0  # seconds for all tubes where nothing is said


@verb
def reach(
    problem: Annotated[Path, typer.Argument(metavar="PROBLEM", help="problem.toml")],
    instances: Annotated[
        list[str] | None, typer.Argument(metavar="[INSTANCE...]", help="Only these instances of the file.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="S", callback=positive, help=f"Seconds for all tubes together. [{LIMIT:g}]"),
    ] = LIMIT,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the tubes and their ends as JSON.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the tubes (.png, .pdf, .svg).")
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", metavar="X,Y", help="Two states: the plane to draw.")
    ] = None,
    npz: Annotated[
        Path | None, typer.Option("--npz", metavar="FILE", help="Write the tube of one instance as NumPy arrays.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only how far.")] = False,
    debug: Debug = False,
) -> int:
    """Everything a closed loop can do from its initial set. First line: complete (to the horizon) or stopped.

    A line for each instance follows, then its widths at the end. Exit status: 0 complete, 2 bad input, 3 stopped, 4 internal error.
    """
    start = time.perf_counter()
    require_file(problem, "problem")
    if problem.suffix != ".toml":
        raise InputError(f"{problem}: accepted is a problem file (problem.toml)")
    _check_targets(json_file, plot, npz)
    from holdfast.api import load_problem

    loaded = load_problem(problem)
    chosen = _chosen(loaded, instances or [])
    if npz is not None and len(chosen) > 1:
        raise InputError(f"--npz {npz}: is one file, but there are {len(chosen)} instances; accepted is one of them")
    if project is not None:
        from holdfast.report.tube import projection

        for one in chosen:
            projection(project, one.loop.plant.signals.states)
    tubes: list[tuple[Instance, Tube, Trajectories | None]] = []
    refused: list[str] = []
    for k, one in enumerate(chosen):
        left = None if timeout is None else max(0.0, timeout - (time.perf_counter() - start)) / (len(chosen) - k)
        try:
            tubes.append((one, *_tube(loaded, one, left, quiet and json_file is None and plot is None)))
        except UnsupportedError as error:
            if len(chosen) == 1:
                raise
            refused.append(f"{one.id}: not supported yet: {error}")
    _tell(tubes, refused, quiet)
    if json_file is not None:
        from holdfast.report.tube import tube_json, tubes_json

        found: dict[str, dict[str, Any]] = {one.id: tube_json(one.id, tube, seen) for one, tube, seen in tubes}
        write_json(json_file, tubes_json(loaded, found))
    if npz is not None:
        for _, tube, _ in tubes:
            tube.save(npz)
    if plot is not None:
        from holdfast.report.tube_plot import draw_tubes
        from holdfast.report.tube_scene import tube_scene

        scenes = [tube_scene(one, tube, seen, project) for one, tube, seen in tubes]
        draw_tubes(scenes, plot, loaded.title or problem.resolve().parent.name)
    return 0 if not refused and all(tube.complete for _, tube, _ in tubes) else UNDECIDED


def _check_targets(json_file: Path | None, plot: Path | None, npz: Path | None) -> None:
    """Files that cannot be written are refused before any work."""
    if plot is not None:
        from holdfast.report.picture_file import require_picture

        require_picture(plot)
    if npz is not None and npz.suffix != ".npz":
        raise InputError(f"--npz {npz}: found the ending '{npz.suffix}'; accepted is .npz")
    for path in (json_file, npz):
        if path is not None:
            require_writable(path)


def _chosen(problem: Problem, ids: list[str]) -> list[Instance]:
    """The instances asked about, in the order of the file; all where none is named."""
    known = [one.id for one in problem.instances]
    for name in ids:
        if name not in known:
            listed = ", ".join(i for i in known if i) or "none, the file is one problem"
            raise InputError(f"{problem.path}: has no instance '{name}'; its instances: {listed}")
    return [one for one in problem.instances if not ids or one.id in ids]


def _tube(problem: Problem, one: Instance, timeout: float | None, plain: bool) -> tuple[Tube, Trajectories | None]:
    """The tube, and simulated trajectories where they are told or drawn."""
    from holdfast.api import reach as follow
    from holdfast.cli.progress import terminal_lines

    with terminal_lines() as tell:
        name = f"{one.id}: " if one.id else ""
        tube = follow(problem, instance=one.id, timeout=timeout, progress=lambda text: tell(name + text))
        if plain:
            return tube, None
        from holdfast.report.paths import paths

        tell(f"{name}simulated trajectories")
        return tube, paths(one.loop, tube.initial, tube.end) if tube.end > 0 else None


def _tell(tubes: list[tuple[Instance, Tube, Trajectories | None]], refused: list[str], quiet: bool) -> None:
    from holdfast.report.tube import status, tube_lines

    emit("complete" if not refused and all(tube.complete for _, tube, _ in tubes) else "stopped")
    wide = max((len(one.id) for one, _, _ in tubes), default=0)
    for one, tube, _ in tubes:
        if one.id:
            emit(f"{one.id.ljust(wide)}  {status(tube):8} {tube.seconds:9.3f} s")
    if not quiet:
        for one, tube, seen in tubes:
            if one.id:
                emit(f"; {one.id}:")
            indent = "; " if not one.id else ";   "
            emit("\n".join(f"{indent}{line}" for line in tube_lines(tube, one.loop, seen)))
    for line in refused:
        emit(f"; {line}")
