"""What every log format is read into: logged model calls and feedback, stitched into sessions afterwards."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import not_
from typing import Any

from pydantic import Field

from oel_core.types import Feedback, Message, Record, StopReason, TokenId

__all__ = ["Call", "Feedback", "GroupedLines", "LogFormat", "Rating", "ReadEntry", "Session"]


class Call(Record):
    """One logged request to a model, and its answer."""

    id: str
    """The source's own id of the answer; empty where it has none."""
    request: str = ""
    """What several answers to one request (n > 1) have in common."""
    session: str = ""
    """The source's id of the conversation; empty where it has none."""
    user: str = ""
    """The source's id of the person who asked; empty where it has none."""
    messages: tuple[Message, ...] = Field(min_length=1)
    """The prompt. Tools stand in its system message."""
    response: Message
    model: str = ""
    prompt_tokens: int = Field(default=0, ge=0)
    """As the source counted them; 0 where it did not."""
    stop_reason: StopReason = StopReason.EOS
    text: str = Field(default="", exclude_if=not_)
    """The answer as the model wrote it, thinking and calls of tools included, where the source has that."""
    feedback: tuple[Feedback, ...] = ()
    trace: str = ""
    """The source's id of what the agent did for one request of its user; feedback about it goes with its last call."""
    at: float | None = None
    """When it was made, seconds since 1970, UTC; None where the source does not say."""
    prompt_ids: tuple[TokenId, ...] = ()
    """Token ids that the model read; empty where the source has none."""
    response_ids: tuple[TokenId, ...] = ()
    """Token ids that the model sampled; empty where the source has none."""


class Rating(Record):
    """Feedback that a log has apart from the answer."""

    about: tuple[str, ...] = Field(min_length=1)
    """Ids of an answer, a trace or a session, the narrowest first; the first that is in the log is meant."""
    feedback: Feedback


@dataclass(frozen=True)
class Session:
    """Calls of which each continues the one before it."""

    format: str
    calls: tuple[Call, ...]


ReadEntry = Callable[[Any], Iterable[Call | Rating]]
"""What an entry (a line of a JSONL file, an element of a JSON file) holds; raises LineError where it is none."""
Line = tuple[int, Any]
"""Number from 1, and value, of a line."""


@dataclass(frozen=True)
class GroupedLines:
    """A format whose lines are parts of conversations: lines that belong together are one entry."""

    groups: Callable[[Sequence[Line]], Iterable[Sequence[Line]]]
    """The lines of a file in groups, every line in one of them."""
    read: ReadEntry
    """Called with the list of a group's values."""


LogFormat = ReadEntry | GroupedLines
