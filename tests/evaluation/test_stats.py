import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.evaluation.stats import mean_over_seeds, paired_bootstrap, sign_test, wilson


def test_wilson_against_published_values() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I.
    for passed, episodes, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson(passed, episodes) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rate_and_stays_in_range(case: tuple[int, int]) -> None:
    passed, episodes = case
    low, high = wilson(passed, episodes)
    assert 0 <= low < high <= 1
    if episodes:
        assert low <= passed / episodes <= high
        assert wilson(episodes - passed, episodes) == pytest.approx((1 - high, 1 - low))


def test_wilson_refuses_impossible_counts() -> None:
    with pytest.raises(ValueError, match="5 of 4"):
        wilson(5, 4)


def test_paired_bootstrap_finds_a_gain_and_repeats() -> None:
    before = [index % 4 == 0 for index in range(200)]
    after = [index % 2 == 0 for index in range(200)]
    found = paired_bootstrap(before, after, seed=1)
    assert found.value == 0.25
    assert 0.15 < found.low < 0.25 < found.high < 0.35
    assert found == paired_bootstrap(before, after, seed=1)
    assert paired_bootstrap(after, before, seed=1).high < 0


def test_pairing_is_tighter_than_two_separate_rates() -> None:
    before = [index % 2 == 0 for index in range(200)]
    after = [True, True, *before[2:]]
    found = paired_bootstrap(before, after, seed=0)
    low, high = wilson(sum(before), 200)
    assert found.high - found.low < (high - low) / 4


def test_paired_bootstrap_needs_pairs() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        paired_bootstrap([True] * 3, [True] * 2, seed=0)
    with pytest.raises(ValueError, match="0 and 0"):
        paired_bootstrap([], [], seed=0)


def test_mean_over_seeds_uses_student_t() -> None:
    # Three values, two degrees of freedom: 4.3027 * 0.1 / sqrt(3).
    found = mean_over_seeds([0.5, 0.6, 0.7])
    assert (found.value, found.low, found.high) == pytest.approx((0.6, 0.35159, 0.84841), abs=1e-5)


def test_mean_over_many_seeds_goes_on_smoothly_beyond_the_table() -> None:
    # t(0.975) at 31, 60 and 120 degrees of freedom: 2.0395, 2.0003, 1.9799.
    for freedom, quantile in [(31, 2.0395), (60, 2.0003), (120, 1.9799)]:
        values = [float(index % 2) for index in range(freedom + 1)]
        found = mean_over_seeds(values)
        spread = math.sqrt(sum((value - found.value) ** 2 for value in values) / freedom / len(values))
        assert (found.high - found.value) / spread == pytest.approx(quantile, abs=2e-4)


def test_one_seed_says_nothing_about_the_spread() -> None:
    found = mean_over_seeds([0.5])
    assert (found.value, found.low, found.high) == (0.5, -math.inf, math.inf)
    with pytest.raises(ValueError, match="at least one"):
        mean_over_seeds([])


@pytest.mark.parametrize(
    ("won", "lost", "expected"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (6, 0, 2 / 64), (3, 3, 1.0), (8, 2, 2 * (1 + 10 + 45) / 1024)],
)
def test_the_sign_test_is_exact(won: int, lost: int, expected: float) -> None:
    assert sign_test(won, lost) == pytest.approx(expected, rel=1e-12)
    assert sign_test(lost, won) == sign_test(won, lost)


def test_the_sign_test_takes_many_episodes_and_no_negative_ones() -> None:
    assert 0.0 <= sign_test(5000, 1) < 1e-300
    with pytest.raises(ValueError, match="cannot be counted"):
        sign_test(-1, 2)
