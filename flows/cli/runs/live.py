"""Live progress of a run: one line per stage, with a progress bar while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flows.pages.progress_lines import ProgressLines, RoundLeft, unknown
from flows.pages.time_left import duration
from tasks.progress import Sink, shown_by


class _Lines:
    """Bars by label. A new label finishes the one before it."""

    def __init__(self, progress: Progress, left: RoundLeft) -> None:
        self._progress, self._left = progress, left
        self._bars: dict[str, TaskID] = {}

    def __call__(self, label: str, done: int, total: int) -> None:
        if label not in self._bars:
            self._finish()
            seconds = self._left(0.0)
            text = label if seconds is None else f"{label} (the round about {duration(seconds)})"
            self._bars[label] = self._progress.add_task(text, total=total or None)
        self._progress.update(self._bars[label], completed=done, total=total or None)

    def _finish(self) -> None:
        for bar in self._bars.values():
            self._progress.stop_task(bar)
            if self._progress.tasks[bar].total is None:
                self._progress.update(bar, total=1, completed=1)


@contextmanager
def live_progress(console: Console, left: RoundLeft = unknown) -> Iterator[Sink]:
    """Shows the progress of every stage in this process; plain lines without a terminal.

    `left`: remaining time of the round, where known.
    """
    if not console.is_terminal:
        lines = ProgressLines(lambda line: console.print(line, highlight=False), left=left)
        with shown_by(lines):
            yield lines
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars = _Lines(progress, left)
        with shown_by(bars):
            yield bars
