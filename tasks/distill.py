"""Task: knowledge goes into the weights."""

from prefect import task

from oel_core.config.run import OelConfig
from oel_core.distillation.training.step_records import StepRecord
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import Manifest
from oel_core.stages.distill import distill as distill_knowledge
from tasks.base import STAGE_OPTIONS
from tasks.progress import progress
from tasks.resources import free_policies
from tasks.tracking.publishing import publish, publish_step
from tasks.tracking.settings import TrackingSettings


@task(name="distill", task_run_name="distill round {round_index}", **STAGE_OPTIONS)
def distill(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> Manifest:
    """See `oel_core.stages.distill`. Steps are tracked as they happen."""
    shown = progress(f"round {round_index}: distil")

    def on_step(step: StepRecord) -> None:
        shown(step.step, config.distill.steps)
        publish_step(tracking, run, round_index, step)

    free_policies()
    manifest = distill_knowledge(config, run, round_index, on_step=on_step)
    publish(tracking, config, run, round_index, "distill", manifest)
    return manifest
