"""All measurements of one round; of round 0, the base model's."""

from prefect import flow

from oel_core.artifacts import RunFolder
from oel_core.config import OelConfig
from oel_core.stages.evaluate import parts
from tasks.evaluate import evaluate
from tasks.tracking_settings import TrackingSettings


@flow(name="evaluate-round", flow_run_name="{run.name} evaluate round {round_index}")
def evaluate_round(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> None:
    """Measures the round's arms and out-of-distribution suites. What has been measured is skipped."""
    for part in parts(config, round_index):
        evaluate(config, run, round_index, part, tracking)
