"""The report of a suite as text."""

from typing import Any

from flows.pages.measurement import rows
from oel_core.types import EvalReport


def report(**extra: Any) -> EvalReport:
    return EvalReport(
        suite="ifeval_subset_100",
        policy="model",
        episodes=100,
        passed=8,
        pass_rate=0.08,
        ci95=(0.04109, 0.14998),
        response_tokens=685.87,
        turns=1.0,
        trajectory_tokens=685.87,
        truncation_rate=0.49,
        invalid_rate=0.0,
        extra=extra,
    )


def test_rates_are_in_percent_with_their_interval() -> None:
    found = dict(rows(report()))
    assert found["pass_rate"] == "8.0% (4.1 to 15.0)"
    assert (found["truncation_rate"], found["response_tokens"], found["passed"]) == ("49.0%", "685.9", "8")
    assert not {"ci95", "extra"} & found.keys()


def test_a_suites_own_figures_stand_in_rows_of_their_own() -> None:
    loose = {"value": 0.32927, "low": 0.26752, "high": 0.38554}
    found = dict(rows(report(is_subset=True, loose=loose, figures={"exact_match,none": 0.125})))
    assert (found["is_subset"], found["loose"], found["exact_match,none"]) == ("True", "32.9% (26.8 to 38.6)", "0.125")
