"""Telling the servers that a run ends now, as far as moments allow; a rerun finds out anyway."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from oel_core.runs.folder import RunFolder

TIMEOUT_S = 3.0


def tell_killed(run: RunFolder) -> None:
    """Marks the run as killed where it is tracked, if that is possible within `TIMEOUT_S`."""
    if "tasks.tracking.client" not in sys.modules:
        return

    def mark() -> None:
        from tasks.tracking.client import mark_killed
        from tasks.tracking.settings import load_settings

        mark_killed(load_settings(), run)

    within_timeout(mark)


def tell_cancelled(run: RunFolder) -> None:
    """Marks the run's flow run as cancelled in Prefect, if one was begun; for a process that was interrupted."""
    if "flows.recovery.abandoned" not in sys.modules:
        return
    from flows.recovery.abandoned import cancel_noted

    cancel_noted(run)


def within_timeout(*acts: Callable[[], None]) -> None:
    """Does all of them at once and waits no longer than `TIMEOUT_S`; what fails is left to whoever comes next."""

    def quietly(act: Callable[[], None]) -> None:
        with suppress(Exception):
            act()

    threads = [threading.Thread(target=quietly, args=(act,), daemon=True) for act in acts]
    until = time.monotonic() + TIMEOUT_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
