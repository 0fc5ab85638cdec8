"""Evidence that a mean is above zero: an e-process, which may be looked at after every block of observations.

Each observation is a bet: a capital of 1 is multiplied by `1 + bet * value`. While the mean is zero or less, whatever
came before, the expected capital does not grow, so it ever reaches 1/level with probability `level` at most (Ville's
inequality). That holds for every rule of when to stop, which is why a test may end as soon as it is decided. The
capital here is spread evenly over fixed bets. So it depends on the values, not on their order, and it grows nearly as
fast as with the best of these bets.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", Journal of the Royal
Statistical Society B 86, 2024 (arXiv 2010.09686); of pairs that one side wins: Ville, 1939.
"""

import math

import numpy as np
from numpy.typing import NDArray

from oel_core.errors import ArtifactError

BETS = np.append(np.arange(1, 20) / 20, 0.99)
"""Shares of the largest bet that no single value can ruin, shape (20,)."""
ROUNDING = 1e-9
"""How far a value may lie below its bound because of rounding. The largest bet leaves room for it."""

Values = NDArray[np.float64]


def log_evidence(values: Values, least: float) -> float:
    """Natural logarithm of the e-value against "the mean is at most zero"; 0.0 without values.

    Args:
        values: shape (n,), in any order.
        least: lower bound of all values; negative.

    Raises:
        ArtifactError: a value is not a number, or below `least`.
    """
    if least >= 0:
        raise ValueError(f"values that cannot be below {least} have no mean to be tested against zero")
    if not len(values):
        return 0.0
    if not np.all(np.isfinite(values)) or values.min() < least - ROUNDING:
        raise ArtifactError(f"an observation of {values.min():g} lies below its bound of {least:g}")
    distinct, counts = np.unique(values, return_counts=True)
    return log_mean_capital(np.log1p(np.outer(BETS / -least, distinct)) @ counts)


def log_mean_capital(capitals: Values) -> float:
    """The logarithm of the capital that is spread evenly over `BETS`, from the logarithm of each bet's, shape (20,)."""
    most = float(capitals.max())
    return most + math.log(float(np.mean(np.exp(capitals - most))))


def required(level: float) -> float:
    """The log evidence needed at this level: log(1 / level)."""
    return -math.log(level)
