"""Recorded answers shown to people elsewhere (in MLflow's UI), and the feedback that they give there.

One thread does both. Whoever shows the answers may be slow or away: nobody waits for it, and an answer that is not
shown is recorded all the same; only feedback on it cannot be given there.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from oel_core.imports.records import Call
from oel_core.serving.recording.feedback import ClientFeedback

log = logging.getLogger(__name__)
WAITING = 1000
"""Answers that wait to be shown; further ones are not."""
CLOSING_S = 10.0
"""Longest wait for what is still to be shown."""


class Viewer(Protocol):
    """Where people look at answers. May raise anything, which is logged."""

    def show(self, call: Call) -> None:
        """Shows an answer, masked."""

    def feedback(self) -> Iterable[ClientFeedback]:
        """What people said about answers lately, each with a `source_id`; may give the same again."""


class Traces:
    """Shows what it is given, and looks for feedback."""

    def __init__(self, viewer: Viewer, every_s: float, on_feedback: Callable[[ClientFeedback], None]) -> None:
        """Looks for feedback every `every_s` seconds; calls `on_feedback` once for each `source_id`."""
        self._viewer, self._every_s, self._on_feedback = viewer, every_s, on_feedback
        self._calls: queue.Queue[Call | None] = queue.Queue(WAITING)
        self._given: set[str] = set()
        self._failing = False
        self._thread = threading.Thread(target=self._work, name="traces", daemon=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Works until the block ends, and shows then what waits. Feedback of that time is read after the next start."""
        self._thread.start()
        try:
            yield
        finally:
            with suppress(queue.Full):
                self._calls.put(None, timeout=CLOSING_S)
                self._thread.join(CLOSING_S)

    def show(self, call: Call) -> None:
        """Takes an answer; never waits."""
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._failed("too many answers wait to be shown")

    def _work(self) -> None:
        look_at = time.monotonic() + self._every_s
        closing = False
        while not closing:
            try:
                call = self._calls.get(timeout=max(0.0, look_at - time.monotonic()))
                closing = call is None
                if call is not None:
                    self._attempt(lambda call=call: self._viewer.show(call))  # type: ignore[misc]
            except queue.Empty:
                pass
            if not closing and time.monotonic() >= look_at:
                self._attempt(self._look)
                look_at = time.monotonic() + self._every_s

    def _look(self) -> None:
        for given in self._viewer.feedback():
            if given.source_id not in self._given:
                self._on_feedback(given)
                self._given.add(given.source_id)

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
            self._failing = False
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}")

    def _failed(self, why: str) -> None:
        if not self._failing:
            log.error("answers are not shown, or feedback on them is not read: %s. Answers and records go on", why)
        self._failing = True
