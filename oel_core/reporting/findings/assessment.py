"""Assesses whether a run's rounds are better than earlier models, and which one to serve. Pure functions.

Differences and their intervals are the gate's (`oel_core.gate.promotion.compare`, a paired bootstrap). Significance is
decided by an exact test of the episodes won and lost, because a bootstrap over few episodes is overconfident.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from oel_core.config.operation import GateConfig
from oel_core.evaluation.stats import sign_test
from oel_core.gate.promotion import EVEN, Comparison, ModelResults, compare, paired_differences
from oel_core.seeds import derive_seed
from oel_core.types import Trajectory

LEVEL = 0.05
"""Probability below which a difference counts as beyond chance."""
Finding = Literal["better", "worse", "equal", "unknown"]
Reason = Literal["champion", "highest", "none_better", "too_little"]


NO_PAIRS = Comparison(episodes=0, first=0, second=0, difference=0, low=-1, high=1, probability=0, won=0, lost=0)


@dataclass(frozen=True)
class Change:
    """One model compared with an earlier one on the same held-out episodes."""

    against: int
    """Round of the earlier model; 0 is the base model."""
    compared: Comparison
    chance: float
    """Exact p-value of the split of won and lost episodes, for equally good models."""
    finding: Finding
    """`unknown`: fewer episodes than the gate requires."""


@dataclass(frozen=True)
class RoundChange:
    """The effect of one round."""

    round: int
    to_base: Change
    to_before: Change
    """Compared with the model that the round started from."""
    ood_losses: Mapping[str, Comparison]
    """Out-of-distribution suites on which the round is below the base model by more than the gate's tolerance."""


@dataclass(frozen=True)
class Assessment:
    """The assessment of a run."""

    rounds: Sequence[RoundChange]
    """Rounds measured on the same episodes as the base model, in order, without the base model."""
    serve: int
    """Round whose model to serve; 0 is the base model."""
    reason: Reason
    passed_over: Sequence[int]
    """Rounds with a higher pass rate than the served one, but too large losses out of distribution."""


def assess(
    measured: Sequence[ModelResults], parents: Mapping[int, int], gate: GateConfig, *, champion: int | None, seed: int
) -> Assessment | None:
    """The assessment, or None when fewer than two models were measured.

    Args:
        measured: models measured on the same episodes, the base model first, then rounds in order.
        parents: round → round whose model it started from; one that was not measured counts as the base model.
        gate: its least number of episodes and its tolerances out of distribution.
        champion: round that a project serves; None: no gate decided anything.
        seed: of the bootstrap.

    Raises:
        ArtifactError: the models were measured on different episodes.
    """
    if len(measured) < 2 or measured[0].round != 0:
        return None
    known = {results.round: results for results in measured}
    changes = [_round_change(known, results, parents, gate, seed) for results in measured[1:]]
    if champion is not None:
        return Assessment(changes, champion, "champion", ())
    return _chosen(changes)


def _round_change(
    known: Mapping[int, ModelResults], results: ModelResults, parents: Mapping[int, int], gate: GateConfig, seed: int
) -> RoundChange:
    base, before = known[0], known.get(parents.get(results.round, 0), known[0])
    losses = {}
    for suite in sorted(results.ood.keys() & base.ood.keys()):
        found = _compared(base.ood[suite].episodes, results.ood[suite].episodes, derive_seed(suite, seed))
        if found.difference < -gate.tolerance(suite) - EVEN:
            losses[suite] = found
    return RoundChange(results.round, _change(base, results, gate, seed), _change(before, results, gate, seed), losses)


def _change(before: ModelResults, after: ModelResults, gate: GateConfig, seed: int) -> Change:
    found = _compared(before.held_out.episodes, after.held_out.episodes, derive_seed(before.round, after.round, seed))
    chance = sign_test(found.won, found.lost)
    finding: Finding = "equal"
    if found.episodes < gate.min_episodes:
        finding = "unknown"
    elif chance < LEVEL:
        finding = "better" if found.difference > 0 else "worse"
    return Change(before.round, found, chance, finding)


def _compared(before: Sequence[Trajectory], after: Sequence[Trajectory], seed: int) -> Comparison:
    """0 pairs if every episode of the earlier model failed technically."""
    first, second = paired_differences(before, after)
    return compare(first, second, margin=0.0, seed=seed % 2**32) if first else NO_PAIRS


def _chosen(changes: Sequence[RoundChange]) -> Assessment:
    """The highest round that is significantly better than the base model.

    The significance level is divided by the number of rounds (Bonferroni), since the highest of many equal models is
    high by chance.
    """
    if all(change.to_base.finding == "unknown" for change in changes):
        return Assessment(changes, 0, "too_little", ())
    better = [
        change
        for change in changes
        if change.to_base.finding == "better" and change.to_base.chance < LEVEL / len(changes)
    ]
    fit = [change for change in better if not change.ood_losses]
    best = max(fit, key=lambda change: change.to_base.compared.second, default=None)
    reached = best.to_base.compared.second if best else 0.0
    over = [change.round for change in better if change.ood_losses and change.to_base.compared.second > reached]
    if best is None:
        return Assessment(changes, 0, "none_better", over)
    return Assessment(changes, best.round, "highest", over)
