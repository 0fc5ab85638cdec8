"""The records of knowledge items over a run's rounds, for tables."""

from oel_core.knowledge.item_records import ITEM_RECORDS, ItemRecord
from oel_core.rounds.knowledge import ACCUMULATE
from oel_core.runs.folder import RunFolder
from oel_core.runs.jsonl import read_jsonl

HISTORY = ("round", "state", "evidence", "found in", "contradicted in", "why")
SHOWN = 2
"""Episodes that a cell names."""


def histories(run: RunFolder, contained: str) -> dict[str, dict[int, ItemRecord]]:
    """Text of each item that contains a text, in any wording and regardless of case → round → its record then.

    Raises:
        ArtifactError: a file of a round is damaged.
    """
    found: dict[str, dict[int, ItemRecord]] = {}
    wanted = contained.casefold()
    for number in run.rounds():
        path = run.stage_path(number, ACCUMULATE) / ITEM_RECORDS
        for record in read_jsonl(path, ItemRecord) if path.exists() else ():
            if any(wanted in text.casefold() for text in (record.item.text, *record.wordings)):
                found.setdefault(record.item.text, {})[number] = record
    return found


def history_row(number: int, record: ItemRecord) -> list[str]:
    """One row of a record, with the columns `HISTORY`."""
    return [
        str(number),
        record.state.value,
        f"{record.evidence:.2f}",
        _episodes(record.found_in),
        _episodes(record.contradicted_in),
        record.why,
    ]


def _episodes(ids: tuple[str, ...]) -> str:
    shown = ", ".join([*ids[:SHOWN], *(["..."] if len(ids) > SHOWN else [])])
    return f"{len(ids)}: {shown}" if ids else "-"
