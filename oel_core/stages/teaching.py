"""What a round's teacher reads: all knowledge files, or those that `select` chose, and how often each."""

from dataclasses import dataclass

from oel_core.artifacts import RunFolder
from oel_core.config import OelConfig
from oel_core.knowledge import load_knowledge
from oel_core.manifest import read_record
from oel_core.seeds import derive_seed
from oel_core.selection import draw_file
from oel_core.stages import select
from oel_core.stages.settled import load_settled, settled_digest, settled_stage
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


def teaching_digest(config: OelConfig, run: RunFolder, round_index: int) -> str:
    """Digest of the knowledge that is distilled; ArtifactError when the stage that leaves it has not finished."""
    if config.knowledge.selection.use == "all":
        return settled_digest(config, run, round_index)
    return run.manifest(round_index, select.STAGE).digest


def has_teaching(config: OelConfig, run: RunFolder, round_index: int) -> bool:
    """Whether the knowledge that is distilled in a round stands."""
    stage = settled_stage(config) if config.knowledge.selection.use == "all" else select.STAGE
    return run.has(round_index, stage)


def load_teaching(config: OelConfig, run: RunFolder, round_index: int) -> Teaching:
    """Reads the files and checks them against the token cap.

    Raises:
        ArtifactError: a file is missing, edited, or over the cap.
    """
    if config.knowledge.selection.use == "all":
        return Teaching(load_settled(config, run, round_index), None)
    folder = run.stage_path(round_index, select.STAGE)
    selection: select.Selection = read_record(folder / select.SCORES, select.Selection)
    cap = config.knowledge_cap
    files = [load_knowledge(folder, file.replica, max_tokens=cap) for file in selection.chosen]
    weighted = selection.use == "weighted"
    return Teaching(files, tuple(file.weight for file in selection.chosen) if weighted else None)
