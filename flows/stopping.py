"""What every deployed flow does around its work: say which process it is, stand on its own, end at once when asked to.

Cancelled or asked to stop under a worker: leave at once. Whatever is on the disk is safe at any moment.
Prefect would wait for a stage's thread to end, which takes as long as the stage does, and holds the device meanwhile.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows.abandoned import end_children, say_who
from flows.progress_lines import ProgressLines
from flows.services.process import log_path
from flows.telling import tell_killed, within_patience
from oel_core.artifacts import LEASE, RunFolder, require_run_name
from oel_core.lease import drop_own
from tasks.progress import shown_by

STOPPED = 143
"""Exit code of a process that SIGTERM ended, as shells say it."""
LOGGED_EVERY_S = 30.0
"""Between two lines of a stage in the flow run's log."""
END = 0
"""No signal has this number."""


def log_to_file(name: str) -> None:
    """Sends this process's output to `<root>/.oel/logs/<name>.log` instead of the worker that started it.

    The worker reads it through a pipe, and a process whose pipe has lost its reader dies at its next line: the round
    would die with the worker.
    """
    root = os.environ.get("OEL_ROOT")
    if root is None:
        return
    path = log_path(Path(root), name)
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"output goes to {path}", flush=True)
    with path.open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())


@contextmanager
def under_worker(root: Path, name: str) -> Iterator[None]:
    """Ends the process within moments when it is asked to stop within the block; its lease is free after that."""

    require_run_name(name)
    own = str(flow_run.id)
    run = RunFolder(root / name)

    def leave() -> None:
        within_patience(lambda: tell_killed(run), lambda: end_children(own))
        drop_own(run.path / LEASE)
        os._exit(STOPPED)

    log_to_file(name)
    say_who(own)
    with on_sigterm(leave), shown_by(ProgressLines(get_run_logger().info, LOGGED_EVERY_S)):
        yield


@contextmanager
def on_sigterm(leave: Callable[[], None]) -> Iterator[None]:
    """Calls `leave` in a thread of its own as soon as SIGTERM arrives within the block, whatever else is done about it.

    Every Prefect flow and sub-flow sets a handler of its own, and a handler only runs when the main thread comes to
    it. The byte that the interpreter writes for a signal comes at once, past all of them.
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
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writer, bytes([END]))
        watcher.join()
        os.close(reader)
        os.close(writer)
