"""The knowledge of a round as files: merged and perhaps reviewed, then what of it is distilled, and what a later round
goes on from."""

from dataclasses import dataclass

from oel_core.config.run import OelConfig
from oel_core.knowledge.selection import draw_file
from oel_core.knowledge.selection_records import SCORES, Selection
from oel_core.knowledge.store import load_knowledge, replicas
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import read_record
from oel_core.runs.round_start import knowledge_before
from oel_core.seeds import derive_seed
from oel_core.types import Knowledge

ACCUMULATE, REVIEW, SELECT = "accumulate", "review", "select"
"""The stages that leave knowledge files."""
MERGED_SECTIONS = ("collect.replicas", "knowledge.max_tokens", "review.mode")
"""What a stage depends on that reads these texts, besides their digest."""


def merged_stage(config: OelConfig) -> str:
    """The stage that leaves the K texts: `review` where a person decides, else `accumulate`."""
    return REVIEW if config.review.mode == "required" else ACCUMULATE


def merged_digest(config: OelConfig, run: RunFolder, round_index: int) -> str:
    """Digest of the texts, as an input of later stages; ArtifactError when they are not there yet."""
    return run.manifest(round_index, merged_stage(config)).digest


def load_merged(config: OelConfig, run: RunFolder, round_index: int) -> list[Knowledge]:
    """The K knowledge files of a round, checked against the token cap and against each other's sidecars."""
    return load_all(config, run, round_index, merged_stage(config))


def load_all(config: OelConfig, run: RunFolder, round_index: int, stage: str) -> list[Knowledge]:
    """All knowledge files that a stage left: as many as that round had, whatever `collect.replicas` is today."""
    folder, cap = run.stage_path(round_index, stage), config.knowledge_cap
    known = replicas(run.manifest(round_index, stage).outputs)
    return [load_knowledge(folder, replica, max_tokens=cap) for replica in known]


@dataclass(frozen=True)
class DistilledKnowledge:
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


def distilled_stage(config: OelConfig) -> str:
    """The stage that leaves the knowledge which is distilled."""
    return merged_stage(config) if config.knowledge.selection.use == "all" else SELECT


def distilled_stage_of(run: RunFolder, round_index: int) -> str:
    """The same of a round that is over, whatever its settings were: they may have changed since."""
    left = (stage for stage in (SELECT, REVIEW) if run.has(round_index, stage))
    return next(left, ACCUMULATE)


def distilled_digest(config: OelConfig, run: RunFolder, round_index: int) -> str:
    """Digest of the knowledge that is distilled; ArtifactError when the stage that leaves it has not finished."""
    return run.manifest(round_index, distilled_stage(config)).digest


def load_distilled(config: OelConfig, run: RunFolder, round_index: int) -> DistilledKnowledge:
    """Reads the files and checks them against the token cap.

    Raises:
        ArtifactError: a file is missing, edited, or over the cap.
    """
    return load_from(config, run, round_index, distilled_stage(config))


def load_from(config: OelConfig, run: RunFolder, round_index: int, stage: str) -> DistilledKnowledge:
    """As `load_distilled`, from the stage named."""
    if stage != SELECT:
        return DistilledKnowledge(load_all(config, run, round_index, stage), None)
    folder, cap = run.stage_path(round_index, stage), config.knowledge_cap
    selection: Selection = read_record(folder / SCORES, Selection)
    files = [load_knowledge(folder, file.replica, max_tokens=cap) for file in selection.chosen]
    weighted = selection.use == "weighted"
    return DistilledKnowledge(files, tuple(file.weight for file in selection.chosen) if weighted else None)


def previous_input(config: OelConfig, run: RunFolder, round_index: int) -> dict[str, str]:
    """The digest of the knowledge that a round starts from, when it starts from any."""
    before = _carried(config, run, round_index)
    if before is None:
        return {}
    return {"previous_knowledge": run.manifest(before, distilled_stage_of(run, before)).digest}


def previous_knowledge(config: OelConfig, run: RunFolder, round_index: int, replica: int) -> Knowledge | None:
    """What a replica goes on from: its own file or, where only some files were distilled, one of those in turn.

    A file that was not chosen ends there, and what is wrong in it with it.

    Raises:
        ArtifactError: the file is missing, edited, or over the cap.
    """
    before = _carried(config, run, round_index)
    if before is None:
        return None
    files = load_from(config, run, before, distilled_stage_of(run, before)).knowledge
    own = next((file for file in files if file.replica == replica), files[replica % len(files)])
    return own.model_copy(update={"replica": replica, "validation_score": None})


def _carried(config: OelConfig, run: RunFolder, round_index: int) -> int | None:
    return knowledge_before(run, round_index) if config.knowledge.carry_over else None
