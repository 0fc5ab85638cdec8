"""Tasks of a study: one run of it, and its results. A run is a child of the study's MLflow run."""

from collections.abc import Mapping
from pathlib import Path

from prefect import task

from oel_core.distillation.training.step_records import StepRecord
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import Manifest, flatten
from oel_core.study.plan import Job, StudyPlan
from oel_core.study.results import StudyResult, gather
from oel_core.study.tables import all_rows
from oel_core.study.work import Callbacks, perform
from oel_core.study.writing import write_results
from tasks.base import STAGE_OPTIONS
from tasks.progress import progress
from tasks.resources import free_policies
from tasks.tracking.client import LOOP, Tracker, tracker_of
from tasks.tracking.publishing import publish, publish_step
from tasks.tracking.settings import TrackingSettings
from tasks.tracking.target import Target


@task(name="study-run", task_run_name="{job.name}", **STAGE_OPTIONS)
def study_run(folder: Path, job: Job, place: str, tracking: TrackingSettings) -> None:
    """See `oel_core.study.work`. `place` precedes progress labels, like `3/18`."""
    tracker = tracker_of(tracking, RunFolder(folder))

    def finished(round: Round, stage: str, manifest: Manifest) -> None:
        publish(target_of(tracker, job, round), round, stage, manifest)

    def on_step(round: Round, step: StepRecord) -> None:
        publish_step(target_of(tracker, job, round), step)

    callbacks = Callbacks(
        progress=lambda label: progress(f"{place} {label}"),
        finished=finished,
        step=on_step,
        before_training=free_policies,
    )
    with tracker.running(job.name):
        tracker.log_params(job.name, _params(job))
        perform(folder, job, callbacks)


def _params(job: Job) -> dict[str, object]:
    """The parameters that distinguish a run from the others: the seed, the arm, and the arm's settings."""
    settings = flatten(job.config.model_dump(mode="json"))
    return {"seed": job.seed, "arm": job.arm, **{path: settings.get(path) for path in job.changed}}


def target_of(tracker: Tracker, job: Job, round: Round) -> Target:
    """The MLflow run of a study's round: that of its arm and seed."""
    before = max(round.number - 1, 0) * job.config.distill.steps
    return Target(tracker, job.name, f"{round.path.name}/", before)


@task(name="study-results", **STAGE_OPTIONS)
def study_results(plan: StudyPlan, folder: Path, failed: Mapping[str, str], tracking: TrackingSettings) -> StudyResult:
    """Writes tables and plots, and logs them to the study's own MLflow run."""
    progress("tables and plots")(0, 0)
    result = gather(plan, folder, failed)
    tracker = tracker_of(tracking, RunFolder(folder))
    for path in write_results(folder, result):
        tracker.log_file(LOOP, path, path.parent.relative_to(folder).as_posix().strip("."))
    rows = {(row.arm, row.part, row.round): row for rows in all_rows(result).values() for row in rows}
    figures = ((f"{row.arm}/{row.part}/pass_rate", row.pass_rate, row.round) for row in rows.values())
    tracker.log_metrics(LOOP, figures)
    return result
