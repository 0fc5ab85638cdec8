"""Reads the knowledge files of a finished stage."""

from dataclasses import dataclass

from oel_core.knowledge.selection import sample_file, with_text
from oel_core.knowledge.selection_records import SCORES, Selection
from oel_core.knowledge.store import load_knowledge, replicas
from oel_core.rounds.stage_folder import StageFolder
from oel_core.runs.manifest import read_record
from oel_core.seeds import derive_seed
from oel_core.types import Knowledge

ACCUMULATE, REVIEW, SELECT = "accumulate", "review", "select"
"""The stages that write knowledge files."""
MERGED_SECTIONS = ("collect.replicas", "knowledge.max_tokens", "review.mode")
"""Configuration sections in the key of a stage that reads the merged files, besides their digest."""


@dataclass(frozen=True)
class DistilledKnowledge:
    """The knowledge that is distilled."""

    knowledge: list[Knowledge]
    weights: tuple[float, ...] | None
    """Probability with which each file is sampled, adding up to 1; None: uniform."""

    def texts(self, episodes: int, seed: int) -> tuple[str, ...]:
        """Knowledge texts for the in-context arm: episode i gets text i modulo their number.

        Without weights one text per file; with weights one sampled text per episode.
        """
        if self.weights is None:
            return tuple(entry.text for entry in self.knowledge)
        drawn = (
            sample_file(len(self.knowledge), self.weights, derive_seed("in_context", seed, index))
            for index in range(episodes)
        )
        return tuple(self.knowledge[position].text for position in drawn)


def load_files(stage: StageFolder, cap: int) -> list[Knowledge]:
    """All knowledge files of a stage, independent of the present `collect.replicas`.

    Raises:
        ArtifactError: a file is missing, edited, or over `cap` tokens.
    """
    return [load_knowledge(stage.path, replica, max_tokens=cap) for replica in replicas(stage.manifest().outputs)]


def load_distilled(stage: StageFolder, cap: int) -> DistilledKnowledge:
    """The files to distil: those that `select` chose, with its weights, else all that are not empty.

    Errors as `load_files`.
    """
    if stage.name != SELECT:
        return DistilledKnowledge(with_text(load_files(stage, cap)), None)
    selection = read_record(stage.path / SCORES, Selection)
    files = [load_knowledge(stage.path, file.replica, max_tokens=cap) for file in selection.chosen]
    weighted = selection.use == "weighted"
    return DistilledKnowledge(files, tuple(file.weight for file in selection.chosen) if weighted else None)
