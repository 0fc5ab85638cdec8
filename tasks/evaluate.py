"""Task: one measurement of a round."""

from prefect import task

from oel_core.config.run import OelConfig
from oel_core.rounds.context import Given
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import Manifest
from oel_core.stages.evaluate import evaluate as evaluate_part
from oel_core.stages.evaluate import stage_name
from tasks.base import STAGE_OPTIONS
from tasks.progress import progress
from tasks.tracking.publishing import publish
from tasks.tracking.settings import TrackingSettings


@task(name="evaluate", task_run_name="evaluate round {round_index} {part}", **STAGE_OPTIONS)
def evaluate(config: OelConfig, run: RunFolder, round_index: int, part: str, tracking: TrackingSettings) -> Manifest:
    """See `oel_core.stages.evaluate`."""
    shown = progress(f"round {round_index}: evaluate, {part.replace('_', ' ')}")
    manifest = evaluate_part(config, run, round_index, part, Given(on_progress=shown))
    publish(tracking, config, run, round_index, stage_name(part), manifest)
    return manifest
