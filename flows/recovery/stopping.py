"""What every deployed flow does around its work: say which process it is, stand on its own, end at once when asked to.

Cancelled or asked to stop under a worker: leave at once. Whatever is on the disk is safe at any moment.
Prefect would wait for a stage's thread to end, which takes as long as the stage does, and holds the device meanwhile.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.logging import get_run_logger
from prefect.logging.handlers import APILogWorker
from prefect.runtime import flow_run

from flows.pages.progress_lines import ProgressLines
from flows.pages.time_left import RoundTime
from flows.recovery.abandoned import end_children, say_who
from flows.recovery.ending import TIMEOUT_S, tell_killed, within_timeout
from flows.recovery.sigterm import on_sigterm
from flows.services.process import log_path
from oel_core.runs.folder import LEASE, RunFolder, require_run_name
from oel_core.runs.lease import drop_own
from tasks.progress import shown_by

STOPPED = 143
"""Exit code of a process that SIGTERM ended, as shells say it."""
LOGGED_EVERY_S = 30.0
"""Between two lines of a stage in the flow run's log."""


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

    logger = get_run_logger()

    def say() -> None:
        logger.info("Asked to end, and ends now. What is finished stays; the next trigger goes on with the round.")
        APILogWorker.drain_all(timeout=TIMEOUT_S)

    def leave() -> None:
        try:
            within_timeout(say, lambda: tell_killed(run), lambda: end_children(own))
            drop_own(run.path / LEASE)
        finally:
            os._exit(STOPPED)

    log_to_file(name)
    say_who(own)
    lines = ProgressLines(logger.info, LOGGED_EVERY_S, left=RoundTime(run))
    with on_sigterm(leave), shown_by(lines):
        yield
