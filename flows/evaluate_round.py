"""Measurements of one round; of round 0, the base model's."""

from collections.abc import Sequence

from prefect import flow

from oel_core.artifacts import RunFolder
from oel_core.config import OelConfig
from tasks.base import one_model
from tasks.evaluate import evaluate
from tasks.tracking_settings import TrackingSettings


@flow(
    name="evaluate-round",
    flow_run_name="{run.name} evaluate round {round_index}",
    task_runner=one_model(),
)
def evaluate_round(
    config: OelConfig, run: RunFolder, round_index: int, parts: Sequence[str], tracking: TrackingSettings
) -> None:
    """Measures these of the round's arms and out-of-distribution suites. What has been measured is skipped."""
    measured = [evaluate.submit(config, run, round_index, part, tracking) for part in parts]
    for part in measured:
        part.result()
