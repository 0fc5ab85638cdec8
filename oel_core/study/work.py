"""Runs the stages of one run of a study."""

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


def ignore(*arguments: object) -> None:
    """The default callback: does nothing."""


@dataclass(frozen=True)
class Callbacks:
    """Callbacks of a run, and the policy loader."""

    progress: Callable[[str], Progress] = field(default=lambda label: silent)
    """Label of a stage → its progress callback."""
    finished: Callable[[Round, str, Manifest], None] = ignore
    """Called with (round, stage, manifest) after every stage, reused ones included."""
    step: Callable[[Round, StepRecord], None] = ignore
    """Called with (round, step) after every optimizer step."""
    before_training: Callable[[], None] = release
    """Called before a distillation, to free the memory of loaded policies."""
    load: LoadPolicy = load_policy


def perform(folder: Path, job: Job, callbacks: Callbacks) -> None:
    """Executes a run. Finished stages are skipped, a donor's stages with the same key are reused.

    Raises:
        ArtifactError: a stage was made with other settings; the message lists them.
        ExtractionError, DistillationError: the collected episodes give this arm no training data.
    """
    run = SharingFolder(open_run(folder / RUNS, job.name).path, job.donors)
    with run.locked():
        adopt_config(run, job.config)
        set_run_threads(run.path, job.config.model)
        for number in job.rounds:
            _work(job, Round(job.config, run, number), callbacks)


def _work(job: Job, round: Round, callbacks: Callbacks) -> None:
    """Executes one round, or its stages up to the knowledge files."""
    stages = knowledge_stages(job.config) if job.knowledge_only and round.number else []
    if not job.knowledge_only:
        stages = round_stages(round)
    for stage in stages:
        context = StageContext(
            load=callbacks.load,
            on_progress=callbacks.progress(f"{job.title}, round {round.number}: {stage.label}"),
            on_step=partial(callbacks.step, round),
            free_memory=callbacks.before_training,
        )
        callbacks.finished(round, stage.name, stage.work(round, context))
