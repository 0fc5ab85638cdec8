"""What every deployed flow does around its work: say which process it is, and end at once when it is asked to.

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
from flows.telling import tell_killed
from oel_core.artifacts import LEASE, RunFolder
from oel_core.lease import drop_own

STOPPED = 143
"""Exit code of a process that SIGTERM ended, as shells say it."""


@contextmanager
def under_worker(root: Path, name: str) -> Iterator[None]:
    """Ends the process within moments when it is asked to stop within the block; its lease is free after that."""

    def leave(number: int, frame: FrameType | None) -> None:
        run = RunFolder(root / name)
        tell_killed(run)
        drop_own(run.path / LEASE)
        sys.stdout.flush()
        os._exit(STOPPED)

    say_who(str(flow_run.id))
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
