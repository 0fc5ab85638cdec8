"""What every deployed flow does around its work: say which process it is, stand on its own, end at once when asked to.

Cancelled or asked to stop under a worker: leave at once. Whatever is on the disk is safe at any moment.
Prefect would wait for a stage's thread to end, which takes as long as the stage does, and holds the device meanwhile.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from prefect.runtime import flow_run

from flows.abandoned import say_who
from flows.services.process import log_path
from flows.telling import tell_killed
from oel_core.artifacts import LEASE, RunFolder
from oel_core.lease import drop_own

STOPPED = 143
"""Exit code of a process that SIGTERM ended, as shells say it."""


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

    def leave(number: int, frame: FrameType | None) -> None:
        run = RunFolder(root / name)
        tell_killed(run)
        drop_own(run.path / LEASE)
        sys.stdout.flush()
        os._exit(STOPPED)

    log_to_file(name)
    say_who(str(flow_run.id))
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
