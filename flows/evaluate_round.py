"""All measurements of one round; of round 0, the base model's."""

from prefect import flow

from oel_core.artifacts import RunFolder
from oel_core.config import OelConfig
from oel_core.stages.evaluate import parts
from tasks.base import one_model
from tasks.evaluate import evaluate
from tasks.tracking_settings import TrackingSettings


@flow(
    name="evaluate-round",
    flow_run_name="{run.name} evaluate round {round_index}",
    task_runner=one_model(),
)
def evaluate_round(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> None:
    """Measures the round's arms and out-of-distribution suites. What has been measured is skipped."""
    measured = [evaluate.submit(config, run, round_index, part, tracking) for part in parts(config, round_index)]
    for part in measured:
        part.result()
