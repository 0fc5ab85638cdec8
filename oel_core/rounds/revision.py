"""Revision of knowledge within `accumulate`: what a round's episodes say of every item, old or new."""

from collections.abc import Sequence
from pathlib import Path

from oel_core.knowledge.extraction_records import KnowledgeState
from oel_core.knowledge.item_records import ITEM_RECORDS, ItemRecord
from oel_core.knowledge.measured import item_values
from oel_core.knowledge.revision import revise_files
from oel_core.knowledge.selection_records import SCORES, Selection
from oel_core.knowledge.store import load_knowledge
from oel_core.prompts.extraction.base import CountTokens
from oel_core.rounds.knowledge import ACCUMULATE, REVIEW, SELECT
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.runs.manifest import digest_file, read_record
from oel_core.runs.round_start import knowledge_before
from oel_core.types import Knowledge


def item_records_input(round: Round) -> dict[str, str]:
    """The digest of the previous records, as a stage input; empty where there are none."""
    path = _previous(round)
    return {"previous_item_records": digest_file(path)} if path is not None else {}


def revised(
    round: Round, used: Sequence[Sequence[KnowledgeState]], count: CountTokens, folder: Path
) -> list[Knowledge]:
    """Every replica's revised knowledge; writes `item_records.jsonl`.

    Args:
        used: of each replica the knowledge before its first used episode and after each of them.
    """
    path = _previous(round)
    previous = list(read_jsonl(path, ItemRecord)) if path is not None else []
    cap, values = round.config.knowledge.max_tokens, _measured(round)
    files, records = revise_files(used, previous, round.number, cap, count, values)
    write_atomic(folder / ITEM_RECORDS, jsonl_bytes(records))
    return files


def _measured(round: Round) -> dict[str, float]:
    """The value of the previous round's items where its selection scored the files that have them.

    The digest of that selection is an input of the stage already (`Round.previous_input`).
    """
    number = knowledge_before(round.run, round.number)
    before = round.at(number) if number is not None else None
    if before is None or not before.stage(SELECT).finished:
        return {}
    selection = read_record(before.stage(SELECT).path / SCORES, Selection)
    scored = next(stage for name in (REVIEW, ACCUMULATE) if (stage := before.stage(name)).finished)
    if selection.undecided:
        return {}
    files = [load_knowledge(scored.path, file.replica) for file in selection.files]
    return item_values(files, {file.replica: file.score for file in selection.files})


def _previous(round: Round) -> Path | None:
    """The records after the round whose knowledge this round continues."""
    number = knowledge_before(round.run, round.number) if round.config.knowledge.revision == "on" else None
    path = round.at(number).stage(ACCUMULATE).path / ITEM_RECORDS if number is not None else None
    return path if path is not None and path.exists() else None
