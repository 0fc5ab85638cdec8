"""Markdown that several pages share."""

import re
from collections.abc import Sequence

from oel_core.text.visible import visible_line

MOST = 1000
"""Characters of one untrusted text on a page."""
_SIGNS = re.compile(r"[\\`*_\[\]<>#|~&!@$]|:(?=//)|(?<=www)\.")
_START = re.compile(r"^([-+=]|\d+(?=[.)]))")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of untrusted text: every cell shows what it says and is no structure."""
    first, *others = ([_plain(cell) for cell in row] for row in (head, *rows))
    return "\n".join("| " + " | ".join(row) + " |" for row in [first, ["---"] * len(head), *others])


def escaped(text: str) -> str:
    """Untrusted text as one line of a page that shows it as it is: no structure, link, HTML or hidden character.

    Signs that mean something are escaped with a backslash, as CommonMark has it for any ASCII punctuation.
    """
    return _START.sub(lambda sign: f"{sign[0]}\\" if sign[0].isdigit() else f"\\{sign[0]}", _plain(text))


def _plain(text: str) -> str:
    """As `escaped`, for what does not stand at the start of a line."""
    return _SIGNS.sub(lambda sign: f"\\{sign[0]}", visible_line(text.strip(), MOST))
