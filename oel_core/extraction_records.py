"""What an extraction leaves: one row an episode, and what the rows of a replica add up to."""

from dataclasses import dataclass

from pydantic import Field

from oel_core.types import ExperienceItem, Knowledge, Record, StopReason


class RawOutput(Record):
    """One row of `raw.jsonl`: what the extractor answered to one episode, or why it was not asked."""

    trajectory_id: str
    output: str = ""
    stop_reason: StopReason | None = None
    prompt_tokens: int = Field(default=0, ge=0)
    response_tokens: int = Field(default=0, ge=0)
    items: int = Field(default=0, ge=0)
    """Items the format found in the output, before duplicates and the cap."""
    skipped: str | None = None
    """The episode's own error, when it had one: nothing was asked."""
    error: str | None = None
    """Why the extractor could not answer: the prompt is too long for it."""

    @property
    def empty(self) -> bool:
        """Answered, but with nothing usable."""
        return self.skipped is None and self.error is None and self.items == 0


@dataclass(frozen=True)
class ExtractionResult:
    """What one replica's episodes gave."""

    replica: int
    knowledge: Knowledge
    """After the first `use_after` episodes: the one that is used."""
    final: Knowledge
    """After all episodes: shows saturation."""
    sizes: tuple[int, ...]
    """Tokens of the knowledge after each episode."""
    items: tuple[ExperienceItem, ...]
    """Every item found, in order, before duplicates and the cap."""
    raw: tuple[RawOutput, ...]
    """One row an episode."""

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
        """Answers that hit the token cap; their last item may be cut short."""
        return sum(row.stop_reason is StopReason.LENGTH for row in self.raw)
