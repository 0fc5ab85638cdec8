"""Which version of the model answers: the registry's champion, exchanged while requests are being answered.

A new champion is loaded beside the old one. From one moment on new requests go to the new one; those that run end on
the old one, which is freed after the last of them.
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
SLOWEST = 12
"""A champion that cannot be loaded is tried again after two looks, then four, up to this many times the interval."""


@dataclass(frozen=True)
class Champion:
    """The version that ought to answer."""

    version: str
    """What answers say of themselves: project, version in the registry, digest of the weights."""
    path: str
    """Of its checkpoint."""


Lookup = Callable[[], Champion]
"""Asks the registry; called in a thread, one call at a time. May raise anything, which is logged."""
Load = Callable[[Champion], Backend]
"""Makes a champion ready; called in a thread. Raises OelError."""


class Watching(Protocol):
    """Who is told of changes of the champion."""

    def serving(self, version: str) -> None:
        """This version answers from now on."""

    def not_loaded(self) -> None:
        """A champion could not be found or loaded."""


@dataclass
class Serving:
    """A version that answers, and how many requests it is answering."""

    champion: Champion
    backend: Backend
    running: int = 0
    retired: bool = False


class Champions:
    """The version that answers now. Used on one event loop."""

    def __init__(self, lookup: Lookup, load: Load, refresh_s: float, watching: Watching) -> None:
        self._lookup, self._load, self._refresh_s, self._watching = lookup, load, refresh_s, watching
        self._now: Serving | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None

    @property
    def version(self) -> str | None:
        """The version that answers; None before `load` and after `close`."""
        return self._now.champion.version if self._now else None

    def load(self) -> str:
        """Loads the first version, and returns it. Raises what lookup and loading raise."""
        champion = self._lookup()
        self._now = Serving(champion, self._load(champion))
        self._watching.serving(champion.version)
        return champion.version

    async def start(self) -> None:
        """Begins to look for other versions."""
        self._watch = asyncio.create_task(self._look_for_others())

    @asynccontextmanager
    async def used(self) -> AsyncIterator[Serving]:
        """The version that answers a request, kept until the block ends.

        Raises:
            ApiError: there is none, since the gateway is stopping.
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
        """Looks once; exchanges the version if the registry names another. Raises as `load`."""
        found = await asyncio.to_thread(self._lookup)
        if self._now is None or found != self._now.champion:
            self._put(Serving(found, await asyncio.to_thread(self._load, found)))

    def _put(self, serving: Serving) -> None:
        before, self._now = self._now, serving
        log.info("answers come from %s", serving.champion.version)
        self._watching.serving(serving.champion.version)
        if before is not None:
            before.retired = True
            self._close_if_done(before)

    def _close_if_done(self, serving: Serving) -> None:
        if serving.retired and serving.running == 0:
            serving.retired = False  # closed once
            task = asyncio.create_task(serving.backend.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _look_for_others(self) -> None:
        wait = 1
        while True:
            await asyncio.sleep(self._refresh_s * wait)
            try:
                await self.refresh()
                wait = 1
            except Exception as error:
                reason = error if isinstance(error, OelError) else f"{type(error).__name__}: {error}"
                log.error(
                    "%s goes on answering, another champion was not found or not loaded: %s", self.version, reason
                )
                self._watching.not_loaded()
                wait = min(2 * wait, SLOWEST)

    async def close(self) -> None:
        """Frees the version that answers. Requests that still run lose it."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        last, self._now = self._now, None
        if last is not None:
            await last.backend.close()
        await asyncio.gather(*self._closing, return_exceptions=True)
