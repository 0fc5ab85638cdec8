"""Task: the round's start policy plays without knowledge."""

from prefect import task

from oel_core.config.run import OelConfig
from oel_core.rounds.context import Given
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import Manifest
from oel_core.stages.collect import collect as collect_episodes
from tasks.base import STAGE_OPTIONS
from tasks.progress import progress
from tasks.tracking.publishing import publish
from tasks.tracking.settings import TrackingSettings


@task(name="collect", task_run_name="collect round {round_index}", **STAGE_OPTIONS)
def collect(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> Manifest:
    """See `oel_core.stages.collect`."""
    shown = progress(f"round {round_index}: play episodes")
    manifest = collect_episodes(config, run, round_index, Given(on_progress=shown))
    publish(tracking, config, run, round_index, "collect", manifest)
    return manifest
