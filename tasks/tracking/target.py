"""Which MLflow run takes in the stages of a round, and where in it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from oel_core.rounds.round import Round
from tasks.tracking.client import LOOP, Tracker, tracker_of
from tasks.tracking.settings import TrackingSettings


@dataclass(frozen=True)
class Target:
    """An MLflow run as one round sees it: each round of a loop has its own, the rounds of a study's run share one."""

    tracker: Tracker
    name: str
    """As in `Tracker.run_id`."""
    prefix: str = ""
    """Before the artifacts' folders, and before what rounds in one MLflow run would overwrite: `round_01/`."""
    steps_before: int = 0
    """Optimiser steps of the earlier rounds in the same MLflow run."""
    summarised_in: tuple[str, ...] = ()
    """Further runs that get the round's row of the summary."""

    def log_metrics(self, rows: Iterable[tuple[str, float, int]]) -> None:
        """(metric, value, step), as in `Tracker.log_metrics`."""
        self.tracker.log_metrics(self.name, rows)

    def log_file(self, path: Path, folder: str) -> None:
        """A file, or a folder with what is in it, under `folder` of the round's artifacts."""
        self.tracker.log_file(self.name, path, self.prefix + folder)


def of_round(settings: TrackingSettings, round: Round) -> Target:
    """Where a loop tracks a round: in a run of the round's own, with its row in the loop's run too."""
    return Target(tracker_of(settings, round.run), str(round.number), summarised_in=(LOOP,))
