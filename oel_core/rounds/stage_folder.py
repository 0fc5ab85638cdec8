"""One stage of a round on disk."""

from dataclasses import dataclass
from pathlib import Path

from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import Manifest


@dataclass(frozen=True)
class StageFolder:
    """Where a stage's files lie, or will lie once it has finished."""

    run: RunFolder
    round_number: int
    name: str
    """Like `collect` or `evaluate/held_out`."""

    @property
    def path(self) -> Path:
        return self.run.stage_path(self.round_number, self.name)

    @property
    def finished(self) -> bool:
        return self.run.has(self.round_number, self.name)

    def manifest(self) -> Manifest:
        """ArtifactError says that the stage has not finished, or that its manifest is damaged."""
        return self.run.manifest(self.round_number, self.name)

    def digest(self) -> str:
        """Digest of all that the stage wrote, as an input of later stages. Errors as `manifest`."""
        return self.manifest().digest
