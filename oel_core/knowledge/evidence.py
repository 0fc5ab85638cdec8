"""Checks whether the quotations of an item occur in its source episode.

Small extractors invent commands and symbols; quotations can be checked. A quotation that occurs does not make the item
right: `'A' is done with: b` passes if both occur, together or not.
"""

import re
from collections.abc import Iterator

from oel_core.types import Trajectory

DONE_WITH = "is done with:"
_QUOTED = re.compile(r"`([^`\n]+)`|\"([^\"\n]+)\"|\u201c([^\u201d\n]+)\u201d|(?<!\w)'([^'\n]+)'(?!\w)")
_ENDS = " .,;:!?"


def quotes(text: str) -> list[str]:
    """The quotations in a text: in backticks or quotation marks, and the rest of a line after "is done with:".

    White space is normalised, punctuation at the end of a quoted sentence is removed, and duplicates are dropped. An
    apostrophe within or at the end of a word does not start a quotation.
    """
    found: list[str] = []
    for line in text.splitlines():
        before, mark, after = line.partition(DONE_WITH)
        found += [next(filter(None, match.groups())) for match in _QUOTED.finditer(before if mark else line)]
        found += [_unwrapped(after)] if mark else []
    normalised = (_normalised(quote).rstrip(_ENDS) for quote in found)
    return list(dict.fromkeys(quote for quote in normalised if quote))


def _unwrapped(text: str) -> str:
    """Without surrounding quotation marks."""
    inner = text.strip().rstrip(_ENDS)
    return inner[1:-1] if len(inner) > 1 and inner[0] == inner[-1] and inner[0] in "`\"'" else inner


def missing_quotes(text: str, episode: Trajectory) -> list[str]:
    """The quotations that occur in no observation, response or feedback of the episode, compared exactly."""
    said = [_normalised(part) for part in _said(episode)]
    return [quote for quote in quotes(text) if not any(quote in part for part in said)]


def _said(episode: Trajectory) -> Iterator[str]:
    """The text that the extractor reads: of a recorded conversation (without intro) all messages of the prompts."""
    for turn in episode.turns:
        for message in turn.messages[-1:] if episode.intro else turn.messages:
            yield from (message.content, *(call.arguments for call in message.tool_calls))
        yield from (turn.response, turn.observation)
    yield episode.feedback


def _normalised(text: str) -> str:
    return " ".join(text.split())
