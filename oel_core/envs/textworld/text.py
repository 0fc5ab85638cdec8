"""Filters TextWorld's text before it is shown to a player, and the texts added to it."""

import re
from typing import Final

from oel_core.errors import EnvironmentError_

INTRO: Final = "You type one command at a time, in square brackets, like [go north]."
NOT_POSSIBLE: Final = "Nothing happens: that is not a possible command here."
_STATUS_BAR = re.compile(r"^>[^\S\n]*-=[^\n]*=-[^\n]*$", re.MULTILINE)


def refuse_objective(observation: str, objective: str) -> None:
    """Raises EnvironmentError_ if an observation contains a sentence of the objective."""
    seen = " ".join(observation.split())
    sentences = [" ".join(part.split()) for part in re.split(r"(?<=[.!?])\s", objective or "")]
    leaked = [sentence for sentence in sentences if len(sentence.split()) > 3 and sentence in seen]
    if leaked:
        raise EnvironmentError_(f"the first observation of a TextWorld game shows its objective: {leaked[0]!r}")


def tidy(text: str) -> str:
    """The game's text without the interpreter's status bar and closing question, and without runs of empty lines."""
    kept = _STATUS_BAR.sub("", (text or "").split("Would you like to RESTART")[0])
    lines = [line.strip() for line in kept.strip().splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
