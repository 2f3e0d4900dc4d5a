"""The `holdfast` program: the verbs, gathered. Starts without numpy, jax, onnx or rich."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from holdfast.cli.bench import bench
from holdfast.cli.bound import bound
from holdfast.cli.check import check
from holdfast.cli.contract import emit
from holdfast.cli.invariant import invariant
from holdfast.cli.ops import ops, supports
from holdfast.cli.reach import reach
from holdfast.cli.verify import verify

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: rich alone would take longer than all the rest of the start
    pretty_exceptions_enable=False,
    help="Prove what a neural network, or a system it controls, can and cannot do, or show a real counterexample.",
    epilog="Exit status: 0 proved, 1 refuted, 2 bad input or usage, 3 unknown or timeout, 4 internal error.",
)


def _version(wanted: bool) -> None:
    if wanted:
        import holdfast as package

        emit(package.__version__)
        raise typer.Exit


def _name(wanted: bool) -> None:
    if wanted:
        emit("holdfast")
        raise typer.Exit


@app.callback()
def holdfast(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and stop.")
    ] = False,
    name: Annotated[
        bool, typer.Option("--name", is_eager=True, callback=_name, help="Print the name and stop.")
    ] = False,
) -> None:
    """Options of the program itself (VNN-LIB 2.0 standard, "Global Options")."""


app.command("verify", short_help="Prove or refute a property of a network, or of a closed loop.")(verify)
app.command("invariant", short_help="Certify, or find, a set that a closed loop never leaves.")(invariant)
app.command("reach", short_help="Everything a closed loop can do from its initial set: a flow tube.")(reach)
app.command(
    "bound",
    short_help="Certified bounds of a network's outputs on a region.",
    context_settings={"ignore_unknown_options": True},
)(bound)  # a region may begin with a minus sign
app.command("bench", short_help="Verify a folder of instances and compare.")(bench)
app.command(
    "check",
    short_help="Check a certificate with the independent checker.",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)(check)
app.command("ops", short_help="Supported operators; what a network uses and lacks.")(ops)
app.command(
    "supports",
    short_help="Capabilities, as the VNN-LIB 2.0 standard asks.",
    context_settings={"ignore_unknown_options": True},
)(supports)


def main() -> None:
    """Entry point of the `holdfast` command; ends the process with the exit status of the contract."""
    for library in ("OPENBLAS", "OMP", "MKL"):  # cores go to worker processes: threads below them would only compete
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    app(prog_name="holdfast")
