"""Task: the round's start policy plays without knowledge."""

from prefect import task

from oel_core.artifacts import RunFolder
from oel_core.config import OelConfig
from oel_core.manifest import Manifest
from oel_core.stages.collect import collect as collect_episodes
from oel_core.stages.common import Given
from tasks.base import STAGE_OPTIONS
from tasks.progress import progress
from tasks.publishing import publish
from tasks.tracking_settings import TrackingSettings


@task(name="collect", task_run_name="collect round {round_index}", **STAGE_OPTIONS)
def collect(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> Manifest:
    """See `oel_core.stages.collect`."""
    shown = progress(f"round {round_index}: play episodes")
    manifest = collect_episodes(config, run, round_index, Given(on_progress=shown))
    publish(tracking, config, run, round_index, "collect", manifest)
    return manifest
