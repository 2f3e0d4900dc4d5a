"""Many benchmark instances, several at a time: rows come back in the order in which the instances end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence

from holdfast.cli.execution import Executor
from holdfast.cli.in_process import InProcess
from holdfast.cli.instances import Instance
from holdfast.report.bench import Row


def run_all(
    instances: Sequence[Instance], new_executor: Callable[[], Executor], jobs: int
) -> Generator[Row | None, None, None]:
    """Yield a row per instance, or None for one that was interrupted. Closing the iterator ends what still runs."""
    if jobs == 1 and isinstance(executor := new_executor(), InProcess):
        yield from map(executor.run, instances)  # in the main thread, which gets the interrupts
        return
    waiting: queue.SimpleQueue[Instance] = queue.SimpleQueue()
    done: queue.SimpleQueue[Row | BaseException | None] = queue.SimpleQueue()
    stopped = threading.Event()
    for instance in instances:
        waiting.put(instance)

    def work(executor: Executor) -> None:
        try:
            while not stopped.is_set():
                try:
                    instance = waiting.get_nowait()
                except queue.Empty:
                    return
                done.put(executor.run(instance))
        except BaseException as error:  # carried to the main thread, which raises it
            done.put(error)

    executors = [new_executor() for _ in range(min(jobs, len(instances)))]
    threads = [threading.Thread(target=work, args=(executor,), daemon=True) for executor in executors]
    try:
        for thread in threads:
            thread.start()
        for _ in instances:
            row = done.get()
            if isinstance(row, BaseException):
                raise row
            yield row
    finally:
        stopped.set()
        for executor in executors:
            executor.stop()
        for thread in threads:
            thread.join(timeout=5.0)
