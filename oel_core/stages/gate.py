"""Gate: compares a round's model with the champion it started from, on their finished evaluations.

A verdict is final: later changes of the gate's settings apply to later rounds.
"""

from pathlib import Path

from oel_core.errors import ArtifactError
from oel_core.gate.promotion import Measured, Standing, Verdict, judge
from oel_core.rounds.context import EPISODES, REPORT
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.manifest import Manifest, differences, read_record
from oel_core.seeds import derive_seed
from oel_core.stages.evaluate import own_parts, stage_name
from oel_core.types import EvalReport, Trajectory

STAGE, VERDICT = "gate", "gate.json"


def gate(round: Round) -> Manifest:
    """Writes `gate.json` with the verdict on the round's model.

    Raises:
        ArtifactError: an evaluation is missing, or the two were made with different settings.
    """
    champion = round.parent
    inputs = {
        f"{name}/{part}": measured.stage(stage_name(part)).digest()
        for name, measured in (("candidate", round), ("champion", champion))
        for part in own_parts(round.config)
    }

    def work(folder: Path) -> dict[str, float]:
        verdict = decide(round, champion.number)
        write_atomic(folder / VERDICT, verdict.model_dump_json(indent=1).encode())
        return {
            "promote": verdict.promote,
            "difference": verdict.held_out.difference,
            "probability": verdict.held_out.probability,
            "refusals": len(verdict.refusals),
        }

    return round.perform(STAGE, (), inputs, work)


def decide(candidate: Round, champion: int) -> Verdict:
    """The verdict on any evaluated round against any other.

    Raises:
        ArtifactError: as `gate`.
    """
    config = candidate.config
    for part in own_parts(config):
        for other in sorted({champion, 0} if part.startswith("ood/") else {champion}):
            _require_same_settings(part, candidate, candidate.at(other))
    sides = (_standing(candidate.at(number)) for number in (candidate.number, champion, 0))
    return judge(config.gate, *sides, seed=derive_seed("gate", config.seed, candidate.number, champion) % 2**32)


def read_verdict(run: RunFolder, round_index: int) -> Verdict:
    """Reads the verdict of a round's gate."""
    run.manifest(round_index, STAGE)
    return read_record(run.stage_path(round_index, STAGE) / VERDICT, Verdict)


def _require_same_settings(part: str, candidate: Round, other: Round) -> None:
    """Both evaluations must have the same settings, sampling included, besides equal seeds."""
    stages = [round.stage(stage_name(part)) for round in (other, candidate)]
    keys = [stage.manifest().key.config for stage in stages]
    changes = differences(*keys)
    if changes:
        raise ArtifactError(
            f"rounds {other.number} and {candidate.number} were measured with different settings:\n  "
            + "\n  ".join(changes)
            + f"\nDelete {stages[0].path}: the next round measures round {other.number} again"
        )


def _standing(round: Round) -> Standing:
    ood = {suite: _measured(round, f"ood/{suite}") for suite in round.config.evaluate.ood}
    return Standing(round.number, _measured(round, "held_out"), ood)


def _measured(round: Round, part: str) -> Measured:
    stage = round.stage(stage_name(part))
    stage.manifest()
    report = read_record(stage.path / REPORT, EvalReport)
    return Measured(report, list(read_jsonl(stage.path / EPISODES, Trajectory)))
