"""The MLflow run in which a round's stages are logged, and their location in it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from oel_core.rounds.round import Round
from tasks.tracking.client import LOOP, Tracker, tracker_of
from tasks.tracking.settings import TrackingSettings


@dataclass(frozen=True)
class Target:
    """The MLflow run of a round: each round of a loop has its own, the rounds of a study's run share one."""

    tracker: Tracker
    name: str
    """As in `Tracker.run_id`."""
    prefix: str = ""
    """Prefix of artifact folders and of names that rounds in one MLflow run would overwrite: `round_01/`."""
    steps_before: int = 0
    """Optimiser steps of the earlier rounds in the same MLflow run."""
    summarised_in: tuple[str, ...] = ()
    """Further MLflow runs that get the round's summary."""

    def log_metrics(self, rows: Iterable[tuple[str, float, int]]) -> None:
        """(metric, value, step), as in `Tracker.log_metrics`."""
        self.tracker.log_metrics(self.name, rows)

    def log_file(self, path: Path, folder: str) -> None:
        """Logs a file or folder under `folder` of the round's artifacts."""
        self.tracker.log_file(self.name, path, self.prefix + folder)


def of_round(settings: TrackingSettings, round: Round) -> Target:
    """The target of a loop's round: an MLflow run of its own, with its summary also in the loop's run."""
    return Target(tracker_of(settings, round.run), str(round.number), summarised_in=(LOOP,))
