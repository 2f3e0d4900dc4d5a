"""Makes `evaluation.py`, what the tests of the checker share, importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
