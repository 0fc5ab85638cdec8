"""Requests of users asked a second time, of a candidate: its answer is recorded and nobody gets it.

A user's answer comes first: a request is asked again after its answer is recorded, and a candidate of this process is
asked while no user waits for anything. When one comes, what was begun is taken back and asked again later. What cannot
wait any longer is left out and counted.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from oel_core.serving.answering.base import Answer, ChatRequest
from oel_core.serving.answering.champion import ActiveVersion, ChampionManager
from oel_core.serving.errors import ApiError

log = logging.getLogger(__name__)
AT_ONCE = 4
"""Shadow requests that are asked at once; of a candidate of this process they make one batch."""
TRIES = 8
"""Times that a shadow request gives way to users before it is left out."""


class Traffic(Protocol):
    """Whether users wait for answers."""

    idle: asyncio.Event
    busy: asyncio.Event


@dataclass(frozen=True)
class Job:
    """A request that the champion has answered."""

    request: ChatRequest
    call: str
    """Id of the champion's answer."""
    candidate: ActiveVersion


class Shadows:
    """Asks a candidate. Used on one event loop."""

    def __init__(
        self,
        champions: ChampionManager,
        traffic: Traffic,
        most: int,
        timeout_s: float,
        on_answer: Callable[[Job, Answer], None],
        on_failure: Callable[[Job, Exception], None],
        on_left_out: Callable[[], None],
    ) -> None:
        """`most`: requests that may wait. Of every request given, one of the three is called, once."""
        self._champions, self._traffic, self._timeout_s = champions, traffic, timeout_s
        self._jobs: asyncio.Queue[Job] = asyncio.Queue(most)
        self._on_answer, self._on_failure, self._on_left_out = on_answer, on_failure, on_left_out
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to ask."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(AT_ONCE)]

    async def close(self) -> None:
        """Leaves out what waits."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        while not self._jobs.empty():
            self._jobs.get_nowait()
            self._on_left_out()

    def ask(self, job: Job) -> None:
        """Takes a request; never waits."""
        try:
            self._jobs.put_nowait(job)
        except asyncio.QueueFull:
            self._on_left_out()

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            if job.candidate is not self._champions.candidate:  # it was withdrawn or promoted meanwhile
                self._on_left_out()
                continue
            try:
                async with self._champions.acquire(job.candidate) as serving:
                    answer = await self._answer(job, serving)
            except asyncio.CancelledError:
                self._on_left_out()
                raise
            except Exception as error:
                self._on_failure(job, error)
            else:
                if answer is None:
                    self._on_left_out()
                else:
                    self._on_answer(job, answer)

    async def _answer(self, job: Job, serving: ActiveVersion) -> Answer | None:
        """None: users were in the way."""
        body = {name: value for name, value in job.request.body.items() if name not in ("stream", "stream_options")}
        request = replace(job.request, body=body, stream=False, with_usage=False)
        if not serving.backend.shares_processor:
            return await self._asked(serving, request)
        for _ in range(TRIES):
            await self._traffic.idle.wait()
            asking = asyncio.ensure_future(self._asked(serving, request))
            users = asyncio.ensure_future(self._traffic.busy.wait())
            try:
                await asyncio.wait({asking, users}, return_when=asyncio.FIRST_COMPLETED)
                if asking.done():
                    return asking.result()
            finally:
                await _ended(asking, users)
        return None

    async def _asked(self, serving: ActiveVersion, request: ChatRequest) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s), aclosing(serving.backend.answer(request)) as parts:
                async for part in parts:
                    if isinstance(part, Answer):
                        return part
        except TimeoutError:
            raise ApiError(504, "the answer took too long (serve.timeout_s)") from None
        raise ApiError(502, "the answer broke off")


async def _ended(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
