"""The cost of each round: time by stage, and tokens by use."""

from collections.abc import Iterable
from dataclasses import dataclass

from oel_core.distillation.training.step_records import StepRecord
from oel_core.runs.manifest import Manifest
from oel_core.types import EvalReport


@dataclass(frozen=True)
class Effort:
    """Seconds and tokens of one round; 0 for unfinished stages."""

    seconds: dict[str, float]
    """Stage → seconds; the parts of a stage are summed."""
    collected: int
    """Response tokens of the episodes that the round collected."""
    trained: int
    """Prompt and response tokens of the student in distillation."""
    measured: int
    """Response tokens of all its evaluations."""

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


def effort(manifests: Iterable[Manifest], steps: Iterable[StepRecord], reports: Iterable[EvalReport]) -> Effort:
    """Sums over the stages of one round."""
    seconds: dict[str, float] = {}
    collected = 0.0
    for manifest in manifests:
        stage = manifest.key.stage.split("/")[1]
        seconds[stage] = seconds.get(stage, 0) + manifest.counts.get("seconds", 0)
        if stage == "collect":
            collected += manifest.counts.get("response_tokens", 0)
    return Effort(
        seconds=seconds,
        collected=round(collected),
        trained=sum(step.tokens for step in steps),
        measured=round(sum(report.trajectory_tokens * report.episodes for report in reports)),
    )
