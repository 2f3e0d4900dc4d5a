"""Benchmark instances run in a process beside this one, which keeps its loaded networks and compiled programs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from holdfast.cli.execution import GRACE, KILLED, Options, make_row
from holdfast.cli.in_process import InProcess
from holdfast.cli.instances import Instance
from holdfast.report.bench import Row


class WorkerProcess:
    """An `Executor`. The process is started anew whenever it dies or has to be killed."""

    def __init__(self, options: Options):
        self._options = options
        self._lock = threading.Lock()
        self._process: Any = None
        self._pipe: Connection | None = None
        self._stopped = False

    def run(self, instance: Instance) -> Row | None:
        """The row of the instance; None once the executor was stopped."""
        start = time.perf_counter()
        try:
            pipe = self._connection()
            if pipe is None:
                return None
            pipe.send(instance)
            if pipe.poll(instance.timeout + GRACE):
                return pipe.recv()
            verdict, reason = "timeout", KILLED
        except (EOFError, OSError):
            verdict, reason = "error", "internal error: the worker process died"
        self._kill()
        return make_row(instance, verdict, time.perf_counter() - start, None, None, reason)

    def stop(self) -> None:
        """End the process for good."""
        with self._lock:
            self._stopped = True
        self._kill()

    def _connection(self) -> Connection | None:
        with self._lock:
            if self._stopped:
                return None
            if self._pipe is None:
                context = multiprocessing.get_context("spawn")  # threads of numerical libraries do not survive a fork
                self._pipe, theirs = context.Pipe()
                self._process = context.Process(target=_serve, args=(theirs, self._options))
                self._process.start()
                theirs.close()
            return self._pipe

    def _kill(self) -> None:
        with self._lock:
            process, self._process, self._pipe = self._process, None, None
            if process is None:
                return
            with suppress(OSError):  # its session: it, and all that it has started
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.join()


def _serve(pipe: Connection, options: Options) -> None:
    """Body of the process: instances in, rows out, until the pipe closes."""
    os.setsid()  # the terminal's interrupt goes to the parent, which decides what it means
    executor = InProcess(options)
    with suppress(EOFError, OSError):
        while True:
            pipe.send(executor.run(pipe.recv()))
