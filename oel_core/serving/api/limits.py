"""Limits of the gateway: concurrent requests, waiting requests, requests per minute."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from oel_core.serving.errors import ApiError

RETRY_S = 1.0


@dataclass
class _Place:
    """Of a request that waits or runs; times are seconds since 1970."""

    arrived: float
    counts_until: float = float("inf")


class Queue:
    """Limits concurrent and waiting requests; first in, first out."""

    def __init__(self, running: int, waiting: int, counts_s: float) -> None:
        """`counts_s`: a request that holds a slot for longer does not count as the oldest any more."""
        self._slots, self._most_waiting, self._counts_s = asyncio.Semaphore(running), waiting, counts_s
        self._places: dict[object, _Place] = {}
        self.running = self.waiting = 0
        self.idle, self.busy = asyncio.Event(), asyncio.Event()
        """Nothing runs or waits; something does."""
        self.idle.set()

    def oldest(self) -> float:
        """When the oldest request arrived that waits or runs, else now: seconds since 1970. For any thread."""
        now = time.time()
        return min([now, *(place.arrived for place in list(self._places.values()) if now < place.counts_until)])

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for a free slot and holds it. Raises ApiError if the queue is full."""
        if self._slots.locked() and self.waiting >= self._most_waiting:
            raise ApiError(429, "too many requests are waiting", code="queue_full", retry_s=RETRY_S)
        key = object()
        self._places[key] = place = _Place(time.time())
        try:
            async with self._held():
                place.counts_until = time.time() + self._counts_s
                yield
        finally:
            del self._places[key]

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        """A slot, without looking at how many wait."""
        self.waiting += 1
        self.busy.set()
        self.idle.clear()
        try:
            await self._slots.acquire()
            self.running += 1
        finally:
            self.waiting -= 1
            self._note_idle()
        try:
            yield
        finally:
            self.running -= 1
            self._slots.release()
            self._note_idle()

    def _note_idle(self) -> None:
        if not (self.running or self.waiting):
            self.busy.clear()
            self.idle.set()


@dataclass
class RateLimit:
    """A token bucket: `per_minute` requests a minute, bursts of a tenth of that."""

    per_minute: float | None
    """None: no limit."""
    _left: float = field(init=False)
    _at: float = field(init=False)
    """Time of the last update of `_left`, on the monotonic clock."""

    def __post_init__(self) -> None:
        self._left, self._at = self._burst, time.monotonic()

    @property
    def _burst(self) -> float:
        return max(1.0, (self.per_minute or 0.0) / 10)

    def take(self) -> None:
        """Takes one token. Raises ApiError with the time until the next one."""
        if self.per_minute is None:
            return
        now, rate = time.monotonic(), self.per_minute / 60
        self._left = min(self._burst, self._left + (now - self._at) * rate)
        self._at = now
        if self._left < 1:
            raise ApiError(429, "too many requests", code="rate_limit_exceeded", retry_s=(1 - self._left) / rate)
        self._left -= 1
