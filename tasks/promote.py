"""Task: a round's checkpoint becomes a version of the registered model, with the alias `candidate`."""

from prefect import task

from oel_core.artifacts import RunFolder
from oel_core.stages.common import CHECKPOINT
from tasks.base import STAGE_OPTIONS
from tasks.tracking import tracker_of
from tasks.tracking_settings import TrackingSettings


@task(name="promote", task_run_name="promote round {round_index}", **STAGE_OPTIONS)
def promote(run: RunFolder, round_index: int, tracking: TrackingSettings) -> None:
    """Registers the checkpoint that `distill` left; the same checkpoint is registered once."""
    digest = run.manifest(round_index, "distill").digest
    checkpoint = run.stage_path(round_index, "distill") / CHECKPOINT
    tracker_of(tracking, run).register(str(round_index), checkpoint, digest)
