"""Reports a run's end to Prefect and MLflow within a short timeout; otherwise the next start does it."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from oel_core.runs.folder import RunFolder

TIMEOUT_S = 3.0


def mark_run_killed(run: RunFolder) -> None:
    """Marks the MLflow run as killed, within `TIMEOUT_S`."""
    if "tasks.tracking.client" not in sys.modules:
        return

    def mark() -> None:
        from tasks.tracking.client import mark_killed
        from tasks.tracking.settings import load_settings

        mark_killed(load_settings(), run)

    run_within_timeout(mark)


def mark_run_cancelled(run: RunFolder) -> None:
    """Marks the Prefect flow run, if any, as cancelled, in an interrupted process."""
    if "flows.recovery.abandoned" not in sys.modules:
        return
    from flows.recovery.abandoned import cancel_noted

    cancel_noted(run)


def run_within_timeout(*acts: Callable[[], None]) -> None:
    """Runs all functions concurrently, for at most `TIMEOUT_S`; failures are ignored."""

    def quietly(act: Callable[[], None]) -> None:
        with suppress(Exception):
            act()

    threads = [threading.Thread(target=quietly, args=(act,), daemon=True) for act in acts]
    until = time.monotonic() + TIMEOUT_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
