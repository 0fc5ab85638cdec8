"""Task: knowledge files are scored, and some of them chosen."""

from prefect import task

from oel_core.config.run import OelConfig
from oel_core.rounds.context import Given
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import Manifest
from oel_core.stages.select import STAGE
from oel_core.stages.select import select as select_knowledge
from tasks.base import STAGE_OPTIONS
from tasks.progress import progress
from tasks.tracking.publishing import publish
from tasks.tracking.settings import TrackingSettings


@task(name="select", task_run_name="select round {round_index}", **STAGE_OPTIONS)
def select(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> Manifest:
    """See `oel_core.stages.select`."""
    shown = progress(f"round {round_index}: score knowledge")
    manifest = select_knowledge(config, run, round_index, Given(on_progress=shown))
    publish(tracking, config, run, round_index, STAGE, manifest)
    return manifest
