"""A Prefect task for each kind of stage: it calls the stage, which checks its manifest, and tracks the result."""

from functools import partial

from prefect import Task, task

from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.manifest import Manifest
from oel_core.stages.round import Stage
from tasks.base import STAGE_OPTIONS
from tasks.progress import progress
from tasks.resources import free_policies
from tasks.tracking.publishing import publish, publish_step
from tasks.tracking.settings import TrackingSettings
from tasks.tracking.target import of_round


def run_stage(stage: Stage, round: Round, tracking: TrackingSettings) -> Manifest:
    """Runs one stage of a round. Optimizer steps are tracked as they happen.

    Raises:
        OelError: as the stage.
    """
    target = of_round(tracking, round)
    context = StageContext(
        on_progress=progress(f"round {round.number}: {stage.label}"),
        on_step=partial(publish_step, target),
        free_memory=free_policies,
    )
    manifest = stage.work(round, context)
    publish(target, round, stage.name, manifest)
    return manifest


def _task(kind: str) -> Task[..., Manifest]:
    return task(name=kind, task_run_name="{stage.name} round {round.number}", **STAGE_OPTIONS)(run_stage)


collect = _task("collect")
receive = _task("receive")
extract = _task("extract")
accumulate = _task("accumulate")
review = _task("review")
saturation = _task("saturation")
select = _task("select")
distill = _task("distill")
evaluate = _task("evaluate")

TASKS = {
    entry.name: entry
    for entry in (collect, receive, extract, accumulate, review, saturation, select, distill, evaluate)
}
"""Kind of stage → its task."""
