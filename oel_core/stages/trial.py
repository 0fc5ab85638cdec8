"""The sequential trial of a candidate: blocks of new held-out episodes until every condition is decided.

First the deployment's environment, then each out-of-distribution suite; the first futile condition ends the trial. So
a candidate that is no better costs a few blocks, and the suites are played only for one that is. Episodes are appended
to files as they end, so a killed trial resumes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from oel_core.config.operation import GateConfig
from oel_core.gate.conditions import Condition, Pair, held_out_conditions, not_worse
from oel_core.gate.ledger import Trial, close_trial, open_trial
from oel_core.gate.promotion import Comparison, Verdict, compare, paired_differences
from oel_core.gate.sequential import Progress, progress
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.stages.trial_blocks import Blocks
from oel_core.types import Trajectory

HELD_OUT, OOD = "held_out", "ood/"

Played = dict[int, list[list[Trajectory]]]
"""Round of the model → its episodes by block."""


@dataclass(frozen=True)
class Part:
    """One suite of a trial."""

    name: str
    """`held_out` or `ood/<suite>`."""
    conditions: Mapping[int, Sequence[Condition]]
    """Round of the baseline → the conditions to be shown."""

    def progress(self, played: Played, candidate: int, left: int) -> list[Progress]:
        """The progress of each condition with `left` remaining pairs."""
        return [
            progress(condition, list(_pairs(played[other], played[candidate])), left)
            for other, conditions in self.conditions.items()
            for condition in conditions
        ]


def trial(round: Round, champion: int, gate: GateConfig, folder: Path, seed: int, context: StageContext) -> Verdict:
    """Runs the trial of the round's model and records its decision in the error budget.

    The entry is opened before the first episode, so that a killed trial counts too; resuming does not count again.

    Raises:
        ArtifactError: the project's error budget or an episode of a killed attempt cannot be read.
        ConfigError: as `Suite` and `plan_episodes`.
    """
    opened = open_trial(round.run, round.number, round.model_digest(), champion, gate.sequential.error_budget)
    reached: list[Progress] = []
    compared: dict[str, Comparison] = {}
    for part in _parts(round, champion, gate, opened):
        played, found = _decide(round, champion, part, gate, folder, context)
        reached += found
        compared[part.name] = _compare_with_best(part, played, round.number, gate, seed)
        if not all(one.shown for one in found):
            break
    promote = all(one.shown for one in reached)
    held_out = compared[HELD_OUT]
    closed = close_trial(round.run, opened, promoted=promote, evidence=reached[0].evidence, episodes=held_out.episodes)
    return Verdict(
        promote=promote,
        candidate=round.number,
        champion=champion,
        held_out=held_out,
        ood={name.removeprefix(OOD): found for name, found in compared.items() if name != HELD_OUT},
        checks=tuple(one.check() for one in reached),
        settings=gate,
        seed=seed,
        trial=closed,
    )


def _parts(round: Round, champion: int, gate: GateConfig, opened: Trial) -> Iterator[Part]:
    """Held-out episodes against the champion; every suite against the champion and the base model, so that small
    losses do not accumulate over rounds."""
    measured = round.config.evaluate
    sampling = measured.cases.sampling if measured.held_out == "cases" else measured.games.sampling
    yield Part(HELD_OUT, {champion: held_out_conditions(gate, opened.level, sampling.max_tokens)})
    for suite in round.config.evaluate.ood:
        beside = {0: not_worse(gate, suite, "the base model")}
        if champion:
            beside[champion] = not_worse(gate, suite, "the champion")
        if any(beside.values()):
            yield Part(f"{OOD}{suite}", beside)


def _decide(
    round: Round, champion: int, part: Part, gate: GateConfig, folder: Path, context: StageContext
) -> tuple[Played, list[Progress]]:
    """Plays blocks until every condition of the part is shown or one is futile."""
    beside = list(part.conditions)
    blocks = Blocks(round, champion, beside, part.name, gate.sequential, folder, context)
    played: Played = {number: [] for number in [*beside, round.number]}
    while True:
        left = blocks.pairs_after(len(played[round.number]))
        found = part.progress(played, round.number, left) if played[round.number] else []
        if found and (all(one.shown for one in found) or any(one.futile for one in found)):
            return played, found
        for number, episodes in blocks.play(len(played[round.number])).items():
            played[number].append(episodes)


def _pairs(first: Sequence[Sequence[Trajectory]], second: Sequence[Sequence[Trajectory]]) -> Iterator[list[Pair]]:
    """The pairs of each block."""
    for ours, theirs in zip(first, second, strict=True):
        yield list(zip(ours, theirs, strict=True))


def _compare_with_best(part: Part, played: Played, candidate: int, gate: GateConfig, seed: int) -> Comparison:
    """The bootstrap on all episodes of a part, compared with the baseline that passed more of them."""
    margin = gate.margin if part.name == HELD_OUT else -gate.tolerance(part.name.removeprefix(OOD))
    whole = {number: [episode for block in blocks for episode in block] for number, blocks in played.items()}
    best = max(part.conditions, key=lambda number: sum(episode.passed for episode in whole[number]))
    return compare(*paired_differences(whole[best], whole[candidate]), margin=margin, seed=seed)
