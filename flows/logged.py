"""Progress as lines of a flow run's log, which the Prefect UI shows."""

import logging
import time
from collections.abc import Callable

BETWEEN_S = 30.0


class LoggedProgress:
    """A sink of `tasks.progress`: a line when a stage starts, one when it is done, and some while it lasts.

    Args:
        log: takes the lines.
        between_s: seconds from one line of a stage to the next, at least.
    """

    def __init__(
        self,
        log: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
        between_s: float = BETWEEN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._between_s, self._clock = log, between_s, clock
        self._label: str | None = None
        self._said = 0.0

    def __call__(self, label: str, done: int, total: int) -> None:
        now, finished = self._clock(), 0 < total == done
        if label != self._label:
            self._label, self._said = label, now
            self._log.info(label)
            if not finished:
                return
        if finished or now - self._said >= self._between_s:
            self._said = now
            self._log.info("%s: %d of %s", label, done, total or "?")
