"""Estimates the remaining time of a stage and its round."""

import math

from oel_core.runs.folder import MANIFEST, RunFolder
from oel_core.runs.manifest import Manifest, read_record
from oel_core.runs.round_start import last_begun


class RoundTime:
    """Remaining seconds of a run's newest round, from the durations of an earlier round's stages.

    Unknown in a run's first round.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run

    def __call__(self, elapsed_s: float) -> float | None:
        """Remaining seconds, given `elapsed_s` seconds of the present stage; None where unknown."""
        now = last_begun(self._run)
        earlier = [index for index in range(1, now) if self._run.has(index, "evaluate/held_out")]
        if not earlier:
            return None
        took, done = self._seconds(earlier[-1]), self._seconds(now)
        return max(0.0, math.fsum(took[stage] for stage in took.keys() - done.keys()) - elapsed_s)

    def _seconds(self, index: int) -> dict[str, float]:
        """Finished stage of a round → its duration, seconds."""
        found: dict[str, float] = {}
        for folder in self._run.stages(index):
            manifest = read_record(folder / MANIFEST, Manifest)
            found[manifest.key.stage.partition("/")[2]] = manifest.counts.get("seconds", 0.0)
        return found


def stage_left(elapsed_s: float, begun_at: int, done: int, total: int) -> float | None:
    """Remaining seconds of a stage that went from `begun_at` to `done` of `total` in `elapsed_s` seconds."""
    if not begun_at < done < total:
        return None
    return elapsed_s * (total - done) / (done - begun_at)


def duration(seconds: float) -> str:
    """A duration as text, with one or two units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
