"""Exits immediately on SIGTERM, bypassing Prefect's handlers. Lightweight imports: `oel run` needs it early."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

END = 0
"""Sentinel; no signal has this number."""
LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
CRASH = "Crash detected! Execution was aborted by a termination signal"
HALT_S = 10.0
"""Seconds; longer than an exit takes."""


def halt_before_crash_report(record: logging.LogRecord) -> bool:
    """A logging filter that blocks the thread in which Prefect is about to report a SIGTERM as a crash.

    Prefect logs this line before it sets the state, so neither happens if the process exits meanwhile.
    """
    if record.getMessage().startswith(CRASH):
        time.sleep(HALT_S)
    return True


@contextmanager
def on_sigterm(leave: Callable[[], None]) -> Iterator[None]:
    """Calls `leave` in a separate thread when SIGTERM arrives within the block, independent of other handlers.

    Every Prefect flow sets its own handler, and handlers run only when the main thread returns to the interpreter. The
    wakeup file descriptor (`signal.set_wakeup_fd`) is written at once instead. `leave` must end the process: Prefect's
    handler, if it runs first, is blocked until then, so that the end is not reported as a crash.
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
