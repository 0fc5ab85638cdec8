"""What every log format is read into: logged model calls with their feedback, stitched into sessions afterwards."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from oel_core.types import Message, Record, StopReason


class Feedback(Record):
    """What somebody said about an answer or a whole session."""

    source: Literal["human", "code", "judge"]
    whole: bool = False
    """About the session, not only about the answer that it came with."""
    name: str = ""
    score: float | None = None
    thumbs: bool | None = None
    label: str = ""
    comment: str = ""
    correction: str = ""
    """The answer as it should have been, written by whoever gave the feedback."""
    expected: str = ""
    """The right answer as a data set or an annotation has it."""
    superseded: bool = False
    """Somebody replaced it: it is kept and not used."""


class Call(Record):
    """One logged request to a model, and its answer."""

    id: str
    """The source's own id of the answer; empty where it has none."""
    request: str = ""
    """What several answers to one request (n > 1) have in common."""
    session: str = ""
    """The source's id of the conversation; empty where it has none."""
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
