"""The recorder: one thread that writes answered calls and feedback to the journal in batches.

An answer ends once its call is on the disk. If the disk fails or is slow, the answer is sent after a short wait; the
call stays in memory and is written when the disk works again. Calls beyond `WAITING` are lost, counted and logged.
"""

import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from oel_core.errors import OelError
from oel_core.imports.episode import text_of
from oel_core.imports.privacy import Masking, Privacy
from oel_core.imports.records import Call
from oel_core.imports.stitching import Conversation, conversation
from oel_core.serving.recording.feedback import ClientFeedback
from oel_core.serving.recording.handover import BATCH as EXPORT_BATCH
from oel_core.serving.recording.handover import Handover
from oel_core.serving.recording.journal import Journal, Taken

log = logging.getLogger(__name__)
BATCH = 256
"""Maximum records per transaction."""
WAITING = 1000
"""Maximum calls kept in memory while the disk fails."""
RETRY_S = 2.0
SWEEP_S = 5.0
"""Maximum seconds between two exports of finished conversations."""
FAILURES = (sqlite3.Error, OSError)


class RecorderMetrics(Protocol):
    """Receives the recorder's counters."""

    def recorded(self, calls: int) -> None:
        """Calls written to the disk."""

    def lost(self, calls: int) -> None:
        """Calls that are lost."""

    def failed(self, waiting: int) -> None:
        """A write failed; `waiting` calls are kept for the next attempt."""

    def handed_over(self, episodes: int) -> None:
        """Conversations exported to the inbox."""


@dataclass
class _PendingCall:
    """A call that is not written yet."""

    call: Call
    done: Future[bool] = field(default_factory=Future)
    ready: tuple[Call, Conversation, bool] | None = None
    """The masked call, its digests, and whether it is private."""


@dataclass
class _PendingFeedback:
    given: ClientFeedback
    done: Future[Taken | None] = field(default_factory=Future)


@dataclass
class _PendingShadow:
    """A shadow answer; nobody waits for it, and one that the disk does not take is lost."""

    about: str
    """Id of the call that was answered."""
    call: Call


_Pending = _PendingCall | _PendingFeedback | _PendingShadow


class Recorder:
    """Records calls and feedback between `start` and `close`; `close` writes pending ones if the disk works."""

    def __init__(
        self,
        journal: Journal,
        handover: Handover,
        masking: Masking,
        privacy: Privacy,
        idle_s: float,
        counts: RecorderMetrics,
        on_recorded: Callable[[Call], None] = lambda call: None,
        oldest: Callable[[], float] = time.time,
    ) -> None:
        """`on_recorded` is told of every call that is on the disk, masked; it must not wait. `oldest` is the arrival of
        the oldest request that is not answered yet, or now: it may continue a conversation, which is idle no longer.
        """
        self._on_recorded, self._oldest = on_recorded, oldest
        self._journal, self._handover, self._idle_s, self._counts = journal, handover, idle_s, counts
        self._masking, self._privacy = masking, privacy
        self._inbound: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._waiting: deque[_PendingCall] = deque()
        self._next_sweep = 0.0
        self._closing = False
        self.healthy = True
        """Whether the last write reached the disk."""
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def start(self) -> None:
        """Starts the thread, which first exports conversations left by an earlier process."""
        self._thread.start()

    def record(self, call: Call) -> Future[bool]:
        """Queues a call. The future's result: true once it is on the disk, false if the write failed or it is lost."""
        pending = _PendingCall(call)
        if self._thread.is_alive():
            self._inbound.put(pending)
        else:
            self._lose(1)
            pending.done.set_result(False)
        return pending.done

    def shadow(self, about: str, call: Call) -> None:
        """Takes what a candidate would have answered in place of the call `about`."""
        self._inbound.put(_PendingShadow(about, call))

    def add_feedback(self, given: ClientFeedback) -> Future[Taken | None]:
        """Takes feedback; see `Journal.add_feedback`. The future raises what the disk said where it was not written."""
        pending = _PendingFeedback(given)
        if self._thread.is_alive():
            self._inbound.put(pending)
        else:
            pending.done.set_exception(OSError("the recorder has ended"))
        return pending.done

    def close(self, timeout_s: float = 10.0) -> None:
        """Writes what is queued and ends the thread."""
        self._inbound.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.error("the recorder did not end in %g s: what it still had is lost", timeout_s)

    def _work(self) -> None:
        try:
            while not self._closing:
                self._write(self._next_batch())
                if time.monotonic() >= self._next_sweep:
                    self._sweep()
        except Exception:
            log.exception("the recorder has ended by an error: conversations are not recorded any more")
            self.healthy = False
        self._give_up()
        self._journal.close()

    def _give_up(self) -> None:
        """At the end: counts unwritten calls as lost and completes all futures."""
        with suppress(queue.Empty):
            while True:
                found = self._inbound.get_nowait()
                if isinstance(found, _PendingCall):
                    self._waiting.append(found)
                elif isinstance(found, _PendingFeedback):
                    found.done.set_exception(OSError("the recorder has ended"))
        if self._waiting:
            self._lose(len(self._waiting))
        for one in self._waiting:
            _settle(one.done, False)

    def _next_batch(self) -> list[_Pending]:
        """Waits for records, at most until the next attempt or export is due."""
        timeout_s = RETRY_S if self._waiting else max(0.0, self._next_sweep - time.monotonic())
        batch: list[_Pending] = []
        try:
            found = self._inbound.get(timeout=timeout_s) if timeout_s else self._inbound.get_nowait()
            while True:
                if found is None:
                    self._closing = True
                    break
                batch.append(found)
                if len(batch) >= BATCH:
                    break
                found = self._inbound.get_nowait()
        except queue.Empty:
            pass
        return batch

    def _write(self, batch: list[_Pending]) -> None:
        """Writes waiting calls and the batch in one transaction."""
        fresh = [one for one in batch if isinstance(one, _PendingCall) and self._prepare(one)]
        self._waiting += fresh
        rated = [one for one in batch if isinstance(one, _PendingFeedback)]
        given = [self._masked(one.given) for one in rated]
        shadows = [found for one in batch if isinstance(one, _PendingShadow) and (found := self._shadow(one))]
        if not (self._waiting or rated or shadows):
            return
        now = time.time()
        try:
            with self._journal.transaction():
                for one in self._waiting:
                    assert one.ready is not None
                    call, talk, private = one.ready
                    self._journal.add(call, talk, now, private=private)
                answers = [self._journal.add_feedback(one, now) for one in given]
                for about, version, response in shadows:
                    self._journal.shadow(about, version, response, now)
        except FAILURES as error:
            self._failed(fresh, rated, error)
            return
        self._recovered()
        self._counts.recorded(len(self._waiting))
        recorded = [one.ready for one in self._waiting if one.ready is not None]
        self._waiting.clear()
        for one in fresh:
            _settle(one.done, True)
        for one_rated, answer in zip(rated, answers, strict=True):
            _settle(one_rated.done, answer)
        for call, _, private in recorded:
            if not private:
                self._on_recorded(call)

    def _masked(self, given: ClientFeedback) -> ClientFeedback:
        """Masks feedback; ids of session and user become pseudonyms in every privacy mode."""
        kept = self._privacy is Privacy.KEEP
        feedback = given.feedback if kept else self._masking.feedback(given.feedback)
        ids = {"session": self._masking.id(given.session), "user": self._masking.id(given.user)}
        return given.model_copy(update={"feedback": feedback, **ids})

    def _shadow(self, one: _PendingShadow) -> tuple[str, str, str] | None:
        """The answered call, the version, and what it would have answered; None where that may not be written down."""
        call = one.call if self._privacy is Privacy.KEEP else self._masking.call(one.call)
        if self._privacy is Privacy.DROP and call != one.call:
            return None
        return one.about, one.call.model, text_of(call)

    def _prepare(self, one: _PendingCall) -> bool:
        """Masks a call. Returns false for one that cannot be serialised; it is counted as lost."""
        try:
            digests = conversation(one.call)
            ids = {"session": self._masking.id(one.call.session), "user": self._masking.id(one.call.user)}
            plain = one.call.model_copy(update=ids)
            call = plain if self._privacy is Privacy.KEEP else self._masking.call(plain)
            call.model_dump_json()
        except (OelError, ValueError, RecursionError) as error:
            log.error("a call cannot be recorded: %s", error)
            self._lose(1)
            _settle(one.done, False)
            return False
        one.ready = (call, digests, self._privacy is Privacy.DROP and call != plain)
        return True

    def _failed(self, fresh: list[_PendingCall], rated: list[_PendingFeedback], error: Exception) -> None:
        if self.healthy:
            log.error("conversations are not recorded: %s. Answers go on; the recorder tries again", error)
        self.healthy = False
        over = len(self._waiting) - WAITING
        if over > 0:
            for _ in range(over):
                self._waiting.popleft()
            self._lose(over)
        self._counts.failed(len(self._waiting))
        for one in fresh:
            _settle(one.done, False)
        for one_rated in rated:
            if one_rated.done.set_running_or_notify_cancel():
                one_rated.done.set_exception(error)

    def _recovered(self) -> None:
        if not self.healthy:
            log.warning("conversations are recorded again")
        self.healthy = True

    def _lose(self, calls: int) -> None:
        log.error("%d answered call(s) are lost: they were not recorded", calls)
        self._counts.lost(calls)

    def _sweep(self) -> None:
        self._next_sweep = time.monotonic() + min(SWEEP_S, self._idle_s)
        try:
            found = self._handover.run(self._idle_s, self._oldest())
        except FAILURES as error:
            log.error("conversations that are over do not reach the inbox: %s. The recorder tries again", error)
            self._counts.failed(len(self._waiting))
        else:
            self._counts.handed_over(found)
            if found >= EXPORT_BATCH:
                self._next_sweep = 0.0


def _settle(done: Future[Any], value: bool | Taken | None) -> None:
    """Completes the future unless it is done or cancelled."""
    if not done.done() and done.set_running_or_notify_cancel():
        done.set_result(value)
