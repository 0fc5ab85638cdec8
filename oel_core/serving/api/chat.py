"""One chat request: queueing, answering, recording."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from oel_core.config.serving import ServeConfig
from oel_core.imports import chat as chat_log
from oel_core.imports.records import Call
from oel_core.runs.jsonl import LineError
from oel_core.serving.answering.base import Answer, ChatRequest, Chunk
from oel_core.serving.answering.candidate import Candidates
from oel_core.serving.answering.champion import ActiveVersion, ChampionManager
from oel_core.serving.answering.shadow import Job, Shadows
from oel_core.serving.api.answers import Reply
from oel_core.serving.api.limits import Queue
from oel_core.serving.api.metrics import Metrics
from oel_core.serving.errors import ApiError
from oel_core.serving.recording.recorder import Recorder
from oel_core.types import StopReason

log = logging.getLogger(__name__)
AWAY = 503
"""A server that cannot be reached or has no time, which says nothing about the version that was asked for."""
RECORD_WAIT_S = 2.0
"""Maximum wait for the record to reach the disk before the answer ends without it."""


class ChatService:
    """Answers requests and records the answers."""

    def __init__(
        self,
        project: str,
        config: ServeConfig,
        queue: Queue,
        champions: ChampionManager,
        candidates: Candidates,
        recorder: Recorder,
        metrics: Metrics,
    ) -> None:
        self.project, self.champions, self.recorder, self.metrics = project, champions, recorder, metrics
        self.candidates, self.queue, self._timeout_s = candidates, queue, config.timeout_s
        waiting = config.candidate.waiting
        self._shadows = Shadows(
            champions, self.queue, waiting, config.timeout_s, self._shadowed, self._not_shadowed, self._left_out
        )

    async def start(self) -> None:
        """Begins to record, to look for other versions, and to ask a candidate."""
        await self.champions.start()
        self._shadows.start()
        self.recorder.start()

    async def close(self) -> None:
        """Writes what was answered and frees the versions. No request runs any more."""
        await self._shadows.close()
        await self.champions.close()
        await asyncio.to_thread(self.recorder.close)

    async def begin(self, request: ChatRequest) -> "Answering":
        """Waits for its turn and for the first piece of the answer, so that what goes wrong until then has a status.

        Raises:
            ApiError: the model is not known, or the request cannot be answered.
        """
        if request.model != self.project:
            raise ApiError(
                404,
                f"there is no model '{request.model}': ask for '{self.project}'",
                param="model",
                code="model_not_found",
            )
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.queue.slot())
            deadline = asyncio.get_running_loop().time() + self._timeout_s
            answering = await self._answering(request, deadline)
            stack.push_async_exit(answering.held)
            answering.held = stack.pop_all()
            return answering
        raise AssertionError("unreachable")

    async def _answering(self, request: ChatRequest, deadline: float) -> "Answering":
        """By the candidate in a session of its own, else by the champion, which also answers what the candidate fails.

        Where both fail it is not the candidate's fault: their server is away, say.
        """
        candidate = self.candidates.of(request, "canary")
        if candidate is None:
            return await self._begun(request, None, deadline)
        try:
            answering = await self._begun(request, candidate, deadline - self._timeout_s / 2)
        except ApiError as error:
            if error.status < 500:
                raise
            instead = await self._begun(request, None, deadline)
            self.candidate_failed(candidate, error)
            return instead
        answering.deadline = deadline
        return answering

    async def _begun(self, request: ChatRequest, candidate: ActiveVersion | None, deadline: float) -> "Answering":
        async with AsyncExitStack() as stack:
            serving = await stack.enter_async_context(self.champions.acquire(candidate))
            parts = serving.backend.answer(request)
            stack.push_async_callback(parts.aclose)
            answering = Answering(self, request, serving, parts, deadline, canary=candidate is not None)
            answering.first = await answering.next_part()
            answering.held = stack.pop_all()
            return answering
        raise AssertionError("unreachable")

    async def record(self, request: ChatRequest, answer: Answer, reply: Reply) -> None:
        """Records the answered call; returns once it is on the disk or after `RECORD_WAIT_S`."""
        try:
            call = recorded_call(request, answer, reply)
        except ValueError as error:  # the client still gets the answer
            self.metrics.calls.labels("not_recordable").inc()
            log.warning("an answer is not recorded: %s", error)
            return
        done = asyncio.wrap_future(self.recorder.record(call))
        finished, _ = await asyncio.wait({done}, timeout=RECORD_WAIT_S)  # does not cancel it
        if not finished:
            log.error("an answer was not on the disk within %g s: it is sent without waiting further", RECORD_WAIT_S)
            self.metrics.calls.labels("late").inc()

    def ask_candidate(self, request: ChatRequest, reply: Reply) -> None:
        """Asks the candidate what the champion has answered, some time later, if the session is one of those."""
        candidate = self.candidates.of(request, "shadow")
        if candidate is not None and request.not_recorded is None:
            self._shadows.ask(Job(request, reply.id, candidate))

    def candidate_failed(self, candidate: ActiveVersion, error: Exception) -> None:
        """Counts a request that it did not answer."""
        self.metrics.candidate_failures.inc()
        self.candidates.failed(candidate, error)

    def _shadowed(self, job: Job, answer: Answer) -> None:
        self.candidates.answered(job.candidate)
        try:
            call = recorded_call(job.request, answer, Reply(self.project, job.candidate.champion.version))
        except ValueError as error:
            log.warning("a shadow answer is not recorded: %s", error)
            self._left_out()
        else:
            self.metrics.answers.labels(call.model, "shadow").inc()
            self.recorder.shadow(job.call, call)

    def _not_shadowed(self, job: Job, error: Exception) -> None:
        if not isinstance(error, ApiError):
            log.error("a shadow request failed", exc_info=error)
        if not isinstance(error, ApiError) or (error.status >= 500 and error.status != AWAY):
            self.candidate_failed(job.candidate, error)
        self._left_out()

    def _left_out(self) -> None:
        self.metrics.shadows_left_out.inc()


@dataclass
class Answering:
    """An answer that is being generated. Holds its queue slot and model version until `close`."""

    chats: ChatService
    request: ChatRequest
    serving: ActiveVersion
    parts: AsyncIterator[Chunk | Answer]
    deadline: float
    """On the event loop's clock."""
    canary: bool
    """The candidate answers in place of the champion."""
    first: Chunk | Answer | None = None
    held: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        self.reply = Reply(self.chats.project, self.serving.champion.version)

    async def next_part(self) -> Chunk | Answer:
        """The next chunk, or the answer. Raises ApiError, also on a timeout or if the stream ends early."""
        try:
            return await self._next_part()
        except ApiError as error:
            begun = self.first is not None
            if begun and self.canary and error.status >= 500 and error.status != AWAY:
                self.chats.candidate_failed(self.serving, error)
            raise

    async def _next_part(self) -> Chunk | Answer:
        try:
            async with asyncio.timeout_at(self.deadline):
                return await anext(self.parts)
        except TimeoutError:
            raise ApiError(504, "the answer took too long (serve.timeout_s)") from None
        except StopAsyncIteration:
            raise ApiError(502, "the answer broke off") from None

    async def whole(self) -> dict[str, object]:
        """The whole answer, not streamed; it is recorded first."""
        part = self.first
        while not isinstance(part, Answer):
            part = await self.next_part()
        await self._ended(part)
        return self.reply.completion(part)

    async def streamed(self) -> AsyncIterator[bytes]:
        """The answer as server-sent events; the last ones are sent after it is recorded."""
        part, first = self.first, True
        while not isinstance(part, Answer):
            assert part is not None
            yield self.reply.chunk(part, first=first)
            part, first = await self.next_part(), False
        await self._ended(part)
        for event in self.reply.ending(part, first=first, with_usage=self.request.with_usage):
            yield event

    async def _ended(self, answer: Answer) -> None:
        await self.chats.record(self.request, answer, self.reply)
        self.chats.metrics.tokens.labels("prompt").inc(answer.prompt_tokens)
        self.chats.metrics.tokens.labels("response").inc(answer.response_tokens)
        self.chats.metrics.answers.labels(self.reply.fingerprint, "canary" if self.canary else "champion").inc()
        if self.canary:
            self.chats.candidates.answered(self.serving)
        self.chats.ask_candidate(self.request, self.reply)

    async def close(self) -> None:
        """Releases the answer's resources; cancels it if it has not ended."""
        await self.held.aclose()


def recorded_call(request: ChatRequest, answer: Answer, reply: Reply) -> Call:
    """The record of an answered request. Raises ValueError if it cannot be used for training."""
    if request.not_recorded is not None:
        raise LineError("messages", request.not_recorded)
    response = chat_log.message({**answer.message, "role": "assistant"}, "response")
    if not response.content and not response.tool_calls:
        raise LineError("response", "the answer is empty")
    return Call(
        id=reply.id,
        session=request.session,
        user=request.user,
        at=time.time(),
        messages=request.messages,
        response=response,
        model=reply.fingerprint,
        prompt_tokens=answer.prompt_tokens,
        stop_reason=StopReason.LENGTH if answer.finish_reason == "length" else StopReason.EOS,
        text=answer.text,
        response_ids=answer.response_ids,
        prompt_ids=answer.prompt_ids,
    )
