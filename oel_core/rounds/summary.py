"""One row a round, from the files of a run: what tables, artifacts and tracking show."""

from oel_core.config.run import OelConfig
from oel_core.rounds.context import REPORT
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import read_record
from oel_core.types import EvalReport, Record


class RoundSummary(Record):
    """What a round achieved. A figure that was not measured is None."""

    round: int
    """0 is the base model."""
    pass_rate: float | None
    """Without knowledge, on held-out episodes."""
    ci95: tuple[float, float] | None
    """Wilson interval of the pass rate."""
    in_context_pass_rate: float | None
    """Of the round's start model with the round's knowledge before it."""
    raw_pass_rate: float | None
    """Of the round's start model with raw episodes before it."""
    response_tokens: float | None
    """Mean tokens of a response."""
    knowledge_tokens: float | None
    """Mean tokens of the round's knowledge files."""
    ood: dict[str, float]
    """Out-of-distribution suite, as its report calls itself (a subset says so) → pass rate."""


def report(run: RunFolder, round_index: int, part: str) -> EvalReport | None:
    """The report of one part of a round's evaluation, or None when it has not finished."""
    stage = f"evaluate/{part}"
    if not run.has(round_index, stage):
        return None
    found: EvalReport = read_record(run.stage_path(round_index, stage) / REPORT, EvalReport)
    return found


def summarise_round(config: OelConfig, run: RunFolder, round_index: int) -> RoundSummary:
    """The row of one round, from whatever of it has finished."""
    own, taught, raw = (report(run, round_index, part) for part in ("held_out", "in_context", "raw"))
    suites = [report(run, round_index, f"ood/{suite}") for suite in config.evaluate.ood]
    accumulated = run.manifest(round_index, "accumulate") if run.has(round_index, "accumulate") else None
    return RoundSummary(
        round=round_index,
        pass_rate=own.pass_rate if own else None,
        ci95=own.ci95 if own else None,
        in_context_pass_rate=taught.pass_rate if taught else None,
        raw_pass_rate=raw.pass_rate if raw else None,
        response_tokens=own.response_tokens if own else None,
        knowledge_tokens=accumulated.counts["tokens_mean"] if accumulated else None,
        ood={found.suite: found.pass_rate for found in suites if found},
    )


def summarise_run(run: RunFolder) -> list[RoundSummary]:
    """Rows of all rounds whose own pass rate is known, from the base model on.

    Raises:
        ArtifactError: the folder is not a run, or a report in it is damaged.
    """
    config = run.config()
    rounds = [index for index in range(config.rounds + 1) if run.has(index, "evaluate/held_out")]
    return [summarise_round(config, run, index) for index in rounds]
