"""Progress reports of running stages. A command line sets the sink; without one they are dropped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Sink = Callable[[str, int, int], None]
"""Called with a label, the completed and the total number of units."""


def _nowhere(label: str, done: int, total: int) -> None:
    """The default sink: drops the report."""


_sink: Sink = _nowhere


@contextmanager
def shown_by(sink: Sink) -> Iterator[None]:
    """Sends the progress of every stage in this process to `sink` within the block."""
    global _sink
    before, _sink = _sink, sink
    try:
        yield
    finally:
        _sink = before


def progress(label: str) -> Callable[[int, int], None]:
    """The progress callback of a stage with this label."""
    return lambda done, total: _sink(label, done, total)
