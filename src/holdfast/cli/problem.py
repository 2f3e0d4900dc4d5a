"""Problem files on the command line: all instances are decided, then told, written as JSON and drawn.

What `holdfast verify PROBLEM.toml` and `holdfast invariant` share.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.cli.contract import complain, emit
from holdfast.report.json import require_writable, write_json

if TYPE_CHECKING:
    from holdfast.report.tube_scene import TubeScene
    from holdfast.spec.temporal import Instance, Problem
    from holdfast.verdict import Result

TUBE = 20.0  # seconds for a tube that is only drawn
MOST_TUBES = 9


@dataclass(frozen=True)
class Asked:
    """The options of a verb about one problem file."""

    instance: str | None = None
    timeout: float | None = None
    workers: int | None = None
    memory_mib: int | None = None
    seed: int = 0
    certificate: Path | None = None
    json_file: Path | None = None
    plot: Path | None = None
    quiet: bool = False


def check_targets(asked: Asked) -> None:
    """Refuse files that cannot be written before any work is done. Raises InputError."""
    if asked.plot is not None:
        from holdfast.report.picture_file import require_picture

        require_picture(asked.plot)
    if asked.json_file is not None:
        require_writable(asked.json_file)
    if asked.certificate is not None and not asked.certificate.is_dir():
        require_writable(asked.certificate)


def decide_file(path: Path, asked: Asked, start: float) -> tuple[Problem, tuple[Instance, ...], dict[str, Result]]:
    """The problem, the instances asked about, their results. ``start``: when the time limit began."""
    from holdfast.api import choose, load_problem, verify_problem
    from holdfast.cli.progress import terminal_progress

    problem = load_problem(path)
    chosen = choose(problem, asked.instance)
    left = None if asked.timeout is None else max(0.0, asked.timeout - (time.perf_counter() - start))
    with terminal_progress() as progress:
        results = verify_problem(
            problem, asked.instance, timeout=left, workers=asked.workers, memory_mib=asked.memory_mib,
            seed=asked.seed, progress=progress, certificate=asked.certificate,
        )  # fmt: skip
    return problem, chosen, results


def decide_given(problem: Problem, instance: Instance, asked: Asked) -> dict[str, Result]:
    """The result of an instance that is in no file."""
    from holdfast.api import verify_problem

    alone = replace(problem, instances=(instance,))
    return verify_problem(
        alone, instance.id, timeout=asked.timeout, workers=asked.workers, memory_mib=asked.memory_mib, seed=asked.seed
    )


def verify_file(path: Path, asked: Asked, start: float) -> int:
    """The verb `verify` for a problem file; returns the exit status."""
    check_targets(asked)
    problem, chosen, results = decide_file(path, asked, start)
    from holdfast.report.loop import loop_text, overall

    emit(loop_text(problem, results, quiet=asked.quiet))
    write_files(problem, chosen, results, asked)
    return overall(results.values()).exit_status


def write_files(
    problem: Problem, chosen: tuple[Instance, ...], results: Mapping[str, Result], asked: Asked, **more: object
) -> None:
    """The JSON file and the picture, where they were asked for. ``more``: further entries of the JSON file."""
    from holdfast.report.loop import loop_json

    content = {**loop_json(problem, results), **more}
    drawn, tubes = None, None
    if asked.plot is not None:
        tubes = _tubes(chosen, results)
    if asked.plot is not None and not tubes:
        from holdfast.report.scene import scenes

        drawn = scenes([(one, results[one.id]) for one in chosen], problem.title or Path(problem.path).parent.name)
        content["pictures"] = [scene.to_json() for scene in drawn]
    if asked.json_file is not None:
        write_json(asked.json_file, content)
    if asked.plot is not None:
        if tubes:
            from holdfast.report.tube_plot import draw_tubes

            draw_tubes(tubes, asked.plot, problem.title or Path(problem.path).parent.name)
        elif drawn:
            from holdfast.report.plot import draw

            draw(drawn, asked.plot, problem.title)
        else:  # the answer stands all the same
            complain(f"--plot {asked.plot}: nothing to draw: no instance has a set that can be shown")


def _tubes(chosen: tuple[Instance, ...], results: Mapping[str, Result]) -> list[TubeScene]:
    """Scenes of the tubes of loops of which something is claimed over a horizon, where all claims are of that kind."""
    from holdfast.api import reach
    from holdfast.reachability.claim import DECIDED
    from holdfast.report.paths import paths
    from holdfast.report.tube_scene import tube_scene

    moving = [
        one for one in chosen if one.initial is not None and (one.steps is not None or one.time is not None)
        and all(prop.kind in DECIDED for prop in one.properties)
    ]  # fmt: skip
    if len(moving) < len(chosen):
        return []
    found = []
    for one in moving[:MOST_TUBES]:
        tube = reach(one, timeout=TUBE)
        seen = paths(one.loop, tube.initial, tube.end) if tube.end > 0 else None
        found.append(tube_scene(one, tube, seen, result=results[one.id]))
    return found
