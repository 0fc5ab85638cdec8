"""The protocol of a backend: chunks while an answer is generated, then the whole answer."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from oel_core.types import Message


@dataclass(frozen=True)
class ChatRequest:
    """A chat completion request."""

    body: Mapping[str, Any]
    """The client's JSON object, unknown fields included."""
    model: str
    messages: tuple[Message, ...]
    """The prompt, with tools in its first message; empty if `not_recorded` is set."""
    stream: bool = False
    with_usage: bool = False
    """A stream ends with the usage."""
    session: str = ""
    """The client's id of the conversation; empty if it is to be found by the messages."""
    user: str = ""
    """The client's id of its user; empty if unknown."""
    not_recorded: str | None = None
    """Why it cannot be used for training (an image, a later system message). Some backends still answer it."""


@dataclass(frozen=True)
class Chunk:
    """A part of a streamed answer."""

    delta: Mapping[str, Any]
    """`delta` of the API's chunk: content, reasoning_content, tool_calls."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of the chunk's choice, such as logprobs."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    message: Mapping[str, Any]
    """The assistant's message in the API's format."""
    finish_reason: str
    """stop, length, tool_calls, content_filter."""
    prompt_tokens: int
    response_tokens: int
    text: str = ""
    """The raw response, with thinking and tool calls, if known."""
    response_ids: tuple[int, ...] = ()
    """Of `text`; empty if unknown."""
    prompt_ids: tuple[int, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of the choice, such as logprobs."""


class Backend(Protocol):
    """One loaded version of the model. Used on one event loop."""

    shares_processor: bool
    """Its answers slow down those of other versions in this process."""

    def answer(self, request: ChatRequest) -> AsyncGenerator[Chunk | Answer]:
        """Pieces, none for a request that is not streamed, then the answer.

        Closing the generator takes the request back.

        Raises:
            ApiError: the request cannot be answered; after the first chunk: the answer was cut off.
        """
        ...

    async def close(self) -> None:
        """Frees the model. No request is running."""
        ...
