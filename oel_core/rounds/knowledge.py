"""What a round's teacher reads: all knowledge files, or those that `select` chose, and how often each."""

from dataclasses import dataclass

from oel_core.config.run import OelConfig
from oel_core.knowledge.selection import draw_file
from oel_core.knowledge.selection_records import SCORES, Selection
from oel_core.knowledge.store import load_knowledge
from oel_core.rounds.settled import ACCUMULATE, REVIEW, SELECT, load_all, settled_stage
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import read_record
from oel_core.seeds import derive_seed
from oel_core.types import Knowledge


@dataclass(frozen=True)
class Teaching:
    """The knowledge that is distilled."""

    knowledge: list[Knowledge]
    weights: tuple[float, ...] | None
    """How often each file is drawn, adding up to 1; None: all alike."""

    def texts(self, episodes: int, seed: int) -> tuple[str, ...]:
        """What episode i of the in-context arm reads is text i modulo their number.

        Without weights that is one text a file; with weights one drawn text an episode.
        """
        if self.weights is None:
            return tuple(entry.text for entry in self.knowledge)
        drawn = (
            draw_file(len(self.knowledge), self.weights, derive_seed("in_context", seed, index))
            for index in range(episodes)
        )
        return tuple(self.knowledge[position].text for position in drawn)


def teaching_stage(config: OelConfig) -> str:
    """The stage that leaves the knowledge which is distilled."""
    return settled_stage(config) if config.knowledge.selection.use == "all" else SELECT


def taught_by(run: RunFolder, round_index: int) -> str:
    """The same of a round that is over, whatever its settings were: they may have changed since."""
    left = (stage for stage in (SELECT, REVIEW) if run.has(round_index, stage))
    return next(left, ACCUMULATE)


def teaching_digest(config: OelConfig, run: RunFolder, round_index: int) -> str:
    """Digest of the knowledge that is distilled; ArtifactError when the stage that leaves it has not finished."""
    return run.manifest(round_index, teaching_stage(config)).digest


def load_teaching(config: OelConfig, run: RunFolder, round_index: int) -> Teaching:
    """Reads the files and checks them against the token cap.

    Raises:
        ArtifactError: a file is missing, edited, or over the cap.
    """
    return load_from(config, run, round_index, teaching_stage(config))


def load_from(config: OelConfig, run: RunFolder, round_index: int, stage: str) -> Teaching:
    """As `load_teaching`, from the stage named."""
    if stage != SELECT:
        return Teaching(load_all(config, run, round_index, stage), None)
    folder, cap = run.stage_path(round_index, stage), config.knowledge_cap
    selection: Selection = read_record(folder / SCORES, Selection)
    files = [load_knowledge(folder, file.replica, max_tokens=cap) for file in selection.chosen]
    weighted = selection.use == "weighted"
    return Teaching(files, tuple(file.weight for file in selection.chosen) if weighted else None)
