"""The items of a replica's knowledge after a revision: those that are served, within the cap."""

import math
from collections.abc import Sequence

from oel_core.knowledge.contradictions import sides
from oel_core.knowledge.item_records import ItemRecord
from oel_core.knowledge.store import item_key, render
from oel_core.prompts.extraction.base import CountTokens
from oel_core.types import ExperienceItem, Knowledge


def serve(
    knowledge: Knowledge,
    items: Sequence[ExperienceItem],
    records: Sequence[ItemRecord],
    max_tokens: int,
    count: CountTokens,
) -> Knowledge:
    """The knowledge with these items as their records have them.

    Wordings of one item become one. A retired item is replaced by what contradicts it. Over the cap the least useful
    items go (`_usefulness`).

    Args:
        items: the replica's items before the round, then its new ones.
    """
    by_text = {item_key(text): record for record in records for text in (record.item.text, *record.wordings)}
    current = [_current(by_text[item_key(item.text)], records) for item in items if item_key(item.text) in by_text]
    kept = list({id(record): record for record in current if record is not None}.values())
    duplicates = len(current) - len(kept)
    dropped = 0
    while kept and count(_text(kept)) > max_tokens:
        kept.remove(min(kept, key=_usefulness))
        dropped += 1
    text = _text(kept)
    return knowledge.model_copy(
        update={
            "items": tuple(_item(record, items) for record in kept),
            "text": text,
            "tokens": count(text) if text else 0,
            "dropped_over_cap": knowledge.dropped_over_cap + dropped,
            "dropped_duplicates": knowledge.dropped_duplicates + duplicates,
            "validation_score": None,
        }
    )


def _usefulness(record: ItemRecord) -> tuple[float, float, int, int]:
    """Sorts items by what files with them passed, if that clearly differs from the others, then by evidence less this
    round's contradictions; of equals the older one comes first."""
    measured = 0.0 if record.value is None else math.copysign(1.0, record.value)
    return measured, record.evidence - len(record.contradicted_in), record.last, record.since


def _current(record: ItemRecord, records: Sequence[ItemRecord]) -> ItemRecord | None:
    """The record itself if it is served, else the strongest served item with the same subject."""
    if record.served:
        return record
    subject = sides(record.item.text)
    rivals = [
        one for one in records if one.served and (two := sides(one.item.text)) and subject and two[0] == subject[0]
    ]
    return max(rivals, key=lambda one: one.evidence, default=None)


def _item(record: ItemRecord, items: Sequence[ExperienceItem]) -> ExperienceItem:
    """The item in its first wording, with every episode of this replica that showed it, and its support over all."""
    own = [item for item in items if item_key(item.text) in {item_key(t) for t in (record.item.text, *record.wordings)}]
    sources = tuple(dict.fromkeys(source for item in own for source in item.sources)) or record.item.sources
    return record.item.model_copy(update={"sources": sources, "support": max(1, record.support)})


def _text(records: Sequence[ItemRecord]) -> str:
    return render([record.item for record in records])
