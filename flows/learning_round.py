"""One round: collect → extract → accumulate → (review, select) → distill → evaluate → register."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.evaluate_round import evaluate_round
from flows.pages.round import artifact_key, round_markdown
from flows.reviewing import wait_for_review
from oel_core.config.run import OelConfig
from oel_core.runs.folder import RunFolder
from oel_core.stages.evaluate import parts
from tasks.accumulate import accumulate
from tasks.collect import collect
from tasks.distill import distill
from tasks.extract import extract
from tasks.promote import register
from tasks.review import review
from tasks.saturation import saturation
from tasks.select import select
from tasks.tracking.client import tracker_of
from tasks.tracking.settings import TrackingSettings


@flow(name="learning-round", flow_run_name="{run.name} round {round_index}")
def learning_round(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> None:
    """Brings one round to its end. Stages that have finished are skipped."""
    with tracker_of(tracking, run).running(str(round_index)):
        collect(config, run, round_index, tracking)
        if config.knowledge.source.use == "extracted":
            extract(config, run, round_index, tracking)
        accumulate(config, run, round_index, tracking)
        if config.review.mode == "required":
            wait_for_review(config, run, round_index)
            review(config, run, round_index, tracking)
        if config.knowledge.saturation.every is not None:
            saturation(config, run, round_index, tracking)
        if config.knowledge.selection.use != "all":
            select(config, run, round_index, tracking)
        distill(config, run, round_index, tracking)
        evaluate_round(config, run, round_index, parts(config, round_index), tracking)
        register(run, round_index, tracking)
    create_markdown_artifact(
        round_markdown(run, round_index),
        key=artifact_key(run, round_index),
        description=f"What round {round_index} of {run.name} learned",
    )
