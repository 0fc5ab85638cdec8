"""The gate's page: the error budget is on it where a trial decided."""

from pathlib import Path

from flows.pages.gate import gate_markdown
from oel_core.gate.ledger import close_trial, open_trial
from oel_core.runs.folder import RunFolder
from tests.gate.test_promotion import played, rate, results, verdict


def test_a_trial_is_shown_with_all_others_of_the_project(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "lake")
    found = verdict(results(2, played(rate(90))), results(0, played(rate(20))))
    assert "Error budget" not in gate_markdown(run, found, "it is better")
    close_trial(run, open_trial(run, 1, "d", 0, 0.05), promoted=False, evidence=0.0, episodes=64)
    trial = close_trial(run, open_trial(run, 2, "e", 0, 0.05), promoted=True, evidence=6.0, episodes=96)
    page = gate_markdown(run, found.model_copy(update={"trial": trial}), "it is better")
    for said in ("## Error budget", "Trial 2 of the project, level 0.0042: 96 new", "2 trials, 1 promoted"):
        assert said in page
    assert page.count("the base model") == 3, "in the title and in the row of each trial"
