"""Intervals and comparisons for pass rates. Small and exact enough that no statistics package is needed."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

_Z95 = NormalDist().inv_cdf(0.975)
_T95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
"""Two-sided 95% quantiles of Student's t for 1 to 30 degrees of freedom."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval."""

    value: float
    low: float
    high: float


def wilson(passed: int, episodes: int) -> tuple[float, float]:
    """95% Wilson score interval of a pass rate; (0, 1) when there were no episodes.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    if not 0 <= passed <= episodes:
        raise ValueError(f"{passed} of {episodes} episodes cannot have passed")
    if episodes == 0:
        return 0.0, 1.0
    rate, z2 = passed / episodes, _Z95**2
    centre = (rate + z2 / (2 * episodes)) / (1 + z2 / episodes)
    half = _Z95 / (1 + z2 / episodes) * math.sqrt(rate * (1 - rate) / episodes + z2 / (4 * episodes**2))
    return (0.0 if passed == 0 else centre - half), (1.0 if passed == episodes else centre + half)


def paired_bootstrap(first: Sequence[bool], second: Sequence[bool], *, seed: int, draws: int = 4000) -> Estimate:
    """How much higher the pass rate of `second` is than that of `first`, on the same episodes in the same order.

    The interval is the percentile bootstrap over episodes, each drawn with both its outcomes together.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"pass vectors of {len(first)} and {len(second)} episodes cannot be paired")
    differences = [int(after) - int(before) for before, after in zip(first, second, strict=True)]
    rng = random.Random(seed)
    means = sorted(fmean(rng.choices(differences, k=len(differences))) for _ in range(draws))
    return Estimate(fmean(differences), means[int(0.025 * draws)], means[min(draws - 1, int(0.975 * draws))])


def sign_test(won: int, lost: int) -> float:
    """Two-sided exact probability of a split at least this uneven, if an episode were as likely to be won as lost.

    `won` and `lost` count the episodes that only one of two models passed; those that both passed or both lost say
    nothing about which is better. 1.0 when there are none.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947, in its exact form.
    """
    if won < 0 or lost < 0:
        raise ValueError(f"{won} won and {lost} lost episodes cannot be counted")
    discordant = won + lost
    tail = sum(math.comb(discordant, count) for count in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / 2**discordant)


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Mean over loop seeds with the t interval of their spread; one seed alone has an infinite interval."""
    if not values:
        raise ValueError("a mean needs at least one value")
    mean = fmean(values)
    if len(values) == 1:
        return Estimate(mean, -math.inf, math.inf)
    half = _t95(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half)


def _t95(freedom: int) -> float:
    """Beyond the table, the Cornish-Fisher expansion around the normal quantile; good to four digits there."""
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    return _Z95 + (_Z95**3 + _Z95) / (4 * freedom) + (5 * _Z95**5 + 16 * _Z95**3 + 3 * _Z95) / (96 * freedom**2)


def clustered_share(hits: Sequence[int], sizes: Sequence[int], *, seed: int, draws: int = 4000) -> Estimate:
    """The share of all parts that hit, where parts come in groups that share their fate (instructions of a prompt).

    The interval is the percentile bootstrap over whole groups.

    Args:
        hits: parts that hit, one number a group.
        sizes: parts in all, one number a group.
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
