"""Answers by a policy of this process, with the exact token ids on both sides."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

from oel_core.config.sampling import Sampling
from oel_core.errors import PolicyError, PromptTooLongError
from oel_core.policies.base import Completion, Policy, Request, StreamingPolicy
from oel_core.policies.text.chat import Chat
from oel_core.serving.answering.asked import Asked, asked
from oel_core.serving.answering.base import Answer, ChatRequest, Piece
from oel_core.serving.answering.batches import Batches, Job
from oel_core.serving.answering.tool_calls import tool_calls
from oel_core.serving.answering.writing import Writing, stop_at
from oel_core.serving.errors import ApiError
from oel_core.text.thinking import answer_in
from oel_core.types import IdSource, StopReason


class PolicyBackend:
    """See `oel_core.serving.answering.base.Backend`. The policy is freed with it."""

    def __init__(self, policy: Policy, defaults: Sampling) -> None:
        """`defaults`: sampling where a request does not name it."""
        self._policy, self._defaults = policy, defaults
        self._chat: Chat | None = getattr(policy, "chat", None)
        self._batches = None if isinstance(policy, StreamingPolicy) else Batches(policy)

    async def answer(self, request: ChatRequest) -> AsyncIterator[Piece | Answer]:
        """See `Backend.answer`."""
        wanted = asked(request, self._defaults)
        try:
            prompt = await asyncio.to_thread(self._prompt, request)
            sampling = self._fitting(prompt, wanted)
            writing = Writing(self._chat, prompt, wanted.stop, tools=bool(wanted.tools)) if self._chat else None
            left = threading.Event()
            pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
            done = self._begin(Request(request.messages, wanted.seed), sampling, _Seen(writing, left, pieces))
            try:
                while (piece := await pieces.get()) is not None:
                    if request.stream:
                        yield piece
                completion = await asyncio.wrap_future(done)
            finally:
                left.set()
                done.cancel()
        except PromptTooLongError as error:
            raise ApiError(400, error.problems[0], param="messages", code="context_length_exceeded") from error
        except PolicyError as error:
            raise ApiError(500, str(error)) from error
        answer = _answer(completion, wanted, stopped=writing is not None and writing.stopped)
        if request.stream and (rest := _rest(answer, writing.shown if writing else "")):
            yield Piece(rest)
        yield answer

    def _prompt(self, request: ChatRequest) -> list[int]:
        return self._chat.prompt_ids(request.messages) if self._chat else []

    def _fitting(self, prompt: list[int], wanted: Asked) -> Sampling:
        """The sampling with no more tokens than there is room for. Raises PromptTooLongError."""
        if self._chat is None:
            return wanted.sampling
        length = wanted.sampling.max_tokens
        if not wanted.exact_length:
            length = max(1, min(length, self._chat.max_length - len(prompt)))
        self._chat.check_lengths([prompt], length)
        return wanted.sampling.model_copy(update={"max_tokens": length})

    def _begin(self, request: Request, sampling: Sampling, seen: "_Seen") -> Future[Completion]:
        if self._batches is None:
            assert isinstance(self._policy, StreamingPolicy)
            done = self._policy.submit(request, sampling)
        else:
            done = self._batches.submit(Job(request, sampling, seen))
        done.add_done_callback(lambda _: seen.end())
        return done

    async def close(self) -> None:
        """Waits for the batch that is being answered, if any."""
        await asyncio.to_thread(self._policy.close if self._batches is None else self._batches.close)


class _Seen:
    """Takes tokens in the policy's thread and hands text to the event loop."""

    def __init__(self, writing: Writing | None, left: threading.Event, pieces: "asyncio.Queue[Piece | None]") -> None:
        self._writing, self._left, self._pieces = writing, left, pieces
        self._loop = asyncio.get_running_loop()

    def __call__(self, token: int) -> bool:
        """Whether the response ends here: a stop string has come, or nobody waits for it any more."""
        if self._left.is_set() or self._writing is None:
            return self._left.is_set()
        thought, said = self._writing.add(token)
        delta = {name: text for name, text in (("reasoning_content", thought), ("content", said)) if text}
        if delta:
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, Piece(delta))
        return self._writing.stopped

    def end(self) -> None:
        """No further token comes."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, None)


def _answer(completion: Completion, wanted: Asked, *, stopped: bool) -> Answer:
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


def _rest(answer: Answer, shown: str) -> dict[str, Any]:
    """What of the message has not been streamed yet."""
    content = answer.message["content"] or ""
    rest: dict[str, Any] = {}
    if content.startswith(shown) and len(content) > len(shown):
        rest["content"] = content[len(shown) :]
    calls = answer.message.get("tool_calls", ())
    return rest | ({"tool_calls": [{"index": n, **call} for n, call in enumerate(calls)]} if calls else {})
