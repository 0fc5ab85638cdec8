"""What a distillation has gone back over: `backtracks.jsonl`, which outlives the steps that were cut from the log."""

from pathlib import Path

from pydantic import Field

from oel_core.runs.files import write_atomic, writing
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.types import Record

RATE = 0.5
"""What the learning rate is multiplied by each time."""


class Backtrack(Record):
    """One return to a checkpoint."""

    step: int = Field(ge=1)
    """After which it was decided."""
    to: int = Field(ge=0)
    """Steps that were kept; 0 is the round's start."""
    reason: str
    """The signals that had left their bounds, with their values."""


class BacktrackLog:
    """The returns of one distillation, in order. A file is there from the first one on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Backtrack]:
        """All of them. ArtifactError names a line that cannot be read."""
        return list(read_jsonl(self.path, Backtrack)) if self.path.exists() else []

    def append(self, backtrack: Backtrack) -> None:
        """Adds one, whole or not at all. ArtifactError where the disk is full."""
        with writing(self.path):
            write_atomic(self.path, jsonl_bytes([*self.read(), backtrack]))
