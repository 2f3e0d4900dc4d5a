"""What running one benchmark instance means, for all ways of doing it: options in, an instance to a row.

The ways are in_process.py, worker_process.py and own_process.py; schedule.py runs many.
"""

from __future__ import annotations

import os
import re
import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from holdfast.cli.instances import Instance
from holdfast.report.bench import SOLVED, Row

GRACE = 5.0  # seconds a process may outlive its time limit before it is killed
KILLED = "the process was killed: it did not stop at the time limit"


@dataclass(frozen=True)
class Options:
    """What every instance of a run is verified with."""

    semantics: str | None = None
    workers: int | None = None
    memory_mib: int | None = None
    certificates: Path | None = None  # folder for one certificate per instance

    def certificate(self, instance: Instance) -> Path | None:
        """Where the certificate of an instance goes: its two names, without their common folders and endings."""
        if self.certificates is None:
            return None
        names = [PurePosixPath(name).as_posix() for name in instance.key]
        short = [re.sub(r"^(onnx|vnnlib)/|\.(onnx|vnnlib)(\.gz)?$", "", name).replace("/", "_") for name in names]
        return self.certificates / ("--".join(name for name in short if name and name != ".") + ".hfc")


class Executor(Protocol):
    """Runs instances, one at a time. Whatever happens to an instance becomes its row."""

    def run(self, instance: Instance) -> Row | None:
        """The row of the instance, or None when it was interrupted."""

    def stop(self) -> None:
        """End what is running, from any thread. The executor is not used any more."""


def make_row(
    instance: Instance, verdict: str, seconds: float, cpu: float | None, peak: float | None, reason: str
) -> Row:
    """A row; an answer that came too late to be of use counts as a timeout, in all ways of running alike."""
    if verdict in SOLVED and seconds > instance.timeout + GRACE:
        verdict, reason = "timeout", f"answered {verdict} after the time limit"
    return Row(instance.key, verdict, seconds, cpu, peak, " ".join(reason.split()))


class Meter:
    """Wall time, processor time and peak memory of this process since the meter was made."""

    def __init__(self) -> None:
        self._start, self._cpu = time.perf_counter(), _processor_seconds()
        with suppress(OSError):  # Linux: forget the peak of earlier instances
            Path("/proc/self/clear_refs").write_text("5")

    def seconds(self) -> float:
        """Elapsed time."""
        return time.perf_counter() - self._start

    def cpu_seconds(self) -> float:
        """Processor time of this process and of its children that have ended."""
        return _processor_seconds() - self._cpu

    def peak_mib(self) -> float:
        """Largest resident size (where the system cannot forget: since the process started)."""
        with suppress(OSError, StopIteration):
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(text for text in lines if text.startswith("VmHWM")).split()[1]) / 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _processor_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
