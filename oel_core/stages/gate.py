"""Gate: a round's model against the champion it started from, on what both have played already.

Once decided, a verdict stays: later changes of the gate's settings are for later rounds.
"""

from pathlib import Path

from oel_core.config.run import OelConfig
from oel_core.errors import ArtifactError
from oel_core.gate.promotion import Measured, Standing, Verdict, judge
from oel_core.rounds.context import EPISODES, REPORT
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, stage_key
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.manifest import Manifest, differences, read_record
from oel_core.runs.round_start import parent_of
from oel_core.seeds import derive_seed
from oel_core.stages.evaluate import own_parts, stage_name
from oel_core.types import EvalReport, Trajectory

STAGE, VERDICT = "gate", "gate.json"


def gate(config: OelConfig, run: RunFolder, round_index: int) -> Manifest:
    """Leaves `gate.json` with the verdict on the round's model.

    Raises:
        ArtifactError: a measurement is missing, or the two were made with different settings.
    """
    champion = parent_of(run, round_index)
    inputs = {
        f"{name}/{part}": run.manifest(index, stage_name(part)).digest
        for name, index in (("candidate", round_index), ("champion", champion))
        for part in own_parts(config)
    }
    key = stage_key(config, round_index, STAGE, (), inputs)

    def work(folder: Path) -> dict[str, float]:
        verdict = decide(config, run, round_index, champion)
        write_atomic(folder / VERDICT, verdict.model_dump_json(indent=1).encode())
        return {
            "promote": verdict.promote,
            "difference": verdict.held_out.difference,
            "probability": verdict.held_out.probability,
            "refusals": len(verdict.refusals),
        }

    return run.perform(key, work)


def decide(config: OelConfig, run: RunFolder, candidate: int, champion: int) -> Verdict:
    """The verdict on any measured round against any other.

    Raises:
        ArtifactError: as `gate`.
    """
    for part in own_parts(config):
        for other in sorted({champion, 0} if part.startswith("ood/") else {champion}):
            _require_same_settings(run, part, candidate, other)
    sides = (_standing(config, run, index) for index in (candidate, champion, 0))
    return judge(config.gate, *sides, seed=derive_seed("gate", config.seed, candidate, champion) % 2**32)


def read_verdict(run: RunFolder, round_index: int) -> Verdict:
    """The verdict that a round's gate left."""
    run.manifest(round_index, STAGE)
    found: Verdict = read_record(run.stage_path(round_index, STAGE) / VERDICT, Verdict)
    return found


def _require_same_settings(run: RunFolder, part: str, candidate: int, other: int) -> None:
    """Equal seeds are not enough: with another sampling the comparison would be one of settings."""
    keys = [run.manifest(index, stage_name(part)).key.config for index in (other, candidate)]
    changes = differences(*keys)
    if changes:
        raise ArtifactError(
            f"rounds {other} and {candidate} were measured with different settings:\n  "
            + "\n  ".join(changes)
            + f"\nDelete {run.stage_path(other, stage_name(part))}: the next round measures round {other} again"
        )


def _standing(config: OelConfig, run: RunFolder, round_index: int) -> Standing:
    ood = {suite: _measured(run, round_index, f"ood/{suite}") for suite in config.evaluate.ood}
    return Standing(round_index, _measured(run, round_index, "held_out"), ood)


def _measured(run: RunFolder, round_index: int, part: str) -> Measured:
    folder = run.stage_path(round_index, stage_name(part))
    run.manifest(round_index, stage_name(part))
    report: EvalReport = read_record(folder / REPORT, EvalReport)
    return Measured(report, list(read_jsonl(folder / EPISODES, Trajectory)))
