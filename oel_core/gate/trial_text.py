"""Formats the trials of a project's error budget as table rows and sentences for terminal, Markdown and HTML."""

import math

from oel_core.gate.ledger import Ledger, Trial
from oel_core.gate.promotion import Verdict

TRIALS = ("trial", "round", "champion", "level", "log10 evidence", "pairs", "decision")


def trial_rows(ledger: Ledger) -> list[list[str]]:
    """One row per trial, with the columns `TRIALS`."""
    return [_row(trial) for trial in ledger.trials]


def budget_text(ledger: Ledger, budget: float) -> str:
    """The number of trials, and the evidence that the next one requires at this error budget."""
    count, promoted, level = len(ledger.trials), len(ledger.promoted), ledger.next_level(budget)
    return (
        f"{count} {'trial' if count == 1 else 'trials'}, {promoted} promoted. Error budget {budget:g}: the next trial "
        f"has level {level:.2g}, a promotion takes a log10 evidence of {-math.log10(level):.2f}."
    )


def trial_text(verdict: Verdict) -> str:
    """A summary of the verdict's trial; empty for a verdict without one."""
    trial = verdict.trial
    if trial is None:
        return ""
    return (
        f"Trial {trial.number} of the project, level {trial.level:.2g}: {trial.episodes} new held-out episodes, played "
        "until the evidence decided. The bootstrap's interval of these episodes is for orientation."
    )


def _row(trial: Trial) -> list[str]:
    decision = {None: "not decided", True: "promote", False: "refuse"}[trial.promoted]
    return [
        str(trial.number),
        str(trial.candidate),
        str(trial.champion) if trial.champion else "the base model",
        f"{trial.level:.2g}",
        "-" if trial.evidence is None else f"{trial.evidence / math.log(10):.2f}",
        "-" if trial.episodes is None else str(trial.episodes),
        decision,
    ]
