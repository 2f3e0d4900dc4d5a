"""Makes the helper modules of the tests of Taylor models importable."""

import sys
from pathlib import Path

folder = str(Path(__file__).parent.parent / "sets")
if folder not in sys.path:
    sys.path.insert(0, folder)
