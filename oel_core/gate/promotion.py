"""The promotion decision, as pure functions of the results of both models on the same held-out seeds.

The pass rates are compared by a paired bootstrap (Efron, "Bootstrap methods: another look at the jackknife", Annals
of Statistics 7, 1979): episodes are resampled with replacement, each with both outcomes. An episode's difference is -1,
0 or 1, so a resample is one sample of three counts from a multinomial distribution.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oel_core.config.operation import GateConfig
from oel_core.errors import ArtifactError
from oel_core.evaluation.stats import percentile_interval, resampled_differences
from oel_core.gate.deployment import Shown
from oel_core.gate.ledger import Trial
from oel_core.types import EvalReport, Record, Trajectory

EVEN = 1e-9
"""Differences smaller than this are rounding."""


class Comparison(Record):
    """The paired difference of two pass rates on the same episodes."""

    episodes: int
    """Common episodes, without those that raised an error for the first model."""
    first: float
    """Pass rate of the first model, the baseline."""
    second: float
    difference: float
    low: float
    """95% percentile interval of the difference."""
    high: float
    probability: float
    """Share of bootstrap draws in which the difference is larger than the margin."""
    won: int
    """Episodes that only the second model passed."""
    lost: int
    """Episodes that only the first model passed."""


class Check(Record):
    """One condition of the gate."""

    name: str
    passed: bool
    value: float
    bound: str
    """The required value, as text."""


class Verdict(Record):
    """The gate's decision with all figures it depends on."""

    promote: bool
    candidate: int
    """Round of the candidate."""
    champion: int
    """Round of the champion; 0 is the base model."""
    held_out: Comparison
    ood: dict[str, Comparison]
    """Suite → comparison with the better of champion and base model; the margin is minus the tolerance."""
    checks: tuple[Check, ...]
    settings: GateConfig
    seed: int
    """Of the bootstrap."""
    trial: Trial | None = None
    """The entry of the error budget; None where the round's evaluations were compared (`gate.test: bootstrap`)."""
    deployment: Shown | None = None
    """What sessions of the deployment have shown so far; None where the gate does not ask for them."""

    @property
    def refusals(self) -> list[str]:
        """Names of the failed conditions."""
        return [check.name for check in self.checks if not check.passed]


@dataclass(frozen=True)
class SuiteResults:
    """Results of one model on one suite."""

    report: EvalReport
    episodes: Sequence[Trajectory]


@dataclass(frozen=True)
class ModelResults:
    """Results of one model on all suites of the gate."""

    round: int
    held_out: SuiteResults
    ood: Mapping[str, SuiteResults]


def paired_differences(first: Sequence[Trajectory], second: Sequence[Trajectory]) -> tuple[list[bool], list[bool]]:
    """The outcomes of both models on the same episodes, in the first's order.

    An episode with a technical error counts as failed for the second model and is excluded for the first, so that
    errors in the champion's evaluation do not favour the candidate.

    Raises:
        ArtifactError: the episodes are not the same.
    """
    played = {episode.id: episode for episode in second}
    seeds = [(episode.id, episode.seed) for episode in first]
    if len(played) != len(first) or seeds != [(i, played[i].seed) for i, _ in seeds if i in played]:
        raise ArtifactError(
            f"the two models were measured on different episodes ({len(first)} and {len(second)}): their evaluation "
            "settings differ. Delete the older one's evaluate folder and measure it again"
        )
    scored = [(one.passed, played[one.id]) for one in first if one.error is None]
    return [before for before, _ in scored], [other.passed and other.error is None for _, other in scored]


def compare(first: Sequence[bool], second: Sequence[bool], *, margin: float, seed: int) -> Comparison:
    """The paired bootstrap of two pass vectors (one entry an episode, same order).

    Raises:
        ArtifactError: the vectors are empty or differ in length.
    """
    if not first or len(first) != len(second):
        raise ArtifactError(f"pass vectors of {len(first)} and {len(second)} episodes cannot be compared in pairs")
    episodes = len(first)
    won = sum(after and not before for before, after in zip(first, second, strict=True))
    lost = sum(before and not after for before, after in zip(first, second, strict=True))
    means = resampled_differences(won, lost, episodes, seed=seed)
    low, high = percentile_interval(means)
    return Comparison(
        episodes=episodes,
        first=sum(first) / episodes,
        second=sum(second) / episodes,
        difference=(won - lost) / episodes,
        low=low,
        high=high,
        probability=float(np.mean(means > margin + EVEN)),
        won=won,
        lost=lost,
    )


def bootstrap_verdict(
    gate: GateConfig, candidate: ModelResults, champion: ModelResults, base: ModelResults, *, seed: int
) -> Verdict:
    """Whether the candidate may replace the champion, by paired bootstraps. `seed`: of the bootstrap.

    Raises:
        ArtifactError: the models were measured on different episodes or different suites.
    """
    held_out = compare(
        *paired_differences(champion.held_out.episodes, candidate.held_out.episodes), margin=gate.margin, seed=seed
    )
    ood = {name: _compare_with_best(gate, name, candidate, (champion, base), seed) for name in champion.ood}
    checks = (
        *scorer_checks(candidate.held_out.report),
        *_better(gate, held_out),
        *(_not_worse(gate, name, found) for name, found in ood.items()),
        *_lengths(gate, candidate.held_out.report, champion.held_out.report),
    )
    return Verdict(
        promote=all(check.passed for check in checks),
        candidate=candidate.round,
        champion=champion.round,
        held_out=held_out,
        ood=ood,
        checks=checks,
        settings=gate,
        seed=seed,
    )


def scorer_checks(report: EvalReport) -> list[Check]:
    """Whether the evaluation may decide: a failed condition if no reliable scorer exists; a judge's agreement.

    Without a judge, and for games, there is no such condition.
    """
    judge = report.extra.get("judge")
    if report.undecided:
        value = judge["kappa"] if judge is not None else 0.0
        return [Check(name="scorer", passed=False, value=value, bound=report.undecided)]
    if judge is None:
        return []
    said = f"the judge agrees with people on {judge['agreed']} of {judge['rated']} answers; its kappa is large enough"
    return [Check(name="scorer", passed=True, value=judge["kappa"], bound=said)]


def _better(gate: GateConfig, held_out: Comparison) -> tuple[Check, Check]:
    return (
        Check(
            name="episodes",
            passed=held_out.episodes >= gate.min_episodes,
            value=held_out.episodes,
            bound=f"at least {gate.min_episodes}",
        ),
        Check(
            name="better",
            passed=held_out.probability >= gate.confidence,
            value=held_out.probability,
            bound=f"at least {gate.confidence:g} of the draws are better by more than {gate.margin:g}",
        ),
    )


def _compare_with_best(
    gate: GateConfig, suite: str, candidate: ModelResults, others: Sequence[ModelResults], seed: int
) -> Comparison:
    """Compares with the better of champion and base model, so that small losses do not accumulate over rounds."""
    if suite not in candidate.ood:
        raise ArtifactError(f"round {candidate.round} was not measured on {suite}, round {others[0].round} was")
    known = [other for other in others if suite in other.ood]
    best = max(known, key=lambda other: other.ood[suite].report.pass_rate)
    paired = paired_differences(best.ood[suite].episodes, candidate.ood[suite].episodes)
    return compare(*paired, margin=-gate.tolerance(suite), seed=seed)


def _not_worse(gate: GateConfig, suite: str, found: Comparison) -> Check:
    tolerance = gate.tolerance(suite)
    return Check(
        name=f"ood/{suite}",
        passed=found.difference >= -tolerance - EVEN,
        value=found.difference,
        bound=f"at least {-tolerance:g} beside {found.first:.3f}",
    )


def _lengths(gate: GateConfig, candidate: EvalReport, champion: EvalReport) -> tuple[Check, Check]:
    low, high = gate.response_ratio
    ratio = candidate.response_tokens / champion.response_tokens if champion.response_tokens else 1.0
    rise = candidate.truncation_rate - champion.truncation_rate
    return (
        Check(
            name="response_length",
            passed=low - EVEN <= ratio <= high + EVEN,
            value=ratio,
            bound=f"{low:g} to {high:g} times the champion's {champion.response_tokens:.1f} tokens",
        ),
        Check(
            name="truncation",
            passed=rise <= gate.truncation_rise + EVEN,
            value=rise,
            bound=f"at most {gate.truncation_rise:g} above the champion's {champion.truncation_rate:.3f}",
        ),
    )
