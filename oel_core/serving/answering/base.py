"""What answers a request: pieces of an answer while it is written, then the answer as a whole."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from oel_core.types import Message


@dataclass(frozen=True)
class ChatRequest:
    """A chat completion that somebody asks for."""

    body: Mapping[str, Any]
    """As the client wrote it, every field of the API that this module does not name included."""
    model: str
    messages: tuple[Message, ...]
    """The prompt, tools in its first message; empty where `not_recorded` says why it is no record."""
    stream: bool = False
    with_usage: bool = False
    """A stream ends with the number of tokens."""
    session: str = ""
    """The client's id of the conversation; empty where it is told by what was said."""
    user: str = ""
    """The client's id of the person who asks; empty where it does not say."""
    not_recorded: str | None = None
    """Why nothing can be learned from it: an image, a system message within. Some backends answer it all the same."""


@dataclass(frozen=True)
class Piece:
    """What was written since the piece before."""

    delta: Mapping[str, Any]
    """As in a chunk of a streamed completion: content, reasoning_content, tool_calls."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the chunk's choice, like logprobs."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    message: Mapping[str, Any]
    """The assistant's message as the API has it."""
    finish_reason: str
    """stop, length, tool_calls, content_filter."""
    prompt_tokens: int
    response_tokens: int
    text: str = ""
    """What the model wrote, thinking and calls of tools included, where that is known."""
    response_ids: tuple[int, ...] = ()
    """Of `text`; empty where they are not known."""
    prompt_ids: tuple[int, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the choice, like logprobs."""


class Backend(Protocol):
    """One version of the model, ready to answer. Used on one event loop."""

    def answer(self, request: ChatRequest) -> AsyncIterator[Piece | Answer]:
        """Pieces, none for a request that is not streamed, then the answer.

        Closing the iterator takes the request back.

        Raises:
            ApiError: the request cannot be answered; after the first piece the answer broke off.
        """
        ...

    async def close(self) -> None:
        """Frees what answers. Nothing is being answered any more."""
        ...
