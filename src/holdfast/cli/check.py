"""`holdfast check`: a thin alias of `holdfast-check`, which runs in a process of its own."""

from __future__ import annotations

import subprocess

import typer

from holdfast.cli.contract import verb


@verb
def check(context: typer.Context) -> int:
    """Check a certificate: MODEL PROPERTY CERT, or PROPERTY CERT --network NAME=FILE.

    All arguments go to the independent program holdfast-check, which says `valid` (exit status 0) or `invalid: ...`
    (1); 2 bad usage or unreadable files, 3 a limit was reached.
    """
    from holdfast.certificate.check import command, environment

    words = context.args or ["--help"]
    return subprocess.run(command(words), env=environment(), check=False).returncode
