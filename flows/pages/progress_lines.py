"""Progress as lines of text, for plain output and flow run logs."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from flows.pages.time_left import duration, stage_left

RoundLeft = Callable[[float], float | None]
"""Remaining seconds of the round, given the elapsed seconds of its present stage; None where unknown."""


def unknown(elapsed_s: float) -> float | None:
    """The default `left`: unknown."""
    return None


@dataclass
class _Stage:
    """Progress of one stage."""

    since: float
    said: float
    """Time of its last line."""
    begun_at: int
    """Completed units at its first report; above 0 for a resumed stage."""


class ProgressLines:
    """A sink of `tasks.progress`: a line when a stage starts, one when it ends, and periodic ones in between.

    Args:
        say: called with each line.
        between_s: minimum seconds between two lines of a stage; by default there are no periodic lines.
        left: remaining time of the round.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        between_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        left: RoundLeft = unknown,
    ) -> None:
        self._say, self._between_s, self._clock, self._left = say, between_s, clock, left
        self._stages: dict[str, _Stage] = {}

    def __call__(self, label: str, done: int, total: int) -> None:
        now = self._clock()
        if label not in self._stages:
            self._stages[label] = _Stage(now, now, done)
            self._say(label + _bracketed(*self._of_round(0.0)))
        stage = self._stages[label]
        if 0 < total == done:
            stage.said = now
            self._say(f"{label}: {done} of {total}")
        elif now - stage.said >= self._between_s:
            stage.said = now
            own = stage_left(now - stage.since, stage.begun_at, done, total)
            parts = [f"about {duration(own)} left"] if own is not None else []
            self._say(f"{label}: {done} of {total or '?'}{_bracketed(*parts, *self._of_round(now - stage.since))}")

    def _of_round(self, elapsed_s: float) -> list[str]:
        """Remaining time of the round as a list of one text, or an empty list where unknown."""
        seconds = self._left(elapsed_s)
        return [] if seconds is None else [f"the round about {duration(seconds)}"]


def _bracketed(*parts: str) -> str:
    return f" ({'; '.join(parts)})" if parts else ""
