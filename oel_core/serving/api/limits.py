"""How much the gateway takes on: requests at once, requests that wait, requests a minute."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from oel_core.serving.errors import ApiError

RETRY_S = 1.0


class Queue:
    """Lets so many requests run at once and so many more wait, first come, first served."""

    def __init__(self, running: int, waiting: int) -> None:
        self._room, self._most_waiting = asyncio.Semaphore(running), waiting
        self.running = self.waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Waits for its turn. Raises ApiError when too many wait already."""
        if self._room.locked() and self.waiting >= self._most_waiting:
            raise ApiError(429, "too many requests are waiting", code="queue_full", retry_s=RETRY_S)
        self.waiting += 1
        try:
            await self._room.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._room.release()


@dataclass
class Rate:
    """A token bucket: so many requests a minute, up to a tenth of them at once."""

    per_minute: float | None
    """None: no limit."""
    _left: float = field(init=False)
    _at: float = field(init=False)
    """When `_left` was right, on the monotonic clock."""

    def __post_init__(self) -> None:
        self._left, self._at = self._most, time.monotonic()

    @property
    def _most(self) -> float:
        return max(1.0, (self.per_minute or 0.0) / 10)

    def take(self) -> None:
        """Counts a request. Raises ApiError with the time until the next one may come."""
        if self.per_minute is None:
            return
        now, rate = time.monotonic(), self.per_minute / 60
        self._left = min(self._most, self._left + (now - self._at) * rate)
        self._at = now
        if self._left < 1:
            raise ApiError(429, "too many requests", code="rate_limit_exceeded", retry_s=(1 - self._left) / rate)
        self._left -= 1
