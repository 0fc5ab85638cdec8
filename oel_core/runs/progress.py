"""Progress callbacks: how library code says how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with how much of the work is done, and how much there is."""


def silent(done: int, total: int) -> None:
    """The callback of a caller who shows nothing."""
