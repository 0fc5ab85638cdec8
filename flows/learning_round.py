"""One round as a flow: its stages in the order of `oel_core.stages.round`, then the checkpoint is registered."""

from collections.abc import Sequence

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.evaluate_round import evaluate_round
from flows.pages.round import artifact_key, round_markdown
from flows.reviewing import wait_for_review
from oel_core.rounds.round import Round
from oel_core.stages.evaluate import parts
from oel_core.stages.round import Stage, distillation_stages, knowledge_stages
from tasks.promote import register
from tasks.stages import TASKS
from tasks.tracking.client import tracker_of
from tasks.tracking.settings import TrackingSettings


@flow(name="learning-round", flow_run_name="{round.run.name} round {round.number}")
def learning_round(round: Round, tracking: TrackingSettings) -> None:
    """Runs one round. Finished stages are skipped."""
    config, number = round.config, round.number
    with tracker_of(tracking, round.run).running(str(number)):
        run_stages(round, [*knowledge_stages(config), *distillation_stages(config)], tracking)
        evaluate_round(round, parts(config, number), tracking)
        register(round, tracking)
    create_markdown_artifact(
        round_markdown(round.run, number),
        key=artifact_key(round.run, number),
        description=f"What round {number} of {round.run.name} learned",
    )


def run_stages(round: Round, stages: Sequence[Stage], tracking: TrackingSettings) -> None:
    """Runs stages of a round in order, each as a task; the review waits for a person."""
    for stage in stages:
        if stage.kind == "review":
            wait_for_review(round)
        TASKS[stage.kind](stage, round, tracking)
