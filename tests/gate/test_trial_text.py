"""Trials and the error budget as text."""

from oel_core.gate.ledger import Ledger, Trial
from oel_core.gate.trial_text import TRIALS, budget_text, trial_rows, trial_text
from tests.gate.test_promotion import played, rate, results, verdict


def trial(number: int, **changes: object) -> Trial:
    values = {"candidate": number, "digest": "d", "champion": 0, "budget": 0.05, "promotions": 0, "level": 0.0125}
    return Trial.model_validate({"number": number, **values, **changes})


def test_a_row_a_trial_and_what_the_next_one_takes() -> None:
    ledger = Ledger(trials=(trial(1, promoted=True, evidence=4.605, episodes=96), trial(2, champion=1, level=0.004)))
    assert trial_rows(ledger) == [
        ["1", "1", "the base model", "0.013", "2.00", "96", "promote"],
        ["2", "2", "1", "0.004", "-", "-", "not decided"],
    ]
    assert {len(row) for row in trial_rows(ledger)} == {len(TRIALS)}
    assert budget_text(ledger, 0.05) == (
        "2 trials, 1 promoted. Error budget 0.05: the next trial has level 0.0063, a promotion takes a log10 evidence "
        "of 2.20."
    )
    assert budget_text(Ledger(), 0.04).startswith(
        "0 trials, 0 promoted. Error budget 0.04: the next trial has level 0.01"
    )


def test_only_a_verdict_with_a_trial_says_how_it_went() -> None:
    found = verdict(results(2, played(rate(90))), results(1, played(rate(20))))
    assert trial_text(found) == ""
    tried = found.model_copy(update={"trial": trial(3, promoted=False, evidence=0.1, episodes=64)})
    assert trial_text(tried).startswith("Trial 3 of the project, level 0.013: 64 new held-out episodes")
