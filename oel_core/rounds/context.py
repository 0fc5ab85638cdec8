"""What a caller gives a stage besides its round, and the names of files that several stages write or read."""

from collections.abc import Callable
from dataclasses import dataclass

from oel_core.config.run import ModelConfig
from oel_core.distillation.training.step_records import StepRecord
from oel_core.policies import load_policy, release
from oel_core.policies.base import Policy
from oel_core.runs.progress import Progress, silent

LoadPolicy = Callable[[str, ModelConfig], Policy]
"""Gives the policy of a checkpoint. Stages do not close it, so that the next one finds it loaded."""

OnStep = Callable[[StepRecord], None]

TRAJECTORIES, EPISODES, CHECKPOINT, REPORT = "trajectories.jsonl", "episodes.jsonl", "checkpoint", "report.json"


def ignore_step(step: StepRecord) -> None:
    """The default `on_step`: does nothing."""


@dataclass(frozen=True)
class StageContext:
    """How policies are loaded, and who is called while a stage works."""

    load: LoadPolicy = load_policy
    on_progress: Progress = silent
    on_step: OnStep = ignore_step
    """Called with each optimiser step of a distillation as it ends."""
    free_memory: Callable[[], None] = release
    """Called before a distillation needs the memory that generation left in use."""


DEFAULT_CONTEXT = StageContext()
