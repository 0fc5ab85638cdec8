"""The verdict as text: better, equal, worse, too little data, a loss out of distribution."""

from collections.abc import Sequence

import pytest

from oel_core.config.operation import GateConfig
from oel_core.errors import ArtifactError
from oel_core.gate.promotion import ModelResults
from oel_core.reporting.findings.assessment import Assessment, assess
from oel_core.reporting.page.answers import answers
from tests.gate.test_promotion import played, rate, results


def assessed(*measured: ModelResults, parents: dict[int, int] | None = None, champion: int | None = None) -> Assessment:
    own = parents or {one.round: one.round - 1 for one in measured}
    found = assess(measured, own, GateConfig(), champion=champion, seed=0)
    assert found is not None
    return found


def rounds(*passed: Sequence[bool]) -> list[ModelResults]:
    return [results(index, played(outcome)) for index, outcome in enumerate(passed)]


def said(found: Assessment) -> list[str]:
    return [answer.short for answer in answers(found)]


def test_a_better_round_is_served() -> None:
    found = assessed(*rounds(rate(20), rate(90)))
    change = found.rounds[0].to_base
    assert (change.compared.won, change.compared.lost, change.finding) == (70, 0, "better")
    assert change.compared.low < 70 / 128 < change.compared.high
    assert (found.serve, found.reason) == (1, "highest")
    assert said(found) == ["Better than the base model", "Yes", "Round 1"]


def test_an_equal_round_is_not_served() -> None:
    """8 won and 7 lost of 128: what chance gives."""
    before, after = [*[True] * 7, *[False] * 121], [*[False] * 7, *[True] * 8, *[False] * 113]
    found = assessed(*rounds(before, after))
    assert found.rounds[0].to_base.finding == "equal"
    assert found.rounds[0].to_base.chance == 1.0
    assert (found.serve, found.reason) == (0, "none_better")
    assert said(found) == ["No measurable difference to the base model", "No", "The base model"]


def test_a_worse_round_is_not_served() -> None:
    found = assessed(*rounds(rate(90), rate(20)))
    assert found.rounds[0].to_base.finding == "worse"
    assert said(found) == ["Worse than the base model", "Yes", "The base model"]


def test_too_little_data_decides_nothing_however_clear() -> None:
    found = assessed(*rounds(rate(0, 8), rate(8, 8)))
    assert found.rounds[0].to_base.finding == "unknown"
    assert (found.serve, found.reason) == (0, "too_little")
    assert said(found) == ["Too little data beside the base model", "Too little data", "The base model"]


def test_five_won_and_none_lost_may_be_chance_though_the_bootstrap_is_sure() -> None:
    change = assessed(*rounds(rate(20), rate(25))).rounds[0].to_base
    assert change.compared.low > 0
    assert change.chance == pytest.approx(2 / 2**5)
    assert change.finding == "equal"


def test_a_loss_out_of_distribution_is_passed_over_and_said() -> None:
    measured = [
        results(0, played(rate(20)), symbols=rate(100)),
        results(1, played(rate(60)), symbols=rate(98)),
        results(2, played(rate(90)), symbols=rate(60)),
    ]
    found = assessed(*measured)
    assert list(found.rounds[0].ood_losses) == []
    assert list(found.rounds[1].ood_losses) == ["symbols"]
    assert (found.serve, list(found.passed_over)) == (1, [2])
    text = " ".join(line for answer in answers(found) for line in answer.details)
    assert "On the out-of-distribution suite symbols it passes 46.9%, the base model 78.1%" in text
    assert "Round 2 passes more, but loses too much elsewhere." in text


def test_the_newest_round_is_also_held_against_the_one_it_started_from() -> None:
    found = assessed(*rounds(rate(20), rate(90), rate(60)))
    assert said(found)[0] == "Better than the base model, worse than round 1"
    assert found.rounds[1].to_before.against == 1
    assert found.serve == 1


def test_a_round_that_started_from_the_champion_is_held_against_that() -> None:
    found = assessed(*rounds(rate(20), rate(60), rate(30), rate(90)), parents={1: 0, 2: 1, 3: 1})
    assert found.rounds[2].to_before.against == 1


def test_the_more_rounds_to_choose_from_the_clearer_one_must_be() -> None:
    """12 won and 3 lost have the probability 0.035: enough for one round, too much for the highest of three."""
    base, some = [*[True] * 3, *[False] * 125], [*[False] * 3, *[True] * 12, *[False] * 113]
    assert assessed(*rounds(base, some)).serve == 1
    several = assessed(*rounds(base, some, base, base))
    assert several.rounds[0].to_base.finding == "better"
    assert (several.serve, several.reason) == (0, "none_better")


def test_a_projects_champion_is_served_whatever_the_rates_say() -> None:
    found = assessed(*rounds(rate(20), rate(60), rate(90)), champion=1)
    assert (found.serve, found.reason) == (1, "champion")
    assert said(found)[2] == "Round 1"
    assert said(assessed(*rounds(rate(20), rate(60)), champion=0))[2] == "The base model"


def test_nothing_is_said_without_two_models() -> None:
    assert assess([], {}, GateConfig(), champion=None, seed=0) is None
    assert assess(rounds(rate(20)), {}, GateConfig(), champion=None, seed=0) is None
    assert assess([results(1, played(rate(20)))] * 2, {}, GateConfig(), champion=None, seed=0) is None


def test_a_measurement_that_failed_throughout_decides_nothing() -> None:
    broken = results(0, played(rate(0, 40), errors=range(40)))
    found = assessed(broken, results(1, played(rate(40, 40))))
    assert found.rounds[0].to_base.finding == "unknown"
    assert found.serve == 0


def test_other_episodes_are_refused() -> None:
    with pytest.raises(ArtifactError, match="measured on different episodes"):
        assessed(*rounds(rate(3, 40), rate(3, 41)))
