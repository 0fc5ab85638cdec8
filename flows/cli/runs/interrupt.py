"""Ctrl-C during a run exits immediately; the files on disk are consistent at any moment.

If the exception propagated, Prefect would report to the temporary server, which the same Ctrl-C has ended, and wait
minutes for its response.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from flows.cli.shared import err
from flows.recovery.ending import mark_run_cancelled, mark_run_killed, run_within_timeout
from flows.recovery.sigterm import on_sigterm
from oel_core.runs.folder import RunFolder


@contextmanager
def leaving_at_once(run: RunFolder, exit_code: int) -> Iterator[None]:
    """Exits with `exit_code` on SIGINT or SIGTERM within the block."""

    def leave(number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        err.print("\nInterrupted. Run the same command again to resume.", style="red")
        run_within_timeout(lambda: mark_run_killed(run), lambda: mark_run_cancelled(run))
        from flows.local import kill_temporary_server

        kill_temporary_server()
        sys.stdout.flush()
        os._exit(exit_code)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with on_sigterm(leave):  # Prefect's flows replace the handler
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
