"""Which stage has the last word on a round's K knowledge texts. What follows reads them from here."""

from oel_core.config.run import OelConfig
from oel_core.knowledge.store import load_knowledge, replicas
from oel_core.runs.folder import RunFolder
from oel_core.types import Knowledge

ACCUMULATE, REVIEW, SELECT = "accumulate", "review", "select"
"""The stages that leave knowledge files."""
SETTLED_SECTIONS = ("collect.replicas", "knowledge.max_tokens", "review.mode")
"""What a stage depends on that reads these texts, besides their digest."""


def settled_stage(config: OelConfig) -> str:
    """The stage whose texts count."""
    return REVIEW if config.review.mode == "required" else ACCUMULATE


def settled_digest(config: OelConfig, run: RunFolder, round_index: int) -> str:
    """Digest of the texts, as an input of later stages; ArtifactError when they are not there yet."""
    return run.manifest(round_index, settled_stage(config)).digest


def load_settled(config: OelConfig, run: RunFolder, round_index: int) -> list[Knowledge]:
    """The K knowledge files of a round, checked against the token cap and against each other's sidecars."""
    return load_all(config, run, round_index, settled_stage(config))


def load_all(config: OelConfig, run: RunFolder, round_index: int, stage: str) -> list[Knowledge]:
    """All knowledge files that a stage left: as many as that round had, whatever `collect.replicas` is today."""
    folder, cap = run.stage_path(round_index, stage), config.knowledge_cap
    known = replicas(run.manifest(round_index, stage).outputs)
    return [load_knowledge(folder, replica, max_tokens=cap) for replica in known]
