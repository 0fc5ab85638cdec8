"""Revision of knowledge within `accumulate`: what a round's episodes say of every item, old or new."""

from collections.abc import Sequence
from pathlib import Path

from oel_core.knowledge.extraction_records import KnowledgeState
from oel_core.knowledge.item_records import ITEM_RECORDS, ItemRecord
from oel_core.knowledge.revision import revise_files
from oel_core.prompts.extraction.base import CountTokens
from oel_core.rounds.knowledge import ACCUMULATE
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.runs.manifest import digest_file
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
    files, records = revise_files(used, previous, round.number, round.config.knowledge.max_tokens, count)
    write_atomic(folder / ITEM_RECORDS, jsonl_bytes(records))
    return files


def _previous(round: Round) -> Path | None:
    """The records after the round whose knowledge this round continues."""
    number = knowledge_before(round.run, round.number) if round.config.knowledge.revision == "on" else None
    path = round.at(number).stage(ACCUMULATE).path / ITEM_RECORDS if number is not None else None
    return path if path is not None and path.exists() else None
