"""The support of an item: the number of episodes in which it was found. Invented items rarely appear in several
replicas."""

from collections.abc import Iterable

from oel_core.knowledge.store import item_key
from oel_core.types import ExperienceItem, Knowledge


def count_support(items: Iterable[ExperienceItem]) -> dict[str, int]:
    """By `item_key`: distinct episodes among the sources of equal items."""
    sources: dict[str, set[str]] = {}
    for item in items:
        sources.setdefault(item_key(item.text), set()).update(item.sources)
    return {key: len(found) for key, found in sources.items()}


def with_support(knowledge: Knowledge, support: dict[str, int]) -> Knowledge:
    """The knowledge with the support of its items; 1 for items that are not counted, as those removed by the cap."""
    items = tuple(item.model_copy(update={"support": support.get(item_key(item.text), 1)}) for item in knowledge.items)
    return knowledge.model_copy(update={"items": items})
