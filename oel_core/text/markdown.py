"""Markdown shared by several pages."""

import re
from collections.abc import Sequence

from oel_core.text.visible import visible_line

MAX_CHARACTERS = 1000
"""Characters of one untrusted text on a page."""
_SIGNS = re.compile(r"[\\`*_\[\]<>#|~&!@$]|:(?=//)|(?<=www)\.")
_START = re.compile(r"^([-+=]|\d+(?=[.)]))")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of untrusted text; every cell is escaped."""
    first, *others = ([_plain(cell) for cell in row] for row in (head, *rows))
    return "\n".join("| " + " | ".join(row) + " |" for row in [first, ["---"] * len(head), *others])


def escaped(text: str) -> str:
    """Untrusted text as one line of Markdown without structure, links, HTML or hidden characters.

    Characters with a meaning are escaped by a backslash, as CommonMark allows for any ASCII punctuation.
    """
    return _START.sub(lambda sign: f"{sign[0]}\\" if sign[0].isdigit() else f"\\{sign[0]}", _plain(text))


def _plain(text: str) -> str:
    """As `escaped`, for text that is not at the start of a line."""
    return _SIGNS.sub(lambda sign: f"\\{sign[0]}", visible_line(text.strip(), MAX_CHARACTERS))
