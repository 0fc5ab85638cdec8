"""A case: one recorded request that no training sees, and what is known about its right answer."""

from typing import Literal

from pydantic import Field

from oel_core.types import Message, Record, Split

Share = Literal["held_out", "validation"]
"""What a case is for: to measure models, or to choose among knowledge files."""
SPLITS = {"held_out": Split.HELD_OUT, "validation": Split.VALIDATION}


class RightAnswer(Record):
    """One text that is known to be right."""

    kind: Literal["expected", "correction", "succeeded", "approved"]
    """`expected`: a data set or an annotation has it. `correction`: somebody wrote it in place of the recorded answer.
    `succeeded`: calls of the same functions that succeeded later in the session, where the recorded ones failed.
    `approved`: the recorded answer, which calls functions and which people called right."""
    text: str


class Case(Record):
    """A line of a round's `cases.jsonl`."""

    id: str
    """Digest of the request and of what is known about its answer."""
    share: Share
    session: str
    """Of the cases of one session a model is asked one."""
    round: int = Field(ge=1)
    """In which its session was set apart."""
    messages: tuple[Message, ...] = Field(min_length=1)
    """The request: everything that the recorded model read."""
    answers: tuple[RightAnswer, ...] = ()
    """Each of them is right."""
    rubrics: tuple[str, ...] = ()
    """What a right answer has to do."""
    recorded: str
    """What was answered then."""
    verdict: float | None = None
    """What people thought of it, 1 is right; None: nobody said."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The right answers alone."""
        return tuple(answer.text for answer in self.answers)
