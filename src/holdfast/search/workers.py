"""The same function on several cores: child processes forked from this one, fed in rounds.

Rounds keep the search deterministic for a given number of workers. Where the system cannot fork, everything runs in
this process.
"""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Callable
from typing import Any


class Workers:
    """``count`` - 1 child processes and this one, all computing ``function`` of a picklable argument."""

    def __init__(self, function: Callable[[Any], Any], count: int):
        self._function = function
        self._pipes: list[Any] = []
        self._processes: list[Any] = []
        if count > 1 and "fork" in multiprocessing.get_all_start_methods():
            context = multiprocessing.get_context("fork")
            for _ in range(count - 1):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(function, theirs, ours), daemon=True)
                with warnings.catch_warnings():
                    # about threads of other libraries (JAX, where the caller has it): children compute with NumPy alone
                    warnings.filterwarnings("ignore", message=".*fork", category=RuntimeWarning)
                    warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
                    process.start()
                theirs.close()
                self._pipes.append(ours)
                self._processes.append(process)

    @property
    def count(self) -> int:
        """How many arguments are computed at once."""
        return len(self._pipes) + 1

    def map(self, arguments: list[Any]) -> list[Any]:
        """Results in order; at most ``count`` arguments."""
        if len(arguments) > self.count:
            raise ValueError(f"{len(arguments)} arguments were given to {self.count} workers")
        for pipe, argument in zip(self._pipes, arguments[1:], strict=False):
            pipe.send(argument)
        results = [self._function(arguments[0])]
        for pipe, _ in zip(self._pipes, arguments[1:], strict=False):
            outcome = pipe.recv()
            if isinstance(outcome, BaseException):
                raise outcome
            results.append(outcome)
        return results

    def close(self) -> None:
        """End the child processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()
            process.join()


def _serve(function: Callable[[Any], Any], pipe: Any, other_end: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    other_end.close()
    while True:
        try:
            argument = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            outcome = function(argument)
        except Exception as error:
            outcome = error
        pipe.send(outcome)
