"""Telling the tracking server that a run ends now, as far as moments allow; a rerun finds out anyway."""

import sys
import threading

from oel_core.artifacts import RunFolder

PATIENCE_S = 3.0


def tell_killed(run: RunFolder) -> None:
    """Marks the run as killed where it is tracked, if that is possible within `PATIENCE_S`."""
    if "tasks.tracking" not in sys.modules:
        return

    def mark() -> None:
        from tasks.tracking import mark_killed
        from tasks.tracking_settings import load_settings

        mark_killed(load_settings(), run)

    teller = threading.Thread(target=mark, daemon=True)
    teller.start()
    teller.join(PATIENCE_S)
