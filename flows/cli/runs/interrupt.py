"""Ctrl-C during a run: leave at once. Everything on disk is safe at any moment, so there is nothing to wait for.

Letting the exception travel instead would have Prefect report to a temporary server that the same Ctrl-C has ended,
and wait minutes for its answer.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from flows.cli.shared import err
from flows.recovery.ending import tell_cancelled, tell_killed, within_timeout
from flows.recovery.sigterm import on_sigterm
from oel_core.runs.folder import RunFolder


@contextmanager
def leaving_at_once(run: RunFolder, exit_code: int) -> Iterator[None]:
    """Ends the process with `exit_code` when it is interrupted or asked to stop within the block."""

    def leave(number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        err.print("\nInterrupted. Run the same command again to go on.", style="red")
        within_timeout(lambda: tell_killed(run), lambda: tell_cancelled(run))
        from flows.local import kill_temporary_server

        kill_temporary_server()
        sys.stdout.flush()
        os._exit(exit_code)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with on_sigterm(leave):  # Prefect's flows set a handler of their own for it
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
