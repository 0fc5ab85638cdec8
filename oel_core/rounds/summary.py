"""Summary of each round from the files of a run, for tables, artifacts and tracking."""

from pydantic import Field

from oel_core.rounds.knowledge import ACCUMULATE
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder
from oel_core.types import Record


class RoundSummary(Record):
    """Results of a round. A metric that was not measured is None."""

    round: int
    """0 is the base model."""
    pass_rate: float | None
    """Without knowledge, on held-out episodes."""
    ci95: tuple[float, float] | None
    """Wilson interval of the pass rate."""
    start_pass_rate: float | None = Field(default=None, exclude_if=lambda value: value is None)
    """Of the round's start model without knowledge, on the round's own cases; None where rounds share episodes."""
    in_context_pass_rate: float | None
    """Of the round's start model with the round's knowledge in the prompt."""
    raw_pass_rate: float | None
    """Of the round's start model with raw episodes in the prompt."""
    response_tokens: float | None
    """Mean tokens of a response."""
    knowledge_tokens: float | None
    """Mean tokens of the round's knowledge files."""
    ood: dict[str, float]
    """Name of the out-of-distribution suite in its report (a subset is marked) → pass rate."""


def summarise_round(round: Round) -> RoundSummary:
    """The summary of one round, from its finished stages."""
    own, start, in_context, raw = (round.report(part) for part in ("held_out", "start", "in_context", "raw"))
    suites = [round.report(f"ood/{suite}") for suite in round.config.evaluate.ood]
    accumulated = round.stage(ACCUMULATE)
    return RoundSummary(
        round=round.number,
        pass_rate=own.pass_rate if own else None,
        ci95=own.ci95 if own else None,
        start_pass_rate=start.pass_rate if start else None,
        in_context_pass_rate=in_context.pass_rate if in_context else None,
        raw_pass_rate=raw.pass_rate if raw else None,
        response_tokens=own.response_tokens if own else None,
        knowledge_tokens=accumulated.manifest().counts["tokens_mean"] if accumulated.finished else None,
        ood={found.suite: found.pass_rate for found in suites if found},
    )


def summarise_run(run: RunFolder) -> list[RoundSummary]:
    """Rows of all rounds that were measured, from the base model on; with a bundle, of those that are there.

    Raises:
        ArtifactError: the folder is not a run, or a report in it is damaged.
    """
    config = run.config()
    rounds = [Round(config, run, number) for number in range(config.rounds + 1)]
    return [summarise_round(round) for round in rounds if is_measured(round)]


def is_measured(round: Round) -> bool:
    """Whether all of the round's evaluations have finished; with a bundle those are its suites, if any."""
    if round.config.experience.bundle is None:
        return round.stage("evaluate/held_out").finished
    suites = [round.stage(f"evaluate/ood/{suite}").finished for suite in round.config.evaluate.ood]
    return all(suites) and (round.number == 0 or round.stage("distill").finished)
