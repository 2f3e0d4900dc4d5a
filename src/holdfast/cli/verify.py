"""`holdfast verify`: one property of one network (or of several) is proved, refuted, or left open with the reason.

Accepts NET PROP, the VNN-LIB 2.0 standard's PROP --network NAME=FILE, and PROBLEM.toml (problem.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from holdfast.cli.contract import Debug, emit, positive, require_file, verb
from holdfast.errors import InputError
from holdfast.report.json import require_writable, write_json

if TYPE_CHECKING:
    from holdfast.graph import Model
    from holdfast.spec import Property

Seconds = Annotated[
    float | None,
    typer.Option("--timeout", metavar="S", callback=positive, help="Time limit in seconds, loading included."),
]
Semantics = Annotated[
    Literal["real", "float32"] | None,
    typer.Option("--semantics", help="Arithmetic of the claim. Default: what the property declares, else real."),
]
Workers = Annotated[int | None, typer.Option("--workers", metavar="N", min=1, help="Processor cores to use.")]
Memory = Annotated[int | None, typer.Option("--memory", metavar="MIB", min=1, help="Memory budget in MiB.")]
OneInstance = Annotated[
    str | None, typer.Option("--instance", metavar="ID", help="Only this instance of a problem file.")
]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw a closed loop and its sets (.png, .pdf, .svg).")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the search.")]


@verb
def verify(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="NET PROP | PROP | PROBLEM", help="network.onnx property.vnnlib, or problem.toml."),
    ],
    network: Annotated[
        list[str] | None,
        typer.Option("--network", metavar="NAME=FILE", help="The file of a network the property declares; repeatable."),
    ] = None,
    timeout: Seconds = None,
    semantics: Semantics = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the whole result as JSON.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the verdict, and the witness.")] = False,
    workers: Workers = None,
    memory: Memory = None,
    seed: Seed = 0,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="FILE", help="Write what proves the answer, for holdfast-check."),
    ] = None,
    instance: OneInstance = None,
    plot: Plot = None,
    debug: Debug = False,
) -> int:
    """Does the property hold? First line: unsat (it holds), sat (a counterexample follows), unknown or timeout.

    For a problem file: verified, falsified, unknown or timeout; a line for each instance follows.
    Exit status: 0 unsat or verified, 1 sat or falsified, 2 bad input, 3 unknown or timeout, 4 internal error.
    """
    start = time.perf_counter()
    if any(file.suffix == ".toml" for file in files):
        from holdfast.cli.problem import Asked, verify_file

        asked = Asked(instance, timeout, workers, memory, seed, certificate, json_file, plot, quiet)
        return verify_file(alone(files, network or (), semantics), asked, start)
    if plot is not None or instance is not None:
        option = f"--plot {plot}" if plot is not None else f"--instance {instance}"
        raise InputError(f"{option}: is for problem files (problem.toml); leave the option out")
    paths, property_path = resolve(files, network or ())
    for target in (json_file, certificate):
        if target is not None:
            require_writable(target)

    from holdfast.cli.progress import terminal_progress
    from holdfast.load.vnnlib import load_property
    from holdfast.report.text import answer_text
    from holdfast.search.verify import verify as search

    prop = load_property(property_path)
    networks = load_networks(paths, prop)
    remaining = None if timeout is None else max(0.0, timeout - (time.perf_counter() - start))
    with terminal_progress() as progress:
        result = search(
            networks,
            prop,
            timeout=remaining,
            semantics=semantics,
            workers=workers,
            memory_mib=memory,
            seed=seed,
            progress=progress,
            certificate=certificate,
        )
    if json_file is not None:
        write_json(json_file, result.to_json())
    emit(answer_text(result, prop, quiet=quiet))
    return result.verdict.exit_status


def alone(files: Sequence[Path], network: Sequence[str], semantics: str | None) -> Path:
    """The problem file, which names its networks itself and speaks of real numbers. Raises InputError."""
    if len(files) > 1 or network:
        problem = next(file for file in files if file.suffix == ".toml")
        other = next((str(file) for file in files if file is not problem), "--network")
        raise InputError(f"{problem} together with {other}: accepted is a problem file alone, it names its networks")
    if semantics == "float32":
        raise InputError(
            f"{files[0]}: --semantics float32 is for networks alone; claims about closed loops are over the real numbers"
        )
    return require_file(files[0], "problem")


def resolve(files: Sequence[Path], network: Sequence[str]) -> tuple[dict[str, Path] | Path, Path]:
    """The network file (or name -> file) and the property file that the arguments mean; all of them exist.

    Raises InputError.
    """
    if len(files) > 2:
        raise InputError(f"{len(files)} files given; accepted are a network and a property: NET.onnx PROP.vnnlib")
    if len(files) == 2:
        if network:
            raise InputError("--network together with two files; accepted is NET PROP or PROP --network NAME=FILE")
        if _is_property(files[0]) and not _is_property(files[1]):
            raise InputError(
                f"{files[0]} stands where the network belongs; accepted is NET.onnx PROP.vnnlib, in this order"
            )
        return require_file(files[0], "network"), require_file(files[1], "property")
    if not network:
        missing = "network (NET.onnx, or --network NAME=FILE)" if _is_property(files[0]) else "property (PROP.vnnlib)"
        raise InputError(f"{files[0]}: the {missing} is missing; accepted is NET.onnx PROP.vnnlib")
    named: dict[str, Path] = {}
    for text in network:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise InputError(f"--network {text}: accepted is NAME=FILE")
        if name in named:
            raise InputError(f"--network {text}: a file for the network {name} is already given ({named[name]})")
        named[name] = Path(path)
    prop = require_file(files[0], "property")
    return {name: require_file(path, f"network {name}") for name, path in named.items()}, prop


def load_networks(paths: Mapping[str, Path] | Path, prop: Property) -> Model | dict[str, Model]:
    """The networks from their files, each file read once. A 1.0 property names none: it gets the network itself."""
    from holdfast.load.onnx import load_model

    if isinstance(paths, Path):
        return load_model(paths)
    if prop.version.startswith("1"):
        if len(paths) > 1:
            raise InputError(
                f"{len(paths)} networks are given ({', '.join(paths)}), but a VNN-LIB 1.0 property speaks of one"
            )
        return load_model(next(iter(paths.values())))
    models = {path: load_model(path) for path in dict.fromkeys(paths.values())}
    return {name: models[path] for name, path in paths.items()}


def _is_property(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(".vnnlib")
