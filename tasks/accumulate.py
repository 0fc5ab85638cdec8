"""Task: items become the knowledge files."""

from prefect import task

from oel_core.artifacts import RunFolder
from oel_core.config import OelConfig
from oel_core.manifest import Manifest
from oel_core.stages.accumulate import STAGE
from oel_core.stages.accumulate import accumulate as accumulate_items
from oel_core.stages.common import Given
from tasks.base import STAGE_OPTIONS
from tasks.progress import progress
from tasks.publishing import publish
from tasks.tracking_settings import TrackingSettings


@task(name="accumulate", task_run_name="accumulate round {round_index}", **STAGE_OPTIONS)
def accumulate(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> Manifest:
    """See `oel_core.stages.accumulate`."""
    shown = progress(f"round {round_index}: merge knowledge")
    manifest = accumulate_items(config, run, round_index, Given(on_progress=shown))
    publish(tracking, config, run, round_index, STAGE, manifest)
    return manifest
