"""Where running stages say how far they are. A command line sets the sink; without one nothing is shown."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Sink = Callable[[str, int, int], None]
"""Called with a label, how much is done, and how much there is."""


def _nowhere(label: str, done: int, total: int) -> None:
    """Shows nothing."""


_sink: Sink = _nowhere


@contextmanager
def shown_by(sink: Sink) -> Iterator[None]:
    """Sends the progress of every stage in this process to `sink` for the time of the block."""
    global _sink
    before, _sink = _sink, sink
    try:
        yield
    finally:
        _sink = before


def progress(label: str) -> Callable[[int, int], None]:
    """The progress callback of a stage that is shown as `label`."""
    return lambda done, total: _sink(label, done, total)
