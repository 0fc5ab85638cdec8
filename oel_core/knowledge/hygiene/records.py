"""Records of the hygiene checks."""

from oel_core.config.knowledge import Check
from oel_core.types import Record


class Flag(Record):
    """One reason for a flag."""

    check: Check
    detail: str
    """As text, without the secret or the personal data itself."""


class FlaggedItem(Record):
    """One row of `flagged.jsonl`: a flagged line of an item."""

    replica: int
    text: str
    """As written, with secrets and personal data replaced by their kind."""
    flags: tuple[Flag, ...]
    dropped: bool
    sources: tuple[str, ...]
    """Ids of the source trajectories."""
    round: int
    model: str
    """The extractor's policy."""
