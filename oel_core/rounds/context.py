"""What the stages share: the world, the model that a round starts from, and the episodes it collected."""

from collections.abc import Callable
from dataclasses import dataclass

from oel_core.config.run import ModelConfig, OelConfig
from oel_core.distillation.training.step_records import StepRecord
from oel_core.errors import ArtifactError
from oel_core.models.checkpoints import model_digest
from oel_core.policies import load_policy, release
from oel_core.policies.base import Policy
from oel_core.runs.folder import RunFolder
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.manifest import freed_files
from oel_core.runs.progress import Progress, silent
from oel_core.runs.round_start import parent_of
from oel_core.types import Split, Trajectory

LoadPolicy = Callable[[str, ModelConfig], Policy]
"""Gives the policy of a checkpoint. Stages do not close it, so that the next one finds it loaded."""

OnStep = Callable[[StepRecord], None]

TRAJECTORIES, EPISODES, CHECKPOINT, REPORT = "trajectories.jsonl", "episodes.jsonl", "checkpoint", "report.json"


def ignore_step(step: StepRecord) -> None:
    """The `on_step` of a caller who does not look."""


@dataclass(frozen=True)
class StageContext:
    """What a caller gives a stage besides its settings."""

    load: LoadPolicy = load_policy
    on_progress: Progress = silent
    on_step: OnStep = ignore_step
    """Called with each optimiser step of a distillation as it ends."""
    free_memory: Callable[[], None] = release
    """Called before a distillation needs the memory that generation left in use."""

    def start_policy(self, config: OelConfig, run: RunFolder, round_index: int) -> Policy:
        """The policy that a round starts from, loaded."""
        return self.load(start_model(config, run, round_index), config.model)


DEFAULT_CONTEXT = StageContext()
"""Policies are loaded as usual, and nobody looks."""


def model_after(config: OelConfig, run: RunFolder, round_index: int) -> str:
    """The model that a round leaves: the base model for round 0, else that round's checkpoint."""
    if round_index == 0:
        return config.model.path
    run.manifest(round_index, "distill")
    stage = run.stage_path(round_index, "distill")
    if freed_files(stage):
        raise ArtifactError(f"the weights of round {round_index} of {run.path} were removed by `oel clean`")
    return str(stage / CHECKPOINT)


def digest_after(config: OelConfig, run: RunFolder, round_index: int) -> str:
    """Digest of `model_after`, as an input of later stages."""
    return model_digest(config.model.path) if round_index == 0 else run.manifest(round_index, "distill").digest


def start_model(config: OelConfig, run: RunFolder, round_index: int) -> str:
    """The model that a round starts from."""
    return model_after(config, run, parent_of(run, round_index))


def start_digest(config: OelConfig, run: RunFolder, round_index: int) -> str:
    """Digest of `start_model`, as an input of the round's stages."""
    return digest_after(config, run, parent_of(run, round_index))


def load_trajectories(run: RunFolder, round_index: int, split: Split) -> list[Trajectory]:
    """The episodes that a round collected for `split`, ordered by replica and index."""
    path = run.stage_path(round_index, "collect") / TRAJECTORIES
    chosen = [episode for episode in read_jsonl(path, Trajectory) if episode.split is split]
    return sorted(chosen, key=lambda episode: (episode.replica, episode.index))
