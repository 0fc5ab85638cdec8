"""Records of an extraction: one row per episode, and the totals of a replica."""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from oel_core.knowledge.hygiene import FlaggedItem
from oel_core.types import ExperienceItem, Knowledge, Record, StopReason


class Dropped(StrEnum):
    """Why a part of an output is not used."""

    UNFINISHED_THINKING = "unfinished_thinking"
    """The token cap ended the answer within its thinking."""
    UNFINISHED_ITEM = "unfinished_item"
    """The token cap cut the last item, or the last line of free text."""


class RejectedItem(Record):
    """An item with quotations that its episode does not contain."""

    text: str
    missing: tuple[str, ...]
    """Its quotations that occur in no observation, response or feedback."""


class RawOutput(Record):
    """One row of `raw.jsonl`: the extractor's output for one episode, or why there is none."""

    trajectory_id: str
    output: str = ""
    stop_reason: StopReason | None = None
    prompt_tokens: int = Field(default=0, ge=0)
    response_tokens: int = Field(default=0, ge=0)
    answer: str | None = None
    """The output after the thinking, if the policy found its end by token ids or the server returned it separately."""
    items: int = Field(default=0, ge=0)
    """Number of items in the complete part of the output, before duplicates and the cap, without rejected ones."""
    dropped: Dropped | None = None
    """Why a part of the output is not among the items."""
    rejected: tuple[RejectedItem, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Items that were rejected for missing evidence."""
    skipped: str | None = None
    """The error of a failed episode, for which the extractor was not called."""
    error: str | None = None
    """Why the extractor failed: the prompt is too long for it."""

    @property
    def output_text(self) -> str:
        """The text that items are parsed from."""
        return self.output if self.answer is None else self.answer

    @property
    def empty(self) -> bool:
        """Whether the output has no usable item."""
        return self.skipped is None and self.error is None and self.items == 0


class KnowledgeState(Record):
    """One row of `states.jsonl`: a replica's knowledge before its first episode, then after each of them."""

    knowledge: Knowledge
    """After screening, merging and the token cap."""
    flagged: tuple[FlaggedItem, ...] = ()
    """Hygiene flags of the last episode's items."""


@dataclass(frozen=True)
class ExtractionResult:
    """The result of one replica."""

    replica: int
    knowledge: Knowledge
    """After the first `use_after` episodes; this knowledge is used."""
    states: tuple[KnowledgeState, ...]
    """Before the first episode, then after each of them."""
    items: tuple[ExperienceItem, ...]
    """All items found, in order, before duplicates and the cap."""
    raw: tuple[RawOutput, ...]
    """One row per episode."""

    @property
    def final(self) -> Knowledge:
        """After all episodes."""
        return self.states[-1].knowledge

    @property
    def sizes(self) -> tuple[int, ...]:
        """Tokens of the knowledge after each episode; shows saturation."""
        return tuple(state.knowledge.tokens for state in self.states[1:])

    @property
    def skipped(self) -> int:
        """Number of failed episodes, which were not processed."""
        return sum(row.skipped is not None for row in self.raw)

    @property
    def failed(self) -> int:
        """Number of episodes for which the extractor failed."""
        return sum(row.error is not None for row in self.raw)

    @property
    def empty_outputs(self) -> int:
        """Number of outputs without a usable item."""
        return sum(row.empty for row in self.raw)

    @property
    def truncated(self) -> int:
        """Number of outputs truncated at the token cap."""
        return sum(row.stop_reason is StopReason.LENGTH for row in self.raw)

    @property
    def rejected(self) -> int:
        """Number of items rejected for missing evidence."""
        return sum(len(row.rejected) for row in self.raw)

    def dropped(self, reason: Dropped) -> int:
        """Number of outputs of which a part was dropped for this reason."""
        return sum(row.dropped is reason for row in self.raw)
