"""The progress line of a running search: on a terminal only, on standard error only."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from holdfast.report.decimals import round_down

if TYPE_CHECKING:
    from holdfast.search.verify import Progress

INTERVAL = 0.1  # seconds between two drawings: enough for the eye, nothing for the processor


@contextmanager
def terminal_progress(stream: TextIO | None = None) -> Iterator[Callable[[Progress], None] | None]:
    """A function that draws one line and redraws it, or None where standard error is no terminal."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield None
        return
    last = -INTERVAL

    def draw(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < INTERVAL:
            return
        last = now
        width = shutil.get_terminal_size().columns - 1
        stream.write(f"\r\x1b[2K{line(progress)[:width]}")
        stream.flush()

    try:
        yield draw
    finally:
        stream.write("\r\x1b[2K")
        stream.flush()


@contextmanager
def terminal_lines(stream: TextIO | None = None) -> Iterator[Callable[[str], None]]:
    """A function that shows a sentence in place of the last one; it does nothing where standard error is no terminal."""
    stream = stream or sys.stderr
    terminal = stream.isatty()

    def show(text: str) -> None:
        if terminal:
            stream.write(f"\r\x1b[2K{text[: shutil.get_terminal_size().columns - 1]}")
            stream.flush()

    try:
        yield show
    finally:
        if terminal:
            stream.write("\r\x1b[2K")
            stream.flush()


def line(progress: Progress) -> str:
    """One line about the state of the search."""
    return (
        f"{progress.seconds:7.1f} s  {progress.phase}  open {progress.open}  done {progress.done}  "
        f"bound {round_down(progress.bound)}  {progress.memory_mib:.0f} MiB"
    )
