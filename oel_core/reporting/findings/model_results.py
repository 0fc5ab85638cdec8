"""The results of a run's models that were evaluated with the same settings."""

from collections.abc import Sequence
from pathlib import Path

from oel_core.gate.promotion import ModelResults, SuiteResults
from oel_core.rounds.outcomes import read_episodes
from oel_core.runs.folder import RunFolder
from oel_core.stages.evaluate import stage_name
from oel_core.types import EvalReport, Trajectory

HELD_OUT = "held_out"


def outcomes(folder: Path) -> list[Trajectory]:
    """The episodes of a finished evaluation without their turns, to save memory."""
    return [episode.model_copy(update={"turns": ()}) for episode in read_episodes(folder)]


def comparable_results(run: RunFolder, reports: dict[int, dict[str, EvalReport]]) -> list[ModelResults]:
    """The base model and every round measured with the same settings, in order; [] if the base model was not measured.

    Args:
        reports: round → part of its evaluation → report, of finished parts.

    Raises:
        ArtifactError: a record is damaged.
    """
    if HELD_OUT not in reports.get(0, {}):
        return []
    alike = [index for index in sorted(reports) if _alike(run, index, HELD_OUT, reports[index])]
    return [_results_of(run, index, reports[index]) for index in alike]


def _results_of(run: RunFolder, index: int, reports: dict[str, EvalReport]) -> ModelResults:
    suites = [part for part in reports if part.startswith("ood/") and _alike(run, index, part, reports)]
    ood = {part.removeprefix("ood/"): _suite_results(run, index, part, reports) for part in suites}
    return ModelResults(index, _suite_results(run, index, HELD_OUT, reports), ood)


def _alike(run: RunFolder, index: int, part: str, reports: dict[str, EvalReport]) -> bool:
    """Whether the part was measured with the base model's settings and on its cases; equal seeds are not enough."""
    if part not in reports or not run.has(0, stage_name(part)):
        return False
    first, other = (run.manifest(number, stage_name(part)).key for number in (0, index))
    return first.config == other.config and first.inputs.get("cases") == other.inputs.get("cases")


def _suite_results(run: RunFolder, index: int, part: str, reports: dict[str, EvalReport]) -> SuiteResults:
    return SuiteResults(reports[part], outcomes(run.stage_path(index, stage_name(part))))


def left_out(reports: dict[int, dict[str, EvalReport]], compared: Sequence[ModelResults]) -> list[int]:
    """Evaluated rounds that cannot be compared with the base model because their settings differ."""
    known = {results.round for results in compared}
    return [index for index in sorted(reports) if HELD_OUT in reports[index] and index not in known]
