"""Progress as lines of text, where nothing can be drawn: on a plain output, or in a flow run's log."""

import math
import time
from collections.abc import Callable


class ProgressLines:
    """A sink of `tasks.progress`: a line when a stage starts, one when it is done, and some while it lasts.

    Args:
        say: takes the lines.
        between_s: seconds from one line of a stage to the next, at least; by default there are none in between.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        between_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._between_s, self._clock = say, between_s, clock
        self._said: dict[str, float] = {}
        """Stage → when its last line was said."""

    def __call__(self, label: str, done: int, total: int) -> None:
        now = self._clock()
        if label not in self._said:
            self._said[label] = now
            self._say(label)
        if 0 < total == done or now - self._said[label] >= self._between_s:
            self._said[label] = now
            self._say(f"{label}: {done} of {total or '?'}")
