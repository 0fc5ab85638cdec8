"""The e-process: validity under any stopping rule, and power."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_core.errors import ArtifactError
from oel_core.gate.evidence import BETS, log_evidence, required

outcomes = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=60)


def won_and_lost(rng: np.random.Generator, runs: int, length: int, win: float, lose: float) -> np.ndarray:
    """Differences of independent pairs, shape (runs, length)."""
    return rng.choice([1.0, -1.0, 0.0], size=(runs, length), p=[win, lose, 1 - win - lose])


def crossed(differences: np.ndarray, level: float, block: int) -> np.ndarray:
    """Whether the evidence reached the level at the end of any block, shape (runs,)."""
    ends = range(block, differences.shape[1] + 1, block)
    return np.array([any(log_evidence(one[:end], -1.0) >= required(level) for end in ends) for one in differences])


@given(st.lists(st.floats(-1, 2, allow_nan=False), min_size=1, max_size=3), st.data())
@settings(max_examples=100, deadline=None)
def test_no_next_value_with_a_mean_of_zero_lets_the_capital_grow(values: list[float], data: st.DataObject) -> None:
    """The martingale property itself, after any past: a value of two points whose mean is zero."""
    low, high = data.draw(st.floats(-1, -0.01)), data.draw(st.floats(0.01, 2))
    chance = -low / (high - low)
    past = np.array(values)
    now, fallen, risen = (math.exp(log_evidence(np.append(past, more), -1.0)) for more in ([], [low], [high]))
    assert chance * risen + (1 - chance) * fallen == pytest.approx(now, rel=1e-9)


@pytest.mark.parametrize("block", [1, 16])
def test_between_equal_models_it_crosses_no_more_often_than_its_level(block: int) -> None:
    """Ville. 400 runs at 0.1: 5 standard deviations of the count are 30."""
    found = crossed(won_and_lost(np.random.default_rng(0), 400, 128, 0.25, 0.25), 0.1, block)
    assert found.sum() <= 40 + 30


def test_it_finds_what_is_there_and_nothing_in_what_is_worse() -> None:
    rng = np.random.default_rng(1)
    assert crossed(won_and_lost(rng, 50, 256, 0.4, 0.1), 0.025, 32).all()
    assert not crossed(won_and_lost(rng, 50, 256, 0.1, 0.4), 0.025, 32).any()


def test_stopping_when_it_looks_best_gains_nothing() -> None:
    """Stopped as soon as it has doubled, or after 64 pairs, the capital is still worth 1 at most in the mean."""
    rng = np.random.default_rng(2)
    stopped = []
    for differences in won_and_lost(rng, 400, 64, 0.3, 0.3):
        capitals = [math.exp(log_evidence(differences[:end], -1.0)) for end in range(8, 65, 8)]
        stopped.append(next((one for one in capitals if one >= 2.0), capitals[-1]))
    assert np.mean(stopped) <= 1 + 5 * np.std(stopped) / math.sqrt(len(stopped))


@given(outcomes, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_pairs_and_of_blocks_changes_no_bit(values: list[float], random: Random) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    assert log_evidence(np.array(values), -1.0) == log_evidence(np.array(shuffled), -1.0)


@given(outcomes)
@settings(max_examples=60, deadline=None)
def test_pairs_that_both_pass_or_both_fail_say_nothing(values: list[float]) -> None:
    """At a margin of zero; and one more pair that is won or lost moves the evidence its way."""
    found = log_evidence(np.array(values), -1.0)
    assert log_evidence(np.array([*values, 0.0]), -1.0) == pytest.approx(found, abs=1e-12)
    assert log_evidence(np.array([*values, 1.0]), -1.0) > found
    assert log_evidence(np.array([*values, -1.0]), -1.0) < found


@given(outcomes, st.floats(0.01, 1000))
@settings(max_examples=60, deadline=None)
def test_the_unit_of_measure_does_not_matter(values: list[float], unit: float) -> None:
    found = log_evidence(np.array(values), -1.0)
    assert log_evidence(np.array(values) * unit, -unit) == pytest.approx(found, rel=1e-9, abs=1e-9)


def test_a_worked_example() -> None:
    """Two pairs won: the mean over the bets of (1 + bet)²."""
    assert math.exp(log_evidence(np.array([1.0, 1.0]), -1.0)) == pytest.approx(np.mean((1 + BETS) ** 2))
    assert required(0.05) == pytest.approx(math.log(20))
    assert log_evidence(np.array([]), -1.0) == 0.0


def test_thousands_of_values_neither_overflow_nor_vanish() -> None:
    assert log_evidence(np.ones(10_000), -1.0) == pytest.approx(10_000 * math.log(1.99) - math.log(len(BETS)))
    assert math.isfinite(log_evidence(-np.ones(10_000), -1.0))


def test_values_that_break_the_bound_are_an_error() -> None:
    for wrong in (-1.1, math.nan, math.inf):
        with pytest.raises(ArtifactError, match="below its bound"):
            log_evidence(np.array([0.5, wrong]), -1.0)
    assert log_evidence(np.array([0.3 - 0.1 - 1.2]), -1.0) < 0  # rounding below the bound is none
    with pytest.raises(ValueError, match="cannot be below 0"):
        log_evidence(np.array([0.5]), 0.0)
