"""Serves the registry's champion and swaps versions without interrupting requests.

A new champion is loaded beside the old one. New requests then go to the new one; running requests finish on the old
one, which is freed after the last of them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from oel_core.errors import OelError
from oel_core.serving.answering.base import Backend
from oel_core.serving.errors import ApiError

log = logging.getLogger(__name__)
MAX_BACKOFF = 12
"""After a failed load the polling interval doubles, up to this factor."""


@dataclass(frozen=True)
class Champion:
    """The version to be served."""

    version: str
    """The label in responses: project, version in the registry, digest of the weights."""
    path: str
    """Of its checkpoint."""


Lookup = Callable[[], Champion]
"""Reads the champion from the registry; called in a thread, one call at a time. Exceptions are logged."""
Load = Callable[[Champion], Backend]
"""Loads a champion; called in a thread. Raises OelError."""


class ChampionMetrics(Protocol):
    """Receives changes of the served version."""

    def serving(self, version: str) -> None:
        """This version is served from now on."""

    def not_loaded(self) -> None:
        """A champion could not be found or loaded."""


@dataclass
class ActiveVersion:
    """A loaded version and the number of its running requests."""

    champion: Champion
    backend: Backend
    running: int = 0
    retired: bool = False


class ChampionManager:
    """Holds the served version. Used on one event loop."""

    def __init__(self, lookup: Lookup, load: Load, refresh_s: float, metrics: ChampionMetrics) -> None:
        self._lookup, self._load, self._refresh_s, self._metrics = lookup, load, refresh_s, metrics
        self._now: ActiveVersion | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None

    @property
    def version(self) -> str | None:
        """The served version; None before `load` and after `close`."""
        return self._now.champion.version if self._now else None

    def load(self) -> str:
        """Loads the first version and returns its label. Raises what `lookup` and `load` raise."""
        champion = self._lookup()
        self._now = ActiveVersion(champion, self._load(champion))
        self._metrics.serving(champion.version)
        return champion.version

    async def start(self) -> None:
        """Starts polling for other versions."""
        self._watch = asyncio.create_task(self._poll())

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[ActiveVersion]:
        """The served version, kept loaded until the block ends.

        Raises:
            ApiError: the gateway is stopping.
        """
        serving = self._now
        if serving is None:
            raise ApiError(503, "the gateway is stopping", retry_s=1.0)
        serving.running += 1
        try:
            yield serving
        finally:
            serving.running -= 1
            self._close_if_done(serving)

    async def refresh(self) -> None:
        """Polls once and swaps the version if the registry names another. Raises as `load`."""
        found = await asyncio.to_thread(self._lookup)
        if self._now is None or found != self._now.champion:
            self._swap(ActiveVersion(found, await asyncio.to_thread(self._load, found)))

    def _swap(self, serving: ActiveVersion) -> None:
        before, self._now = self._now, serving
        log.info("serving %s", serving.champion.version)
        self._metrics.serving(serving.champion.version)
        if before is not None:
            before.retired = True
            self._close_if_done(before)

    def _close_if_done(self, serving: ActiveVersion) -> None:
        if serving.retired and serving.running == 0:
            serving.retired = False  # closed once
            task = asyncio.create_task(serving.backend.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _poll(self) -> None:
        wait = 1
        while True:
            await asyncio.sleep(self._refresh_s * wait)
            try:
                await self.refresh()
                wait = 1
            except Exception as error:
                reason = error if isinstance(error, OelError) else f"{type(error).__name__}: {error}"
                log.error("still serving %s: another champion was not found or not loaded: %s", self.version, reason)
                self._metrics.not_loaded()
                wait = min(2 * wait, MAX_BACKOFF)

    async def close(self) -> None:
        """Frees the served version; requests that still run fail."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        last, self._now = self._now, None
        if last is not None:
            await last.backend.close()
        await asyncio.gather(*self._closing, return_exceptions=True)
