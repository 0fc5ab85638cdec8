"""Progress callbacks of the library."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""(done, total)."""


def silent(done: int, total: int) -> None:
    """A callback that does nothing."""
