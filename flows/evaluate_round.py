"""Measurements of one round; of round 0, the base model's."""

from collections.abc import Sequence

from prefect import flow

from oel_core.rounds.round import Round
from oel_core.stages.round import evaluation_stages
from tasks.stages import evaluate
from tasks.tracking.settings import TrackingSettings


@flow(name="evaluate-round", flow_run_name="{round.run.name} evaluate round {round.number}")
def evaluate_round(round: Round, parts: Sequence[str], tracking: TrackingSettings) -> None:
    """Measures these of the round's arms and out-of-distribution suites. What has been measured is skipped."""
    for stage in evaluation_stages(parts):
        evaluate(stage, round, tracking)
