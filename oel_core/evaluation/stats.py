"""Intervals and comparisons of pass rates. SciPy is imported lazily: the import takes most of a second."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
"""Resamplings of a paired bootstrap."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval."""

    value: float
    low: float
    high: float


def wilson(passed: int, episodes: int) -> tuple[float, float]:
    """95% Wilson score interval of a pass rate; (0, 1) without episodes.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    if not 0 <= passed <= episodes:
        raise ValueError(f"{passed} of {episodes} episodes cannot have passed")
    if episodes == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest

    found = binomtest(passed, episodes).proportion_ci(0.95, "wilson")
    return (0.0 if passed == 0 else float(found.low)), (1.0 if passed == episodes else float(found.high))


def resampled_differences(won: int, lost: int, episodes: int, *, seed: int) -> NDArray[np.float64]:
    """Differences of two pass rates on the same episodes in `DRAWS` bootstrap samples of episodes, shape (DRAWS,).

    Each episode is resampled with both of its outcomes, so only three kinds of episode have to be counted.

    Args:
        won: episodes that only the second model passed.
        lost: episodes that only the first model passed.
        episodes: all paired episodes.
        seed: of NumPy's default generator.
    """
    shares = np.array([won, lost, episodes - won - lost]) / episodes
    draws = np.random.default_rng(seed).multinomial(episodes, shares, size=DRAWS)
    return (draws[:, 0] - draws[:, 1]) / episodes


def percentile_interval(means: NDArray[np.float64]) -> tuple[float, float]:
    """The 95% percentile interval of bootstrap means; both ends are observed values."""
    low, high = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


def paired_bootstrap(first: Sequence[bool], second: Sequence[bool], *, seed: int) -> Estimate:
    """Pass rate of `second` minus that of `first`, on the same episodes in the same order.

    The interval is the percentile bootstrap over episodes, each resampled with both of its outcomes.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"pass vectors of {len(first)} and {len(second)} episodes cannot be paired")
    won = sum(after and not before for before, after in zip(first, second, strict=True))
    lost = sum(before and not after for before, after in zip(first, second, strict=True))
    means = resampled_differences(won, lost, len(first), seed=seed)
    return Estimate((won - lost) / len(first), *percentile_interval(means))


def sign_test(won: int, lost: int) -> float:
    """Two-sided exact p-value of the split, under the null hypothesis that wins and losses are equally likely.

    `won` and `lost` count the episodes that only one of two models passed; episodes that both passed or both failed
    carry no information about which is better. 1.0 without episodes.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947, in its exact form.
    """
    if won < 0 or lost < 0:
        raise ValueError(f"{won} won and {lost} lost episodes cannot be counted")
    from scipy.stats import binomtest

    return float(binomtest(min(won, lost), won + lost).pvalue) if won + lost else 1.0


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Mean over loop seeds with its t interval; infinite for a single seed."""
    if not values:
        raise ValueError("a mean needs at least one value")
    mean = fmean(values)
    if len(values) == 1:
        return Estimate(mean, -math.inf, math.inf)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half)


def clustered_share(hits: Sequence[int], sizes: Sequence[int], *, seed: int, draws: int = 4000) -> Estimate:
    """The share of hits among parts in clusters (like the instructions of a prompt).

    The interval is the percentile bootstrap over whole clusters.

    Args:
        hits: number of hits per cluster.
        sizes: number of parts per cluster.
    """
    if len(hits) != len(sizes) or not sum(sizes):
        raise ValueError(f"{len(hits)} counts of hits and {len(sizes)} sizes give no share")
    rng, groups, shares = random.Random(seed), list(zip(hits, sizes, strict=True)), []
    for _ in range(draws):
        drawn = rng.choices(groups, k=len(groups))
        shares.append(sum(hit for hit, _ in drawn) / max(1, sum(size for _, size in drawn)))
    shares.sort()
    low, high = shares[int(0.025 * draws)], shares[min(draws - 1, int(0.975 * draws))]
    return Estimate(sum(hits) / sum(sizes), low, high)
