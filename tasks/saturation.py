"""Task: how the score of knowledge grows with its episodes."""

from prefect import task

from oel_core.config.run import OelConfig
from oel_core.rounds.context import Given
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import Manifest
from oel_core.stages.saturation import STAGE
from oel_core.stages.saturation import saturation as measure_saturation
from tasks.base import STAGE_OPTIONS
from tasks.progress import progress
from tasks.tracking.publishing import publish
from tasks.tracking.settings import TrackingSettings


@task(name="saturation", task_run_name="saturation round {round_index}", **STAGE_OPTIONS)
def saturation(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> Manifest:
    """See `oel_core.stages.saturation`."""
    shown = progress(f"round {round_index}: saturation curve")
    manifest = measure_saturation(config, run, round_index, Given(on_progress=shown))
    publish(tracking, config, run, round_index, STAGE, manifest)
    return manifest
