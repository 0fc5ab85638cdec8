"""The folder of a stage on disk."""

from dataclasses import dataclass
from pathlib import Path

from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import Manifest


@dataclass(frozen=True)
class StageFolder:
    """The final folder of a stage; it exists once the stage has finished."""

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
        """Raises ArtifactError where the stage has not finished, or its manifest is corrupt."""
        return self.run.manifest(self.round_number, self.name)

    def digest(self) -> str:
        """Digest of the stage's outputs, as an input of later stages. Errors as `manifest`."""
        return self.manifest().digest
