"""Detects recorded episodes in data that must not contain any, by fields of the record or headings of a transcript."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

EPISODE = frozenset(
    ("env", "seed", "split", "replica", "policy", "knowledge_digest", "intro", "turns", "terminated", "truncated")
) | {"reward", "feedback"}
TURN = frozenset(("prompt_ids_digest", "response", "response_ids", "stop_reason", "action", "observation", "reward"))
MIN_FIELDS = 4
"""Minimum number of a record's fields by which an object counts as one; fewer may be ordinary text."""
_HEADING = re.compile(r"^## (?:Turn \d+|End)$", re.MULTILINE)
_ANSWER = re.compile(r"^Answer: ", re.MULTILINE)


def recorded_fields(value: Any) -> list[str]:
    """The fields by which a JSON value, or one within it, is the record of an episode or a turn; empty if none."""
    for each in _objects(value):
        for known in (EPISODE, TURN):
            found = sorted(known & each.keys())
            if len(found) >= MIN_FIELDS:
                return found
    return []


def recorded_text(text: str) -> str | None:
    """Why a text is or contains a recorded episode; None if it does not.

    Detects JSON (the whole text or a line) and the transcript that an extractor reads.
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
