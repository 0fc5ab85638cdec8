"""Requests on their way to a policy that answers each as soon as it can: whoever asked first need not wait for all."""

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
class Landed(Generic[Item]):
    """One answer, and what it was asked for."""

    item: Item
    answer: Completion | PromptTooLongError
    """Its prompt may not have fitted."""
    seconds: float
    """On its way, each second divided by how many answers were on their way in it."""


class Flight(Generic[Item]):
    """Items whose next answer is on its way.

    Args:
        policy: who answers.
        sampling: how every answer is drawn.
    """

    def __init__(self, policy: StreamingPolicy, sampling: Sampling) -> None:
        self._policy, self._sampling = policy, sampling
        self._live: dict[Future[Completion], tuple[Item, float]] = {}
        self._landed: SimpleQueue[Future[Completion]] = SimpleQueue()
        self._at, self._share = time.perf_counter(), 0.0

    def __len__(self) -> int:
        return len(self._live)

    @property
    def has_room(self) -> bool:
        """Whether another item may start now; answers that wait go first."""
        return len(self._live) < self._policy.batch_size and self._landed.empty()

    def _shared_s(self) -> float:
        """Seconds so far, each divided by how many answers were on their way in it."""
        now = time.perf_counter()
        self._share += (now - self._at) / max(1, len(self._live))
        self._at = now
        return self._share

    def send(self, item: Item, request: Request) -> None:
        """Asks for the item's next answer."""
        since = self._shared_s()
        future = self._policy.submit(request, self._sampling)
        self._live[future] = (item, since)
        future.add_done_callback(self._landed.put)

    def land(self) -> Landed[Item]:
        """Waits for any answer.

        Raises:
            PolicyError, ConfigError: as `StreamingPolicy.submit`'s futures, but for a prompt that is too long.
        """
        future = self._landed.get()
        until = self._shared_s()
        item, since = self._live.pop(future)
        try:
            return Landed(item, future.result(), until - since)
        except PromptTooLongError as error:
            return Landed(item, error, until - since)

    def abandon(self) -> None:
        """Takes all requests back."""
        for future in self._live:
            future.cancel()
