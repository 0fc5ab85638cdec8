"""The intro line and the action parser that the grid games share."""

import re
from typing import Final

GRID_INTRO: Final = "You are 'P' on the board and move one step at a time. Actions: [up] [down] [left] [right]"

_MOVES: Final = {
    "up": "up",
    "down": "down",
    "left": "left",
    "right": "right",
    "w": "up",
    "s": "down",
    "a": "left",
    "d": "right",
}
_MOVE_IN_BRACKETS: Final = re.compile(r"\[(up|down|left|right|w|a|s|d)\]")


def parse_grid_action(response: str) -> str | None:
    """The last bracketed move of a response as `up`, `down`, `left` or `right`.

    Case-sensitive, without spaces inside the brackets. The last match counts because a reasoning model names other
    moves before it decides.

    Returns:
        One of the four moves, or None if the response has no bracketed move.
    """
    found = _MOVE_IN_BRACKETS.findall(response)
    return _MOVES[found[-1]] if found else None
