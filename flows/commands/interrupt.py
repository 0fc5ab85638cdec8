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

from flows.commands.shared import err
from flows.telling import tell_killed
from oel_core.artifacts import RunFolder


@contextmanager
def leaving_at_once(run: RunFolder, exit_code: int) -> Iterator[None]:
    """Ends the process with `exit_code` when it is interrupted or asked to stop within the block."""

    def leave(number: int, frame: FrameType | None) -> None:
        err.print("\nInterrupted. Run the same command again to go on.", style="red")
        tell_killed(run)
        from flows.local import kill_temporary_server

        kill_temporary_server()
        sys.stdout.flush()
        os._exit(exit_code)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
