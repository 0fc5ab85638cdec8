"""The callbacks that a stage gets besides its round, and file names shared by several stages."""

from collections.abc import Callable
from dataclasses import dataclass

from oel_core.config.run import ModelConfig
from oel_core.config.serving import RunnerConfig
from oel_core.distillation.training.step_records import StepRecord
from oel_core.policies import LoadPolicy, load_policy, place_policy, release
from oel_core.policies.base import Policy
from oel_core.runs.progress import Progress, silent

OnStep = Callable[[StepRecord], None]

TRAJECTORIES, EPISODES, CHECKPOINT, REPORT = "trajectories.jsonl", "episodes.jsonl", "checkpoint", "report.json"
PROMPTS = "prompts.jsonl"


def ignore_step(step: StepRecord) -> None:
    """The default `on_step`: does nothing."""


@dataclass(frozen=True)
class StageContext:
    """The policy loader and the callbacks of a stage."""

    load: LoadPolicy = load_policy
    """In this process, or in each worker of the runner."""
    on_progress: Progress = silent
    on_step: OnStep = ignore_step
    """Called after each optimizer step of a distillation."""
    free_memory: Callable[[], None] = release
    """Called before a distillation, to free the memory of loaded policies."""

    def policy(self, path: str, model: ModelConfig, runner: RunnerConfig) -> Policy:
        """The policy of a checkpoint, where the runner has it. Stages do not close it. Raises as `place_policy`."""
        return place_policy(path, model, runner, self.load)


DEFAULT_CONTEXT = StageContext()
