"""Results of a study from the files of its runs: one cell per seed, arm, round and part."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field

from oel_core.rounds.context import EPISODES
from oel_core.rounds.knowledge import ACCUMULATE
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, stage_manifest
from oel_core.runs.jsonl import read_jsonl
from oel_core.stages.evaluate import stage_name
from oel_core.study.arms import HELD_OUT, IN_CONTEXT
from oel_core.study.plan import FOREIGN_MODEL, RUNS, Job, StudyPlan, jobs, own_round
from oel_core.study.sharing import SharingFolder, shared_stages
from oel_core.types import EvalReport, Record, Trajectory, Values


class Cell(Record):
    """One measurement."""

    arm: str
    seed: int
    round: int
    part: str
    """`held_out`, `in_context`, or `ood/<suite>`."""
    report: EvalReport
    boards: str
    """`1` (passed) or `0` per episode, in the order of the suite. All arms play the same episodes."""
    knowledge_tokens: float | None = None
    """Mean tokens of the round's knowledge files."""


class Work(Record):
    """Stages that a run executed and reused."""

    run: str
    made: int = Field(ge=0)
    """Number of executed stages."""
    shared: int = Field(ge=0)
    """Number of stages reused from another run."""
    seconds: float
    """Duration of the executed stages."""
    saved_seconds: float
    """Duration of the reused stages, in the run that executed them."""


class StudyResult(Record):
    """`study.json`: all results of a study, sufficient to compute its tables."""

    name: str
    preset: str
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    rounds: int
    foreign: str | None
    varied: tuple[str, ...] = ()
    """As `StudyPlan.varied`."""
    settings: Values
    """The resolved configuration, without the settings that arms and seeds change."""
    cells: tuple[Cell, ...]
    work: tuple[Work, ...]
    failed: dict[str, str]
    """Run → the error that ended it."""


def gather(plan: StudyPlan, folder: Path, failed: Mapping[str, str]) -> StudyResult:
    """Collects all results so far.

    Raises:
        ArtifactError: a report is damaged.
    """
    runs = [(job, SharingFolder(folder / RUNS / job.name)) for job in jobs(plan, folder)]
    return StudyResult(
        name=folder.name,
        preset=plan.preset,
        seeds=plan.seeds,
        arms=plan.arms,
        rounds=plan.rounds,
        foreign=plan.foreign,
        varied=plan.varied,
        settings=plan.config.model_dump(mode="json"),
        cells=tuple(cell for job, run in runs if job.arm != FOREIGN_MODEL for cell in _cells(job, run)),
        work=tuple(_work(run) for _, run in runs if run.path.is_dir()),
        failed=dict(failed),
    )


def foreign_title(foreign: str | None) -> str:
    """Display name of the foreign model."""
    round_index = own_round(foreign)
    return f"the own model after round {round_index}" if round_index is not None else str(foreign)


def _cells(job: Job, run: RunFolder) -> Iterator[Cell]:
    suites = [f"ood/{suite}" for suite in job.config.evaluate.ood]
    for round in (Round(job.config, run, number) for number in job.rounds):
        for part in (HELD_OUT, IN_CONTEXT, *suites):
            found = round.report(part)
            if found is not None:
                yield Cell(
                    arm=job.arm,
                    seed=job.seed,
                    round=round.number,
                    part=part,
                    report=found,
                    boards=_boards(round.stage(stage_name(part)).path),
                    knowledge_tokens=_knowledge_tokens(round),
                )


def _boards(folder: Path) -> str:
    episodes = sorted(read_jsonl(folder / EPISODES, Trajectory), key=lambda episode: (episode.index, episode.id))
    return "".join("1" if episode.passed and episode.error is None else "0" for episode in episodes)


def _knowledge_tokens(round: Round) -> float | None:
    stage = round.stage(ACCUMULATE)
    return stage.manifest().counts["tokens_mean"] if stage.finished else None


def _work(run: RunFolder) -> Work:
    shared = shared_stages(run)
    seconds = {True: 0.0, False: 0.0}
    count = {True: 0, False: 0}
    for stage in run.stages():
        taken = stage.relative_to(run.path).as_posix() in shared
        seconds[taken] += stage_manifest(run, stage).counts["seconds"]
        count[taken] += 1
    return Work(
        run=run.name,
        made=count[False],
        shared=count[True],
        seconds=round(seconds[False], 1),
        saved_seconds=round(seconds[True], 1),
    )
