"""Pending requests of a streaming policy, yielded in completion order."""

import time
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from oel_core.config.sampling import Sampling
from oel_core.errors import PromptTooLongError
from oel_core.policies.base import Completion, Request, StreamingPolicy

Item = TypeVar("Item")


@dataclass(frozen=True)
class Completed(Generic[Item]):
    """A finished request and the item it belongs to."""

    item: Item
    answer: Completion | PromptTooLongError
    """The completion, or the error of a prompt that was too long."""
    seconds: float
    """Time pending, each second divided by the number of requests pending in it."""


class PendingCompletions(Generic[Item]):
    """Items, each with a pending request.

    Args:
        policy: the streaming policy.
        sampling: the same for all requests.
    """

    def __init__(self, policy: StreamingPolicy, sampling: Sampling) -> None:
        self._policy, self._sampling = policy, sampling
        self._live: dict[Future[Completion], tuple[Item, float]] = {}
        self._completed: SimpleQueue[Future[Completion]] = SimpleQueue()
        self._at, self._share = time.perf_counter(), 0.0

    def __len__(self) -> int:
        return len(self._live)

    @property
    def has_room(self) -> bool:
        """Whether another request may be submitted now; completed requests must be taken first."""
        return len(self._live) < self._policy.batch_size and self._completed.empty()

    def _shared_s(self) -> float:
        """Seconds so far, each divided by the number of requests pending in it."""
        now = time.perf_counter()
        self._share += (now - self._at) / max(1, len(self._live))
        self._at = now
        return self._share

    def submit(self, item: Item, request: Request) -> None:
        """Submits the item's next request."""
        since = self._shared_s()
        future = self._policy.submit(request, self._sampling)
        self._live[future] = (item, since)
        future.add_done_callback(self._completed.put)

    def next_completed(self) -> Completed[Item]:
        """Waits for the next request to complete.

        Raises:
            PolicyError, ConfigError: as `StreamingPolicy.submit`'s futures, but for a prompt that is too long.
        """
        future = self._completed.get()
        until = self._shared_s()
        item, since = self._live.pop(future)
        try:
            return Completed(item, future.result(), until - since)
        except PromptTooLongError as error:
            return Completed(item, error, until - since)

    def cancel(self) -> None:
        """Cancels all pending requests."""
        for future in self._live:
            future.cancel()
