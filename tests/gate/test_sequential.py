"""The conditions of a sequential trial, and its end."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from oel_core.config.operation import GateConfig
from oel_core.gate.conditions import Condition, Pair, held_out_conditions, not_worse
from oel_core.gate.sequential import Progress, progress
from oel_core.types import StopReason, Trajectory
from tests.builders import episode, turn

BLOCK = 16
MAX_TOKENS = 40


def one(passed: bool, tokens: int = 10, *, cut: bool = False, error: str | None = None) -> Trajectory:
    stop = StopReason.LENGTH if cut else StopReason.EOS
    return episode("e", reward=float(passed), turns=[turn(tokens=tokens, stop_reason=stop)], error=error)


WON, LOST, BOTH = (one(False), one(True)), (one(True), one(False)), (one(True), one(True))


def named(name: str, **settings: object) -> Condition:
    gate = GateConfig.model_validate(settings)
    found = [*held_out_conditions(gate, 0.025, MAX_TOKENS), *not_worse(gate, "s", "the champion")]
    return next(condition for condition in found if condition.name == name)


def after(condition: Condition, blocks: Sequence[Sequence[Pair]], left: int = 256) -> Progress:
    return progress(condition, blocks, left)


def shown_in(condition: Condition, pairs: Sequence[Pair]) -> bool:
    """Whether the condition is shown after any block."""
    blocks = [pairs[start : start + BLOCK] for start in range(0, len(pairs), BLOCK)]
    return after(condition, blocks, 0).shown


def drawn(rng: np.random.Generator, pairs: int, before: float, later: float) -> list[Pair]:
    outcomes = rng.random((pairs, 2)) < (before, later)
    return [(one(bool(first)), one(bool(second))) for first, second in outcomes]


def test_what_was_shown_stays_shown() -> None:
    found = [after(named("better"), [[WON] * BLOCK, *[[LOST] * BLOCK] * more]) for more in range(4)]
    assert all(one.shown for one in found)
    assert len({one.evidence for one in found}) == 1


def test_a_trial_without_hope_ends_but_not_after_one_block() -> None:
    for pair in (BOTH, LOST):
        assert not after(named("better"), [[pair] * BLOCK]).futile
        assert after(named("better"), [[pair] * BLOCK] * 2).futile
    assert not after(named("better"), [[WON, LOST, BOTH, BOTH] * 4] * 2).futile, "it may still be a little better"
    assert after(named("better"), [[WON, LOST, BOTH, BOTH] * 4] * 2, left=0).futile
    assert after(named("better"), [[WON]], left=0).futile


def test_the_margin_and_the_level_decide_what_is_enough() -> None:
    pairs = [WON] * 8 + [BOTH] * 56
    assert shown_in(named("better"), pairs)
    assert not shown_in(named("better", margin=0.2), pairs)
    assert named("better").required == pytest.approx(math.log(40))
    assert named("truncation").required == pytest.approx(math.log(20))


def test_an_error_counts_against_the_candidate_only() -> None:
    broken = one(True, error="broke")
    assert list(named("better").values([(broken, one(True)), (one(False), broken), (one(True), broken)])) == [0.0, -1.0]


def test_lengths_are_compared_as_multiples_and_bounded_by_the_cap() -> None:
    pairs = [(one(True, 10), one(True, 12)), (one(True, 10), one(True, 90))]
    assert list(named("not_longer").values(pairs)) == [15.0 - 12.0, 15.0 - MAX_TOKENS]
    assert list(named("not_shorter", response_ratio=(0.5, 1.5)).values(pairs)) == [12.0 - 5.0, MAX_TOKENS - 5.0]
    assert shown_in(named("not_longer"), [BOTH] * 128)
    assert not shown_in(named("not_longer"), [(one(True, 10), one(True, 16))] * 128)


def test_an_episode_without_a_response_has_no_length_and_no_truncation() -> None:
    nothing = episode("e", turns=[], reward=1.0)
    assert list(named("truncation").values([(nothing, nothing)])) == [0.05]
    assert list(named("not_longer").values([(nothing, nothing)])) == [0.0]


def test_truncation_may_rise_a_little() -> None:
    cut = (one(True), one(True, cut=True))
    assert shown_in(named("truncation"), [BOTH] * 128)
    assert not shown_in(named("truncation"), ([cut] + [BOTH] * 9) * 13)
    assert shown_in(named("truncation", truncation_rise=0.5), ([cut] + [BOTH] * 9) * 13)


def test_what_all_would_pass_is_no_condition() -> None:
    gate = GateConfig(ood_tolerance=1.0, truncation_rise=1.0, response_ratio=(0.0, 1.5))
    assert [one.name for one in held_out_conditions(gate, 0.025, MAX_TOKENS)] == ["better", "not_longer"]
    assert not_worse(gate, "s", "the champion") == []
    assert not_worse(GateConfig(), "s", "the base model")[0].name == "ood/s/base"


@pytest.mark.parametrize(
    ("name", "before", "later"), [("better", 0.5, 0.5), ("ood/s", 0.6, 0.5)], ids=["better", "out of distribution"]
)
def test_on_its_border_a_condition_is_seldom_shown(name: str, before: float, later: float) -> None:
    """200 trials, level 0.1: 5 standard deviations of the count are 21."""
    condition = named(name, ood_tolerance=0.1, sequential={"level": 0.1})
    rng = np.random.default_rng(0)
    assert sum(shown_in(condition, drawn(rng, 128, before, later)) for _ in range(200)) <= 20 + 21


def test_lengths_on_their_border_are_seldom_shown() -> None:
    """Responses of 20 or 40 tokens beside ones of 20: 1.5 times as long in the mean. As above."""
    rng = np.random.default_rng(1)
    condition = named("not_longer", sequential={"level": 0.1})
    shown = 0
    for _ in range(200):
        pairs = [(one(True, 20), one(True, 20 if short else 40)) for short in rng.random(128) < 0.5]
        shown += shown_in(condition, pairs)
    assert shown <= 20 + 21


def test_a_condition_that_holds_is_shown() -> None:
    rng = np.random.default_rng(2)
    assert shown_in(named("better"), drawn(rng, 256, 0.3, 0.6))
    assert shown_in(named("ood/s", ood_tolerance=0.2), drawn(rng, 256, 0.6, 0.6))


def test_a_check_says_what_was_asked_in_decimal_logarithms() -> None:
    found = after(named("better"), [[WON] * BLOCK]).check()
    assert found.passed
    assert found.bound == "log10 of the evidence at least 1.60 that the pass rate is higher by more than 0"
    assert found.value > 1.6
