"""Reads the contents of a report from the files of a run. Unfinished stages are left out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from oel_core.config.run import OelConfig
from oel_core.distillation.training.step_records import StepRecord, read_steps
from oel_core.gate.promotion import Verdict
from oel_core.knowledge.selection_records import SCORES, Selection
from oel_core.reporting.findings.assessment import Assessment, assess
from oel_core.reporting.findings.champions import round_outcomes
from oel_core.reporting.findings.efforts import Effort, effort
from oel_core.reporting.findings.failures import failures
from oel_core.reporting.findings.model_results import HELD_OUT, comparable_results, left_out
from oel_core.rounds.outcomes import read_episodes
from oel_core.rounds.round import Round
from oel_core.rounds.summary import RoundSummary, summarise_round
from oel_core.runs.folder import MANIFEST, RunFolder, stage_manifest
from oel_core.runs.manifest import Manifest, read_record
from oel_core.runs.round_start import parent_of
from oel_core.stages.distill import STEPS
from oel_core.stages.evaluate import stage_name
from oel_core.stages.gate import STAGE as GATE
from oel_core.stages.gate import read_verdict
from oel_core.stages.saturation import CURVE, SaturationCurve
from oel_core.types import EvalReport, Trajectory

PACKAGES = ("oel", "torch", "transformers", "trl", "peft", "prefect", "mlflow", "textarena", "textworld")
PAIRS = 2
"""Sample episodes of each kind."""


@dataclass(frozen=True)
class RoundView:
    """A round without its knowledge."""

    number: int
    summary: RoundSummary
    reports: dict[str, EvalReport]
    """Part of the evaluation → its report."""
    steps: list[StepRecord]
    selection: Selection | None
    saturation: SaturationCurve | None
    effort: Effort
    failures: Mapping[str, int]
    """Kind of failure → number of lost held-out episodes."""


@dataclass(frozen=True)
class EpisodePair:
    """The same held-out episode, played by the base model and by the newest one."""

    kind: str
    before: Trajectory
    after: Trajectory


def rounds(config: OelConfig, run: RunFolder) -> list[RoundView]:
    """All rounds with a finished stage, in order."""
    numbers = [number for number in range(config.rounds + 1) if any(_manifests(run, number))]
    return [_round(Round(config, run, number)) for number in numbers]


def _round(round: Round) -> RoundView:
    run, number, distilled = round.run, round.number, round.stage("distill")
    parts = ["held_out", "start", "in_context", "raw", *(f"ood/{suite}" for suite in round.config.evaluate.ood)]
    reports = {part: found for part in parts if (found := round.report(part)) is not None}
    steps = read_steps(distilled.path / STEPS) if distilled.finished else []
    return RoundView(
        number=number,
        summary=summarise_round(round),
        reports=reports,
        steps=steps,
        selection=_record(run, number, "select", SCORES, Selection),
        saturation=_record(run, number, "saturation", CURVE, SaturationCurve),
        effort=effort(_manifests(run, number), steps, reports.values()),
        failures=failures(_held_out(run, number)) if HELD_OUT in reports else {},
    )


def _record(run: RunFolder, number: int, stage: str, file: str, kind: Any) -> Any:
    return read_record(run.stage_path(number, stage) / file, kind) if run.has(number, stage) else None


def _manifests(run: RunFolder, number: int) -> Iterator[Manifest]:
    for folder in run.stages(number):
        yield stage_manifest(run, folder)


def assessed(config: OelConfig, run: RunFolder, found: Sequence[RoundView]) -> tuple[Assessment | None, list[int]]:
    """The assessment, if there is something to compare, and the rounds left out because of different settings."""
    reports = {view.number: view.reports for view in found}
    compared, decided = comparable_results(run, reports), round_outcomes(run)
    assessment = assess(
        compared,
        {standing.round: parent_of(run, standing.round) for standing in compared},
        config.gate,
        champion=decided[-1].champion if decided else None,
        seed=config.seed,
    )
    return assessment, left_out(reports, compared)


def last_finished(run: RunFolder) -> float | None:
    """Time at which the newest stage finished, seconds since 1970."""
    times = [read_record(folder / MANIFEST, Manifest).finished_at for folder in run.stages()]
    return max(times, default=None)


def episode_pairs(run: RunFolder, last: int) -> list[EpisodePair]:
    """A few held-out episodes of each kind: newly won, newly lost, won by both, lost by both."""
    if last < 1 or not run.has(0, "evaluate/held_out"):
        return []
    played = (_held_out(run, number) for number in (0, last))
    before, after = ({(episode.id, episode.seed): episode for episode in found} for found in played)
    shared = [(before[key], after[key]) for key in before if key in after]
    chosen = []
    for kind, outcome in KINDS.items():
        found = [pair for pair in shared if (pair[0].passed, pair[1].passed) == outcome]
        chosen += [EpisodePair(kind, *pair) for pair in found[:PAIRS]]
    return chosen


KINDS = {
    "lost, now won": (False, True),
    "won, now lost": (True, False),
    "lost both times": (False, False),
    "won both times": (True, True),
}


def _held_out(run: RunFolder, number: int) -> Iterator[Trajectory]:
    return read_episodes(run.stage_path(number, stage_name(HELD_OUT)))


def gates(run: RunFolder) -> list[Verdict]:
    """Verdicts of the promotion gate, oldest first."""
    return [read_verdict(run, number) for number in run.rounds() if run.has(number, GATE)]


def versions() -> dict[str, str]:
    """Installed versions of the main dependencies."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
