"""Progress callbacks of the library."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with how much of the work is done, and how much there is."""


def silent(done: int, total: int) -> None:
    """A callback that does nothing."""
