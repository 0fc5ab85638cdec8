"""A round's knowledge files revised by the evidence of its episodes, over all replicas."""

from collections.abc import Mapping, Sequence

from oel_core.knowledge.extraction_records import KnowledgeState
from oel_core.knowledge.item_records import ItemRecord, adopt, collect, revise
from oel_core.knowledge.served import serve
from oel_core.knowledge.store import item_key
from oel_core.prompts.extraction.base import CountTokens
from oel_core.types import ExperienceItem, Knowledge


def revise_files(
    used: Sequence[Sequence[KnowledgeState]],
    previous: Sequence[ItemRecord],
    round_index: int,
    max_tokens: int,
    count: CountTokens,
    values: Mapping[str, float] | None = None,
) -> tuple[list[Knowledge], list[ItemRecord]]:
    """Every replica's revised knowledge, and the records after the round.

    Args:
        used: of each replica the knowledge before its first used episode and after each of them.
        previous: the records after the round whose knowledge this one continues.
        values: `item_key` → what that round's files with the item passed more than the others (`item_values`).
    """
    before = [states[0].knowledge.items for states in used]
    new = [_new_items(states) for states in used]
    known = adopt(previous, (item for items in before for item in items))
    records = revise(known, collect((item, item.sources) for items in new for item in items), round_index)
    records = [_valued(record, values or {}) for record in records]
    files = [
        serve(states[-1].knowledge, [*old, *own], records, max_tokens, count)
        for states, old, own in zip(used, before, new, strict=True)
    ]
    return files, records


def _valued(record: ItemRecord, values: Mapping[str, float]) -> ItemRecord:
    """The record with its measured value, whichever of its wordings was measured."""
    keys = map(item_key, (record.item.text, *record.wordings))
    value = next((values[key] for key in keys if key in values), None)
    return record if value is None else record.model_copy(update={"value": value})


def _new_items(states: Sequence[KnowledgeState]) -> list[ExperienceItem]:
    """What the round's episodes showed, each item with the new episodes alone, also where the cap has removed it."""
    earlier = {item_key(item.text): set(item.sources) for item in states[0].knowledge.items}
    found: dict[str, ExperienceItem] = {}
    for item in (item for state in states[1:] for item in state.knowledge.items):
        key = item_key(item.text)
        sources = [*(found[key].sources if key in found else ()), *item.sources]
        fresh = tuple(dict.fromkeys(source for source in sources if source not in earlier.get(key, ())))
        if fresh:
            found[key] = item.model_copy(update={"sources": fresh})
    return list(found.values())
