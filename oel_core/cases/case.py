"""A case: one recorded request that is held out of training, with reference answers and rubrics."""

from typing import Literal

from pydantic import Field

from oel_core.types import Message, Record, Split

Share = Literal["held_out", "validation"]
"""The purpose of a case: evaluating models, or selecting knowledge files."""
SPLITS = {"held_out": Split.HELD_OUT, "validation": Split.VALIDATION}


class RightAnswer(Record):
    """A reference answer."""

    kind: Literal["expected", "correction", "succeeded", "approved"]
    """`expected`: from a data set or an annotation. `correction`: a person's correction of the recorded answer.
    `succeeded`: later calls of the same functions that succeeded where the recorded ones failed. `approved`: the
    recorded answer with tool calls, which people approved."""
    text: str


class Case(Record):
    """A line of a round's `cases.jsonl`."""

    id: str
    """Digest of the request, its reference answers and rubrics."""
    share: Share
    session: str
    """At most one case per session is used in an evaluation."""
    round: int = Field(ge=1)
    """The round that held its session out."""
    messages: tuple[Message, ...] = Field(min_length=1)
    """The prompt of the recorded request."""
    answers: tuple[RightAnswer, ...] = ()
    """Reference answers; any of them is right."""
    rubrics: tuple[str, ...] = ()
    """Criteria for a right answer."""
    recorded: str
    """The recorded answer."""
    verdict: float | None = None
    """People's verdict on the recorded answer: 1 right, 0 wrong, None unknown."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the reference answers."""
        return tuple(answer.text for answer in self.answers)
