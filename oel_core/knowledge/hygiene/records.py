"""What hygiene says about an item."""

from oel_core.config.knowledge import Check
from oel_core.types import Record


class Flag(Record):
    """One reason."""

    check: Check
    detail: str
    """In words, without the secret or the personal data itself."""


class FlaggedItem(Record):
    """One row of `flagged.jsonl`: a line of an item with what was found in it."""

    replica: int
    text: str
    """As it was written, with secrets and personal data blotted out."""
    flags: tuple[Flag, ...]
    dropped: bool
    sources: tuple[str, ...]
    """Ids of the trajectories that gave it."""
    round: int
    model: str
    """The policy that wrote it."""
