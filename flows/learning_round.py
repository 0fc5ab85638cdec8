"""One round as a flow: its stages in the order of `oel_core.stages.round`, then the checkpoint is registered."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.evaluate_round import evaluate_round
from flows.pages.round import artifact_key, round_markdown
from flows.reviewing import wait_for_review
from oel_core.config.run import OelConfig
from oel_core.runs.folder import RunFolder
from oel_core.stages.evaluate import parts
from oel_core.stages.round import distillation_stages, knowledge_stages
from tasks.promote import register
from tasks.stages import TASKS
from tasks.tracking.client import tracker_of
from tasks.tracking.settings import TrackingSettings


@flow(name="learning-round", flow_run_name="{run.name} round {round_index}")
def learning_round(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> None:
    """Brings one round to its end. Stages that have finished are skipped."""
    with tracker_of(tracking, run).running(str(round_index)):
        for stage in [*knowledge_stages(config), *distillation_stages(config)]:
            if stage.kind == "review":
                wait_for_review(config, run, round_index)
            TASKS[stage.kind](stage, config, run, round_index, tracking)
        evaluate_round(config, run, round_index, parts(config, round_index), tracking)
        register(run, round_index, tracking)
    create_markdown_artifact(
        round_markdown(run, round_index),
        key=artifact_key(run, round_index),
        description=f"What round {round_index} of {run.name} learned",
    )
