"""Suggestions for unknown names."""

from collections.abc import Sequence
from difflib import get_close_matches

LONGEST = 80
"""Characters of a wrong name that are compared: names are short, and comparing is quadratic."""


def nearest(name: str, known: Sequence[str]) -> str:
    """`did you mean a, b? ` with the nearest known names, or an empty text if none is similar."""
    near = get_close_matches(name[:LONGEST], known, n=3, cutoff=0.4)
    return f"did you mean {', '.join(near)}? " if near else ""
