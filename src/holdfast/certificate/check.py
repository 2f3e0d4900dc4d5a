"""Running the independent checker in a process of its own: nothing of this package is loaded there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from holdfast.errors import InputError

VALID, INVALID, UNREADABLE = 0, 1, 2  # exit statuses of the checker; 3: a limit was reached


@dataclass(frozen=True)
class Check:
    """What the checker said: whether the certificate proves its claim, and its own words."""

    valid: bool
    message: str


def check(
    network: str | PathLike[str] | Mapping[str, str | PathLike[str]],
    property: str | PathLike[str],
    certificate: str | PathLike[str],
    *,
    timeout: float | None = None,
    memory_mib: int | None = None,
) -> Check:
    """Has a certificate checked by the independent program `holdfast-check`, in a separate process.

    Files only. ``timeout`` in seconds. Raises `holdfast.InputError` where a network or property cannot be read, or a
    limit was reached.
    """
    words = [os.fspath(property), os.fspath(certificate)]
    if isinstance(network, Mapping):
        words += [word for name, file in network.items() for word in ("--network", f"{name}={os.fspath(file)}")]
    else:
        words = [os.fspath(network), *words]
    for option, value in (("--timeout", timeout), ("--memory", memory_mib)):
        words += [option, str(value)] if value is not None else []
    done = subprocess.run(command(words), capture_output=True, text=True, env=environment(), check=False)
    said = done.stdout.strip()
    if done.returncode not in (VALID, INVALID):
        complaint = done.stderr.strip().splitlines()
        raise InputError(said or (complaint[-1] if complaint else f"the checker ended with status {done.returncode}"))
    return Check(done.returncode == VALID, said)


def command(words: Sequence[str]) -> list[str]:
    """The command line of the checker."""
    return [sys.executable, "-m", "holdfast_check", *words]


def environment() -> dict[str, str]:
    """This environment, with the checker that stands beside the running copy of the package first on the path."""
    source = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{path}" if path else source}
