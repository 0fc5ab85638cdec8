"""Process handling of deployed flows: records the process, detaches its output, and exits immediately on SIGTERM.

An immediate exit is safe, because the files on disk are consistent at any moment. Prefect would wait for the stage's
thread to end, which takes as long as the stage and holds the device meanwhile.
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
from flows.recovery.abandoned import end_children, record_process
from flows.recovery.ending import TIMEOUT_S, mark_run_killed, run_within_timeout
from flows.recovery.sigterm import on_sigterm
from flows.services.process import log_path
from oel_core.runs.folder import LEASE, RunFolder, require_run_name
from oel_core.runs.lease import remove_own_lease
from tasks.progress import shown_by

STOPPED = 143
"""Exit code of a process ended by SIGTERM, by shell convention (128 + 15)."""
LOGGED_EVERY_S = 30.0
"""Minimum seconds between two progress lines of a stage in the flow run's log."""


def log_to_file(name: str) -> None:
    """Redirects this process's output to `<root>/.oel/logs/<name>.log` instead of the worker's pipe.

    When the worker exits, the next write to its pipe would raise SIGPIPE and end the round.
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
    """Exits immediately on SIGTERM within the block and releases the lease."""

    require_run_name(name)
    own = str(flow_run.id)
    run = RunFolder(root / name)

    logger = get_run_logger()

    def say() -> None:
        logger.info("Received SIGTERM, exiting now. Finished work is kept; the next trigger resumes the round.")
        APILogWorker.drain_all(timeout=TIMEOUT_S)

    def leave() -> None:
        try:
            run_within_timeout(say, lambda: mark_run_killed(run), lambda: end_children(own))
            remove_own_lease(run.path / LEASE)
        finally:
            os._exit(STOPPED)

    log_to_file(name)
    record_process(own)
    lines = ProgressLines(logger.info, LOGGED_EVERY_S, left=RoundTime(run))
    with on_sigterm(leave), shown_by(lines):
        yield
