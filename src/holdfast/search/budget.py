"""Limits of one search: time and memory, and what it tells the world while it runs."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """A snapshot: seconds since the start, phase, open and finished sub-problems, worst open lower bound, memory."""

    seconds: float
    phase: str
    open: int
    done: int
    bound: float
    memory_mib: float


def peak_mib() -> float:
    """Largest resident size of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


@dataclass
class Budget:
    """Time limit (seconds from creation; None: no limit), memory for open sub-problems, and a progress callback."""

    timeout: float | None = None
    memory_mib: int = 4096
    progress: Callable[[Progress], None] | None = None
    started: float = field(default_factory=time.monotonic)
    _told: float = 0.0

    @property
    def seconds(self) -> float:
        """Elapsed."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds left (infinite without a limit)."""
        return float("inf") if self.timeout is None else self.timeout - self.seconds

    def expired(self) -> bool:
        """Whether the time is over."""
        return self.left <= 0

    def shorten(self, seconds: float) -> None:
        """Stop at the latest in so many seconds."""
        self.timeout = self.seconds + min(seconds, self.left)

    def tell(self, phase: str, open: int, done: int, bound: float) -> None:
        """Report progress, at most five times a second."""
        if self.progress is not None and self.seconds - self._told > 0.2:
            self._told = self.seconds
            self.progress(Progress(self.seconds, phase, open, done, bound, peak_mib()))
