"""Benchmark instances run as `holdfast verify` processes of their own; all figures come from the kernel (wait4)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from holdfast.cli.execution import GRACE, KILLED, Options, make_row
from holdfast.cli.instances import Instance, NetworkInstance
from holdfast.report.bench import Row

ANSWERS = frozenset(
    {(0, "unsat"), (0, "verified"), (1, "sat"), (1, "falsified"), (3, "unknown"), (3, "timeout")}
)  # exit status and first line


class OwnProcess:
    """An `Executor`. A process that outlives its time limit is killed, with all that it has started."""

    def __init__(self, options: Options):
        self._options = options
        self._lock = threading.Lock()
        self._running: int | None = None
        self._killed = False
        self._stopped = False

    def run(self, instance: Instance) -> Row | None:
        """The row of the instance; None once the executor was stopped."""
        with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
            out, err, answer = (Path(folder) / name for name in ("out", "err", "answer.json"))
            start = time.perf_counter()
            with out.open("wb") as stdout, err.open("wb") as stderr, self._lock:
                if self._stopped:
                    return None
                process = subprocess.Popen(
                    command(instance, answer, self._options),
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    env=_environment(),
                    start_new_session=True,  # so that it and all it starts can be killed together
                )
                self._running, self._killed = process.pid, False
            timer = threading.Timer(instance.timeout + GRACE, self._kill)
            timer.start()
            # wait without reaping: the process number cannot be taken by another while the timer may still kill it
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            seconds = time.perf_counter() - start
            with self._lock:
                self._running = None
            timer.cancel()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            verdict, reason = ("timeout", KILLED) if self._killed else read_answer(process.returncode, out, err, answer)
        if self._stopped:
            return None
        cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        return make_row(instance, verdict, seconds, cpu, peak, reason)

    def stop(self) -> None:
        """End the process for good."""
        with self._lock:
            self._stopped = True
        self._kill()

    def _kill(self) -> None:
        with self._lock:
            if self._running is not None:
                self._killed = True
                os.killpg(self._running, signal.SIGKILL)


def command(instance: Instance, answer: Path, options: Options) -> list[str]:
    """The command line of one instance."""
    words = [sys.executable, "-m", "holdfast", "verify", *instance.words, "--quiet"]
    words += ["--timeout", str(instance.timeout), "--json", str(answer)]
    for option, value in (
        ("--semantics", options.semantics if isinstance(instance, NetworkInstance) else None),
        ("--workers", options.workers),
        ("--memory", options.memory_mib),
        ("--certificate", options.certificate(instance)),
    ):
        words += [option, str(value)] if value is not None else []
    return words


def read_answer(returncode: int, out: Path, err: Path, answer: Path) -> tuple[str, str]:
    """Verdict and reason of a finished process. Anything that does not fit together is an error."""
    if returncode < 0:
        return "error", f"internal error: the process was ended by signal {-returncode}"
    with out.open(encoding="utf-8", errors="replace") as stream:
        first = stream.readline().strip()
    if (returncode, first) in ANSWERS:
        return first, _reason(answer)
    complaints = [text for text in err.read_text("utf-8", errors="replace").splitlines() if text.strip()]
    return "error", complaints[-1] if complaints else f"internal error: exit status {returncode} with output '{first}'"


def _reason(answer: Path) -> str:
    """The sentence of the result, from its JSON file (of a problem file: of the one instance asked about)."""
    from holdfast.verdict import Reason

    try:
        content = json.loads(answer.read_text("utf-8"))
        if "instances" in content:
            from holdfast.report.loop import WORDS

            content = content["instances"][0]
            reason = Reason[content["reason"].upper()]
            sentence = WORDS.get(reason, reason.value)
        else:
            sentence = Reason[content["reason"].upper()].value
    except (OSError, ValueError, KeyError, IndexError):
        return ""
    return f"{sentence}. {content['detail']}" if content.get("detail") else sentence


def _environment() -> dict[str, str]:
    """This environment, with the running copy of the package first on the module path."""
    source = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{path}" if path else source}
