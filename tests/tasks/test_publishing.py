"""What of a report goes to the tracking server."""

from oel_core.evaluation.base import summarise
from tasks.publishing import own_figures
from tests.builders import episode


def test_a_suites_own_figures_get_names_that_the_server_takes() -> None:
    report = summarise("gsm8k", "me", [episode("a")])
    assert own_figures(report) == []
    extra = {
        "prompt_level_strict": {"value": 0.5, "low": 0.4, "high": 0.6},
        "figures": {"exact_match,strict-match": 0.25},
        "is_subset": True,
        "prompts": 12,
        "environment": "lake",
        "options": {"size": 4},
    }
    assert own_figures(report.model_copy(update={"extra": extra})) == [
        ("prompt_level_strict", 0.5),
        ("exact_match.strict-match", 0.25),
    ]
