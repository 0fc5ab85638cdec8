"""Serves the registry's champion, and a candidate if there is one, and swaps versions without interrupting requests.

A new version is loaded beside the old one. New requests then go to the new one; running requests finish on the old one,
which is freed after the last of them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Container
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
    """A version that ought to answer."""

    version: str
    """The label in responses: project, version in the registry, digest of the weights."""
    path: str
    """Of its checkpoint."""


@dataclass(frozen=True)
class Registered:
    """What the registry says."""

    champion: Champion
    candidate: Champion | None = None
    """The version that the gate wants to see in the deployment; None: there is none."""


Lookup = Callable[[], Registered]
"""Reads the registry; called in a thread, one call at a time. Exceptions are logged."""
Load = Callable[[Champion], Backend]
"""Loads a version; called in a thread. Raises OelError."""


class ChampionMetrics(Protocol):
    """Receives changes of the served versions."""

    def serving(self, version: str) -> None:
        """This version is the champion from now on."""

    def trying(self, version: str | None) -> None:
        """This version is the candidate from now on; None: there is none."""

    def not_loaded(self) -> None:
        """A version could not be found or loaded."""


@dataclass
class ActiveVersion:
    """A loaded version and the number of its running requests."""

    champion: Champion
    backend: Backend
    running: int = 0
    retired: bool = False


class ChampionManager:
    """The versions that answer now. Used on one event loop."""

    def __init__(
        self, lookup: Lookup, load: Load, refresh_s: float, metrics: ChampionMetrics, withdrawn: Container[str] = ()
    ) -> None:
        """`withdrawn`: versions that are no candidates any more; looked at again each time."""
        self._lookup, self._load, self._refresh_s, self._metrics = lookup, load, refresh_s, metrics
        self._withdrawn = withdrawn
        self._now: ActiveVersion | None = None
        self.candidate: ActiveVersion | None = None
        """The candidate that answers too, if there is one."""
        self._closing: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None

    @property
    def version(self) -> str | None:
        """The champion's version; None before `load` and after `close`."""
        return self._now.champion.version if self._now else None

    def load(self) -> str:
        """Loads the first champion, and returns its version. Raises what lookup and loading raise."""
        champion = self._lookup().champion
        self._now = ActiveVersion(champion, self._load(champion))
        self._metrics.serving(champion.version)
        return champion.version

    async def start(self) -> None:
        """Starts polling for other versions."""
        self._watch = asyncio.create_task(self._poll())

    @asynccontextmanager
    async def acquire(self, candidate: ActiveVersion | None = None) -> AsyncIterator[ActiveVersion]:
        """The champion, or this candidate, kept until the block ends.

        Raises:
            ApiError: the gateway is stopping.
        """
        serving = candidate or self._now
        if serving is None:
            raise ApiError(503, "the gateway is stopping", retry_s=1.0)
        serving.running += 1
        try:
            yield serving
        finally:
            serving.running -= 1
            self._close_if_done(serving)

    async def refresh(self) -> None:
        """Looks once; exchanges champion and candidate if the registry names others. Raises as `load`."""
        found = await asyncio.to_thread(self._lookup)
        if self._now is None or found.champion != self._now.champion:
            self._swap(await self._ready(found.champion))
        wanted = found.candidate
        if wanted is not None and (wanted == found.champion or wanted.version in self._withdrawn):
            wanted = None
        if wanted != (self.candidate and self.candidate.champion):
            self._try(None if wanted is None else await self._ready(wanted))

    async def _ready(self, champion: Champion) -> ActiveVersion:
        """A candidate that becomes the champion is there already."""
        if self.candidate is not None and self.candidate.champion == champion:
            ready, self.candidate = self.candidate, None
            self._metrics.trying(None)
            return ready
        return ActiveVersion(champion, await asyncio.to_thread(self._load, champion))

    def _swap(self, serving: ActiveVersion) -> None:
        before, self._now = self._now, serving
        log.info("serving %s", serving.champion.version)
        self._metrics.serving(serving.champion.version)
        if before is not None:
            self._retire(before)

    def _try(self, serving: ActiveVersion | None) -> None:
        before, self.candidate = self.candidate, serving
        version = serving.champion.version if serving else None
        log.info("the candidate is %s" if version else "there is no candidate any more", *filter(None, [version]))
        self._metrics.trying(version)
        if before is not None:
            self._retire(before)

    def withdraw(self, candidate: ActiveVersion) -> None:
        """Gives it no further request; those that run end on it."""
        if self.candidate is candidate:
            self._try(None)

    def _retire(self, serving: ActiveVersion) -> None:
        serving.retired = True
        self._close_if_done(serving)

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
                log.error("still serving %s: another version was not found or not loaded: %s", self.version, reason)
                self._metrics.not_loaded()
                wait = min(2 * wait, MAX_BACKOFF)

    async def close(self) -> None:
        """Frees the served versions; requests that still run fail."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        last, self._now, self.candidate = (self._now, self.candidate), None, None
        for serving in filter(None, last):
            await serving.backend.close()
        await asyncio.gather(*self._closing, return_exceptions=True)
