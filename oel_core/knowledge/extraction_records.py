"""What an extraction leaves: one row an episode, and what the rows of a replica add up to."""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from oel_core.knowledge.hygiene import FlaggedItem
from oel_core.types import ExperienceItem, Knowledge, Record, StopReason


class Dropped(StrEnum):
    """Why a part of an answer is no knowledge."""

    UNFINISHED_THINKING = "unfinished_thinking"
    """The token cap ended the answer within its thinking."""
    UNFINISHED_ITEM = "unfinished_item"
    """The token cap cut the last item, or the last line of free text."""


class RejectedItem(Record):
    """An item that quotes what its episode does not have."""

    text: str
    missing: tuple[str, ...]
    """What it quotes and no observation, response or feedback has."""


class RawOutput(Record):
    """One row of `raw.jsonl`: what the extractor answered to one episode, or why it was not asked."""

    trajectory_id: str
    output: str = ""
    stop_reason: StopReason | None = None
    prompt_tokens: int = Field(default=0, ge=0)
    response_tokens: int = Field(default=0, ge=0)
    answer: str | None = None
    """The output after the thinking, where the policy could tell by token ids or its server gave it apart."""
    items: int = Field(default=0, ge=0)
    """Items the format found in what is whole, before duplicates and the cap, without the rejected ones."""
    dropped: Dropped | None = None
    """Why something that was written is not among the items."""
    rejected: tuple[RejectedItem, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Items that were left out for want of evidence."""
    skipped: str | None = None
    """The episode's own error, when it had one: nothing was asked."""
    error: str | None = None
    """Why the extractor could not answer: the prompt is too long for it."""

    @property
    def said(self) -> str:
        """What items are read from."""
        return self.output if self.answer is None else self.answer

    @property
    def empty(self) -> bool:
        """Answered, but with nothing usable."""
        return self.skipped is None and self.error is None and self.items == 0


class KnowledgeState(Record):
    """One row of `states.jsonl`: a replica's knowledge before its first episode, then after each of them."""

    knowledge: Knowledge
    """Screened, merged and cut to the token cap."""
    flagged: tuple[FlaggedItem, ...] = ()
    """What hygiene flagged in the items of the last episode."""


@dataclass(frozen=True)
class ExtractionResult:
    """What one replica's episodes gave."""

    replica: int
    knowledge: Knowledge
    """After the first `use_after` episodes: the one that is used."""
    states: tuple[KnowledgeState, ...]
    """Before the first episode, then after each of them."""
    items: tuple[ExperienceItem, ...]
    """Every item found, in order, before duplicates and the cap."""
    raw: tuple[RawOutput, ...]
    """One row an episode."""

    @property
    def final(self) -> Knowledge:
        """After all episodes."""
        return self.states[-1].knowledge

    @property
    def sizes(self) -> tuple[int, ...]:
        """Tokens of the knowledge after each episode: shows saturation."""
        return tuple(state.knowledge.tokens for state in self.states[1:])

    @property
    def skipped(self) -> int:
        """Episodes that had failed and were not read."""
        return sum(row.skipped is not None for row in self.raw)

    @property
    def failed(self) -> int:
        """Episodes the extractor could not answer to."""
        return sum(row.error is not None for row in self.raw)

    @property
    def empty_outputs(self) -> int:
        """Answers without a usable item."""
        return sum(row.empty for row in self.raw)

    @property
    def truncated(self) -> int:
        """Answers that hit the token cap."""
        return sum(row.stop_reason is StopReason.LENGTH for row in self.raw)

    @property
    def rejected(self) -> int:
        """Items that were left out for want of evidence."""
        return sum(len(row.rejected) for row in self.raw)

    def dropped(self, reason: Dropped) -> int:
        """Answers of which a part was dropped for this reason."""
        return sum(row.dropped is reason for row in self.raw)
