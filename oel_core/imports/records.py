"""The common records of all log formats: model calls and feedback, which are then stitched into sessions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import not_
from typing import Any

from pydantic import Field

from oel_core.types import Feedback, Message, Record, StopReason, TokenId

__all__ = ["Call", "Feedback", "GroupedLines", "LogFormat", "Rating", "ReadEntry", "Session"]


class Call(Record):
    """One logged request to a model and its answer."""

    id: str
    """The source's id of the answer; empty if it has none."""
    request: str = ""
    """Id shared by several answers to one request (n > 1)."""
    session: str = ""
    """The source's id of the conversation; empty if it has none."""
    user: str = ""
    """The source's id of the user; empty if it has none."""
    messages: tuple[Message, ...] = Field(min_length=1)
    """The prompt, with tools in its system message."""
    response: Message
    model: str = ""
    prompt_tokens: int = Field(default=0, ge=0)
    """The source's count; 0 if unknown."""
    stop_reason: StopReason = StopReason.EOS
    text: str = Field(default="", exclude_if=not_)
    """The raw response with thinking and tool calls, if the source has it."""
    feedback: tuple[Feedback, ...] = ()
    trace: str = ""
    """The source's id of the trace (all calls for one user request); feedback on it is attached to its last call."""
    at: float | None = None
    """Time of the call, seconds since 1970, UTC; None if unknown."""
    prompt_ids: tuple[TokenId, ...] = ()
    """Token ids of the prompt; empty if unknown."""
    response_ids: tuple[TokenId, ...] = ()
    """Sampled token ids; empty if unknown."""


class Rating(Record):
    """Separately logged feedback."""

    about: tuple[str, ...] = Field(min_length=1)
    """Ids of an answer, trace or session, most specific first; the first one found in the log applies."""
    feedback: Feedback


@dataclass(frozen=True)
class Session:
    """A conversation: each call continues the one before it."""

    format: str
    calls: tuple[Call, ...]


ReadEntry = Callable[[Any], Iterable[Call | Rating]]
"""Parses an entry (a line of a JSONL file, an element of a JSON file); raises LineError if it is malformed."""
Line = tuple[int, Any]
"""(number of the line from 1, parsed value)."""


@dataclass(frozen=True)
class GroupedLines:
    """A format whose lines are parts of conversations; related lines form one entry."""

    groups: Callable[[Sequence[Line]], Iterable[Sequence[Line]]]
    """Partitions the lines of a file into entries."""
    read: ReadEntry
    """Called with the list of an entry's values."""


LogFormat = ReadEntry | GroupedLines
