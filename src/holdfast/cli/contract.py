"""What every verb keeps: exit statuses, one-sentence errors, output that survives a closed pipe.

0 proved, 1 refuted, 2 bad input or usage, 3 unknown or timeout, 4 internal error (design: command line contract).
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.errors import InputError

BAD_INPUT = 2
UNDECIDED = 3
INTERNAL = 4

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal error.")]


def verb(function: Callable[..., int]) -> Callable[..., None]:
    """Wrap a verb, which returns its exit status, so that every way it can end keeps the contract.

    Nothing may reach the command-line library from here: it answers interrupts with exit status 1, which is the word
    for "refuted".
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> None:
        try:
            status = function(*args, **options)
        except (typer.Exit, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            complain("interrupted")
            status = UNDECIDED
        except InputError as error:
            complain(str(error))
            status = BAD_INPUT
        except Exception as error:
            if options.get("debug"):
                traceback.print_exc()
            complain(f"internal error: {' '.join(f'{type(error).__name__}: {error}'.split())}")
            status = INTERNAL
        raise typer.Exit(status)

    return wrapped


def emit(text: str) -> None:
    """Write to standard output; a reader that has closed the pipe is no error and changes no exit status."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> None:
    """Write one line to standard error."""
    typer.echo(text, err=True)


def require_file(path: Path, what: str) -> Path:
    """``path`` if it is a readable file, else InputError."""
    if path.is_dir():
        raise InputError(f"{what} {path}: is a folder; accepted is a file")
    if not path.exists():
        raise InputError(f"{what} {path}: no such file")
    if not os.access(path, os.R_OK):
        raise InputError(f"{what} {path}: the file may not be read")
    return path


def positive(seconds: float | None) -> float | None:
    """Callback for time limits: a number above zero (infinity means no limit)."""
    if seconds is not None and not seconds > 0:  # written so that NaN is refused too
        raise typer.BadParameter(f"{seconds} is not a number of seconds above 0")
    return None if seconds == float("inf") else seconds
