"""Whether what an item quotes occurs in the episode that it was read from.

A small extractor invents commands and signs; what it quotes can be looked up. That the quoted text occurs says nothing
about whether the item is right: `'A' is done with: b` passes where both occur, together or not.
"""

import re
from collections.abc import Iterator

from oel_core.types import Trajectory

DONE_WITH = "is done with:"
_QUOTED = re.compile(r"`([^`\n]+)`|\"([^\"\n]+)\"|\u201c([^\u201d\n]+)\u201d|(?<!\w)'([^'\n]+)'(?!\w)")
_ENDS = " .,;:!?"


def quotes(text: str) -> list[str]:
    """What a text quotes: in backticks or quotation marks, and the rest of a line after "is done with:".

    White space is normalised, the punctuation that may end a quoted sentence is left out, nothing comes twice. An
    apostrophe within or at the end of a word opens no quotation.
    """
    found: list[str] = []
    for line in text.splitlines():
        before, mark, after = line.partition(DONE_WITH)
        found += [next(filter(None, match.groups())) for match in _QUOTED.finditer(before if mark else line)]
        found += [_unwrapped(after)] if mark else []
    normalised = (_normalised(quote).rstrip(_ENDS) for quote in found)
    return list(dict.fromkeys(quote for quote in normalised if quote))


def _unwrapped(text: str) -> str:
    """Without the one pair of quotation marks that it may stand in."""
    inner = text.strip().rstrip(_ENDS)
    return inner[1:-1] if len(inner) > 1 and inner[0] == inner[-1] and inner[0] in "`\"'" else inner


def missing_quotes(text: str, episode: Trajectory) -> list[str]:
    """What a text quotes and no observation, response or feedback of the episode has, letter by letter."""
    said = [_normalised(part) for part in _said(episode)]
    return [quote for quote in quotes(text) if not any(quote in part for part in said)]


def _said(episode: Trajectory) -> Iterator[str]:
    """What the extractor reads: of a recorded conversation, which has no intro, every message of a prompt."""
    for turn in episode.turns:
        for message in turn.messages[-1:] if episode.intro else turn.messages:
            yield from (message.content, *(call.arguments for call in message.tool_calls))
        yield from (turn.response, turn.observation)
    yield episode.feedback


def _normalised(text: str) -> str:
    return " ".join(text.split())
