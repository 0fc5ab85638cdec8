"""Items that begin alike and go on differently: "'X' is done with: a" beside "'X' is done with: b"."""

from collections.abc import Sequence

from oel_core.knowledge.evidence import DONE_WITH
from oel_core.prompts.extraction.itemised import MARKER
from oel_core.types import ExperienceItem

_SEPARATORS = (f" {DONE_WITH} ", " -> ", " means ", ": ")
"""Looked for in this order: an earlier one says more about where an item's left side ends."""
_AROUND = " .`'\""


def sides(text: str) -> tuple[str, str] | None:
    """What an item is about, in lower case, and what it says of that; None where it has no such form.

    White space, quotation marks and a full stop around either side do not count.
    """
    if "\n" in text.strip():
        return None
    body = " ".join(text.strip().removeprefix(MARKER).split())
    for separator in _SEPARATORS:
        left, found, right = (part.strip(_AROUND) for part in body.partition(separator))
        if found and left and right:
            return left.casefold(), right
    return None


def contradictions(items: Sequence[ExperienceItem]) -> list[tuple[int, ...]]:
    """Places of items with one left side and more than one right side, group by group, in ascending order.

    A hint for the reader, no verdict: one thing may be done in two ways.
    """
    groups: dict[str, list[tuple[int, str]]] = {}
    for place, item in enumerate(items):
        if found := sides(item.text):
            groups.setdefault(found[0], []).append((place, found[1]))
    return [tuple(place for place, _ in group) for group in groups.values() if len({right for _, right in group}) > 1]
