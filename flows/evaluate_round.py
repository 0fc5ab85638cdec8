"""Evaluation of one round; for round 0, of the base model."""

from collections.abc import Sequence

from prefect import flow

from oel_core.rounds.round import Round
from oel_core.stages.round import evaluation_stages
from tasks.stages import evaluate
from tasks.tracking.settings import TrackingSettings


@flow(name="evaluate-round", flow_run_name="{round.run.name} evaluate round {round.number}")
def evaluate_round(round: Round, parts: Sequence[str], tracking: TrackingSettings) -> None:
    """Runs the given parts of the round's evaluation. Finished ones are skipped."""
    for stage in evaluation_stages(parts):
        evaluate(stage, round, tracking)
