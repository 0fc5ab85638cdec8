"""Gate: compares a round's model with the champion it started from, by the test that `gate.test` names.

A verdict is final; changed settings apply to later rounds.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from oel_core.config.operation import GateConfig
from oel_core.errors import ArtifactError
from oel_core.gate.promotion import ModelResults, SuiteResults, Verdict, bootstrap_verdict, scorer_checks
from oel_core.rounds.context import DEFAULT_CONTEXT, REPORT, StageContext
from oel_core.rounds.outcomes import read_episodes
from oel_core.rounds.round import Round
from oel_core.rounds.stage_folder import StageFolder
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, round_name
from oel_core.runs.manifest import Manifest, differences, read_record
from oel_core.runs.round_start import last_begun
from oel_core.seeds import derive_seed
from oel_core.stages.evaluate import measurement, own_parts, stage_name
from oel_core.stages.trial import trial
from oel_core.text.invalid import described
from oel_core.types import EvalReport

STAGE, AGAINST, VERDICT, SETTINGS = "gate", "gate_against", "gate.json", "settings.json"

Test = Callable[[Round, int, GateConfig, Path, StageContext], Verdict]
"""(candidate, champion's round, settings, the stage's folder, context) → verdict."""


def gate(round: Round, context: StageContext = DEFAULT_CONTEXT) -> Manifest:
    """Writes `gate.json` with the verdict on the round's model.

    Raises:
        ArtifactError: an evaluation is missing, or the two were made with different settings.
        OelError: as the test that `gate.test` names.
    """
    return _run_test(round, round.parent.number, STAGE, context)


def verdict_against(candidate: Round, champion: int, context: StageContext = DEFAULT_CONTEXT) -> Verdict:
    """The verdict on any evaluated round compared with any other, with the current settings.

    A sequential trial is run once per pair of candidate and champion and its verdict is kept, because a repetition
    would be another test of the same hypothesis. A trial that has not been run yet requires the project's lease.

    Raises:
        ArtifactError: the environment has changed since the candidate's round.
        OelError: as `gate`.
    """
    _require_present_environment(candidate)
    settings = candidate.config.gate
    if settings.test == "bootstrap":
        return decide_by_bootstrap(candidate, champion, settings)
    own = candidate.parent.number == champion
    stage = STAGE if own else f"{AGAINST}/{round_name(champion)}"
    _run_test(candidate, champion, stage, context)
    return read_record(candidate.stage(stage).path / VERDICT, Verdict)


def decide_by_bootstrap(candidate: Round, champion: int, settings: GateConfig) -> Verdict:
    """The verdict of the test `bootstrap` on finished evaluations.

    Raises:
        ArtifactError: as `gate`.
    """
    _require_comparable(candidate, champion)
    tried, baseline = (_model_results(candidate, number) for number in (candidate.number, champion))
    base = ModelResults(0, baseline.held_out, _suites(candidate.at(0)))
    return bootstrap_verdict(settings, tried, baseline, base, seed=_seed(candidate, champion))


def _by_bootstrap(
    candidate: Round, champion: int, settings: GateConfig, folder: Path, context: StageContext
) -> Verdict:
    return decide_by_bootstrap(candidate, champion, settings)


def _by_trial(candidate: Round, champion: int, settings: GateConfig, folder: Path, context: StageContext) -> Verdict:
    report = _suite_results(measurement(candidate, candidate.number, "held_out")).report
    if report.undecided:  # never promoted, so no trial is opened and no error budget is used
        return decide_by_bootstrap(candidate, champion, settings)
    verdict = trial(candidate, champion, settings, folder, _seed(candidate, champion), context)
    return verdict.model_copy(update={"checks": (*scorer_checks(report), *verdict.checks)})


TESTS: Final[Mapping[str, Test]] = {"bootstrap": _by_bootstrap, "sequential": _by_trial}
"""`gate.test` → the test."""


def _run_test(round: Round, champion: int, stage: str, context: StageContext) -> Manifest:
    inputs = {
        f"{name}/{part}": measurement(round, number, part).digest()
        for name, number in (("candidate", round.number), ("champion", champion))
        for part in own_parts(round.config)
    }

    def work(folder: Path) -> dict[str, float]:
        settings = _settings(folder, round.config.gate)
        verdict = TESTS[settings.test](round, champion, settings, folder, context)
        write_atomic(folder / VERDICT, verdict.model_dump_json(indent=1).encode())
        return {
            "promote": verdict.promote,
            "difference": verdict.held_out.difference,
            "probability": verdict.held_out.probability,
            "refusals": len(verdict.refusals),
        }

    return round.perform(stage, (), inputs, work)


def _settings(folder: Path, gate: GateConfig) -> GateConfig:
    """The settings at the start of the test; changes during a trial do not apply to it."""
    path = folder / SETTINGS
    if not path.exists():
        write_atomic(path, gate.model_dump_json(indent=1).encode())
    try:
        return GateConfig.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ArtifactError(f"{described(error, str(path))}; delete its folder and run again") from error


def _seed(candidate: Round, champion: int) -> int:
    """Of the bootstrap."""
    return derive_seed("gate", candidate.config.seed, candidate.number, champion) % 2**32


def read_verdict(run: RunFolder, round_index: int) -> Verdict:
    """Reads the verdict of a round's gate."""
    run.manifest(round_index, STAGE)
    return read_record(run.stage_path(round_index, STAGE) / VERDICT, Verdict)


def _require_present_environment(candidate: Round) -> None:
    """A model that learned in an environment before a planned change was not tested in the one that it would serve."""
    newest = max(candidate.number, last_begun(candidate.run))
    if candidate.at(newest).config.environment != candidate.config.environment:
        raise ArtifactError(
            f"the environment has changed since round {candidate.number} (environment.changes; the newest round is "
            f"{newest}), so its gate says nothing about the model as it would serve now: promote a later round"
        )


def _require_comparable(candidate: Round, champion: int) -> None:
    for part in own_parts(candidate.config):
        for other in sorted({champion, 0} if part.startswith("ood/") else {champion}):
            _require_same_settings(part, candidate, candidate.at(other))


def _require_same_settings(part: str, candidate: Round, other: Round) -> None:
    """Both evaluations must have the same settings, sampling included, besides equal seeds."""
    stages = [measurement(candidate, round.number, part) for round in (other, candidate)]
    keys = [stage.manifest().key.config for stage in stages]
    changes = differences(*keys)
    if changes and other.config.environment != candidate.config.environment:
        raise ArtifactError(
            f"the environment changed between rounds {other.number} and {candidate.number} (environment.changes), and "
            "gate.test bootstrap compares evaluations that each have that of their own round:\n  "
            + "\n  ".join(changes)
            + "\nSet gate.test: sequential, which plays new episodes with both models in the newer environment"
        )
    if changes:
        raise ArtifactError(
            f"rounds {other.number} and {candidate.number} were measured with different settings:\n  "
            + "\n  ".join(changes)
            + f"\nDelete {stages[0].path}: the next round measures round {other.number} again"
        )


def _model_results(candidate: Round, number: int) -> ModelResults:
    return ModelResults(
        number, _suite_results(measurement(candidate, number, "held_out")), _suites(candidate.at(number))
    )


def _suites(round: Round) -> dict[str, SuiteResults]:
    return {suite: _suite_results(round.stage(stage_name(f"ood/{suite}"))) for suite in round.config.evaluate.ood}


def _suite_results(stage: StageFolder) -> SuiteResults:
    stage.manifest()
    report = read_record(stage.path / REPORT, EvalReport)
    return SuiteResults(report, list(read_episodes(stage.path)))
