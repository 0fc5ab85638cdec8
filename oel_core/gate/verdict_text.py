"""Formats a verdict of the gate as table rows for terminal, Markdown and HTML."""

from oel_core.gate.promotion import Comparison, Verdict
from oel_core.text.figures import percent, points, points_interval

CHECKS = ("condition", "", "value", "has to be")
COMPARED = ("suite", "episodes", "before", "after", "difference", "95% interval", "won", "lost")
NOTE = (
    "Both models played the same seeds; intervals and probability are of a paired bootstrap. Out of distribution, "
    '"before" is the better of champion and base model.'
)


def title(verdict: Verdict) -> str:
    """Names of candidate and champion."""
    champion = f"round {verdict.champion}" if verdict.champion else "the base model"
    return f"round {verdict.candidate} against {champion}"


def check_rows(verdict: Verdict) -> list[list[str]]:
    """One row per condition, with the columns `CHECKS`."""
    return [
        [check.name, "ok" if check.passed else "refused", f"{check.value:.4f}", check.bound] for check in verdict.checks
    ]


def compared_rows(verdict: Verdict) -> list[list[str]]:
    """One row per suite that both played, with the columns `COMPARED`; rates and differences in percent."""
    suites = [(f"ood {suite}", found) for suite, found in sorted(verdict.ood.items())]
    return [[name, *_cells(found)] for name, found in [("held out", verdict.held_out), *suites]]


def _cells(found: Comparison) -> list[str]:
    return [
        str(found.episodes),
        percent(found.first),
        percent(found.second),
        points(found.difference),
        points_interval(found.low, found.high),
        str(found.won),
        str(found.lost),
    ]
