"""Items with the same subject and different statements: "'X' is done with: a" beside "'X' is done with: b"."""

import re
from collections.abc import Sequence

from oel_core.knowledge.evidence import DONE_WITH
from oel_core.prompts.extraction.itemised import MARKER
from oel_core.types import ExperienceItem

_FORMS = (
    rf"(?P<left>.*?) {re.escape(DONE_WITH)} (?P<right>.*)",
    r"(?P<left>.*?) -> (?P<right>.*)",
    r"(?P<left>.*?) means (?P<right>.*)",
    r"(?P<quote>[`'\"])(?P<left>[^`'\"]+)(?P=quote) (?P<right>.*)",
    r"(?P<left>.*?): (?P<right>.*)",
)
"""In order of priority: forms of a subject and a statement."""
_AROUND = " .`'\""


def sides(text: str) -> tuple[str, str] | None:
    """An item's subject, in lower case, and its statement; None if it does not have that form.

    The subject is what precedes "is done with:", "->" or "means", or else a quotation that the item begins with, or
    else what precedes a colon. White space, quotation marks and a full stop around either side are ignored.
    """
    if "\n" in text.strip():
        return None
    body = " ".join(text.strip().removeprefix(MARKER).split())
    for form in _FORMS:
        found = re.fullmatch(form, body)
        left, right = (found[side].strip(_AROUND) for side in ("left", "right")) if found else ("", "")
        if left and right:
            return left.casefold(), right
    return None


def contradictions(items: Sequence[ExperienceItem]) -> list[tuple[int, ...]]:
    """Indices of items with the same subject and different statements, group by group, in ascending order.

    Only a hint: there may be two ways to do one thing.
    """
    groups: dict[str, list[tuple[int, str]]] = {}
    for place, item in enumerate(items):
        if found := sides(item.text):
            groups.setdefault(found[0], []).append((place, found[1]))
    return [tuple(place for place, _ in group) for group in groups.values() if len({right for _, right in group}) > 1]
