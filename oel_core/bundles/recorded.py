"""Signs of a recorded episode in what must not hold one: fields of its record, or a transcript's headings."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

EPISODE = frozenset(
    ("env", "seed", "split", "replica", "policy", "knowledge_digest", "intro", "turns", "terminated", "truncated")
) | {"reward", "feedback"}
TURN = frozenset(("prompt_ids_digest", "response", "response_ids", "stop_reason", "action", "observation", "reward"))
ENOUGH = 4
"""Fields that make an object a record; fewer may be anybody's words."""
_HEADING = re.compile(r"^## (?:Turn \d+|End)$", re.MULTILINE)
_ANSWER = re.compile(r"^Answer: ", re.MULTILINE)


def recorded_fields(value: Any) -> list[str]:
    """The fields that make a value of JSON, or one within it, the record of an episode or a turn; empty: none."""
    for each in _objects(value):
        for known in (EPISODE, TURN):
            found = sorted(known & each.keys())
            if len(found) >= ENOUGH:
                return found
    return []


def recorded_text(text: str) -> str | None:
    """Why a text is or holds a recorded episode, or None.

    It is looked for as JSON, whole or a line, and as the transcript that an extractor reads.
    """
    for part in (text, *text.splitlines()):
        if part.lstrip()[:1] in ("{", "["):
            try:
                found = recorded_fields(from_json(part))
            except ValueError:
                continue
            if found:
                return f"it holds the record of an episode (fields {', '.join(found)})"
    if _HEADING.search(text) and _ANSWER.search(text):
        return "it holds the transcript of an episode"
    return None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _objects(each)
