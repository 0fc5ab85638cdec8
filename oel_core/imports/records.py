"""What every log format is read into: logged model calls with their feedback, stitched into sessions afterwards."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from oel_core.types import Feedback, Message, Record, StopReason

__all__ = ["Call", "Feedback", "ReadEntry", "Session"]


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
    feedback: tuple[Feedback, ...] = ()


@dataclass(frozen=True)
class Session:
    """Calls of which each continues the one before it."""

    format: str
    calls: tuple[Call, ...]


ReadEntry = Callable[[Any], Iterable[Call]]
"""The calls of one entry (a line of a JSONL file, an element of a JSON file); raises LineError where it is none."""
