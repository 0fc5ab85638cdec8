"""Task: a person's decision becomes the knowledge that is distilled."""

from prefect import task

from oel_core.config.run import OelConfig
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import Manifest
from oel_core.stages.review import STAGE
from oel_core.stages.review import review as apply_review
from tasks.base import STAGE_OPTIONS
from tasks.tracking.publishing import publish
from tasks.tracking.settings import TrackingSettings


@task(name="review", task_run_name="review round {round_index}", **STAGE_OPTIONS)
def review(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> Manifest:
    """See `oel_core.stages.review`."""
    manifest = apply_review(config, run, round_index)
    publish(tracking, config, run, round_index, STAGE, manifest)
    return manifest
