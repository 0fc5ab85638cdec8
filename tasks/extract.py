"""Task: the collected episodes become experience items."""

from prefect import task

from oel_core.config.run import OelConfig
from oel_core.rounds.context import Given
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import Manifest
from oel_core.stages.extract import STAGE
from oel_core.stages.extract import extract as extract_items
from tasks.base import STAGE_OPTIONS
from tasks.progress import progress
from tasks.tracking.publishing import publish
from tasks.tracking.settings import TrackingSettings


@task(name="extract", task_run_name="extract round {round_index}", **STAGE_OPTIONS)
def extract(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> Manifest:
    """See `oel_core.stages.extract`."""
    shown = progress(f"round {round_index}: extract")
    manifest = extract_items(config, run, round_index, Given(on_progress=shown))
    publish(tracking, config, run, round_index, STAGE, manifest)
    return manifest
