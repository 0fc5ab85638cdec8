"""One run of a study: its stages in order, through the functions that every run uses."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from oel_core.distillation.training.step_records import StepRecord
from oel_core.models.threads import set_run_threads
from oel_core.policies import load_policy, release
from oel_core.rounds.context import LoadPolicy, StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import adopt_config, open_run
from oel_core.runs.manifest import Manifest
from oel_core.runs.progress import Progress, silent
from oel_core.stages.round import knowledge_stages, round_stages
from oel_core.study.plan import RUNS, Job
from oel_core.study.sharing import SharingFolder


def nothing(*arguments: object) -> None:
    """The callback of a caller who does not look."""


@dataclass(frozen=True)
class Watch:
    """What a caller wants to know while a run is worked on, and how models are loaded."""

    progress: Callable[[str], Progress] = field(default=lambda label: silent)
    """Stage in words → its progress callback."""
    finished: Callable[[Round, str, Manifest], None] = nothing
    """(round, stage, manifest) of every stage, the taken-over ones too."""
    step: Callable[[Round, StepRecord], None] = nothing
    """(round, step) as it happens."""
    before_training: Callable[[], None] = release
    """Gives memory back."""
    load: LoadPolicy = load_policy


def open_job(folder: Path, job: Job) -> SharingFolder:
    """The run folder of a job, made when it is missing."""
    return SharingFolder(open_run(folder / RUNS, job.name).path, job.donors)


def perform(folder: Path, job: Job, watch: Watch) -> None:
    """Brings a run to its end. Stages that have finished are skipped, those of a donor with the same key taken over.

    Raises:
        ArtifactError: a stage was made with other settings; the message lists them.
        ExtractionError, DistillationError: what was played gives this arm nothing to learn from.
    """
    run = open_job(folder, job)
    with run.locked():
        adopt_config(run, job.config)
        set_run_threads(run.path, job.config.model)
        for number in job.rounds:
            _work(job, Round(job.config, run, number), watch)


def _work(job: Job, round: Round, watch: Watch) -> None:
    """One round, or the part of it that leaves knowledge."""
    stages = knowledge_stages(job.config) if job.knowledge_only and round.number else []
    if not job.knowledge_only:
        stages = round_stages(round)
    for stage in stages:
        context = StageContext(
            load=watch.load,
            on_progress=watch.progress(f"{job.title}, round {round.number}: {stage.label}"),
            on_step=partial(watch.step, round),
            free_memory=watch.before_training,
        )
        watch.finished(round, stage.name, stage.work(round, context))
