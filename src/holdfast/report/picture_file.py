"""Which picture files can be written; known before anything heavy is loaded."""

from __future__ import annotations

from pathlib import Path

from holdfast.errors import InputError
from holdfast.report.json import require_writable

FORMATS = (".png", ".pdf", ".svg")


def require_picture(path: Path) -> None:
    """Refuse a picture file that cannot be written, before any work. Raises InputError."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"--plot {path}: found the ending '{path.suffix}'; accepted are {', '.join(FORMATS)}")
    require_writable(path)
