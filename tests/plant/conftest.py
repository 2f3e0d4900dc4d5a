"""Makes the helper modules of these tests, and of those of Taylor models, importable."""

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parent.parent / "sets"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
