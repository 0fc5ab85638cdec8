"""The knowledge that a round goes on from: what an earlier round, mostly the one before it, distilled."""

from oel_core.config.run import OelConfig
from oel_core.rounds.knowledge import load_from, taught_by
from oel_core.runs.folder import RunFolder
from oel_core.runs.round_start import knowledge_before
from oel_core.types import Knowledge


def previous_input(config: OelConfig, run: RunFolder, round_index: int) -> dict[str, str]:
    """The digest of the knowledge that a round starts from, when it starts from any."""
    before = _carried(config, run, round_index)
    return {} if before is None else {"previous_knowledge": run.manifest(before, taught_by(run, before)).digest}


def previous_knowledge(config: OelConfig, run: RunFolder, round_index: int, replica: int) -> Knowledge | None:
    """What a replica goes on from: its own file or, where only some files were distilled, one of those in turn.

    A file that was not chosen ends there, and what is wrong in it with it.

    Raises:
        ArtifactError: the file is missing, edited, or over the cap.
    """
    before = _carried(config, run, round_index)
    if before is None:
        return None
    files = load_from(config, run, before, taught_by(run, before)).knowledge
    own = next((file for file in files if file.replica == replica), files[replica % len(files)])
    return own.model_copy(update={"replica": replica, "validation_score": None})


def _carried(config: OelConfig, run: RunFolder, round_index: int) -> int | None:
    return knowledge_before(run, round_index) if config.knowledge.carry_over else None
