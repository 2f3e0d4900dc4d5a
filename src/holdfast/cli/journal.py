"""The result file of a benchmark run: one CSV row as each instance ends, safe against a crash at any moment.

The header is part of the command line contract. A last line that was cut off is recognised and dropped.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from holdfast.errors import InputError
from holdfast.report.bench import QUERIES, VERDICTS, Key, Row
from holdfast.report.json import require_writable

FIGURES = tuple(field.name for field in fields(Row))[1:]  # behind the two columns of the key


class Journal:
    """An open result file: ``rows`` is what it already held, `append` adds one row and waits for the disk."""

    def __init__(self, path: Path, *, resume: bool, names: Key = QUERIES):
        """Open or create ``path``; ``names``: its first two columns.

        Raises InputError if it exists and is not to be resumed, or is no such file.
        """
        self._header = (*names, *FIGURES)
        require_writable(path)
        if path.exists() and path.stat().st_size and not resume:
            raise InputError(f"{path}: exists already; accepted is a new file, or --resume to go on where it stops")
        self._stream: BinaryIO = path.open("a+b")
        try:
            try:
                fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"{path}: another run is writing to it") from None
            self.rows = self._read(path)
        except BaseException:
            self._stream.close()
            raise

    def append(self, row: Row) -> None:
        """Write one row; it is on the disk when this returns."""
        self._write(_cells(row))

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def _read(self, path: Path) -> list[Row]:
        self._stream.seek(0)
        content = self._stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        lines = list(csv.reader(io.StringIO(whole.decode("utf-8", errors="replace"))))
        if lines and tuple(lines[0]) != self._header:
            raise InputError(
                f"{path}: the first line is not the header {','.join(self._header)}; this is no result file"
            )
        if not lines and content and not ",".join(self._header).encode().startswith(content):
            raise InputError(f"{path}: is not a result file of `holdfast bench`")
        rows = [_row(cells, path, number, self._header) for number, cells in enumerate(lines[1:], start=2)]
        self._stream.truncate(len(whole))  # only once everything before the cut is known to be ours
        if not lines:
            self._write(self._header)
        return rows

    def _write(self, cells: tuple[str, ...]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        self._stream.write(text.getvalue().encode("utf-8"))
        self._stream.flush()
        os.fsync(self._stream.fileno())


def _cells(row: Row) -> tuple[str, ...]:
    def cell(value: str | float | None) -> str:
        if value is None:
            return ""
        return f"{value:.6f}" if isinstance(value, float) else " ".join(str(value).split())

    return (*map(cell, row.key), *(cell(getattr(row, name)) for name in FIGURES))


def _row(cells: list[str], path: Path, number: int, header: tuple[str, ...]) -> Row:
    try:
        first, second, verdict, seconds, cpu, peak, reason = cells
        if verdict not in VERDICTS:
            raise ValueError
        return Row(
            (first, second), verdict, float(seconds), float(cpu) if cpu else None, float(peak) if peak else None, reason
        )
    except ValueError:
        raise InputError(f"{path}, line {number}: is not a row {','.join(header)}") from None
