"""The log of rollbacks to a checkpoint, `backtracks.jsonl`; kept when the undone steps are cut from the step log."""

from pathlib import Path

from pydantic import Field

from oel_core.runs.files import write_atomic, writing
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.types import Record

RATE = 0.5
"""Factor applied to the learning rate at each rollback."""


class Backtrack(Record):
    """One rollback to a checkpoint."""

    step: int = Field(ge=1)
    """The step after which it was triggered."""
    to: int = Field(ge=0)
    """Step of the restored checkpoint; 0 is the round's start."""
    reason: str
    """The metrics that were out of bounds, with their values."""


class BacktrackLog:
    """The rollbacks of one distillation, in order. The file is created by the first one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Backtrack]:
        """All records. ArtifactError names a corrupt line."""
        return list(read_jsonl(self.path, Backtrack)) if self.path.exists() else []

    def append(self, backtrack: Backtrack) -> None:
        """Appends a record atomically. ArtifactError where the disk is full."""
        with writing(self.path):
            write_atomic(self.path, jsonl_bytes([*self.read(), backtrack]))
