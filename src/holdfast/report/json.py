"""JSON files of results, written so that a reader never meets half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.errors import InputError


def require_writable(path: Path) -> None:
    """Refuse a target that cannot be written before any work is done. Raises InputError."""
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"{path}: the folder {folder} does not exist; accepted is a file in an existing folder")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; accepted is the name of a file")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{path}: the folder {folder} cannot be written to")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` to ``path`` in one step (temporary file beside it, then a rename). Raises InputError."""
    import tempfile  # here: it is slow to import, and every verb imports this file

    require_writable(path)
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    try:
        handle, temporary = tempfile.mkstemp(prefix=path.name + ".", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
                os.fchmod(stream.fileno(), 0o666 & ~_umask())  # mkstemp makes it private; a result is not a secret
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _umask() -> int:
    """The process's file mode mask (the system only tells it while setting it)."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
