"""Runs the soundness checks of the bound engine on any number of random networks; exit status 1 on a violation.

python scripts/soundness.py --count 10000 --seed 0 [--kind graphs|single|lattice|files|all] [--seconds S]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # small products: threads only get in each other's way
    os.environ.setdefault(variable, "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "bounds")]

import numpy as np  # noqa: E402
from random_networks.checks import FLOAT32, Tally, check_engine  # noqa: E402
from random_networks.files import check_file  # noqa: E402
from random_networks.graphs import lattice_sample, random_sample  # noqa: E402
from random_networks.onnx_files import random_onnx  # noqa: E402

from holdfast.errors import InputError  # noqa: E402

KINDS = ("graphs", "graphs", "single", "lattice", "graphs", "files")  # how the kinds alternate in a run of all


def one(kind: str, seed: int, index: int, tally: Tally, folder: Path) -> bool:
    """One network; whether it was refused (outside the domain of a function, for example)."""
    rng = np.random.default_rng([seed, index])
    try:
        if kind == "files":
            check_file(rng, random_onnx(rng), tally, folder)
        elif kind == "lattice":
            check_engine(rng, lattice_sample(rng), tally)
        elif kind == "single":
            check_engine(rng, random_sample(rng), tally, arithmetic=FLOAT32)
        else:
            check_engine(rng, random_sample(rng), tally)
    except InputError:
        return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="index of the first network, to repeat one")
    parser.add_argument("--kind", choices=("all", "graphs", "single", "lattice", "files"), default="all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many seconds")
    chosen = parser.parse_args()
    tally, started, refused = Tally(), time.monotonic(), 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as folder:
        for index in range(chosen.first, chosen.first + chosen.count):
            if time.monotonic() - started > chosen.seconds:
                break
            kind = KINDS[index % len(KINDS)] if chosen.kind == "all" else chosen.kind
            found = len(tally.violations)
            refused += one(kind, chosen.seed, index, tally, Path(folder))
            for violation in tally.violations[found : found + 1]:
                print(f"--kind {kind} --seed {chosen.seed} --first {index} --count 1: {violation}", flush=True)
    print(
        f"{tally.networks} networks ({refused} refused), {tally.boxes} boxes, {tally.samples} samples, "
        f"{tally.comparisons} comparisons, {len(tally.violations)} violations, {time.monotonic() - started:.0f} seconds"
    )
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
