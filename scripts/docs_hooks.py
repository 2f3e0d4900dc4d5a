"""Documentation pages that live elsewhere: every example's README and picture, the changelog, how to contribute.

mkdocs calls `on_files` once per build; nothing is copied into docs/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages and pictures that stand beside what they describe."""
    pages = {"changelog.md": ROOT / "CHANGELOG.md", "contributing.md": ROOT / "CONTRIBUTING.md"}
    for readme in sorted((ROOT / "examples").glob("*/README.md")):
        pages[f"examples/{readme.parent.name}.md"] = readme
        for picture in sorted(readme.parent.glob("*.png")):
            pages[f"examples/{picture.name}"] = picture
    for target, source in pages.items():
        files.append(File.generated(config, target, abs_src_path=str(source)))
    return files
