"""One run of a study: its stages in order, through the functions that every run uses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from oel_core.distillation.training.step_records import StepRecord
from oel_core.models.threads import settle_threads
from oel_core.policies import load_policy, release
from oel_core.rounds.context import Given, LoadPolicy
from oel_core.runs.folder import adopt_config, open_run
from oel_core.runs.manifest import Manifest
from oel_core.runs.progress import Progress, silent
from oel_core.stages import accumulate, extract, select
from oel_core.stages.collect import collect
from oel_core.stages.distill import distill
from oel_core.stages.evaluate import evaluate, parts
from oel_core.stages.evaluate import stage_name as evaluation
from oel_core.study.plan import RUNS, Job
from oel_core.study.sharing import SharingFolder


def nothing(*arguments: object) -> None:
    """The callback of a caller who does not look."""


@dataclass(frozen=True)
class Watch:
    """What a caller wants to know while a run is worked on, and how models are loaded."""

    progress: Callable[[str], Progress] = field(default=lambda label: silent)
    """Stage in words → its progress callback."""
    finished: Callable[[int, str, Manifest], None] = nothing
    """(round, stage, manifest) of every stage, the taken-over ones too."""
    step: Callable[[int, StepRecord], None] = nothing
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
        settle_threads(run.path, job.config.model)
        for round_index in job.rounds:
            _Round(job, run, round_index, watch).work()


@dataclass(frozen=True)
class _Round:
    """One round of a run."""

    job: Job
    run: SharingFolder
    number: int
    watch: Watch

    def work(self) -> None:
        if self.number:
            self._learn()
        if not self.job.knowledge_only:
            self._measure(parts(self.job.config, self.number))

    def _learn(self) -> None:
        config = self.job.config
        self._done("collect", collect(config, self.run, self.number, self._given("play episodes")))
        if config.knowledge.source.use == "extracted":
            given = self._given("extract")
            self._done(extract.STAGE, extract.extract(config, self.run, self.number, given))
        given = self._given("merge knowledge")
        self._done(accumulate.STAGE, accumulate.accumulate(config, self.run, self.number, given))
        if self.job.knowledge_only:
            return
        if config.knowledge.selection.use != "all":
            given = self._given("choose knowledge")
            self._done(select.STAGE, select.select(config, self.run, self.number, given))
        self._distill()

    def _distill(self) -> None:
        say = self._say("distil")

        def on_step(step: StepRecord) -> None:
            say(step.step, self.job.config.distill.steps)
            self.watch.step(self.number, step)

        self.watch.before_training()
        self._done("distill", distill(self.job.config, self.run, self.number, on_step=on_step))

    def _measure(self, wanted: Sequence[str]) -> None:
        for part in wanted:
            given = self._given(f"evaluate, {part.replace('_', ' ')}")
            self._done(evaluation(part), evaluate(self.job.config, self.run, self.number, part, given))

    def _say(self, what: str) -> Progress:
        return self.watch.progress(f"{self.job.title}, round {self.number}: {what}")

    def _given(self, what: str) -> Given:
        return Given(self.watch.load, self._say(what))

    def _done(self, stage: str, manifest: Manifest) -> None:
        self.watch.finished(self.number, stage, manifest)
