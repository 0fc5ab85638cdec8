"""Leaving at once on SIGTERM, whatever handlers Prefect has set. Imports nothing heavy: `oel run` needs it early."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

END = 0
"""No signal has this number."""
LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
CRASH = "Crash detected! Execution was aborted by a termination signal"
HALT_S = 10.0
"""Longer than any process takes to leave."""


def halt_before_crash_report(record: logging.LogRecord) -> bool:
    """A filter of Prefect's loggers: the thread that is about to report a SIGTERM as a crash goes no further.

    Prefect writes this line before it sets the state, so neither comes to pass in a process that leaves meanwhile.
    """
    if record.getMessage().startswith(CRASH):
        time.sleep(HALT_S)
    return True


@contextmanager
def on_sigterm(leave: Callable[[], None]) -> Iterator[None]:
    """Calls `leave` in a thread of its own as soon as SIGTERM arrives within the block, whatever else is done about it.

    Every Prefect flow and sub-flow sets a handler of its own, and a handler only runs when the main thread comes to
    it. The byte that the interpreter writes for a signal comes at once, past all of them. `leave` must end the process:
    where the main thread comes to Prefect's handler first, it waits for that instead of calling the end a crash.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while received := os.read(reader, 1)[0]:
            if received == signal.SIGTERM:
                leave()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for name in LOGGERS:
        logging.getLogger(name).addFilter(halt_before_crash_report)
    try:
        yield
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(halt_before_crash_report)
        signal.set_wakeup_fd(before)
        os.write(writer, bytes([END]))
        watcher.join()
        os.close(reader)
        os.close(writer)
