"""A backend of a policy in this process; answers have the exact token ids of prompt and response."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from typing import Any

from oel_core.config.sampling import Sampling
from oel_core.errors import PolicyError, PromptTooLongError
from oel_core.policies.base import Completion, Policy, Request, StreamingPolicy
from oel_core.policies.text.chat import Chat
from oel_core.serving.answering.base import Answer, ChatRequest, Chunk
from oel_core.serving.answering.batches import Batcher, Job
from oel_core.serving.answering.chat_options import ChatOptions, chat_options
from oel_core.serving.answering.text_stream import TextStream, stop_at
from oel_core.serving.answering.tool_calls import tool_calls
from oel_core.serving.errors import ApiError
from oel_core.text.thinking import answer_in
from oel_core.types import IdSource, StopReason


class PolicyBackend:
    """See `oel_core.serving.answering.base.Backend`. `close` frees the policy."""

    shares_processor = True

    def __init__(self, policy: Policy, defaults: Sampling) -> None:
        """`defaults`: sampling settings that a request does not set."""
        self._policy, self._defaults = policy, defaults
        self._chat: Chat | None = getattr(policy, "chat", None)
        self._batches = None if isinstance(policy, StreamingPolicy) else Batcher(policy)

    async def answer(self, request: ChatRequest) -> AsyncGenerator[Chunk | Answer]:
        """See `Backend.answer`."""
        wanted = chat_options(request, self._defaults)
        try:
            prompt = await asyncio.to_thread(self._prompt, request)
            sampling = self._fitting(prompt, wanted)
            stream = TextStream(self._chat, prompt, wanted.stop, tools=bool(wanted.tools)) if self._chat else None
            cancelled = threading.Event()
            chunks: asyncio.Queue[Chunk | None] = asyncio.Queue()
            done = self._begin(
                Request(request.messages, wanted.seed), sampling, _TokenCallback(stream, cancelled, chunks)
            )
            try:
                while (chunk := await chunks.get()) is not None:
                    if request.stream:
                        yield chunk
                completion = await asyncio.wrap_future(done)
            finally:
                cancelled.set()
                done.cancel()
        except PromptTooLongError as error:
            raise ApiError(400, error.problems[0], param="messages", code="context_length_exceeded") from error
        except PolicyError as error:
            raise ApiError(500, str(error)) from error
        answer = _answer(completion, wanted, stopped=stream is not None and stream.stopped)
        if request.stream and (rest := _rest(answer, stream.sent if stream else "")):
            yield Chunk(rest)
        yield answer

    def _prompt(self, request: ChatRequest) -> list[int]:
        return self._chat.prompt_ids(request.messages) if self._chat else []

    def _fitting(self, prompt: list[int], wanted: ChatOptions) -> Sampling:
        """The sampling settings with `max_tokens` that fit the context. Raises PromptTooLongError."""
        if self._chat is None:
            return wanted.sampling
        length = wanted.sampling.max_tokens
        if not wanted.exact_length:
            length = max(1, min(length, self._chat.max_length - len(prompt)))
        self._chat.check_lengths([prompt], length)
        return wanted.sampling.model_copy(update={"max_tokens": length})

    def _begin(self, request: Request, sampling: Sampling, callback: "_TokenCallback") -> Future[Completion]:
        if self._batches is None:
            assert isinstance(self._policy, StreamingPolicy)
            done = self._policy.submit(request, sampling)
        else:
            done = self._batches.submit(Job(request, sampling, callback))
        done.add_done_callback(lambda _: callback.end())
        return done

    async def close(self) -> None:
        """Waits for the running batch, if any."""
        await asyncio.to_thread(self._policy.close if self._batches is None else self._batches.close)


class _TokenCallback:
    """Called with tokens in the policy's thread; sends their text to the event loop."""

    def __init__(
        self, stream: TextStream | None, cancelled: threading.Event, chunks: "asyncio.Queue[Chunk | None]"
    ) -> None:
        self._stream, self._cancelled, self._chunks = stream, cancelled, chunks
        self._loop = asyncio.get_running_loop()

    def __call__(self, token: int) -> bool:
        """Returns whether the response ends here: at a stop string, or because the request was cancelled."""
        if self._cancelled.is_set() or self._stream is None:
            return self._cancelled.is_set()
        thought, said = self._stream.add(token)
        delta = {name: text for name, text in (("reasoning_content", thought), ("content", said)) if text}
        if delta:
            self._loop.call_soon_threadsafe(self._chunks.put_nowait, Chunk(delta))
        return self._stream.stopped

    def end(self) -> None:
        """Marks the end of the response."""
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._chunks.put_nowait, None)


def _answer(completion: Completion, wanted: ChatOptions, *, stopped: bool) -> Answer:
    said = answer_in(completion.text) if completion.answer is None else completion.answer
    cut = stop_at(said, wanted.stop)
    thought = completion.text.removesuffix(said) if said != completion.text else ""
    content, calls = tool_calls(said if cut is None else said[:cut], wanted.tools) if wanted.tools else (said[:cut], [])
    message: dict[str, Any] = {"role": "assistant", "content": content if content or not calls else None}
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
    exact = completion.id_source is IdSource.SAMPLED
    ended = completion.stop_reason is StopReason.EOS or stopped or cut is not None
    return Answer(
        message=message,
        finish_reason="tool_calls" if calls else "stop" if ended else "length",
        prompt_tokens=len(completion.prompt_ids),
        response_tokens=len(completion.response_ids),
        text=completion.text,
        response_ids=completion.response_ids if exact else (),
        prompt_ids=completion.prompt_ids if exact else (),
    )


def _rest(answer: Answer, sent: str) -> dict[str, Any]:
    """The part of the message that has not been streamed yet."""
    content = answer.message["content"] or ""
    rest: dict[str, Any] = {}
    if content.startswith(sent) and len(content) > len(sent):
        rest["content"] = content[len(sent) :]
    calls = answer.message.get("tool_calls", ())
    return rest | ({"tool_calls": [{"index": n, **call} for n, call in enumerate(calls)]} if calls else {})
