"""Markdown that several pages share."""

import re
from collections.abc import Sequence

from oel_core.text.visible import visible_line

MOST = 1000
"""Characters of one untrusted text on a page."""
_SIGNS = re.compile(r"[\\`*_\[\]<>#|~&!@$]|:(?=//)|(?<=www)\.")
_START = re.compile(r"^([-+=]|\d+(?=[.)]))")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are taken as they are."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def escaped(text: str) -> str:
    """Untrusted text as one line of a page that shows it as it is: no structure, link, HTML or hidden character.

    Signs that mean something are escaped with a backslash, as CommonMark has it for any ASCII punctuation.
    """
    line = _SIGNS.sub(lambda sign: f"\\{sign[0]}", visible_line(text.strip(), MOST))
    return _START.sub(lambda sign: f"{sign[0]}\\" if sign[0].isdigit() else f"\\{sign[0]}", line)
