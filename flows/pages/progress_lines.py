"""Progress as lines of text, where nothing can be drawn: on a plain output, or in a flow run's log."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from flows.pages.time_left import duration, stage_left

RoundLeft = Callable[[float], float | None]
"""Seconds that the round still takes, given how long its present stage has worked; None where it is not known."""


def unknown(elapsed_s: float) -> float | None:
    """The `left` of a caller who knows no round."""
    return None


@dataclass
class _Stage:
    """What is known of one stage."""

    since: float
    said: float
    """When its last line was said."""
    begun_at: int
    """How much was done when it was first heard of: more than nothing where a killed attempt is gone on with."""


class ProgressLines:
    """A sink of `tasks.progress`: a line when a stage starts, one when it is done, and some while it lasts.

    Args:
        say: takes the lines.
        between_s: seconds from one line of a stage to the next, at least; by default there are none in between.
        left: how long the round still takes.
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
        """What is left of the round, where it is known; a list of one or none."""
        seconds = self._left(elapsed_s)
        return [] if seconds is None else [f"the round about {duration(seconds)}"]


def _bracketed(*parts: str) -> str:
    return f" ({'; '.join(parts)})" if parts else ""
