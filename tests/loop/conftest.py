"""Makes the helper modules of the tests of flows and of Taylor models importable."""

import sys
from pathlib import Path

for name in ("plant", "sets"):
    folder = str(Path(__file__).parent.parent / name)
    if folder not in sys.path:
        sys.path.insert(0, folder)
