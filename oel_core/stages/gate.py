"""Gate: compares a round's model with the champion it started from, by the test that `gate.test` names.

A verdict is final: later changes of the gate's settings apply to later rounds.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from oel_core.config.operation import GateConfig
from oel_core.errors import ArtifactError
from oel_core.gate.promotion import Measured, Standing, Verdict, judge
from oel_core.rounds.context import DEFAULT_CONTEXT, REPORT, StageContext
from oel_core.rounds.outcomes import read_episodes
from oel_core.rounds.round import Round
from oel_core.rounds.stage_folder import StageFolder
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, round_name
from oel_core.runs.manifest import Manifest, differences, read_record
from oel_core.seeds import derive_seed
from oel_core.stages.evaluate import measurement, own_parts, stage_name
from oel_core.stages.trial import trial
from oel_core.text.invalid import described
from oel_core.types import EvalReport

STAGE, AGAINST, VERDICT, SETTINGS = "gate", "gate_against", "gate.json", "settings.json"

Judge = Callable[[Round, int, GateConfig, Path, StageContext], Verdict]
"""(candidate, champion's round, settings, the stage's folder, context) → verdict."""


def gate(round: Round, context: StageContext = DEFAULT_CONTEXT) -> Manifest:
    """Writes `gate.json` with the verdict on the round's model.

    Raises:
        ArtifactError: an evaluation is missing, or the two were made with different settings.
        OelError: as the test that `gate.test` names.
    """
    return _judged(round, round.parent.number, STAGE, context)


def judge_again(candidate: Round, champion: int, context: StageContext = DEFAULT_CONTEXT) -> Verdict:
    """The verdict on any evaluated round against any other, by the present settings.

    A sequential trial has one verdict, which stays: a second one would be another try at the same question. Against a
    champion that the round was not yet tried against, it is played; requires the project's lease.

    Raises:
        OelError: as `gate`.
    """
    settings = candidate.config.gate
    if settings.test == "bootstrap":
        return decide(candidate, champion, settings)
    own = candidate.parent.number == champion
    stage = STAGE if own else f"{AGAINST}/{round_name(champion)}"
    _judged(candidate, champion, stage, context)
    return read_record(candidate.stage(stage).path / VERDICT, Verdict)


def decide(candidate: Round, champion: int, settings: GateConfig) -> Verdict:
    """The verdict of the test `bootstrap`, on finished evaluations.

    Raises:
        ArtifactError: as `gate`.
    """
    _require_comparable(candidate, champion)
    tried, beaten = (_standing(candidate, number) for number in (candidate.number, champion))
    base = Standing(0, beaten.held_out, _suites(candidate.at(0)))
    return judge(settings, tried, beaten, base, seed=_seed(candidate, champion))


def _by_bootstrap(
    candidate: Round, champion: int, settings: GateConfig, folder: Path, context: StageContext
) -> Verdict:
    return decide(candidate, champion, settings)


def _by_trial(candidate: Round, champion: int, settings: GateConfig, folder: Path, context: StageContext) -> Verdict:
    _require_comparable(candidate, champion)
    if _measured(measurement(candidate, candidate.number, "held_out")).report.undecided:
        return decide(candidate, champion, settings)  # it cannot be promoted, so it costs no error budget
    return trial(candidate, champion, settings, folder, _seed(candidate, champion), context)


JUDGES: Final[Mapping[str, Judge]] = {"bootstrap": _by_bootstrap, "sequential": _by_trial}
"""`gate.test` → what decides."""


def _judged(round: Round, champion: int, stage: str, context: StageContext) -> Manifest:
    inputs = {
        f"{name}/{part}": measurement(round, number, part).digest()
        for name, number in (("candidate", round.number), ("champion", champion))
        for part in own_parts(round.config)
    }

    def work(folder: Path) -> dict[str, float]:
        settings = _settings(folder, round.config.gate)
        verdict = JUDGES[settings.test](round, champion, settings, folder, context)
        write_atomic(folder / VERDICT, verdict.model_dump_json(indent=1).encode())
        return {
            "promote": verdict.promote,
            "difference": verdict.held_out.difference,
            "probability": verdict.held_out.probability,
            "refusals": len(verdict.refusals),
        }

    return round.perform(stage, (), inputs, work)


def _settings(folder: Path, gate: GateConfig) -> GateConfig:
    """The settings that the decision began with: changing them while a trial is played decides nothing about it."""
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


def _require_comparable(candidate: Round, champion: int) -> None:
    for part in own_parts(candidate.config):
        for other in sorted({champion, 0} if part.startswith("ood/") else {champion}):
            _require_same_settings(part, candidate, candidate.at(other))


def _require_same_settings(part: str, candidate: Round, other: Round) -> None:
    """Both evaluations must have the same settings, sampling included, besides equal seeds."""
    stages = [measurement(candidate, round.number, part) for round in (other, candidate)]
    keys = [stage.manifest().key.config for stage in stages]
    changes = differences(*keys)
    if changes:
        raise ArtifactError(
            f"rounds {other.number} and {candidate.number} were measured with different settings:\n  "
            + "\n  ".join(changes)
            + f"\nDelete {stages[0].path}: the next round measures round {other.number} again"
        )


def _standing(candidate: Round, number: int) -> Standing:
    return Standing(number, _measured(measurement(candidate, number, "held_out")), _suites(candidate.at(number)))


def _suites(round: Round) -> dict[str, Measured]:
    return {suite: _measured(round.stage(stage_name(f"ood/{suite}"))) for suite in round.config.evaluate.ood}


def _measured(stage: StageFolder) -> Measured:
    stage.manifest()
    report = read_record(stage.path / REPORT, EvalReport)
    return Measured(report, list(read_episodes(stage.path)))
