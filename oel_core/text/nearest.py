"""Hints for names that are not known."""

from collections.abc import Sequence
from difflib import get_close_matches

LONGEST = 80
"""Characters of a wrong name that are compared: names are short, and comparing is quadratic."""


def nearest(name: str, known: Sequence[str]) -> str:
    """`did you mean a, b? ` with the nearest known names, or nothing where none is near."""
    near = get_close_matches(name[:LONGEST], known, n=3, cutoff=0.4)
    return f"did you mean {', '.join(near)}? " if near else ""
