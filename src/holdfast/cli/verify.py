"""`holdfast verify`: one property of one network (or of several) is proved, refuted, or left open with the reason.

Accepts NET PROP, and the VNN-LIB 2.0 standard's PROP --network NAME=FILE.
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
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the search.")]


@verb
def verify(
    files: Annotated[list[Path], typer.Argument(metavar="NET PROP | PROP", help="network.onnx and property.vnnlib.")],
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
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Not available in this version.")] = None,
    debug: Debug = False,
) -> int:
    """Does the property hold? First line: unsat (it holds), sat (a counterexample follows), unknown or timeout.

    Exit status: 0 unsat, 1 sat, 2 bad input, 3 unknown or timeout, 4 internal error.
    """
    start = time.perf_counter()
    if plot is not None:
        raise InputError(f"--plot {plot}: not available in this version; leave the option out")
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


def resolve(files: Sequence[Path], network: Sequence[str]) -> tuple[dict[str, Path] | Path, Path]:
    """The network file (or name -> file) and the property file that the arguments mean; all of them exist.

    Raises InputError.
    """
    if any(file.suffix == ".toml" for file in files):
        raise InputError(
            f"{next(f for f in files if f.suffix == '.toml')}: problem files are not available in this version; "
            "accepted is a network (.onnx) and a property (.vnnlib)"
        )
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
