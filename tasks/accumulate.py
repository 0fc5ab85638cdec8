"""Task: items become the knowledge files."""

from prefect import task

from oel_core.config.run import OelConfig
from oel_core.rounds.context import Given
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import Manifest
from oel_core.stages.accumulate import STAGE
from oel_core.stages.accumulate import accumulate as accumulate_items
from tasks.base import STAGE_OPTIONS
from tasks.progress import progress
from tasks.tracking.publishing import publish
from tasks.tracking.settings import TrackingSettings


@task(name="accumulate", task_run_name="accumulate round {round_index}", **STAGE_OPTIONS)
def accumulate(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> Manifest:
    """See `oel_core.stages.accumulate`."""
    shown = progress(f"round {round_index}: merge knowledge")
    manifest = accumulate_items(config, run, round_index, Given(on_progress=shown))
    publish(tracking, config, run, round_index, STAGE, manifest)
    return manifest
